"""Conversions between dialects; pass `convert-x-to-y` is `convert_x_to_y.py`."""
