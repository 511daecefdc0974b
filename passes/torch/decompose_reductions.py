"""
Reductions, softmax and normalizations that no recognition took, spelled with sums, maxima and elementwise functions.

Sums and means are along the last axis afterwards, which stays with size 1: axes are moved to the end, and the result
gets its shape by a view. Runs behind the recognition of attention, norms and masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.reductions import Reductions
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder

Made = SSAValue | None


def decompose_reductions(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`."""
    sweep(module, DecomposeReduction(store))
    erase_dead(module)


@dataclass(frozen=True)
class DecomposeReduction(RewritePattern):
    """One reduction, softmax or normalization of floats."""

    store: WeightStore

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrites `op` if it is one of these."""
        if not _is_of_floats(op) or any(use for result in op.results[1:] for use in result.uses):
            return
        row = torch.find_row(op)
        if row is None or (spell := _SPELLINGS.get(row.spelling)) is None:
            return
        if (made := spell(Reductions(TorchBuilder(op, self.store, rewriter)), op)) is not None:
            rewriter.replace(op, (), [made, *(None for _ in op.results[1:])])


def _is_of_floats(op: Operation) -> bool:
    values = (op.operands[0], op.results[0]) if op.operands and op.results else ()
    return bool(values) and all(isinstance(one.type, torch.VTensorType) and one.type.is_float for one in values)


# --- Reductions: rows to one element ---


def _reduced(made: Reductions, op: Operation, reduce: Callable[[Reductions, SSAValue], Made], axes_at: int = 1) -> Made:
    """The axes that the operand `axes_at` names as rows, all if there is no such list, reduced by `reduce`."""
    axes = _axes(op, axes_at)
    if _is_spelled(op, axes):
        return None
    reduced = reduce(made, made.axes_last(op.operands[0], axes))
    return None if reduced is None else made.builder.view(reduced, torch.sizes_of(op.results[0]))


def _reduced_by(reduce: Callable[[Reductions, SSAValue], Made]) -> Callable[[Reductions, Operation], Made]:
    return lambda made, op: _reduced(made, op, reduce)


def _axes(op: Operation, at: int) -> list[int]:
    rank = torch.tensor_type(op.operands[0]).rank
    named = torch.constant_of(op.operands[at]) if at < len(op.operands) else None
    if isinstance(named, int) and not isinstance(named, bool):
        return [named % rank]
    listed = torch.integers_of(op.operands[at]) if isinstance(named, list) else []
    return sorted(axis % rank for axis in listed) or list(range(rank))


def _is_spelled(op: Operation, axes: Sequence[int]) -> bool:
    """True for a sum that is already along the last axis, and keeps it."""
    last = torch.tensor_type(op.operands[0]).rank - 1
    return isinstance(op, torch.SumOp | torch.MeanOp) and axes == [last] and bool(torch.constant_of(op.keepdim))


def _correction(op: Operation) -> float:
    """The correction of a variance: a number, 1 by default, or whether there is Bessel's."""
    given = torch.constant_of(op.operands[1 if len(op.operands) == 2 else 2])
    return float(given) if isinstance(given, int | float) else 1.0


def _order(op: Operation) -> float:
    """The order of a norm, 2 by default."""
    return 2.0 if torch.constant_of(op.operands[1]) is None else torch.number_of(op.operands[1])


# --- Along one axis: rows to rows ---


def _along(made: Reductions, op: Operation, of_rows: Callable[[Reductions, SSAValue], SSAValue]) -> SSAValue:
    """Of the axis that the second operand names."""
    (axis,) = _axes(op, 1)
    return made.axis_back(of_rows(made, made.axes_last(op.operands[0], [axis])), axis)


def _running_total(made: Reductions, op: Operation) -> Made:
    (axis,) = _axes(op, 1)
    value = op.operands[0]
    if axis == torch.tensor_type(value).rank - 1:
        return None
    rows, builder = made.axes_last(value, [axis]), made.builder
    return made.axis_back(builder.aten(torch.CumsumOp, [rows, builder.integer(-1), builder.none()], rows.type), axis)


# --- Normalizations ---


def _layer_norm(made: Reductions, op: Operation) -> Made:
    """Over several axes, or with parameters that are values: the norm of rows without parameters, then these."""
    assert isinstance(op, torch.LayerNormOp)
    count = len(torch.integers_of(op.normalized_shape))
    parameters = (op.weight, op.bias)
    if count == 1 and all(_is_constant(one) for one in parameters):
        return None
    rank = torch.tensor_type(op.input).rank
    rows = made.axes_last(op.input, list(range(rank - count, rank)))
    normalized = made.builder.view(made.normalized(rows, torch.epsilon_of(op)), torch.sizes_of(op.result))
    return _with_parameters(made, normalized, *parameters)


