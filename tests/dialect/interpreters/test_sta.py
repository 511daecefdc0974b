"""Every `sta` operation on the interpreter and on the emulator, against plain NumPy, whatever memory held before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xdsl.ir import SSAValue

from sta.backend.emit import emit
from sta.dialect import nm, sta
from sta.dialect.interpreters.nm import element_dtype
from sta.dialect.ir.parameter_blocks import channel_map_parameters, scalar_map_parameters
from sta.runtime import Program
from sta.spec.affine import Affine
from sta.spec.nm_format import Pattern, pack, prune_by_magnitude, smaller_encoding
from sta.spec.parameters import NormParameters, SoftmaxParameters
from tests.support.nm_builder import Case
from tests.support.pipeline_check import POISONS, apply, integers
from tests.support.sta_builder import DENSE_OPERAND, StaBuilder
from tests.support.transformers import Transformer, transformers

Array = NDArray[Any]
IDENTITY = scalar_map_parameters(0, *nm.IDENTITY_SCALE)


@dataclass
class Bench:
    """A program that puts constants on the chip, works on them, and stores results as outputs."""

    builder: StaBuilder

    def __post_init__(self) -> None:
        self.loads: list[tuple[SSAValue, SSAValue]] = []
        self.identity = self.block("identity", IDENTITY.to_bytes())

    def on_chip(self, name: str, values: Array, element: nm.IntegerType, space: str) -> SSAValue:
        """A constant, loaded into a buffer by `begin`."""
        constant = self.builder.constant(name, values, element)
        buffer = self.builder.buffer(space, values.shape, element, name)
        self.loads.append((constant, buffer))
        return buffer

    def matrix(self, name: str, values: Array, element: nm.IntegerType) -> SSAValue:
        """Numbers in the scratchpad."""
        return self.on_chip(name, values, element, "spad")

    def block(self, name: str, data: bytes | Array) -> SSAValue:
        """Bytes in the weight buffer."""
        array = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        return self.on_chip(name, array, nm.ui8, "wbuf")

    def begin(self) -> None:
        """Loads the constants; operations follow."""
        for constant, buffer in self.loads:
            self.builder.add(sta.LoadOp(constant, buffer))

    def result(self, buffer: SSAValue, name: str = "y") -> None:
        """Stores a matrix in the scratchpad as an output."""
        reference = sta.memref_of(buffer)
        output = self.builder.argument(name, "output", reference.get_shape(), sta.element_of(buffer))
        self.builder.add(sta.StoreOp(buffer, output))

    def accumulators(self, acc: SSAValue, name: str = "y") -> None:
        """Stores accumulators as an output."""
        copy = self.builder.buffer("spad", sta.memref_of(acc).get_shape(), nm.si32)
        self.builder.add(sta.MapOp((acc, copy, self.identity)))
        self.result(copy, name)


@pytest.fixture
def bench() -> Bench:
    """An empty program."""
    return Bench(StaBuilder())


def outputs(case: Case) -> dict[str, Array]:
    """Returns what the interpreter and the emulator agree on, whatever memory held at the start."""
    found = [integers(case, poison) for poison in POISONS]
    apply(case.module, case.context, "sta-synchronize")
    program = Program(emit(case.module, case.context.weights, case.context.target, 1, 1))
    found += [program.run(case.inputs, poison=poison).raw for poison in POISONS]
    for other in found[1:]:
        for name, values in found[0].items():
            assert np.array_equal(values, other[name])
    return found[0]


def output(bench: Bench, name: str = "y") -> Array:
    """Returns one output of a program."""
    return outputs(bench.builder.case())[name]


def random_of(bench: Bench, shape: tuple[int, ...], element: nm.IntegerType = nm.si8) -> Array:
    """Random numbers of an element type."""
    limits = np.iinfo(element_dtype(element))
    return bench.builder.random.integers(limits.min, limits.max + 1, shape).astype(element_dtype(element))


def scaled(values: Array, multiplier: Any, shift: Any) -> Array:
    """TOSA's rescaling, from its definition."""
    return (values.astype(np.int64) * multiplier + (1 << (np.int64(shift) - 1))) >> shift


