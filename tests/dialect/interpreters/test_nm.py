"""Every `nm` operation against its definition in Python's own integers, element by element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType, ModuleOp, TensorType
from xdsl.interpreter import Interpreter
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.test_value import create_ssa_value

from sta.dialect import nm
from sta.dialect.interpreters.nm import NmFunctions, element_dtype
from sta.dialect.ir.weight_store import WeightStore
from tests.support.nm_builder import NmBuilder
from tests.support.pipeline_check import integers

Array = NDArray[Any]
SEEDS = st.integers(0, 2**32)
MULTIPLIERS = st.one_of(st.integers(0, 2**31 - 1), st.sampled_from([0, 1, 2**30, 2**31 - 1]))
SHIFTS = st.one_of(st.integers(2, 62), st.integers(20, 40))
LIMITS = {nm.si8: (-128, 127), nm.ui8: (0, 255), nm.si16: (-(2**15), 2**15 - 1), nm.si32: (-(2**31), 2**31 - 1)}
ACTIVATIONS = st.sampled_from([nm.si8, nm.ui8, nm.si16])
ELEMENTS = st.sampled_from([nm.si8, nm.ui8, nm.si16, nm.si32])


def scaled(value: int, multiplier: int, shift: int) -> int:
    """TOSA apply_scale_32 with a single rounding, of a value saturated to the range in which it is defined."""
    limit = 1 << (shift - 1)
    return (max(-limit, min(limit - 1, value)) * multiplier + limit) >> shift


def saturated(value: int, element: IntegerType) -> int:
    """The nearest number that an element type holds."""
    low, high = LIMITS[element]
    return max(low, min(high, value))


def looked_up(value: int, table: Sequence[int]) -> int:
    """TOSA TABLE on 16 bits."""
    index, fraction = (value + 32768) >> 7, value & 127
    return (table[index] << 7) + (table[index + 1] - table[index]) * fraction


def shifted(value: int, shift: int) -> int:
    """Division by a power of two, a half rounded up."""
    return (value + ((1 << shift) >> 1)) >> shift


@cache
def exponential(t: int, bits: int = 8) -> int:
    """(2^bits - 1) * 2^(t / 1024) from a table of 1024 entries with 7 more bits, for t <= 0."""
    with localcontext() as context:
        context.prec = 50
        entry = Decimal(((1 << bits) - 1) * 128) * Decimal(2) ** (Decimal(t & 1023) / 1024)
        return shifted(int(entry.to_integral_value(ROUND_HALF_EVEN)), min(7 - (t >> 10), 40))


def random_of(random: np.random.Generator, element: IntegerType, shape: Sequence[int]) -> Array:
    """Random elements, the extremes among them."""
    low, high = LIMITS[element]
    values = random.integers(low, high + 1, shape)
    ends = random.random(shape) < 0.1
    return np.where(ends, random.choice([low, high], shape), values).astype(element_dtype(element))


def value_of(array: Array, element: IntegerType) -> SSAValue:
    """A value of an array's type."""
    return create_ssa_value(TensorType(element, array.shape))


def run(op: Operation, *arrays: Array) -> Any:
    """Runs one operation."""
    op.verify()
    interpreter = Interpreter(ModuleOp([]))
    interpreter.register_implementations(NmFunctions(WeightStore()))
    results = interpreter.run_op(op, arrays)
    for result, array in zip(op.results, results, strict=True):
        tensor = nm.tensor_of(result)
        assert array.shape == tensor.get_shape()
        assert array.dtype == element_dtype(tensor.element_type)
    return results[0]


@settings(deadline=None)
@given(SEEDS, ACTIVATIONS)
def test_product(seed: int, element: IntegerType) -> None:
    random = np.random.default_rng(seed)
    x, w = random_of(random, element, (2, 3, 7)), random_of(random, nm.si8, (4, 7))
    found = run(nm.ProductOp(value_of(x, element), value_of(w, nm.si8)), x, w)
    for i, j, n in np.ndindex(2, 3, 4):
        assert found[i, j, n] == sum(int(a) * int(b) for a, b in zip(x[i, j], w[n], strict=True))


