"""The model's values in a run: where they are, when they are written."""
