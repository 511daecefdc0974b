"""Random Transformers and graphs through the whole integer pipeline: not a bit changes, on machines large and small."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.graphs import graphs
from tests.support.nm_builder import Case
from tests.support.ordering import violations
from tests.support.pipeline_check import check_pipeline, function_of
from tests.support.transformers import Transformer, transformers

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def check(case: Case) -> None:
    """Takes a case through the pipeline and the emulator, and checks the order that its semaphores keep."""
    program = check_pipeline(case)
    sizes = program.container.program
    assert sizes["spad"] + sizes["wbuf"] + sizes["acc"] <= case.context.target.sram_bytes
    assert program.cycles > 0
    assert violations(function_of(case)) == []


@settings(deadline=None, max_examples=25, suppress_health_check=SLOW)
@given(transformers(longest=14, widest=24))
def test_bits_stay_the_same(model: Transformer) -> None:
    check(model.case())


@pytest.mark.slow
@settings(deadline=None, max_examples=150, suppress_health_check=SLOW)
@given(transformers(longest=50, widest=100))
def test_bits_stay_the_same_for_larger_models(model: Transformer) -> None:
    check(model.case())


@settings(deadline=None, max_examples=25, suppress_health_check=SLOW)
@given(graphs())
def test_bits_of_any_graph_stay_the_same(case: Case) -> None:
    check(case)


@pytest.mark.slow
@settings(deadline=None, max_examples=100, suppress_health_check=SLOW)
@given(graphs(longest=30))
def test_bits_of_any_larger_graph_stay_the_same(case: Case) -> None:
    check(case)
