"""
Finite numbers that exclude keys from attention, and the scores of samples that they must be far below.

A model that adds -100 to a score, or puts -10000 in its place, means that the key is left out. It is, as long as that
is far below the scores of the keys that are not: `EXCLUDED_BELOW` below them, where a weight is none. The machine
leaves such keys out whatever their scores, so that a model whose scores reach the number must not be compiled. The
scores of samples get the same headroom as values of 16 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xdsl.dialects.builtin import FloatAttr, ModuleOp
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.ir.location import describe
from sta.dialect.ir.model_errors import UnsupportedOperation, UnsupportedOperationsError
from sta.passes.quantization.probability_bits import some_scores
from sta.passes.rewriting.mask_analysis import EXCLUDED_BELOW
from sta.passes.rewriting.torch_operations import operations_of
from sta.passes.rewriting.uses_through_views import VIEWS
from sta.spec.integers import HEADROOM
from sta.spec.operators.registry import supported_operators

if TYPE_CHECKING:
    from torch import Tensor

Attention = torch.ScaledDotProductAttentionOp


@dataclass
class MaskDepths:
    """Height of excluded keys' scores above those of the others, attention by attention."""

    _gaps: dict[Attention, float] = field(default_factory=dict[Attention, float])

    def update(
        self,
        attention: Attention,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        causal: bool,
        scale: float,
        bias: Tensor | None = None,
    ) -> None:
        """Observes one attention on float32 [..., heads, rows, width]; those without a finite number are skipped."""
        if _number(attention) is None:
            return
        scores, added = some_scores(query, key, mask, causal, scale, bias)
        left_out = (added == -float("inf")).expand(scores.shape)
        # A row without a key, or with all of them, has no other keys to be above.
        rows = left_out.any(-1) & ~left_out.all(-1)
        if float(scores.abs().max()) * HEADROOM >= _swallowed(attention):
            self._gaps[attention] = float("inf")
            return
        admitted = scores.masked_fill(left_out, -float("inf")).amax(-1)[rows]
        # Numbers are added to the scores of keys that are left out, or to none.
        base = scores if torch.MASK_DEPTH in attention.attributes else scores.new_zeros(()).expand(scores.shape)
        gaps = base.masked_fill(~left_out, -float("inf")).amax(-1)[rows] - admitted
        if gaps.numel():
            self._gaps[attention] = max(self._gaps.get(attention, 0.0), float(gaps.max()))

    def check(self) -> None:
        """Raises UnsupportedOperationsError for numbers that are not low enough."""
        _check(self._gaps.items(), "on the samples")


def check_by_formats(module: ModuleOp) -> None:
    """
    Hold the masks of a quantized `module` to the largest scores that its queries and keys can have.

    Raises UnsupportedOperationsError for numbers that are not low enough then.
    """
    attentions = [one for one in operations_of(module) if isinstance(one, Attention) and _number(one) is not None]
    gaps: dict[Attention, float] = {}
    for attention in attentions:
        largest = _reach(attention.query) * _reach(attention.key) * torch.sizes_of(attention.query)[-1]
        scores = largest * torch.number_of(attention.scale)
        if scores >= _swallowed(attention):
            gaps[attention] = float("inf")
            continue
        gaps[attention] = (2 * scores if torch.MASK_DEPTH in attention.attributes else scores) / HEADROOM
    _check(gaps.items(), "without samples, by the formats of queries and keys,")


def _swallowed(attention: Attention) -> float:
    """The score from which on a number that makes all weights of a row equal leaves something of scores in float32."""
    if torch.MEANS not in attention.attributes or torch.MASK_DEPTH not in attention.attributes:
        return float("inf")
    number = _number(attention)
    assert number is not None
    # Half of the last of 24 bits.
    return math.ldexp(1.0, math.frexp(number)[1] - 25)


def _reach(value: SSAValue) -> float:
    """The largest magnitude that a rounded value has; infinite for another."""
    while isinstance(value.owner, VIEWS):
        value = value.owner.operands[0]
    rounding = value.owner
    if not isinstance(rounding, torch.FakeQuantizeOp):
        return float("inf")
    zero_point = rounding.zero_point.value.data
    return max(abs(limit - zero_point) for limit in rounding.limits) * rounding.scale.value.data


def _number(attention: Attention) -> float | None:
    """The finite number that leaves keys out of `attention`; None if there is none."""
    found = attention.attributes.get(torch.MASK_DEPTH, attention.attributes.get(torch.MASK_FILL))
    return found.value.data if isinstance(found, FloatAttr) else None


def _check(gaps: Iterable[tuple[Attention, float]], seen: str) -> None:
    refused = [
        UnsupportedOperation(attention.name.removeprefix("torch."), describe(attention), note)
        for attention, gap in gaps
        if (note := _note(attention, gap, seen)) is not None
    ]
    if refused:
        raise UnsupportedOperationsError(refused, supported_operators())


def _note(attention: Attention, gap: float, seen: str) -> str | None:
    number, least = _number(attention), EXCLUDED_BELOW - HEADROOM * gap
    if number is None or number <= least:
        return None
    if torch.MASK_DEPTH in attention.attributes:
        problem = f"its mask adds {number:g} to scores that reach {gap:.4g} above those of the keys that it keeps"
    else:
        problem = (
            f"its mask puts {number:g} in the place of scores, and those of the keys that it keeps fall to {-gap:.4g}"
        )
    return (
        f"{problem} {seen}, where only {least:.4g} or less leaves a key out: use float('-inf'), "
        "torch.finfo(torch.float32).min or a bool mask"
    )