def test_copies_of_windows(bench: Bench) -> None:
    builder = bench.builder
    values = random_of(bench, (6, 20))
    constant = builder.constant("table", values, nm.si8)
    tile = builder.buffer("spad", (3, 16), nm.si8)
    out = builder.argument("y", "output", (5, 15), nm.si8)
    bench.begin()
    # Rows 1, 3 and 5, columns 4 to 14, to rows of 16 bytes; then to rows 0, 2 and 4 of the output.
    source = builder.view(constant, (3, 10), 24, strides=(40, 1))
    view = builder.view(tile, (3, 10), 2)
    builder.add(sta.LoadOp(source, view))
    builder.add(sta.StoreOp(view, builder.view(out, (3, 10), 5, strides=(30, 1))))
    filler = builder.view(tile, (2, 10), 2)
    builder.add(sta.StoreOp(filler, builder.view(out, (2, 10), 20, strides=(30, 1))))
    for row in range(5):
        # What no view covers must be written as well: outputs start poisoned.
        builder.add(sta.StoreOp(builder.view(tile, (1, 5), 2), builder.view(out, (1, 5), 15 * row)))
    found = output(bench)
    assert np.array_equal(found[::2, 5:], values[1::2, 4:14])
    assert np.array_equal(found[1::2, 5:], values[1:5:2, 4:14])
    assert np.array_equal(found[:, :5], np.broadcast_to(values[1, 4:9], (5, 5)))


def test_loops_move_windows(bench: Bench) -> None:
    builder = bench.builder
    values = random_of(bench, (4, 3, 8))
    constant = builder.constant("x", values, nm.si8)
    tile = builder.buffer("spad", (1, 8), nm.si8)
    out = builder.argument("y", "output", (3, 4, 8), nm.si8)
    bench.begin()
    with builder.loop(4) as i, builder.loop(3) as j:
        builder.add(sta.LoadOp(builder.view(constant, (1, 8), 0, [(i, 24), (j, 8)], (8, 1)), tile))
        builder.add(sta.StoreOp(tile, builder.view(out, (1, 8), 0, [(j, 32), (i, 8)], (8, 1))))
    with builder.loop(0) as i:
        builder.add(sta.StoreOp(tile, builder.view(out, (1, 8), 0, [(i, 8)], (8, 1))))
    assert np.array_equal(output(bench), values.transpose(1, 0, 2))


def test_gather(bench: Bench) -> None:
    values, ids = random_of(bench, (7, 5), nm.si16), np.array([6, 0, 3, 3], np.int32)
    table = bench.builder.constant("table", values, nm.si16)
    indices = bench.matrix("ids", ids, nm.si32)
    rows = bench.builder.buffer("spad", (4, 5), nm.si16)
    bench.begin()
    bench.builder.add(sta.GatherOp(table, indices, rows))
    bench.result(rows)
    assert np.array_equal(output(bench), values[ids])


@pytest.mark.parametrize("index", [-1, 7])
def test_gather_refuses_what_is_outside(bench: Bench, index: int) -> None:
    table = bench.builder.constant("table", random_of(bench, (7, 5), nm.si16), nm.si16)
    indices = bench.matrix("ids", np.array([0, index], np.int32), nm.si32)
    rows = bench.builder.buffer("spad", (2, 5), nm.si16)
    bench.begin()
    bench.builder.add(sta.GatherOp(table, indices, rows))
    bench.result(rows)
    with pytest.raises(ValueError, match=rf"index {index} at position 1 is outside 0\.\.6"):
        integers(bench.builder.case())


@pytest.mark.parametrize("element", [nm.si8, nm.ui8])
@pytest.mark.parametrize("transposed", [False, True])
def test_product_of_matrices(bench: Bench, element: nm.IntegerType, transposed: bool) -> None:
    a, b = random_of(bench, (5, 9), element), random_of(bench, (7, 9))
    left = bench.matrix("a", a, element)
    right = bench.matrix("b", b.T if transposed else b, nm.si8)
    acc = bench.builder.buffer("acc", (5, 7), nm.si32)
    bench.begin()
    bench.builder.add(sta.ProductOp(acc, left, right, DENSE_OPERAND, transposed=transposed))
    bench.accumulators(acc)
    assert np.array_equal(output(bench), a.astype(np.int64) @ b.T)