def test_a_product_that_leaves_int32_is_an_error() -> None:
    x, w = np.full((1, 140_000), -128, np.int8), np.full((1, 140_000), -128, np.int8)
    with pytest.raises(OverflowError, match="2293760000 does not fit int32"):
        run(nm.ProductOp(value_of(x, nm.si8), value_of(w, nm.si8)), x, w)


@settings(deadline=None)
@given(SEEDS, ELEMENTS, st.integers(-300, 300), MULTIPLIERS, SHIFTS)
def test_rescale(seed: int, element: IntegerType, bias: int, multiplier: int, shift: int) -> None:
    x = random_of(np.random.default_rng(seed), element, (3, 4))
    expected = [scaled(int(v) + bias, multiplier, shift) for v in x.reshape(-1)]
    op = nm.RescaleOp(value_of(x, element), bias, multiplier, shift)
    if any(saturated(v, nm.si32) != v for v in expected):
        with pytest.raises(OverflowError, match="a rescaled value leaves int32"):
            run(op, x)
        return
    assert run(op, x).reshape(-1).tolist() == expected


@settings(deadline=None)
@given(SEEDS, st.integers(20, 40), st.booleans())
def test_rescale_channels(seed: int, shift: int, wide: bool) -> None:
    random = np.random.default_rng(seed)
    limit, element = (2**39, nm.si64) if wide else (2**24, nm.si32)
    x = random.integers(-limit, limit, (2, 3, 5)).astype(element_dtype(element))
    bias = random.integers(-(2**24), 2**24, 5).astype(np.int32)
    multiplier = random.integers(0, 2**26, 5).astype(np.int32)
    shifts = random.integers(shift, 63, 5).astype(np.int8)
    operands = (value_of(bias, nm.si32), value_of(multiplier, nm.si32), value_of(shifts, nm.si8))
    found = run(nm.RescaleChannelsOp(value_of(x, element), *operands), x, bias, multiplier, shifts)
    for i, j, n in np.ndindex(2, 3, 5):
        assert found[i, j, n] == scaled(int(x[i, j, n]) + int(bias[n]), int(multiplier[n]), int(shifts[n]))


@settings(deadline=None)
@given(SEEDS, ELEMENTS)
def test_table_saturates_and_interpolates(seed: int, element: IntegerType) -> None:
    random = np.random.default_rng(seed)
    x, table = random_of(random, element, (3, 4)), random_of(random, nm.si16, (513,))
    found = run(nm.TableOp(value_of(x, element), value_of(table, nm.si16)), x, table)
    expected = [looked_up(saturated(int(v), nm.si16), table.tolist()) for v in x.reshape(-1)]
    assert found.reshape(-1).tolist() == expected


