"""The instructions of long and precise attention on the reference engine, against definitions on Python integers."""

import math
from typing import Any

import numpy as np
import pytest

from sta.runtime import ProgramError
from sta.spec.parameters import MapParameters, SoftmaxParameters
from sta.spec.tables import exp2_table

MULTIPLIER, SHIFT = 3 << 28, 33
NORMALIZE_SHIFT = 14


def scaled(value: int, multiplier: int, shift: int) -> int:
    """TOSA's rescaling of one value."""
    return (value * multiplier + (1 << (shift - 1))) >> shift


def halved(value: int, shift: int) -> int:
    """The rounded shift of one value."""
    return (value + ((1 << shift) >> 1)) >> shift


def power(t: int, bits: int) -> int:
    """The exponential of a logarithm with 10 fraction bits."""
    down = min(7 - (t >> 10), 40)
    return (int(exp2_table(bits)[t & 1023]) + (1 << (down - 1))) >> down


class Row:
    """Attention of one row, chunk by chunk, 16-bit exponentials as two bytes."""

    def __init__(self, width: int, bits: int) -> None:
        self.bits = bits
        self.total = 0
        self.maximum: int | None = None
        self.planes = [[0] * width for _ in range(bits // 8)]
        """The accumulators of the exponentials' low bytes, and of the high ones."""

    def chunk(self, scores: list[int], admissible: list[bool], values: list[list[int]]) -> None:
        """Takes some keys."""
        allowed = [scaled(score, MULTIPLIER, SHIFT) for score, counts in zip(scores, admissible, strict=True) if counts]
        down, exponentials = 0, [0] * len(scores)
        if allowed:
            before, ceiling = self.maximum, math.ceil(max(allowed) / 1024)
            self.maximum = ceiling if before is None else max(before, ceiling)
            down = 0 if before is None else min(self.maximum - before, 31)
            exponentials = [
                power(scaled(score, MULTIPLIER, SHIFT) - 1024 * self.maximum, self.bits) if counts else 0
                for score, counts in zip(scores, admissible, strict=True)
            ]
        self.total = halved(self.total, down) + sum(exponentials)
        for plane, accumulators in enumerate(self.planes):
            for column, accumulator in enumerate(accumulators):
                products = [
                    (e >> 8 * plane & 255) * value[column] for e, value in zip(exponentials, values, strict=True)
                ]
                accumulators[column] = halved(accumulator, down) + sum(products)

    def normalized(self) -> list[int]:
        """Result of the drain: 2^16 times the weighted mean."""
        if not self.total:
            return [0] * len(self.planes[0])
        sums = [sum(part << 8 * plane for plane, part in enumerate(parts)) for parts in zip(*self.planes, strict=True)]
        length = self.total.bit_length()
        reciprocal = min((2 ** (31 + length) + self.total) // (2 * self.total), 2**31 - 1)
        multiplier = ((1 << 30) * reciprocal + 2**30) >> 31
        return [scaled(value, multiplier, NORMALIZE_SHIFT + length - 1) for value in sums]


class Attention:
    """Emits online attention on a bench: scores, softmax, shift, products with the values, normalizing drain."""

    def __init__(self, bench: Any, rows: int, width: int, chunk: int, bits: int) -> None:
        self.bench, self.rows, self.width, self.bits = bench, rows, width, bits
        self.stride = bits // 8 * chunk + 2
        self.scores_stride, self.acc_stride = 4 * chunk + 4, bits // 8 * 4 * width
        self.scores = bench.allocate("acc", rows * self.scores_stride)
        self.acc = bench.allocate("acc", rows * self.acc_stride)
        self.exponentials = bench.allocate("spad", rows * self.stride)
        self.state = bench.allocate("spad", 12 * rows)
        self.parameters = bench.place(SoftmaxParameters(MULTIPLIER, SHIFT).to_bytes(), "wbuf")

    def chunk(self, q: int, k: Any, v: Any, first: bool, **fields: Any) -> None:
        """Takes the keys and values of a chunk; `q` is the register of the queries' address."""
        bench, at, keys = self.bench, self.bench.register, len(k)
        tile = {"rows": self.rows, "b_space": "spad"}
        bench.emit(
            "mm",
            acc=at(self.scores),
            a=q,
            b=bench.place(k),
            acc_stride=at(self.scores_stride),
            a_stride=at(self.width),
            b_stride=at(self.width),
            columns=keys,
            depth=self.width,
            scores=1,
            **tile,
        )
        bench.emit(
            "softmax",
            scores=at(self.scores),
            destination=at(self.exponentials),
            sums=at(self.state),
            parameters=self.parameters,
            scores_stride=at(self.scores_stride),
            destination_stride=at(self.stride),
            rows=self.rows,
            keys=keys,
            probability_bits=str(self.bits),
            mode="online_first" if first else "online",
            **fields,
        )
        if not first:
            shifts = at(self.state + 8 * self.rows)
            columns = self.bits // 8 * self.width
            places = {"acc": at(self.acc), "shifts": shifts, "acc_stride": at(self.acc_stride)}
            bench.emit("shift", rows=self.rows, columns=columns, **places)
        values = bench.place(v)
        # The high bytes' sums come first in a row.
        planes = [(0, 1), (4 * self.width, 0)] if self.bits == 16 else [(0, 0)]
        for place, byte in planes:
            bench.emit(
                "mm",
                acc=at(self.acc + place),
                a=at(self.exponentials + byte),
                b=values,
                acc_stride=at(self.acc_stride),
                a_stride=at(self.stride),
                b_stride=at(self.width),
                columns=self.width,
                depth=keys,
                b_transposed=1,
                accumulate=int(not first),
                a_type="u8",
                a_wide=int(self.bits == 16),
                **tile,
            )

    def drain(self) -> None:
        """Stores the normalized rows, and the state."""
        bench, at = self.bench, self.bench.register
        block = MapParameters(np.array([0], np.int32), np.array([1 << 30], np.int32), np.array([NORMALIZE_SHIFT], "i1"))
        result = bench.allocate("spad", 4 * self.rows * self.width)
        bench.emit(
            "map",
            source=at(self.acc),
            destination=at(result),
            parameters=bench.place(block.to_bytes(), "wbuf"),
            residual=at(self.state),
            source_stride=at(self.acc_stride),
            destination_stride=at(4 * self.width),
            rows=self.rows,
            columns=self.width,
            source_type="acc_wide" if self.bits == 16 else "acc",
            destination_type="s32",
            normalize=1,
        )
        bench.result(result, (self.rows, self.width), "int32")
        bench.result(self.state, (3, self.rows), "int32", name="state")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_online_attention(bench: Any, bits: int, mask: bool, causal: bool) -> None:
    random = np.random.default_rng(11)
    rows, width, chunks, row_offset = 5, 6, (7, 7, 3), 4
    keys = sum(chunks)
    q, k, v = (random.integers(-128, 128, (n, width)).astype(np.int8) for n in (rows, keys, keys))
    # Later keys score higher, so that maxima rise.
    k = (k * np.linspace(0.1, 1, keys)[:, np.newaxis]).astype(np.int8)
    allowed = np.ones((rows, keys), np.uint8)
    if mask:
        allowed = (random.random((rows, keys)) < 0.5).astype(np.uint8)
        allowed[0] = allowed[1, : chunks[0]] = 0
        allowed[0, 0] = 0
    admissible = allowed != 0
    if causal:
        admissible &= np.arange(keys) <= np.arange(rows)[:, np.newaxis] + row_offset
    attention = Attention(bench, rows, width, max(chunks), bits)
    queries = bench.place(q)
    expected = [Row(width, bits) for _ in range(rows)]
    scores = q.astype(np.int64) @ k.T
    start = 0
    for chunk in chunks:
        part = slice(start, start + chunk)
        fields: dict[str, Any] = {}
        if mask:
            place = bench.place(allowed[:, part])
            fields |= {"mask": place, "mask_stride": bench.register(chunk), "has_mask": 1}
        if causal:
            offsets = {"row_offset": bench.register(row_offset), "key_offset": bench.register(start)}
            fields |= {"causal": 1, **offsets}
        attention.chunk(queries, k[part], v[part], start == 0, **fields)
        for i, row in enumerate(expected):
            row.chunk(scores[i, part].tolist(), admissible[i, part].tolist(), v[part].tolist())
        start += chunk
    attention.drain()
    raw = bench.run().raw
    assert raw["y"].tolist() == [row.normalized() for row in expected]
    assert raw["state"][0].tolist() == [row.total for row in expected]
    assert raw["state"][1].tolist() == [-(2**31) if row.maximum is None else row.maximum for row in expected]
    if mask:
        assert not raw["y"][0].any()
    elif not causal:
        assert raw["state"][2].any()


def test_a_wide_product_and_its_drain(bench: Any) -> None:
    """16-bit activations: signed high bytes, unsigned low ones, one rescaling."""
    random = np.random.default_rng(12)
    rows, columns, depth = 3, 5, 11
    a = random.integers(-(2**15), 2**15, (rows, depth)).astype(np.int16)
    b = random.integers(-128, 128, (columns, depth)).astype(np.int8)
    source, weights = bench.place(a, stride=2 * depth + 4), bench.place(b, "wbuf")
    at = bench.register
    fields = {"b": weights, "rows": rows, "columns": columns, "depth": depth, "a_wide": 1}
    fields |= {"acc_stride": at(8 * columns), "a_stride": at(2 * depth + 4)}
    bench.emit("mm", acc=0, a=at(1), a_type="s8", **fields)
    bench.emit("mm", acc=at(4 * columns), a=source, a_type="u8", **fields)
    bias, multiplier = random.integers(-1000, 1000, columns), random.integers(1 << 29, 1 << 31, columns)
    block = MapParameters(bias.astype(np.int32), multiplier.astype(np.int32), np.full(columns, 38, np.int8))
    result = bench.allocate("spad", 2 * rows * columns)
    bench.emit(
        "map",
        source=0,
        destination=at(result),
        parameters=bench.place(block.to_bytes(), "wbuf"),
        source_stride=at(8 * columns),
        destination_stride=at(2 * columns),
        rows=rows,
        columns=columns,
        source_type="acc_wide",
        destination_type="s16",
        per_channel=1,
    )
    bench.result(result, (rows, columns), "int16")
    products = a.astype(np.int64) @ b.T
    expected = [
        [
            max(-(2**15), min(2**15 - 1, scaled(int(products[i, j] + bias[j]), int(multiplier[j]), 38)))
            for j in range(columns)
        ]
        for i in range(rows)
    ]
    assert np.abs(products).max() > 2**20
    assert bench.run().raw["y"].tolist() == expected


@pytest.mark.parametrize("shift", [-1, 32])
def test_a_shift_out_of_range_stops_the_run(bench: Any, shift: int) -> None:
    bench.paths = [[0, "encoder.attention", "sta.shift"]]
    shifts = bench.place(np.array([0, shift], np.int32))
    stride = bench.register(16)
    bench.emit("mm", acc=0, a=0, b=0, acc_stride=stride, a_stride=stride, rows=2, columns=4, depth=1)
    bench.emit("shift", acc=0, shifts=shifts, acc_stride=stride, rows=2, columns=4)
    with pytest.raises(ProgramError, match=rf"\(shift, encoder.attention\): .* must be in 0..31, got {shift}"):
        bench.run()


def test_a_state_that_no_softmax_has_written_stops_the_run(bench: Any) -> None:
    state = bench.place(np.array([-5, 0, 0], np.int32))
    parameters = bench.place(SoftmaxParameters(1, 30).to_bytes(), "wbuf")
    fields = {"sums": state, "parameters": parameters, "rows": 1, "keys": 2, "mode": "online"}
    bench.emit("softmax", scores=0, destination=bench.register(64), **fields)
    with pytest.raises(ProgramError, match=r"the sum of a row of exponentials must be in 0\.\.2\^31-1"):
        bench.run()