@pytest.mark.parametrize("pattern", ["1:1", "2:4", "1:4", "3:7", "1:32", "31:32"])
def test_product_with_packed_weights(bench: Bench, pattern: str) -> None:
    kind = Pattern.parse(pattern)
    a, dense = random_of(bench, (5, 37)), random_of(bench, (6, 37)).astype(np.float32)
    weights = prune_by_magnitude(dense, kind).astype(np.int8)
    encoding = smaller_encoding(kind)
    left = bench.matrix("a", a, nm.si8)
    right = bench.block("w", pack(weights, kind, encoding))
    acc = bench.builder.buffer("acc", (5, 6), nm.si32)
    bench.begin()
    bench.builder.add(sta.ProductOp(acc, left, right, nm.PatternAttr(kind, encoding)))
    bench.accumulators(acc)
    assert np.array_equal(output(bench), a.astype(np.int64) @ weights.T)


def test_products_accumulate(bench: Bench) -> None:
    a, b = random_of(bench, (5, 9)), random_of(bench, (7, 9))
    left, right = bench.matrix("a", a, nm.si8), bench.matrix("b", b, nm.si8)
    acc = bench.builder.buffer("acc", (5, 7), nm.si32)
    bench.begin()
    bench.builder.add(sta.ProductOp(acc, left, right, DENSE_OPERAND))
    with bench.builder.loop(3):
        bench.builder.add(sta.ProductOp(acc, left, right, DENSE_OPERAND, accumulate=True))
    bench.accumulators(acc)
    assert np.array_equal(output(bench), 4 * (a.astype(np.int64) @ b.T))