def _rms_norm(made: Reductions, op: Operation) -> Made:
    """As `_layer_norm`."""
    assert isinstance(op, torch.RmsNormOp)
    count = len(torch.integers_of(op.normalized_shape))
    if count == 1 and _is_constant(op.weight):
        return None
    builder, rank = made.builder, torch.tensor_type(op.input).rank
    rows = made.axes_last(op.input, list(range(rank - count, rank)))
    operands = [rows, builder.integers(torch.sizes_of(rows)[-1:]), builder.none(), builder.number(torch.epsilon_of(op))]
    normalized = builder.view(builder.aten(torch.RmsNormOp, operands, rows.type), torch.sizes_of(op.result))
    return _with_parameters(made, normalized, op.weight)


def _group_norm(made: Reductions, op: Operation) -> Made:
    """Each group of channels as one row."""
    value, groups, weight, bias, epsilon = op.operands[:5]
    return _normalized_groups(made, value, torch.integer_of(groups), weight, bias, torch.number_of(epsilon))


def _native_group_norm(made: Reductions, op: Operation) -> Made:
    value, weight, bias, _, _, _, groups, epsilon = op.operands
    return _normalized_groups(made, value, torch.integer_of(groups), weight, bias, torch.number_of(epsilon))


def _instance_norm(made: Reductions, op: Operation) -> Made:
    value, weight, bias, _, _, of_input, _, epsilon, _ = op.operands
    if not torch.constant_of(of_input):
        return None
    return _normalized_groups(made, value, torch.sizes_of(value)[1], weight, bias, torch.number_of(epsilon))


def _normalized_groups(
    made: Reductions, value: SSAValue, groups: int, weight: SSAValue, bias: SSAValue, epsilon: float
) -> SSAValue:
    sizes, builder = torch.sizes_of(value), made.builder
    length = torch.tensor_type(value).element_count // (sizes[0] * groups)
    rows = builder.view(value, [sizes[0], groups, length])
    normalized = builder.view(made.normalized(rows, epsilon), sizes)
    columns = [
        one if isinstance(one.type, torch.NoneType) else builder.view(one, [sizes[1], *(1 for _ in sizes[2:])])
        for one in (weight, bias)
    ]
    return _with_parameters(made, normalized, *columns)


def _is_constant(value: SSAValue) -> bool:
    return isinstance(value.type, torch.NoneType) or isinstance(value.owner, torch.LiteralOp)


def _with_parameters(made: Reductions, value: SSAValue, weight: SSAValue, bias: SSAValue | None = None) -> SSAValue:
    """`value` times a weight, plus a bias, where these are tensors."""
    if not isinstance(weight.type, torch.NoneType):
        value = made.product(value, weight)
    return value if bias is None or isinstance(bias.type, torch.NoneType) else made.sum(value, bias)


_SPELLINGS: dict[str, Callable[[Reductions, Operation], Made]] = {
    "total": _reduced_by(Reductions.total),
    "mean": _reduced_by(Reductions.mean),
    "largest": _reduced_by(Reductions.largest),
    "smallest": _reduced_by(Reductions.smallest),
    "log-sum-exp": _reduced_by(Reductions.log_sum_exp),
    "variance": lambda made, op: _reduced(made, op, partial(Reductions.variance, correction=_correction(op))),
    "deviation": lambda made, op: _reduced(made, op, partial(Reductions.deviation, correction=_correction(op))),
    "vector norm": lambda made, op: _reduced(made, op, partial(Reductions.vector_norm, order=_order(op)), axes_at=2),
    "softmax": lambda made, op: _along(made, op, Reductions.softmax),
    "log-softmax": lambda made, op: _along(made, op, Reductions.log_softmax),
    "running total": _running_total,
    "layer norm": _layer_norm,
    "rms norm": _rms_norm,
    "group norm": _group_norm,
    "native group norm": _native_group_norm,
    "instance norm": _instance_norm,
}
"""By the spelling that an operator's row names; a result of None leaves the operation as it is."""


@dataclass(frozen=True)
class TorchDecomposeReductionsPass(ModulePass):
    """Spells reductions, softmax and normalizations with sums, maxima and functions of each element."""

    name = "torch-decompose-reductions"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; new constants go into the context's weight store."""
        decompose_reductions(op, weights_of(ctx))
