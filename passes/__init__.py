"""The compiler's passes; `pipeline.py` is their list."""
