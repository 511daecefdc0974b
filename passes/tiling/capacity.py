"""The error of a layer that the target's memory cannot hold."""

from __future__ import annotations


class CapacityError(ValueError):
    """
    What is live at once takes more than the chip has: the message names a layer, the bytes needed and those there.
    """
