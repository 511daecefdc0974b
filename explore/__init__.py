"""Sweeps: over policies of tiling so far."""
