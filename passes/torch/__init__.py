"""Passes on the `torch` dialect, and nothing else: `torch-foo-bar` is `foo_bar.py`."""
