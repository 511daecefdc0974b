"""The N:M format, against a packer that works on one bit at a time and searches that try everything."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.spec.cost import product_steps
from sta.spec.nm_format import (
    DENSE,
    ENCODINGS,
    Pattern,
    candidate_patterns,
    choose_pattern,
    kept,
    pack,
    packed_size,
    prune_by_magnitude,
    satisfies,
    smaller_encoding,
    unpack,
)

PATTERNS = st.integers(1, 32).flatmap(lambda m: st.builds(Pattern, st.integers(1, m), st.just(m)))
SPARSE = st.integers(2, 32).flatmap(lambda m: st.builds(Pattern, st.integers(1, m - 1), st.just(m)))
METADATA = st.sampled_from(["bitmap", "index"])
SEEDS = st.integers(0, 2**32)


def sparse_weights(rows: int, k: int, pattern: Pattern, seed: int) -> npt.NDArray[np.int8]:
    """Returns random weights that satisfy the pattern, many groups with fewer non-zeros than allowed."""
    generator = np.random.default_rng(seed)
    weights = generator.integers(-128, 128, (rows, k)).astype(np.int8)
    for row in range(rows):
        for start in range(0, k, pattern.m):
            group = weights[row, start : start + pattern.m]
            excess = group.size - int(generator.integers(0, pattern.n + 1))
            group[generator.permutation(group.size)[: max(excess, 0)]] = 0
    return weights


def packed_bit_by_bit(weights: npt.NDArray[np.int8], pattern: Pattern, encoding: str) -> bytes:
    """Returns the packed block, written one bit at a time."""
    values, metadata = bytearray(), bytearray()
    for row in weights.tolist():
        bits: list[int] = []
        for start in range(0, len(row), pattern.m):
            group = (row[start : start + pattern.m] + [0] * pattern.m)[: pattern.m]
            positions = [i for i, value in enumerate(group) if value]
            free = [i for i, value in enumerate(group) if not value]
            positions = sorted(positions + free[: pattern.n - len(positions)])
            values += bytes(group[i] & 0xFF for i in positions)
            if encoding == "bitmap":
                bits += [int(i in positions) for i in range(pattern.m)]
            else:
                width = (pattern.m - 1).bit_length()
                bits += [(i >> bit) & 1 for i in positions for bit in range(width)]
        bits += [0] * (-len(bits) % 8)
        metadata += bytes(sum(bit << i for i, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))
    return bytes(values + metadata)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 4), st.integers(0, 75), SPARSE, METADATA, SEEDS)
def test_pack_is_the_documented_layout(rows: int, k: int, pattern: Pattern, encoding: str, seed: int) -> None:
    weights = sparse_weights(rows, k, pattern, seed)
    packed = pack(weights, pattern, encoding)
    assert packed.dtype == np.uint8
    assert packed.size == packed_size(rows, k, pattern, encoding)
    assert packed.tobytes() == packed_bit_by_bit(weights, pattern, encoding)
    restored = unpack(packed, rows, k, pattern, encoding)
    assert restored.dtype == np.int8
    np.testing.assert_array_equal(restored, weights)


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 20), st.integers(1, 32), SEEDS)
def test_dense_is_the_weights_themselves(rows: int, k: int, m: int, seed: int) -> None:
    weights = np.random.default_rng(seed).integers(-128, 128, (k, rows)).astype(np.int8).T
    packed = pack(weights, Pattern(m, m), "dense")
    assert packed.tobytes() == weights.tobytes()
    assert packed.size == packed_size(rows, k, Pattern(m, m), "dense") == rows * k
    np.testing.assert_array_equal(unpack(packed, rows, k, Pattern(m, m), "dense"), weights)
    packed[:] = 0
    assert rows * k == 0 or np.any(weights) or not np.any(packed)


def test_pack_and_unpack_copy() -> None:
    weights = np.ones((2, 4), dtype=np.int8)
    packed = pack(weights, DENSE, "dense")
    packed[0] = 9
    assert weights[0, 0] == 1
    unpack(packed, 2, 4, DENSE, "dense")[0, 0] = 5
    assert packed[0] == 9


def test_a_known_block() -> None:
    weights = np.array([[0, 5, 0, -1, 0, 0, 7], [0, 0, 0, 0, 0, 2, 3]], dtype=np.int8)
    bitmap = pack(weights, Pattern(2, 4), "bitmap")
    assert bitmap.tolist() == [5, 255, 0, 7, 0, 0, 2, 3, 0b0101_1010, 0b0110_0011]
    index = pack(weights, Pattern(2, 4), "index")
    assert index.tolist() == [5, 255, 0, 7, 0, 0, 2, 3, 0b10_00_11_01, 0b10_01_01_00]


def test_sizes_of_the_published_table() -> None:
    """Fractions of the dense size at 8 bits: bitmap (8N + M) / 8M, index (8N + N ceil(log2 M)) / 8M."""
    fractions = {
        "2:4": (0.625, 0.625), "1:4": (0.375, 0.3125), "4:8": (0.625, 0.6875), "2:8": (0.375, 0.34375),
        "1:8": (0.25, 0.171875), "4:16": (0.375, 0.375), "2:16": (0.25, 0.1875), "1:16": (0.1875, 0.09375),
    }  # fmt: skip
    for text, (bitmap, index) in fractions.items():
        pattern = Pattern.parse(text)
        assert packed_size(10, 512, pattern, "bitmap") == 5120 * bitmap
        assert packed_size(10, 512, pattern, "index") == 5120 * index
        assert smaller_encoding(pattern) == ("bitmap" if bitmap <= index else "index")
    assert smaller_encoding(DENSE) == smaller_encoding(Pattern(8, 8)) == "dense"


@settings(deadline=None)
@given(PATTERNS, st.integers(0, 3000))
def test_kept_and_smaller_encoding(pattern: Pattern, k: int) -> None:
    expected = k if pattern.n == pattern.m else (k + pattern.m - 1) // pattern.m * pattern.n
    assert kept(k, pattern) == expected
    chosen = packed_size(1, 8 * pattern.m, pattern, smaller_encoding(pattern))
    others = [name for name in ENCODINGS if (name == "dense") == pattern.is_dense]
    assert chosen == min(packed_size(1, 8 * pattern.m, pattern, name) for name in others)


@settings(deadline=None)
@given(PATTERNS)
def test_patterns_read_what_they_write(pattern: Pattern) -> None:
    assert Pattern.parse(str(pattern)) == pattern
    assert pattern.is_dense == (pattern.n == pattern.m)


@pytest.mark.parametrize(
    "text", ["", "2", "2:", ":4", "2:4:8", "-2:4", "2.0:4", "a:b", "2/4", "٢:٤", "5:4", "0:4", "1:33"]
)
def test_bad_patterns_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Pattern.parse(text)


def test_pack_names_the_group_that_is_too_full() -> None:
    weights = np.zeros((3, 10), dtype=np.int8)
    weights[2, 4:7] = 1
    with pytest.raises(ValueError, match=r"row 2, group 1: 3 non-zero weights where 2:4 allows 2"):
        pack(weights, Pattern(2, 4), "bitmap")
    with pytest.raises(ValueError, match=r"int8 \[rows, k\], got float64"):
        pack(np.zeros((2, 4)), Pattern(2, 4), "bitmap")  # pyright: ignore[reportArgumentType]


def test_encodings_go_with_their_patterns() -> None:
    weights = np.zeros((1, 4), dtype=np.int8)
    for pattern, encoding in ((Pattern(2, 4), "dense"), (DENSE, "bitmap"), (Pattern(4, 4), "index")):
        with pytest.raises(ValueError, match="cannot be stored as"):
            pack(weights, pattern, encoding)
        with pytest.raises(ValueError, match="cannot be stored as"):
            packed_size(1, 4, pattern, encoding)
    with pytest.raises(ValueError, match="unknown encoding 'csr'"):
        packed_size(1, 4, DENSE, "csr")


def block(values: list[int], metadata: list[int]) -> npt.NDArray[np.uint8]:
    """Returns a packed block."""
    return np.array(values + metadata, dtype=np.uint8)


@pytest.mark.parametrize(
    ("data", "k", "pattern", "encoding", "message"),
    [
        (block([1, 2, 3, 4], [0b0011_0111]), 8, "2:4", "bitmap", "row 0, group 0: 3 bits set"),
        (block([1, 2, 3, 4], [0b0010_0011]), 8, "2:4", "bitmap", "row 0, group 1: 1 bits set"),
        (block([1, 2, 3, 4], [0b0100_0001]), 8, "2:4", "index", r"row 0, group 0: indices \[1, 0\]"),
        (block([1, 2, 3, 4], [0b0101_0100]), 8, "2:4", "index", r"row 0, group 1: indices \[1, 1\]"),
        (block([7], [0b11]), 3, "1:3", "index", r"row 0, group 0: indices \[3\] do not ascend below 3"),
        (block([1, 2, 3, 4], [0b0101_1010]), 6, "2:4", "bitmap", "row 0, group 1: a non-zero value .* position 6"),
        (block([1, 2], [0b0001_0011]), 4, "2:4", "bitmap", "row 0: the metadata's padding"),
        (block([1, 2, 3], [0b0011]), 4, "2:4", "bitmap", "is uint8 of 3 bytes; got uint8 of shape"),
        (block([1, 2], []), 4, "2:4", "bitmap", "is uint8 of 3 bytes; got uint8 of shape"),
    ],
)
def test_malformed_blocks_are_refused(
    data: npt.NDArray[np.uint8], k: int, pattern: str, encoding: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        unpack(data, 1, k, Pattern.parse(pattern), encoding)


def test_malformed_rows_are_named() -> None:
    data = pack(np.eye(6, 8, dtype=np.int8), Pattern(2, 4), "bitmap")
    data[-2] = 0b1111_0011
    with pytest.raises(ValueError, match="row 4, group 1"):
        unpack(data, 6, 8, Pattern(2, 4), "bitmap")


def test_padding_may_name_positions_beyond_the_row() -> None:
    data = block([1, 2, 3, 0], [0b1001_0011])
    assert unpack(data, 1, 6, Pattern(2, 4), "bitmap").tolist() == [[1, 2, 0, 0, 3, 0]]


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), SPARSE, METADATA, st.data())
def test_unpack_accepts_only_blocks_of_their_pattern(
    rows: int, k: int, pattern: Pattern, encoding: str, data: st.DataObject
) -> None:
    size = packed_size(rows, k, pattern, encoding)
    packed = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), dtype=np.uint8)
    try:
        weights = unpack(packed, rows, k, pattern, encoding)
    except ValueError:
        return
    assert satisfies(weights, pattern)
    np.testing.assert_array_equal(unpack(pack(weights, pattern, encoding), rows, k, pattern, encoding), weights)


def largest_count(weights: npt.NDArray[Any], m: int) -> int:
    """Returns the most non-zeros in a group of `m`."""
    return max(
        (sum(value != 0 for value in row[at : at + m]) for row in weights.tolist() for at in range(0, len(row), m)),
        default=0,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 70), PATTERNS, SEEDS)
def test_searches_find_what_trying_everything_finds(rows: int, k: int, pattern: Pattern, seed: int) -> None:
    weights = sparse_weights(rows, k, pattern, seed)
    counts = {m: largest_count(weights, m) for m in range(1, 33)}
    assert satisfies(weights, pattern)
    tightest = max(1, counts[pattern.m])
    assert satisfies(weights, Pattern(tightest, pattern.m))
    assert tightest == 1 or not satisfies(weights, Pattern(tightest - 1, pattern.m))
    candidates = [Pattern(max(1, counts[m]), m) for m in range(2, 33) if max(1, counts[m]) < m]
    assert candidate_patterns(weights) == candidates

    def rank(candidate: Pattern) -> tuple[int, int, int]:
        size = packed_size(rows, k, candidate, smaller_encoding(candidate))
        return product_steps(k, candidate, 4, 64), size, candidate.m

    chosen = choose_pattern(weights, 4, 64)
    assert satisfies(weights, chosen)
    assert all(rank(chosen) < rank(other) for other in [DENSE, *candidates] if other != chosen)


def test_a_late_violation_is_seen() -> None:
    weights = np.zeros((1001, 64), dtype=np.int8)
    weights[:, ::4] = 1
    assert Pattern(1, 4) in candidate_patterns(weights)
    weights[999, 61] = 1
    assert Pattern(2, 4) in candidate_patterns(weights)
    assert not satisfies(weights, Pattern(1, 4))


def test_choices() -> None:
    assert choose_pattern(np.ones((4, 64), dtype=np.int8), 4, 64) == DENSE
    assert choose_pattern(np.array([[1, 2, 0, 0] * 16], dtype=np.int8), 4, 64) == Pattern(2, 4)
    # A narrow window keeps very sparse products from going faster: the bytes decide.
    one_in_16 = np.tile(np.eye(1, 16, dtype=np.int8), (2, 8))
    assert product_steps(128, choose_pattern(one_in_16, 4, 16), 4, 16) == 8


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 70), PATTERNS, st.sampled_from([np.float16, np.float32, np.float64]), SEEDS)
def test_pruning_keeps_the_largest(
    rows: int, k: int, pattern: Pattern, dtype: type[np.floating[Any]], seed: int
) -> None:
    # Few distinct values, so that ties are common.
    weights = (np.random.default_rng(seed).integers(-4, 5, (rows, k)) / 2).astype(dtype)
    pruned = prune_by_magnitude(weights, pattern)
    assert pruned.dtype == dtype
    for row, result in zip(weights.tolist(), pruned.tolist(), strict=True):
        for start in range(0, k, pattern.m):
            group = row[start : start + pattern.m]
            ranked = sorted(range(len(group)), key=lambda i, group=group: (-abs(group[i]), i))[: pattern.n]
            expected = [value if i in ranked else 0.0 for i, value in enumerate(group)]
            assert result[start : start + pattern.m] == expected
    assert satisfies(pruned, pattern)


def test_pruning_refuses_and_copies() -> None:
    weights = np.ones((1, 4), dtype=np.float32)
    prune_by_magnitude(weights, DENSE)[0, 0] = 7
    prune_by_magnitude(weights, Pattern(2, 4))[0, 0] = 7
    assert weights.tolist() == [[1, 1, 1, 1]]
    weights[0, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        prune_by_magnitude(weights, Pattern(2, 4))
