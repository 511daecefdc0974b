"""Folding of permutations into attention: composed orders, and cases where it must not happen."""

from __future__ import annotations

import itertools

import pytest
from xdsl.ir import SSAValue

from sta.dialect import nm
from sta.dialect.ir.location import module_path
from tests.support.nm_builder import NmBuilder
from tests.support.pipeline_check import check_passes, operations

PASS = ("nm-fold-attention-layout",)
SHAPE = (2, 3, 4, 5)


def attention(builder: NmBuilder, permutation: tuple[int, ...] = (0, 1, 2, 3), causal: bool = False) -> SSAValue:
    """Attention of random operands with a mask."""
    builder.path = "layer.attention"
    q, k, v = (builder.bytes(name, SHAPE) for name in "qkv")
    result = builder.attention((q, k, v), builder.mask("mask", (2, 1, 4, 4)), causal, permutation=permutation)
    builder.path = "layer.permute"
    return result


@pytest.mark.parametrize("axes", list(itertools.permutations(range(4))))
@pytest.mark.parametrize("own", [(0, 1, 2, 3), (0, 2, 1, 3), (3, 1, 0, 2)])
def test_any_permutation_folds(axes: tuple[int, ...], own: tuple[int, ...]) -> None:
    builder = NmBuilder()
    case = builder.case(builder.permute(attention(builder, own), *axes))
    _ = list(check_passes(case, PASS))
    assert not operations(case, nm.PermuteOp)
    (folded,) = operations(case, nm.AttentionOp)
    assert isinstance(folded, nm.AttentionOp)
    assert folded.axes == tuple(own[axis] for axis in axes)
    assert module_path(folded) == "layer.attention"


def test_what_attention_does_is_kept() -> None:
    builder = NmBuilder()
    case = builder.case(builder.permute(attention(builder, causal=True), 0, 2, 1, 3))
    (before,) = operations(case, nm.AttentionOp)
    kept = {key: value for key, value in before.properties.items() if key != "permutation"}
    operands = list(before.operands)
    _ = list(check_passes(case, PASS))
    (after,) = operations(case, nm.AttentionOp)
    assert {key: value for key, value in after.properties.items() if key != "permutation"} == kept
    assert list(after.operands) == operands


def test_two_permutations_in_a_row() -> None:
    builder = NmBuilder()
    once = builder.permute(attention(builder), 0, 2, 1, 3)
    case = builder.case(builder.permute(once, 3, 2, 1, 0))
    _ = list(check_passes(case, PASS))
    assert not operations(case, nm.PermuteOp)


@pytest.mark.parametrize("other", ["returned", "permuted otherwise", "viewed"])
def test_an_attention_that_is_used_twice_is_not_folded(other: str) -> None:
    builder = NmBuilder()
    result = attention(builder)
    second = result
    if other == "permuted otherwise":
        second = builder.permute(result, 2, 0, 1, 3)
    elif other == "viewed":
        second = builder.view(result, 6, 20)
    case = builder.case(builder.permute(result, 0, 2, 1, 3), second)
    _ = list(check_passes(case, PASS))
    assert len(operations(case, nm.AttentionOp)) == 1
    assert operations(case, nm.PermuteOp)


def test_a_permutation_of_something_else_stays() -> None:
    builder = NmBuilder()
    case = builder.case(builder.permute(builder.view(attention(builder), 6, 4, 5), 1, 0, 2))
    _ = list(check_passes(case, PASS))
    assert len(operations(case, nm.PermuteOp)) == 1
