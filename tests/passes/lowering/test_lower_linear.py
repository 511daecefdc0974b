"""Linear layers on the machine: products of sizes that nothing divides wait for no drains but the last."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sta.dialect import nm, sta
from sta.passes.lowering.useful_macs import useful_macs
from sta.passes.pipeline import INTEGER_PIPELINE
from sta.spec.nm_format import DENSE, Pattern
from sta.spec.target import Target, load_target
from tests.support.nm_builder import PLAIN_TARGET, Case, NmBuilder
from tests.support.pipeline_check import apply, check_pipeline, operations, program_of
from tests.support.transformers import PATTERNS, TINY


@pytest.mark.parametrize(
    ("rows", "columns", "depth"),
    [(77, 80, 192), (77, 160, 192), (511, 240, 192), (197, 96, 288), (320, 144, 200)],
    ids=str,
)
def test_products_do_not_wait_for_drains(rows: int, columns: int, depth: int) -> None:
    # An odd number of tiles in each round of the outer loop; a number that leaves a tile over behind pairs.
    target = load_target("sta-base")
    builder = NmBuilder(target)
    case = builder.case(builder.clamp(builder.linear(builder.bytes("x", (rows, depth)), columns, "w"), nm.si8))
    macs = useful_macs(case.module)
    apply(case.module, case.context, *INTEGER_PIPELINE)
    program = program_of(case, macs)
    program.check_races()
    total = program.profile().total
    assert total.idle["mm"] <= 2 * target.drain_latency
    assert sum(total.idle.values()) - total.idle["ld"] - total.idle["st"] <= 0.02 * total.working + 200


def convolution(
    builder: NmBuilder, size: int, channels: int, kernel: int, step: int, columns: int, pattern: Pattern
) -> Case:
    """A convolution along two axes of channels that are the last one."""
    x = builder.bytes("x", (2, size, size + 1, channels))
    seen = builder.windows(builder.windows(x, 1, kernel, step), 2, kernel, step)
    seen = builder.permute(seen, 0, 1, 2, 4, 5, 3)
    shape = nm.tensor_of(seen).get_shape()
    rows = builder.view(seen, *shape[:3], kernel * kernel * channels)
    return builder.case(builder.clamp(builder.linear(rows, columns, "w", pattern), nm.si16))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([PLAIN_TARGET, TINY]),
    st.tuples(st.integers(4, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(1, 20)),
    PATTERNS,
)
def test_rows_of_runs_give_the_bits_of_the_interpreter(
    target: Target, sizes: tuple[int, int, int, int, int], pattern: Pattern
) -> None:
    check_pipeline(convolution(NmBuilder(target), *sizes, pattern))


def test_windows_are_not_copied() -> None:
    case = convolution(NmBuilder(), 9, 8, 3, 1, 16, DENSE)
    apply(case.module, case.context, *INTEGER_PIPELINE)
    # The first operand of a map is its source, and the second one of a product its activations.
    assert {sta.space_of(one.operands[0]) for one in operations(case, sta.MapOp)} == {"acc"}
    assert {sta.memref_of(one.operands[1]).get_shape()[1] for one in operations(case, sta.ProductOp)} == {24}
