"""
Storage, detection and pruning of N:M-sparse weights.

A packed block of ``rows x k`` int8 weights is the kept values ``[rows, kept]`` in row-major order, then the metadata,
one byte-aligned run of little-endian bits a row:

- ``bitmap``: M bits a group, exactly N of them set; value i of the group belongs to the i-th set bit.
- ``index``: N fields of ceil(log2 M) bits a group, the positions inside the group, ascending.
- ``dense``: no metadata, all k values; for M = N only.

A group with fewer than N non-zeros is filled up with its lowest free positions, which hold zero. When M does not divide
k the last group is padded, and only the padding of a row may name positions at or beyond k.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sta.spec.cost import product_steps
from sta.spec.pattern import DENSE, LARGEST_GROUP, Pattern, kept

__all__ = [
    "DENSE",
    "ENCODINGS",
    "LARGEST_GROUP",
    "Pattern",
    "candidate_patterns",
    "choose_pattern",
    "kept",
    "pack",
    "packed_size",
    "prune_by_magnitude",
    "satisfies",
    "smaller_encoding",
    "unpack",
]

ENCODINGS = ("dense", "bitmap", "index")
"""The encodings, in the order of their instruction field."""

_SAMPLE_ROWS = 16

UInt8Array = npt.NDArray[np.uint8]
Int8Array = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]
FloatType = TypeVar("FloatType", bound=np.floating[Any])


def smaller_encoding(pattern: Pattern) -> str:
    """Returns the encoding with the fewest metadata bits; ``bitmap`` when both are equal, ``dense`` when N = M."""
    if pattern.is_dense:
        return "dense"
    return "bitmap" if pattern.m <= pattern.n * _field_bits(pattern) else "index"


def packed_size(rows: int, k: int, pattern: Pattern, encoding: str) -> int:
    """
    Returns the size in bytes of `rows` packed rows of `k` weights.

    Raises `ValueError` if the encoding is unknown or does not go with the pattern.
    """
    return rows * (kept(k, pattern) + _metadata_bytes(k, pattern, encoding))


def pack(weights: Int8Array, pattern: Pattern, encoding: str) -> UInt8Array:
    """
    Packs int8 weights ``[rows, k]`` into a flat uint8 array of `packed_size` bytes.

    Raises `ValueError` naming row and group if a group has more than N non-zeros.
    """
    rows, k = _checked_weights(weights).shape
    _check_encoding(pattern, encoding)
    if encoding == "dense":
        return weights.flatten().view(np.uint8)
    groups = _grouped(weights, pattern.m)
    selected = _selected_positions(groups, pattern)
    values = groups[selected].reshape(rows, kept(k, pattern))
    bits = selected if encoding == "bitmap" else _index_bits(selected, pattern)
    row_bits = groups.shape[1] * _metadata_bits(pattern, encoding)
    metadata = np.packbits(bits.reshape(rows, row_bits), axis=1, bitorder="little")
    return np.concatenate([values.reshape(-1).view(np.uint8), metadata.reshape(-1)])


def unpack(data: UInt8Array, rows: int, k: int, pattern: Pattern, encoding: str) -> Int8Array:
    """
    Returns the int8 weights ``[rows, k]`` of a packed block (flat uint8).

    Raises `ValueError` if the size is wrong or, naming row and group, if the metadata is malformed: a bitmap group that
    has not exactly N bits set, indices that do not ascend or are not below M, a non-zero value at or beyond position k,
    or set bits in the padding of a row.
    """
    row_bytes = _metadata_bytes(k, pattern, encoding)
    if data.dtype != np.uint8 or data.shape != (rows * (kept(k, pattern) + row_bytes),):
        expected = f"a block of {rows} x {k} weights, {pattern} {encoding}"
        size = packed_size(rows, k, pattern, encoding)
        raise ValueError(f"{expected}, is uint8 of {size} bytes; got {data.dtype} of shape {data.shape}")
    count = rows * kept(k, pattern)
    values = np.ascontiguousarray(data[:count]).view(np.int8)
    if encoding == "dense":
        return values.reshape(rows, k).copy()
    bits = np.unpackbits(data[count:].reshape(rows, row_bytes), axis=1, bitorder="little")
    group_count = -(-k // pattern.m)
    used = group_count * _metadata_bits(pattern, encoding)
    if np.any(bits[:, used:]):
        raise ValueError(f"row {int(np.argmax(bits[:, used:].any(axis=1)))}: the metadata's padding is not zero")
    padded = np.zeros(rows * group_count * pattern.m, dtype=np.int8)
    if encoding == "bitmap":
        padded[_bitmap_mask(bits[:, :used], pattern)] = values
    else:
        padded[_index_positions(bits[:, :used], pattern)] = values
    padded = padded.reshape(rows, group_count * pattern.m)
    beyond = padded[:, k:].any(axis=1)
    if beyond.any():
        row = int(np.argmax(beyond))
        raise ValueError(f"row {row}, group {group_count - 1}: a non-zero value lies at or beyond position {k}")
    return np.ascontiguousarray(padded[:, :k])


def satisfies(weights: npt.NDArray[Any], pattern: Pattern) -> bool:
    """Returns whether no group of the weights ``[rows, k]`` has more than N non-zeros."""
    if pattern.is_dense:
        return True
    return _largest_count(_running_counts(weights), pattern.m) <= pattern.n


def candidate_patterns(weights: npt.NDArray[Any]) -> list[Pattern]:
    """Returns for each M in 2..32 the pattern with the smallest N that the weights ``[rows, k]`` satisfy, if N < M."""
    # A few rows are enough to see that a pattern does not hold, and dense weights are the common case.
    step = max(1, weights.shape[0] // _SAMPLE_ROWS)
    sample = _running_counts(weights[::step][:_SAMPLE_ROWS])
    lengths = [m for m in range(2, LARGEST_GROUP + 1) if _largest_count(sample, m) < m]
    if not lengths:
        return []
    counts = _running_counts(weights)
    smallest = [(max(1, _largest_count(counts, m)), m) for m in lengths]
    return [Pattern(n, m) for n, m in smallest if n < m]


def choose_pattern(weights: npt.NDArray[Any], multipliers: int, window: int) -> Pattern:
    """
    Returns the pattern of the weights ``[rows, k]`` that is best on a machine with `multipliers` and `window`.

    Fewest cycles first, then fewest bytes, then the smallest M; dense when no pattern is better than that.
    """
    rows, k = weights.shape

    def rank(pattern: Pattern) -> tuple[int, int, int]:
        size = packed_size(rows, k, pattern, smaller_encoding(pattern))
        return product_steps(k, pattern, multipliers, window), size, pattern.m

    return min([DENSE, *candidate_patterns(weights)], key=rank)


def prune_by_magnitude(weights: npt.NDArray[FloatType], pattern: Pattern) -> npt.NDArray[FloatType]:
    """
    Returns a copy of the weights ``[rows, k]`` with only the N largest magnitudes of each group, the rest zero.

    Of equal magnitudes the lower position is kept. Raises `ValueError` for weights that are not finite.
    """
    if weights.ndim != 2 or not np.all(np.isfinite(weights)):
        raise ValueError("weights to prune must be finite and of shape [rows, k]")
    if pattern.is_dense:
        return weights.copy()
    rows, k = weights.shape
    # The order is stable, so that padding comes after the zeros of its group.
    magnitudes = np.zeros((rows, -(-k // pattern.m) * pattern.m), dtype=weights.dtype)
    np.abs(weights, out=magnitudes[:, :k])
    order = np.argsort(-magnitudes.reshape(-1, pattern.m), axis=1, kind="stable")
    keep = np.zeros(order.shape, dtype=np.bool_)
    np.put_along_axis(keep, order[:, : pattern.n], True, axis=1)
    return np.where(keep.reshape(magnitudes.shape)[:, :k], weights, weights.dtype.type(0))


def _field_bits(pattern: Pattern) -> int:
    """Returns the width in bits of a position inside a group."""
    return max(1, (pattern.m - 1).bit_length())


def _metadata_bits(pattern: Pattern, encoding: str) -> int:
    """Returns the metadata bits of a group."""
    return pattern.m if encoding == "bitmap" else pattern.n * _field_bits(pattern)


def _metadata_bytes(k: int, pattern: Pattern, encoding: str) -> int:
    """Returns the metadata bytes of a row; raises `ValueError` if the encoding does not go with the pattern."""
    _check_encoding(pattern, encoding)
    if encoding == "dense":
        return 0
    return -(-(-(-k // pattern.m) * _metadata_bits(pattern, encoding)) // 8)


def _check_encoding(pattern: Pattern, encoding: str) -> None:
    """Raises `ValueError` unless the encoding is known and goes with the pattern."""
    if encoding not in ENCODINGS:
        raise ValueError(f"unknown encoding {encoding!r}: it is one of {', '.join(ENCODINGS)}")
    if (encoding == "dense") != pattern.is_dense:
        raise ValueError(f"pattern {pattern} cannot be stored as {encoding}")


def _checked_weights(weights: Int8Array) -> Int8Array:
    """Returns the weights; raises `ValueError` unless they are int8 of two dimensions."""
    if weights.ndim != 2 or weights.dtype != np.int8:
        raise ValueError(f"weights must be int8 [rows, k], got {weights.dtype} of shape {weights.shape}")
    return weights


def _grouped(weights: Int8Array, m: int) -> Int8Array:
    """Returns the weights as ``[rows, groups, m]``, the last group padded with zeros."""
    rows, k = weights.shape
    group_count = -(-k // m)
    if group_count * m == k:
        return weights.reshape(rows, group_count, m)
    padded = np.zeros((rows, group_count * m), dtype=weights.dtype)
    padded[:, :k] = weights
    return padded.reshape(rows, group_count, m)


def _selected_positions(groups: Int8Array, pattern: Pattern) -> BoolArray:
    """Returns the N stored positions of each group: all non-zeros, then the lowest free positions."""
    selected = groups != 0
    missing = pattern.n - selected.sum(axis=2, dtype=np.int8)
    if missing.size and missing.min() < 0:
        row, group = np.argwhere(missing < 0)[0]
        raise ValueError(
            f"row {row}, group {group}: {pattern.n - int(missing[row, group])} non-zero weights where {pattern} "
            f"allows {pattern.n}"
        )
    if not missing.any():
        return selected
    free_rank = np.cumsum(~selected, axis=2, dtype=np.int8)
    return selected | (free_rank <= missing[:, :, np.newaxis])


def _index_bits(selected: BoolArray, pattern: Pattern) -> UInt8Array:
    """Returns the bits of the index fields, one row of bits a field."""
    positions = (np.flatnonzero(selected) % pattern.m).astype(np.uint8)
    shifts = np.arange(_field_bits(pattern), dtype=np.uint8)
    return (positions[:, np.newaxis] >> shifts) & np.uint8(1)


def _bitmap_mask(bits: UInt8Array, pattern: Pattern) -> BoolArray:
    """Returns the flat mask of stored positions; raises `ValueError` unless every group has exactly N bits set."""
    groups = bits.reshape(-1, pattern.m)
    counts = groups.sum(axis=1, dtype=np.uint8)
    wrong = counts != pattern.n
    if wrong.any():
        raise ValueError(
            f"{_place(wrong, bits.shape[0])}: {int(counts[np.argmax(wrong)])} bits set in the bitmap where {pattern} "
            f"needs {pattern.n}"
        )
    return bits.reshape(-1).view(np.bool_)


def _index_positions(bits: UInt8Array, pattern: Pattern) -> npt.NDArray[np.int64]:
    """Returns the flat position of every value; raises `ValueError` unless each group's indices ascend below M."""
    width = _field_bits(pattern)
    fields = np.ascontiguousarray(bits.reshape(-1, width)[:, 0])
    for bit in range(1, width):
        fields |= bits.reshape(-1, width)[:, bit] << np.uint8(bit)
    groups = fields.reshape(-1, pattern.n)
    # Ascending indices are below M when the last one is.
    wrong = groups[:, -1] >= pattern.m
    for place in range(1, pattern.n):
        wrong |= groups[:, place] <= groups[:, place - 1]
    if wrong.any():
        found = groups[np.argmax(wrong)].tolist()
        raise ValueError(f"{_place(wrong, bits.shape[0])}: indices {found} do not ascend below {pattern.m}")
    starts = np.arange(groups.shape[0], dtype=np.int64) * pattern.m
    return (starts[:, np.newaxis] + groups).reshape(-1)


def _place(wrong: BoolArray, rows: int) -> str:
    """Names the row and group of the first wrong group."""
    row, group = divmod(int(np.argmax(wrong)), wrong.size // rows)
    return f"row {row}, group {group}"


def _running_counts(weights: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Returns the number of non-zeros among the first i weights of each row, ``[rows, k + 1]``."""
    if weights.ndim != 2:
        raise ValueError(f"weights must be of shape [rows, k], got {weights.shape}")
    counts = np.zeros((weights.shape[0], weights.shape[1] + 1), dtype=np.int32)
    np.cumsum(weights != 0, axis=1, dtype=np.int32, out=counts[:, 1:])
    return counts


def _largest_count(counts: npt.NDArray[np.int32], m: int) -> int:
    """Returns the most non-zeros that any group of length `m` has."""
    k = counts.shape[1] - 1
    whole = counts[:, : k // m * m + 1 : m]
    largest = int((whole[:, 1:] - whole[:, :-1]).max(initial=0))
    rest = counts[:, k] - whole[:, -1]
    return max(largest, int(rest.max(initial=0)))
