"""Placement of buffers in the memories of the chip."""
