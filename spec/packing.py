"""Layout of a layer's weights in memory: blocks, each packed by itself."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sta.spec.alignment import aligned
from sta.spec.nm_format import Int8Array, Pattern, UInt8Array, pack, packed_size, unpack


@dataclass(frozen=True)
class Packing:
    """
    Blocks of weights ``[columns, depth]`` (a layer's outputs by its inputs): groups of columns, and in each group the
    cuts of the depth in order, each padded to a beat with zeros.
    """

    columns: int
    """Output channels of the layer."""
    depths: tuple[int, ...]
    """The cuts of the reduction axis; their sum is the depth."""
    tile_columns: int
    """Output channels of a group; the last group may have fewer."""
    pattern: Pattern
    encoding: str

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        for start in range(0, self.columns, self.tile_columns):
            k = 0
            for depth in self.depths:
                yield slice(start, min(start + self.tile_columns, self.columns)), slice(k, k + depth)
                k += depth

    @property
    def size(self) -> int:
        """Bytes of all blocks."""
        full, rest = divmod(self.columns, self.tile_columns)
        groups = [(full, self.tile_columns), (1, rest)] if rest else [(full, self.tile_columns)]
        return sum(
            count * aligned(packed_size(columns, depth, self.pattern, self.encoding))
            for count, columns in groups
            for depth in self.depths
        )

    def pack(self, weights: Int8Array) -> UInt8Array:
        """Returns int8 weights ``[columns, depth]`` as flat uint8; raises `ValueError` if they break the pattern."""
        data = np.zeros(self.size, np.uint8)
        position = 0
        for place in self._blocks():
            block = pack(weights[place], self.pattern, self.encoding)
            data[position : position + block.size] = block
            position += aligned(block.size)
        return data

    def unpack(self, data: UInt8Array) -> Int8Array:
        """Returns the int8 weights ``[columns, depth]`` of flat uint8; raises `ValueError` if they are malformed."""
        weights = np.zeros((self.columns, sum(self.depths)), np.int8)
        position = 0
        for rows, depth in self._blocks():
            height, width = weights[rows, depth].shape
            size = packed_size(height, width, self.pattern, self.encoding)
            block = np.ascontiguousarray(data[position : position + size])
            weights[rows, depth] = unpack(block, height, width, self.pattern, self.encoding)
            position += aligned(size)
        return weights
