"""Passes on the `torch` dialect: `torch-foo-bar` is `foo_bar.py`, and nothing else is here."""
