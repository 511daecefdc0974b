"""Passes on the `sta` dialect, and nothing else: `sta-foo-bar` is `foo_bar.py`."""