def test_accumulators_that_leave_int32_are_an_error(bench: Bench) -> None:
    # A product is 2^13 * 2^7 * 2^7: the sixteenth leaves int32.
    ones = np.full((1, 1 << 13), -128, np.int8)
    operand = bench.matrix("a", ones, nm.si8)
    acc = bench.builder.buffer("acc", (1, 1), nm.si32)
    bench.begin()
    bench.builder.add(sta.ProductOp(acc, operand, operand, DENSE_OPERAND))
    with bench.builder.loop(15):
        bench.builder.add(sta.ProductOp(acc, operand, operand, DENSE_OPERAND, accumulate=True))
    bench.accumulators(acc)
    with pytest.raises(OverflowError, match="2147483648 does not fit int32"):
        integers(bench.builder.case())


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 6), st.integers(1, 7), st.booleans(), st.sampled_from(["none", "one row", "rows"]), st.integers(0, 9)
)
def test_softmax(rows: int, keys: int, causal: bool, masked: str, base: int) -> None:
    bench = Bench(StaBuilder())
    builder = bench.builder
    q, k = random_of(bench, (rows, 4)), random_of(bench, (keys, 4))
    given_mask = (builder.random.random((1 if masked == "one row" else rows, keys)) < 0.6).astype(np.uint8) * 3
    left, right = bench.matrix("q", q, nm.si8), bench.matrix("k", k, nm.si8)
    mask = bench.matrix("mask", given_mask, nm.ui8)
    one = bench.matrix("one", np.eye(keys, dtype=np.int8), nm.si8)
    scale = SoftmaxParameters(1 << 30, 32)
    parameters = bench.block("scale", scale.to_bytes())
    scores, acc = builder.buffer("acc", (rows, keys), nm.si32), builder.buffer("acc", (rows, keys), nm.si32)
    weights, sums = builder.buffer("spad", (rows, keys), nm.ui8), builder.buffer("spad", (rows,), nm.si32)
    normal = builder.buffer("spad", (rows, keys), nm.si16)
    bench.begin()
    view = builder.view(mask, (rows, keys), strides=(0 if masked == "one row" else keys, 1))
    with builder.loop(2) as i:
        builder.add(sta.ProductOp(scores, left, right, DENSE_OPERAND, scores=True))
        operands = (scores, weights, sums, parameters)
        first_row = Affine(base, ((i, 2),)) if causal else None
        builder.add(sta.SoftmaxOp(operands, None if masked == "none" else view, causal, first_row))
        # The weights leave the chip normalized: times one, divided by their sum, in units of 2^-8.
        builder.add(sta.ProductOp(acc, weights, one, DENSE_OPERAND))
        builder.add(sta.MapOp((acc, normal, bench.identity), None, sums, normalize=True))
    bench.result(normal)
    total = builder.buffer("spad", (1, rows), nm.si32)
    builder.add(sta.MapOp((builder.view(sums, (1, rows), strides=(rows, 1)), total, bench.identity)))
    bench.result(total, "sums")
    found = outputs(builder.case())
    products = q.astype(np.int64) @ k.T
    for row in range(rows):
        allowed = [
            key
            for key in range(keys)
            if (masked == "none" or given_mask[0 if masked == "one row" else row, key])
            and (not causal or key <= row + base + 2)
        ]
        largest = max((int(products[row, key]) for key in allowed), default=0)
        powers = {key: 255 * 2.0 ** (((int(products[row, key]) - largest) + 2 >> 2) / 1024) for key in allowed}
        assert abs(int(found["sums"][0, row]) - sum(powers.values())) <= len(allowed)
        for key in range(keys):
            share = powers.get(key, 0.0) / sum(powers.values()) if allowed else 0.0
            assert abs(int(found["y"][row, key]) - share) <= 1


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["acc", "s8", "u8", "s16", "s32"]),
    st.sampled_from([nm.si8, nm.ui8, nm.si16, nm.si32]),
    st.sampled_from([None, nm.si8, nm.si16, nm.si32]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_map(
    source: str,
    element: nm.IntegerType,
    added: nm.IntegerType | None,
    has_table: bool,
    per_channel: bool,
    seed: int,
) -> None:
    bench = Bench(StaBuilder(seed=seed))
    builder = bench.builder
    rows, columns = 3, 5
    kind = {"s8": nm.si8, "u8": nm.ui8, "s16": nm.si16}.get(source, nm.si32)
    x = random_of(bench, (rows, columns), kind) // (64 if kind == nm.si32 else 1)
    entries = random_of(bench, (513,), nm.si16)
    residual = random_of(bench, (rows, columns), added or nm.si8)
    channels = columns if per_channel else 1
    bias, multiplier = builder.random.integers(-99, 99, channels), builder.random.integers(0, 2**31, channels)
    shift = builder.random.integers(30, 45, channels)
    numbers = {"table_multiplier": 2**30, "table_shift": 33, "residual_bias": -7, "residual_multiplier": 12345}
    numbers |= {"residual_shift": 16, "zero_point": 9}
    operand = bench.matrix("x", x, kind)
    table = bench.on_chip("table", entries, nm.si16, "wbuf")
    other = bench.matrix("residual", residual, added or nm.si8)
    block = bench.block("block", channel_map_parameters(bias, multiplier, shift, numbers).to_bytes())
    result = builder.buffer("spad", (rows, columns), element)
    bench.begin()
    if source == "acc":
        # A product with a single 1 fills the accumulators.
        x = random_of(bench, (rows, columns))
        left, one = bench.matrix("left", x, nm.si8), bench.matrix("one", np.eye(columns, dtype=np.int8), nm.si8)
        operand = builder.buffer("acc", (rows, columns), nm.si32)
        for constant, buffer in bench.loads[-2:]:
            builder.add(sta.LoadOp(constant, buffer))
        builder.add(sta.ProductOp(operand, left, one, DENSE_OPERAND))
    builder.add(
        sta.MapOp(
            (operand, result, block), table if has_table else None, other if added else None, per_channel=per_channel
        )
    )
    bench.result(result)
    value = x.astype(np.int64) + bias
    limits = np.int64(1) << (shift - 1)
    value = scaled(np.clip(value, -limits, limits - 1), multiplier, shift)
    if has_table:
        index = np.clip(value, -32768, 32767) + 32768
        wide = entries.astype(np.int64)
        value = (wide[index >> 7] << 7) + (wide[(index >> 7) + 1] - wide[index >> 7]) * (index & 127)
        value = scaled(value, 2**30, 33)
    if added is not None:
        value = value + scaled(np.clip(residual.astype(np.int64) - 7, -(2**15), 2**15 - 1), 12345, 16)
    bounds = np.iinfo(element_dtype(element))
    assert np.array_equal(output(bench), np.clip(value + 9, bounds.min, bounds.max))


@pytest.mark.parametrize("results", ["stream", "copy", "both"])
@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("statistics", [False, True])
def test_norm(bench: Bench, results: str, kind: str, statistics: bool) -> None:
    builder = bench.builder
    x = random_of(bench, (4, 6), nm.si16)
    gamma = builder.random.integers(-(2**20), 2**20, 6).astype(np.int32)
    beta = builder.random.integers(-(2**20), 2**20, 6).astype(np.int32)
    block = bench.block("block", NormParameters(gamma, beta, 5, 30, 2**30, 37, -4).to_bytes())
    source, work = bench.matrix("x", x, nm.si16), builder.buffer("spad", (4, 6), nm.si16)
    stream, copy = builder.buffer("spad", (4, 6), nm.si16), builder.buffer("spad", (4, 6), nm.si8)
    bench.begin()
    halves = [
        (builder.view(a, (4, 3), start), builder.view(b, (4, 3), start))
        for a, b in [(source, work)]
        for start in (0, 3)
    ]
    for a, b in halves:
        builder.add(sta.MapOp((a, b, bench.identity), statistics=statistics))
    written = (stream if results != "copy" else None, copy if results != "stream" else None)
    builder.add(sta.NormOp(work, block, *written, kind, statistics=statistics))
    for name, value in zip(("stream", "copy"), written, strict=True):
        if value is not None:
            bench.result(value, name)
    found = outputs(builder.case())
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True) if kind == "layer" else wide
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 5 / 36)
    exact = np.clip((centred / deviation * gamma + beta) / 2**10, -32768, 32767)
    if "stream" in found:
        assert np.abs(found["stream"] - exact).max() <= 1
    if "copy" in found:
        assert np.abs(found["copy"] - np.clip(exact / 2**7 - 4, -128, 127)).max() <= 1.01


