"""Passes on the `nm` dialect, and nothing else: `nm-foo-bar` is `foo_bar.py`."""
