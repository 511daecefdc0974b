"""The 8-bit copy of a norm: written with the 16-bit stream, or in a pass of its own."""

from __future__ import annotations

import pytest

from sta.dialect import nm
from sta.dialect.ir.location import module_path
from tests.support.nm_builder import Case, NmBuilder
from tests.support.pipeline_check import apply, check_passes, operations

PASSES = ("nm-fuse-epilogues", "nm-fuse-norm-copies")


def fused(case: Case) -> tuple[nm.NormOp, int]:
    """Returns the norm after the passes, and the number of maps beside it, after comparing bits."""
    _ = list(check_passes(case, PASSES))
    (norm,) = operations(case, nm.NormOp)
    assert isinstance(norm, nm.NormOp)
    return norm, len(operations(case, nm.MapOp))


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("zero_point", [0, -17])
def test_copy_and_stream_are_written_together(kind: str, zero_point: int) -> None:
    builder = NmBuilder(path="layer.norm")
    stream = builder.norm(builder.stream("x", (3, 5, 8)), "n", kind)
    builder.path = "layer.copy"
    copy = builder.clamp(builder.rescale(stream, 1 / 100), nm.si8, zero_point)
    norm, maps = fused(builder.case(stream, copy))
    assert maps == 0
    assert norm.result is not None
    assert norm.copy is not None
    assert norm.copy_zero_point.value.data == zero_point
    assert module_path(norm) == "layer.norm"


def test_a_stream_that_nobody_else_reads_is_not_written() -> None:
    builder = NmBuilder()
    copy = builder.clamp(builder.rescale(builder.norm(builder.stream("x", (5, 8)), "n"), 1 / 100), nm.si8)
    norm, maps = fused(builder.case(copy, copy))
    assert maps == 0
    assert norm.result is None
    assert norm.copy is not None


def test_only_one_of_two_copies_is_fused() -> None:
    builder = NmBuilder()
    stream = builder.norm(builder.stream("x", (5, 8)), "n")
    copies = [builder.clamp(builder.rescale(stream, 1 / 100), nm.si8, zero_point) for zero_point in (0, 3)]
    norm, maps = fused(builder.case(*copies))
    assert maps == 1
    assert norm.result is not None
    assert norm.copy is not None


@pytest.mark.parametrize("reason", ["16 bits", "unsigned", "bias", "table", "residual", "residual of itself"])
def test_what_is_more_than_a_copy_stays(reason: str) -> None:
    builder = NmBuilder()
    stream = builder.norm(builder.stream("x", (5, 8)), "n")
    value = builder.rescale(stream, 1 / 100, 7 if reason == "bias" else 0)
    if reason == "table":
        value = builder.rescale(builder.table(stream, "t"), 1 / 12800)
    if reason.startswith("residual"):
        other = stream if reason.endswith("itself") else builder.stream("y", (5, 8))
        value = builder.sum(value, builder.rescale(other, 1 / 90))
    element = {"16 bits": nm.si16, "unsigned": nm.ui8}.get(reason, nm.si8)
    norm, maps = fused(builder.case(builder.clamp(value, element)))
    assert maps == 1
    assert norm.copy is None


def test_a_copy_through_a_view_stays() -> None:
    builder = NmBuilder()
    viewed = builder.view(builder.norm(builder.stream("x", (5, 8)), "n"), 40)
    norm, maps = fused(builder.case(builder.clamp(builder.rescale(viewed, 1 / 100), nm.si8)))
    assert maps == 1
    assert norm.copy is None


def test_a_norm_that_has_a_copy_keeps_it() -> None:
    builder = NmBuilder()
    stream = builder.norm(builder.stream("x", (5, 8)), "n")
    copies = [builder.clamp(builder.rescale(stream, 1 / 100), nm.si8, zero_point) for zero_point in (0, 3)]
    case = builder.case(*copies)
    fused(case)
    text = str(case.module)
    apply(case.module, case.context, "nm-fuse-norm-copies")
    assert str(case.module) == text


def test_an_unused_norm_is_erased() -> None:
    builder = NmBuilder()
    x = builder.stream("x", (5, 8))
    builder.norm(x, "n")
    case = builder.case(x)
    _ = list(check_passes(case, PASSES))
    assert not operations(case, nm.NormOp, nm.WeightOp)
