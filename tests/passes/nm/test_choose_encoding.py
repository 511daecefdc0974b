"""Detection of sparsity: zeros alone decide the patterns of weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.context import Context

from sta.dialect import nm
from sta.passes.nm.choose_encoding import NmChooseEncodingPass
from sta.spec.cost import product_steps
from sta.spec.nm_format import Pattern, packed_size, satisfies, smaller_encoding
from tests.support.nm_builder import PLAIN_TARGET, Case, NmBuilder
from tests.support.pipeline_check import check_passes, operations

PASS = ("nm-choose-encoding",)


def encoded(case: Case) -> list[tuple[str, str]]:
    """Returns pattern and encoding of the weight of every product, after comparing bits."""
    _ = list(check_passes(case, PASS))
    found = [nm.pattern_of(op.operands[1]) for op in operations(case, nm.ProductOp)]
    return [(str(pattern), encoding) for pattern, encoding in found]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("2:4", ("2:4", "bitmap")), ("1:4", ("1:4", "index")), ("1:8", ("1:8", "index")), ("1:1", ("1:1", "dense"))],
)
def test_pruned_weights_get_their_pattern(pattern: str, expected: tuple[str, str]) -> None:
    builder = NmBuilder()
    x = builder.bytes("x", (5, 64))
    case = builder.case(builder.product(x, 6, "w", Pattern.parse(pattern)))
    before = operations(case, nm.WeightOp)[0].location
    assert encoded(case) == [expected]
    (weight,) = operations(case, nm.WeightOp)
    assert weight.location == before


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 70), st.floats(0, 1), st.sampled_from([1, 4, 8]), st.integers(0, 2**32))
def test_no_pattern_would_take_fewer_cycles(rows: int, depth: int, share: float, lanes: int, seed: int) -> None:
    builder = NmBuilder(replace(PLAIN_TARGET, multipliers=lanes), seed)
    values = builder.weights(rows, depth) * (builder.random.random((rows, depth)) < share)
    weight = builder.weight("w", values, nm.si8)
    case = builder.case(builder.add(nm.ProductOp(builder.bytes("x", (2, depth)), weight)).result)
    _ = encoded(case)
    pattern, encoding = nm.pattern_of(operations(case, nm.ProductOp)[0].operands[1])
    stored = np.asarray(values, np.int8)
    assert satisfies(stored, pattern)
    assert encoding == smaller_encoding(pattern)
    cost = (product_steps(depth, pattern, lanes, 32), packed_size(rows, depth, pattern, encoding))
    for m in range(1, 33):
        for other in (Pattern(n, m) for n in range(1, m + 1)):
            if satisfies(stored, other):
                size = packed_size(rows, depth, other, smaller_encoding(other))
                assert cost <= (product_steps(depth, other, lanes, 32), size)


def test_a_weight_of_two_products_is_typed_for_both() -> None:
    builder = NmBuilder()
    weight = builder.weight("w", builder.weights(6, 64, Pattern(1, 4)), nm.si8)
    products = [builder.add(nm.ProductOp(builder.bytes(name, (3, 64)), weight)).result for name in "xy"]
    case = builder.case(*products)
    assert encoded(case) == [("1:4", "index")] * 2
    # The untyped one is gone.
    assert all(nm.pattern_of(op.results[0])[0] == Pattern(1, 4) for op in operations(case, nm.WeightOp))


def test_a_weight_that_is_used_otherwise_keeps_its_plain_type_there() -> None:
    builder = NmBuilder()
    weight = builder.weight("w", builder.weights(6, 64, Pattern(1, 4)), nm.si8)
    product = builder.add(nm.ProductOp(builder.bytes("x", (3, 64)), weight)).result
    case = builder.case(product, weight)
    assert encoded(case) == [("1:4", "index")]
    assert len(operations(case, nm.WeightOp)) == 2


def test_weights_times_themselves() -> None:
    builder = NmBuilder()
    weight = builder.weight("w", builder.weights(6, 64, Pattern(1, 4)), nm.si8)
    case = builder.case(builder.add(nm.ProductOp(weight, weight)).result)
    assert encoded(case) == [("1:4", "index")]


def test_products_of_activations_are_left_alone() -> None:
    builder = NmBuilder()
    x, y = builder.bytes("x", (3, 8)), builder.bytes("y", (5, 8))
    case = builder.case(builder.add(nm.ProductOp(x, y)).result)
    assert encoded(case) == [("1:1", "dense")]


def test_a_plain_context_has_no_weights() -> None:
    builder = NmBuilder()
    case = builder.case(builder.product(builder.bytes("x", (3, 8)), 4, "w"))
    with pytest.raises(ValueError, match="CompileContext"):
        NmChooseEncodingPass().apply(Context(), case.module)
