"""Products of two values on the machine: any layout, on chips large and small; bits are those of the specification."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xdsl.ir import SSAValue

from sta.dialect import nm
from sta.dialect.interpreters.any_level import run_integers
from sta.passes.lowering.useful_macs import useful_macs
from sta.passes.pipeline import INTEGER_PIPELINE
from sta.passes.tiling.tile_choice import recorded
from sta.spec.integers import apply_scale_32
from sta.spec.target import load_target
from tests.support.nm_builder import PLAIN_TARGET, Case, NmBuilder
from tests.support.pipeline_check import apply, check_pipeline, program_of
from tests.support.transformers import TINY

SIZES = st.integers(1, 40)


def exchanged(builder: NmBuilder, value: SSAValue) -> SSAValue:
    rank = len(nm.tensor_of(value).get_shape())
    return builder.permute(value, *range(rank - 2), rank - 1, rank - 2)


@st.composite
def products(draw: st.DrawFn) -> Case:
    """Draws products of two inputs in any layout, with a residual or without, on a chip that holds all or nothing."""
    builder = NmBuilder(draw(st.sampled_from([PLAIN_TARGET, TINY])), draw(st.integers(0, 2**32)))
    m, n, k = (draw(SIZES) for _ in range(3))
    batches = draw(st.lists(st.integers(1, 3), max_size=2))
    shared = draw(st.integers(0, len(batches)))
    leading = (*(1 for _ in batches[:shared]), *batches[shared:])
    first_swapped, second_swapped = draw(st.booleans()), draw(st.booleans())
    make = builder.stream if draw(st.booleans()) else builder.bytes
    a = make("a", (*batches, *((k, m) if first_swapped else (m, k))))
    b = builder.bytes("b", (*leading, *((k, n) if second_swapped else (n, k))))
    a, b = exchanged(builder, a) if first_swapped else a, exchanged(builder, b) if second_swapped else b
    result = builder.matmul(a, b, spread=5000.0)
    if draw(st.booleans()):
        result = builder.sum(result, builder.rescale(builder.stream("r", (*batches, m, n)), 0.5))
    return builder.case(builder.clamp(result, nm.si16), builder.clamp(builder.matmul(a, b), nm.si8, -3))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(products())
def test_bits_are_those_of_the_interpreter(case: Case) -> None:
    check_pipeline(case)


def test_the_product_is_that_of_numpy() -> None:
    builder = NmBuilder()
    a, b = builder.stream("a", (3, 1, 9, 33)), builder.bytes("b", (2, 7, 33))
    case = builder.case(builder.add(nm.RescaleOp(builder.add(nm.DynamicProductOp(a, b)).result, 5, 1 << 30, 40)).result)
    (found,) = run_integers(case.module, case.context.weights, case.inputs)[0].values()
    x, y = (case.inputs[name].astype(object) for name in "ab")
    sums = (x @ np.swapaxes(y, -1, -2) + 5).astype(np.int64)
    np.testing.assert_array_equal(found, apply_scale_32(sums, 1 << 30, 40))


@pytest.mark.parametrize("wide", [False, True])
def test_large_matrices_in_dram_keep_the_array_busy(wide: bool) -> None:
    builder = NmBuilder(load_target("sta-base"))
    shape = (4, 512, 300)
    a = (builder.stream if wide else builder.bytes)("a", shape)
    case = builder.case(builder.clamp(builder.matmul(a, builder.bytes("b", (4, 640, 300))), nm.si8))
    macs = useful_macs(case.module)
    assert macs.kept == macs.dense == prod(shape) * 640
    apply(case.module, case.context, *INTEGER_PIPELINE)
    program = program_of(case, macs)
    program.check_races()
    (choice,) = recorded(case.module)
    assert (choice["kind"], choice["bound"]) == ("matmul", "compute")
    total = program.profile().total
    assert total.working / program.cycles > 0.85
