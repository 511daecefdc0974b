"""The error of a layer that the target's memory cannot hold."""

from __future__ import annotations


class CapacityError(ValueError):
    """Live buffers exceed the chip: the message names a layer, the bytes needed and the bytes available."""
