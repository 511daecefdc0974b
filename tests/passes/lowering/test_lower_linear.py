"""Linear layers on the machine: products of sizes that nothing divides wait for no drains but the last."""

from __future__ import annotations

import pytest

from sta.dialect import nm
from sta.passes.lowering.useful_macs import useful_macs
from sta.passes.pipeline import INTEGER_PIPELINE
from sta.spec.target import load_target
from tests.support.nm_builder import NmBuilder
from tests.support.pipeline_check import apply, program_of


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
