"""Alignment in memories and files."""

ALIGNMENT = 64
"""
Bytes to whose multiples the memories of a chip, sections of a container, the writable part of DRAM, buffers and blocks
of weights are aligned: a beat of the DMA of the base target.
"""


def aligned(size: int) -> int:
    """Returns a number of bytes, or an address, rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT
