"""Passes on the `nm` dialect: `nm-foo-bar` is `foo_bar.py`, and nothing else is here."""
