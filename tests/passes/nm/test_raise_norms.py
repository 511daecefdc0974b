"""Norms above views: the views they pass, and their overlap with the products of the layer before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xdsl.ir import SSAValue

from sta.dialect import nm
from sta.dialect.ir.location import module_path
from sta.dialect.ir.quantized_value import Meaning, meaning_of, set_meaning
from tests.support.nm_builder import Case, NmBuilder
from tests.support.pipeline_check import check_passes, check_pipeline, operations

PASSES = ("nm-fuse-epilogues", "nm-fuse-norm-copies", "nm-raise-norms")
MEANING = Meaning(0.25)
View = Callable[[NmBuilder, SSAValue], SSAValue]


def batched(builder: NmBuilder, x: SSAValue) -> SSAValue:
    """[12, 8] as [1, 12, 8]."""
    return builder.view(x, 1, 12, 8)


def turned(builder: NmBuilder, x: SSAValue) -> SSAValue:
    """[12, 8] as [4, 3, 8], which is [3, 4, 8] with its leading axes exchanged."""
    return builder.permute(builder.view(x, 3, 4, 8), 1, 0, 2)


def split(builder: NmBuilder, x: SSAValue) -> SSAValue:
    """[12, 8] as [12, 2, 4]: other rows."""
    return builder.view(x, 12, 2, 4)


def columns_first(builder: NmBuilder, x: SSAValue) -> SSAValue:
    """[12, 8] as [8, 12]: other rows."""
    return builder.permute(x, 1, 0)


def model(builder: NmBuilder, view: View, *, copy: bool = True, stream: bool = True) -> Case:
    """A linear layer, a view of its result, and the norm of that."""
    builder.path = "projection"
    x = builder.clamp(builder.linear(builder.bytes("x", (12, 16)), 8, "w", spread=4000.0), nm.si16)
    builder.path = "norm"
    normalized = builder.norm(view(builder, x), "n")
    set_meaning(normalized, MEANING)
    outputs = [builder.clamp(builder.rescale(normalized, 1 / 150), nm.si8, 3)] if copy else []
    return builder.case(*outputs, *([normalized] if stream else []))


@pytest.mark.parametrize("view", [batched, turned])
@pytest.mark.parametrize(("copy", "stream"), [(True, True), (True, False), (False, True)])
def test_a_norm_passes_views_of_whole_rows(view: View, copy: bool, stream: bool) -> None:
    case = model(NmBuilder(), view, copy=copy, stream=stream)
    _ = list(check_passes(case, PASSES))
    (norm,) = operations(case, nm.NormOp)
    assert isinstance(norm, nm.NormOp)
    assert isinstance(norm.x.owner, nm.LinearOp)
    assert module_path(norm) == "norm"
    assert ((norm.copy is not None), (norm.result is not None)) == (copy, stream)
    assert norm.result is None or meaning_of(norm.result) == MEANING


@pytest.mark.parametrize("view", [split, columns_first])
def test_views_of_other_rows_stay(view: View) -> None:
    case = model(NmBuilder(), view)
    _ = list(check_passes(case, PASSES))
    (norm,) = operations(case, nm.NormOp)
    assert isinstance(norm, nm.NormOp)
    assert isinstance(norm.x.owner, nm.ViewOp | nm.PermuteOp)


@pytest.mark.parametrize("view", [batched, turned, split, columns_first])
def test_programs_keep_their_bits(view: View) -> None:
    check_pipeline(model(NmBuilder(), view)).check_races()


def test_what_is_not_a_layers_result_stays() -> None:
    builder = NmBuilder()
    case = builder.case(builder.norm(builder.view(builder.stream("x", (12, 8)), 1, 12, 8), "n"))
    _ = list(check_passes(case, PASSES))
    (norm,) = operations(case, nm.NormOp)
    assert isinstance(norm, nm.NormOp)
    assert isinstance(norm.x.owner, nm.ViewOp)
