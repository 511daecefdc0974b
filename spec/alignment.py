"""Alignment in memories and files."""

ALIGNMENT = 64
"""
Bytes of which everything that has a place of its own starts at a multiple: the memories of a chip, sections of a
container, the writable part of DRAM, buffers, blocks of weights. It is a beat of the DMA of the base target.
"""


def aligned(size: int) -> int:
    """Returns a number of bytes, or an address, rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT
