"""Attention whose keys and values are repeated for several heads of queries: the heads share them instead."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from sta.dialect import torch
from sta.passes.rewriting.torch_operations import TorchBuilder, is_aten

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class _Repeated:
    """A value [batch, heads, rows, width] before its heads were repeated."""

    source: SSAValue
    sizes: Sizes
    """The four axes of the source."""
    in_turn: bool
    """True if head after head is repeated (0 1 0 1), not each several times in a row (0 0 1 1)."""


def share_heads(builder: TorchBuilder, attention: torch.ScaledDotProductAttentionOp, rewriter: PatternRewriter) -> bool:
    """
    Takes keys and values from where a model repeats them for the heads of the queries; true if it replaces `attention`.

    The machine shares a head of keys between queries in a row: where a model repeats them in turn, the heads of queries
    and result change places.
    """
    batch_heads = torch.sizes_of(attention.query)[:-2]
    key, value = _unrepeated(attention.key), _unrepeated(attention.value)
    if len(batch_heads) != 2 or key is None or value is None or key.sizes != value.sizes:
        return False
    if key.in_turn != value.in_turn or batch_heads[1] == key.sizes[1] or batch_heads[1] % key.sizes[1]:
        return False
    if key.source is attention.key and torch.constant_of(attention.enable_gqa):
        return False
    shared = [builder.view(one.source, one.sizes) for one in (key, value)]
    rest = [*attention.operands[3:7], builder.boolean(True), *attention.operands[8:]]
    if not key.in_turn:
        attention.operands = [attention.query, *shared, *rest]
        rewriter.notify_op_modified(attention)
        return False
    if _has_heads(attention.attn_mask) or (attention.bias is not None and _has_heads(attention.bias)):
        return False
    times = batch_heads[1] // key.sizes[1]
    query = _regrouped(builder, attention.query, times)
    grouped = builder.aten(torch.ScaledDotProductAttentionOp, [query, *shared, *rest], attention.result.type)
    rewriter.replace(attention, (), [_regrouped(builder, grouped, key.sizes[1])])
    return True


def _has_heads(mask: SSAValue) -> bool:
    return isinstance(mask.type, torch.VTensorType) and mask.type.rank > 2 and mask.type.sizes[-3] != 1


def _regrouped(builder: TorchBuilder, value: SSAValue, groups: int) -> SSAValue:
    """`value` with head (i, j) of `groups` times others at (j, i)."""
    batch, heads, rows, width = sizes = torch.sizes_of(value)
    apart = builder.view(value, (batch, groups, heads // groups, rows, width))
    return builder.view(builder.permute(apart, (0, 2, 1, 3, 4)), sizes)


def _unrepeated(value: SSAValue) -> _Repeated | None:
    """The value that `value` [batch, heads, rows, width] repeats; None if it does not repeat heads."""
    sizes = torch.sizes_of(value)
    if len(sizes) != 4:
        return None
    if sizes[1] == 1:
        return _Repeated(value, sizes, in_turn=False)
    batch, heads, rows, width = sizes
    current: SSAValue = value
    while isinstance(view := current.owner, Operation) and (isinstance(view, torch.ViewOp) or is_aten(view, "clone")):
        current = view.operands[0]
    repetition = current.owner
    if not isinstance(repetition, Operation) or not repetition.operands:
        return None
    source = repetition.operands[0]
    if is_aten(repetition, "repeat_interleave.self_int") and current is value:
        is_of_heads = torch.constant_of(repetition.operands[2]) in (1, -3)
        return _Repeated(source, torch.sizes_of(source), in_turn=False) if is_of_heads else None
    if not is_aten(repetition, "expand", "broadcast_to"):
        return None
    narrow, wide = torch.sizes_of(source), torch.sizes_of(current)
    if narrow == (batch, 1, rows, width) and wide == sizes:
        return _Repeated(source, narrow, in_turn=False)
    if len(narrow) != 5 or narrow[0] != batch or narrow[3:] != (rows, width):
        return None
    _, first, second, _, _ = narrow
    if 1 not in (first, second) or wide[0] != batch or wide[1] * wide[2] != heads or wide[3:] != narrow[3:]:
        return None
    is_repeated = first == second or (wide[1] == first if second == 1 else wide[2] == second)
    shared = (batch, first * second, rows, width)
    return _Repeated(source, shared, in_turn=second != 1) if is_repeated else None
