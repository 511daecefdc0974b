"""Passes on the `sta` dialect: `sta-foo-bar` is `foo_bar.py`, and nothing else is here."""