@settings(deadline=None)
@given(SEEDS, st.sampled_from([(2, 3, 4), (3, 4), (4,), (1, 1, 4), (2, 1, 4)]))
def test_add_broadcasts(seed: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    a = random.integers(-(2**30), 2**30, (2, 3, 4)).astype(np.int32)
    b = random.integers(-(2**30), 2**30, shape).astype(np.int32)
    found = run(nm.AddOp(value_of(a, nm.si32), value_of(b, nm.si32)), a, b)
    full = np.broadcast_to(b, a.shape)
    assert all(found[i] == int(a[i]) + int(full[i]) for i in np.ndindex(a.shape))


def test_a_sum_that_leaves_int32_is_an_error() -> None:
    a = np.full((2,), 2**30, np.int32)
    with pytest.raises(OverflowError, match="a sum leaves int32"):
        run(nm.AddOp(value_of(a, nm.si32), value_of(a, nm.si32)), a, a)


@settings(deadline=None)
@given(SEEDS, st.sampled_from([nm.si8, nm.ui8, nm.si16]), st.one_of(st.integers(-300, 300), st.just(2**31 - 1)))
def test_clamp(seed: int, element: IntegerType, zero_point: int) -> None:
    x = random_of(np.random.default_rng(seed), nm.si32, (3, 4))
    x[0] = np.arange(-2, 2) * 100
    found = run(nm.ClampOp(value_of(x, nm.si32), zero_point, element), x)
    assert found.reshape(-1).tolist() == [saturated(int(v) + zero_point, element) for v in x.reshape(-1)]


def vector_unit(
    value: int, first: tuple[int, int, int], table: Sequence[int] | None, residual: int | None, numbers: dict[str, int]
) -> int:
    """The pipeline of a fused epilogue on one number, before it is saturated."""
    bias, multiplier, shift = first
    result = scaled(value + bias, multiplier, shift)
    if table is not None:
        result = looked_up(saturated(result, nm.si16), table)
        result = scaled(result, numbers["table_multiplier"], numbers["table_shift"])
    if residual is not None:
        added = residual + numbers["residual_bias"]
        result += scaled(added, numbers["residual_multiplier"], numbers["residual_shift"])
    return result + numbers["zero_point"]


@st.composite
def epilogues(draw: st.DrawFn) -> dict[str, int]:
    """Draws the numbers of an epilogue."""
    return {
        "table_multiplier": draw(MULTIPLIERS),
        "table_shift": draw(SHIFTS),
        "residual_bias": draw(st.integers(-300, 300)),
        "residual_multiplier": draw(MULTIPLIERS),
        "residual_shift": draw(SHIFTS),
        "zero_point": draw(st.integers(-200, 200)),
    }


def properties_of(numbers: dict[str, int]) -> dict[str, Attribute]:
    """The properties of an operation with these numbers in its epilogue."""
    return nm.epilogue_properties(
        table_scale=(numbers["table_multiplier"], numbers["table_shift"]),
        residual_bias=numbers["residual_bias"],
        residual_scale=(numbers["residual_multiplier"], numbers["residual_shift"]),
        zero_point=numbers["zero_point"],
    )


@settings(deadline=None)
@given(
    SEEDS, epilogues(), st.booleans(), st.booleans(), ELEMENTS, st.sampled_from([nm.si8, nm.si16, nm.si32]), ACTIVATIONS
)
def test_linear(
    seed: int,
    numbers: dict[str, int],
    has_table: bool,
    has_residual: bool,
    element: IntegerType,
    added: IntegerType,
    activations: IntegerType,
) -> None:
    random = np.random.default_rng(seed)
    x, w = random_of(random, activations, (2, 3, 7)), random_of(random, nm.si8, (5, 7))
    bias = random.integers(-(2**20), 2**20, 5).astype(np.int32)
    multiplier = random.integers(0, 2**31, 5).astype(np.int32)
    shift = random.integers(28, 50, 5).astype(np.int8)
    table, residual = random_of(random, nm.si16, (513,)), random_of(random, added, (3, 5)) // 2
    op = nm.LinearOp(
        (value_of(x, activations), value_of(w, nm.si8)),
        (value_of(bias, nm.si32), value_of(multiplier, nm.si32), value_of(shift, nm.si8)),
        value_of(table, nm.si16) if has_table else None,
        value_of(residual, added) if has_residual else None,
        properties_of(numbers),
        TensorType(element, (2, 3, 5)),
    )
    extra = [array for array, given in ((table, has_table), (residual, has_residual)) if given]
    found = run(op, x, w, bias, multiplier, shift, *extra)
    for i, j, n in np.ndindex(2, 3, 5):
        acc = sum(int(a) * int(b) for a, b in zip(x[i, j], w[n], strict=True))
        first = (int(bias[n]), int(multiplier[n]), int(shift[n]))
        entries, term = table.tolist() if has_table else None, int(residual[j, n]) if has_residual else None
        assert found[i, j, n] == saturated(vector_unit(acc, first, entries, term, numbers), element)


@settings(deadline=None)
@given(SEEDS, epilogues(), st.booleans(), st.booleans(), ELEMENTS, ELEMENTS, st.integers(-300, 300))
def test_map(
    seed: int,
    numbers: dict[str, int],
    has_table: bool,
    has_residual: bool,
    source: IntegerType,
    element: IntegerType,
    bias: int,
) -> None:
    random = np.random.default_rng(seed)
    x = random_of(random, source, (2, 4))
    x = x // 2 if source == nm.si32 else x
    first = (bias, int(random.integers(0, 2**31)), int(random.integers(2, 63)))
    table, residual = random_of(random, nm.si16, (513,)), random_of(random, nm.si16, (1, 4))
    op = nm.MapOp(
        value_of(x, source),
        first,
        value_of(table, nm.si16) if has_table else None,
        value_of(residual, nm.si16) if has_residual else None,
        properties_of(numbers),
        TensorType(element, (2, 4)),
    )
    extra = [array for array, given in ((table, has_table), (residual, has_residual)) if given]
    found = run(op, x, *extra)
    for i, n in np.ndindex(2, 4):
        entries, term = table.tolist() if has_table else None, int(residual[0, n]) if has_residual else None
        assert found[i, n] == saturated(vector_unit(int(x[i, n]), first, entries, term, numbers), element)


def normalized(row: list[int], gamma: list[int], beta: list[int], epsilon: int, shift: int, kind: str) -> list[int]:
    """LayerNorm or RMSNorm of one row."""
    count = len(row)
    first = sum(row) if kind == "layer" else 0
    radicand = count * sum(v * v for v in row) - first * first + epsilon
    half = (radicand.bit_length() + 1) // 2
    root = min(math.isqrt((1 << (60 + 2 * half)) // radicand), 2**31 - 1)
    unit = [shifted((count * v - first) * root, 10 + half) for v in row]
    return [saturated(shifted(z * g + (b << 20), shift), nm.si16) for z, g, b in zip(unit, gamma, beta, strict=True)]


@settings(deadline=None)
@given(
    SEEDS,
    st.integers(1, 9),
    st.sampled_from(["layer", "rms"]),
    st.one_of(st.integers(1, 100), st.integers(1, 2**61 - 1)),
    st.integers(20, 44),
    st.sampled_from(["stream", "copy", "both"]),
)
def test_norm(seed: int, width: int, kind: str, epsilon: int, shift: int, outputs: str) -> None:
    random = np.random.default_rng(seed)
    x = random_of(random, nm.si16, (2, 3, width))
    x[0, 0] = x[0, 0, 0]
    gamma, beta = (random_of(random, nm.si32, (width,)) for _ in range(2))
    copy_scale = (int(random.integers(0, 2**31)), int(random.integers(20, 50)), int(random.integers(-100, 100)))
    op = nm.NormOp(
        value_of(x, nm.si16),
        value_of(gamma, nm.si32),
        value_of(beta, nm.si32),
        kind,
        epsilon,
        shift,
        None if outputs == "stream" else copy_scale,
        stream=outputs != "copy",
    )
    op.verify()
    interpreter = Interpreter(ModuleOp([]))
    interpreter.register_implementations(NmFunctions(WeightStore()))
    results = list(interpreter.run_op(op, (x, gamma, beta)))
    rows = [
        normalized(row, gamma.tolist(), beta.tolist(), epsilon, shift, kind) for row in x.reshape(-1, width).tolist()
    ]
    if outputs != "copy":
        assert results.pop(0).reshape(-1, width).tolist() == rows
    if outputs != "stream":
        multiplier, copy_shift, zero_point = copy_scale
        expected = [[saturated(scaled(v, multiplier, copy_shift) + zero_point, nm.si8) for v in row] for row in rows]
        assert results.pop(0).reshape(-1, width).tolist() == expected
    assert not results


@settings(deadline=None)
@given(SEEDS, st.sampled_from([nm.si8, nm.si16]))
def test_gather(seed: int, element: IntegerType) -> None:
    random = np.random.default_rng(seed)
    table, ids = random_of(random, element, (5, 3)), random.integers(0, 5, (2, 4)).astype(np.int32)
    found = run(nm.GatherOp(value_of(table, element), value_of(ids, nm.si32)), table, ids)
    for i, j in np.ndindex(2, 4):
        assert found[i, j].tolist() == table[ids[i, j]].tolist()


@pytest.mark.parametrize("index", [-1, 5])
def test_gather_refuses_indices_outside_the_table(index: int) -> None:
    table, ids = np.zeros((5, 3), np.int8), np.array([0, index], np.int32)
    with pytest.raises(IndexError, match="outside the table of 5 rows"):
        run(nm.GatherOp(value_of(table, nm.si8), value_of(ids, nm.si32)), table, ids)


def attended(
    q: list[int],
    k: list[list[int]],
    v: list[list[int]],
    keys: list[int],
    op: nm.AttentionOp,
    element: IntegerType,
    bias: list[int] | None,
) -> list[int]:
    """One row of attention: exponentials of the admissible keys, their sum, and the drain's division by it."""
    scores = [sum(a * b for a, b in zip(q, row, strict=True)) for row in k]
    multiplier, shift = op.score_scale.pair
    planes = range(op.bits // 8)
    total, maximum, parts = 0, None, [[0 for _ in planes] for _ in v[0]]
    logarithms = [scaled(score, multiplier, shift) for score in scores]
    if bias is not None and op.bias_scale is not None:
        logarithms = [t + scaled(b, *op.bias_scale.pair) for t, b in zip(logarithms, bias, strict=True)]
    for start in range(0, len(k), op.chunk_keys or len(k)):
        chunk = [j for j in keys if start <= j < start + (op.chunk_keys or len(k))]
        if not chunk:
            continue
        largest, down = max(scores[j] for j in chunk), 0
        if op.chunk_keys is None and bias is not None:
            weights = {j: exponential(logarithms[j] - max(logarithms[i] for i in chunk), op.bits) for j in chunk}
        elif op.chunk_keys is None:
            weights = {j: exponential(scaled(scores[j] - largest, multiplier, shift), op.bits) for j in chunk}
        else:
            ceiling = -(-max(logarithms[j] for j in chunk) // 1024)
            raised = ceiling if maximum is None else max(ceiling, maximum)
            down = 0 if maximum is None else min(raised - maximum, 31)
            maximum = raised
            weights = {j: exponential(logarithms[j] - 1024 * raised, op.bits) for j in chunk}
        total = shifted(total, down) + sum(weights.values())
        for n, part in enumerate(parts):
            for plane in planes:
                part[plane] = shifted(part[plane], down) + sum((weights[j] >> 8 * plane & 255) * v[j][n] for j in chunk)
    sums = [sum(value << 8 * plane for plane, value in enumerate(part)) for part in parts]
    results = [0] * len(sums)
    if total:
        bits = total.bit_length()
        reciprocal = min(((1 << (31 + bits)) + total) // (2 * total), 2**31 - 1)
        multiplier, shift = op.output_scale.pair
        factor = (multiplier * reciprocal + (1 << 30)) >> 31
        results = [scaled(value, factor, shift + bits - 1) for value in sums]
    return [saturated(value + op.zero_point.value.data, element) for value in results]


@settings(deadline=None)
@given(
    SEEDS,
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3)),
    st.booleans(),
    st.sampled_from([None, (1, 1, 1), (0, 0, 0), (1, 0, 1), (0, 1, 1)]),
    st.sampled_from([None, (1, 1, 1), (0, 0, 0), (1, 0, 1), (0, 1, 1)]),
    st.integers(1, 4),
    st.sampled_from([nm.si8, nm.si16]),
    st.permutations(range(4)),
    st.integers(-20, 20),
    st.sampled_from([8, 16]),
    st.sampled_from([None, 1, 2, 3, 7]),
    st.integers(1, 3),
)
def test_attention(
    seed: int,
    sizes: tuple[int, int, int, int, int],
    causal: bool,
    broadcast: tuple[int, int, int] | None,
    bias_broadcast: tuple[int, int, int] | None,
    width: int,
    element: IntegerType,
    permutation: list[int],
    zero_point: int,
    bits: int,
    chunk: int | None,
    group: int,
) -> None:
    random = np.random.default_rng(seed)
    batch, heads, queries, keys, depth = sizes
    q = random_of(random, nm.si8, (batch, heads * group, queries, depth))
    k, v = (random_of(random, nm.si8, (batch, heads, keys, size)) for size in (depth, width))
    mask = None
    if broadcast is not None:
        shape = [1 if one else size for one, size in zip(broadcast, (batch, heads, queries), strict=True)]
        mask = np.repeat((random.random((*shape, keys)) < 0.5).astype(np.uint8) * 7, 1 if broadcast[1] else group, 1)
    bias = None
    if bias_broadcast is not None:
        full = (batch, heads * group, queries)
        bias = random_of(
            random, nm.si16, (*(1 if one else size for one, size in zip(bias_broadcast, full, strict=True)), keys)
        )
    op = nm.AttentionOp(
        (value_of(q, nm.si8), value_of(k, nm.si8), value_of(v, nm.si8)),
        None if mask is None else value_of(mask, nm.ui8),
        (int(random.integers(2**28, 2**31)), int(random.integers(30, 36))),
        (int(random.integers(2**28, 2**31)), int(random.integers(28, 34)), zero_point),
        causal,
        element,
        permutation,
        bits=bits,
        chunk=chunk,
        bias=None if bias is None else (value_of(bias, nm.si16), (int(random.integers(2**28, 2**31)), 36)),
    )
    op.verify()
    found = run(op, q, k, v, *(value for value in (mask, bias) if value is not None)).transpose(
        [permutation.index(axis) for axis in range(4)]
    )
    shape = [batch, heads * group, queries, keys]
    full = np.ones(shape) if mask is None else np.broadcast_to(mask, shape)
    added = None if bias is None else np.broadcast_to(bias, shape)
    for b, h, i in np.ndindex(batch, heads * group, queries):
        admissible = [j for j in range(keys) if full[b, h, i, j] and not (causal and j > i)]
        row_bias = None if added is None else added[b, h, i].tolist()
        expected = attended(
            q[b, h, i].tolist(), k[b, h // group].tolist(), v[b, h // group].tolist(), admissible, op, element, row_bias
        )
        assert found[b, h, i].tolist() == expected


def test_views() -> None:
    x = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    value = value_of(x, nm.si16)
    assert run(nm.ViewOp(value, (4, 6)), x).tolist() == x.reshape(4, 6).tolist()
    assert run(nm.PermuteOp(value, (2, 0, 1)), x).tolist() == x.transpose(2, 0, 1).tolist()
    assert run(nm.SliceOp(value, 1, 1, 3), x).tolist() == x[:, 1:3].tolist()
    assert run(nm.SliceOp(value, 2, 1, 4, 2), x).tolist() == x[:, :, 1:4:2].tolist()
    one = value_of(x[:, :1], nm.si16)
    assert run(nm.BroadcastOp(one, (5, 2, 3, 4)), x[:, :1]).tolist() == [x[:, [0, 0, 0]].tolist()] * 5
    assert run(nm.ConcatenateOp([value, one], 1), x, x[:, :1]).tolist() == x[:, [0, 1, 2, 0]].tolist()


def test_weights_come_from_the_store_and_stay_as_they_are() -> None:
    builder = NmBuilder()
    values = np.array([[1, -2], [3, 4]], np.int16)
    case = builder.case(builder.weight("w", values, nm.si16))
    result = integers(case)["out0"]
    assert result.tolist() == values.tolist()
    assert case.context.weights.get("w").tolist() == values.tolist()