def test_a_window_that_leaves_its_buffer_is_an_error(bench: Bench) -> None:
    builder = bench.builder
    tile = bench.matrix("x", random_of(bench, (4, 4)), nm.si8)
    bench.begin()
    with builder.loop(2) as i:
        bench.result(builder.view(tile, (4, 4), 0, [(i, 4)])) if False else None
        builder.add(sta.MapOp((builder.view(tile, (4, 4), 0, [(i, 4)]), tile, bench.identity)))
    bench.result(tile)
    case = builder.case()
    for op in case.module.walk():
        if isinstance(op, sta.AllocOp):
            op.offset = None
    with pytest.raises(IndexError, match="bytes 4 to 20 of a memory of 16"):
        integers(case)


def test_a_buffer_that_is_read_before_it_is_written_is_poison(bench: Bench) -> None:
    buffer = bench.builder.buffer("spad", (2, 4), nm.si8)
    bench.begin()
    bench.result(buffer)
    case = bench.builder.case()
    for poison in POISONS:
        assert (integers(case, poison)["y"].view(np.uint8) == poison).all()


def test_outputs_that_nobody_writes_are_poison(bench: Bench) -> None:
    bench.builder.argument("y", "output", (3,), nm.si16)
    bench.begin()
    case = bench.builder.case()
    assert (integers(case, 0x5A)["y"] == 0x5A5A).all()


@settings(deadline=None, max_examples=6)
@given(transformers(longest=6, widest=12))
def test_bits_before_and_after_allocation(model: Transformer) -> None:
    case = model.case()
    expected = integers(case)
    apply(case.module, case.context, "nm-sink-views", "nm-fuse-epilogues", "convert-nm-to-sta")
    before = [integers(case, poison) for poison in POISONS]
    apply(case.module, case.context, "sta-allocate")
    after = [integers(case, poison) for poison in POISONS]
    for found in (*before, *after):
        for name, values in expected.items():
            assert np.array_equal(values, found[name])
