"""
Softmax of each attention: over whole rows or chunk by chunk, and its number of bits.

Both decide on bits of the result, so they are settled before there are integers, by the target's memory and the
calibrated samples, and then honoured by everything below.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.context import policy_of, target_of
from sta.dialect.ir.location import describe
from sta.passes.option_values import as_probability_bits, as_softmax
from sta.passes.quantization.probability_bits import LEAST_FIDELITY
from sta.passes.rewriting.torch_operations import operations_of
from sta.passes.tiling.attention_tiling import (
    AttentionShape,
    Tiling,
    filling_cycles,
    head_cycles,
    online_tiling,
    row_tiling,
    too_long,
)
from sta.passes.tiling.capacity import CapacityError
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy


def choose_softmax(
    module: ModuleOp, target: Target, policy: TilingPolicy, mode: str = "auto", bits: str = "auto"
) -> None:
    """
    Sets `sta.softmax` on every attention in the function `main` of `module`.

    Raises CapacityError, naming the layer and the bytes needed and available, if the mode does not fit the target.
    """
    for operation in operations_of(module):
        if isinstance(operation, torch.ScaledDotProductAttentionOp):
            _choose(operation, target, policy, mode, bits)


def _choose(
    operation: torch.ScaledDotProductAttentionOp, target: Target, policy: TilingPolicy, mode: str, bits: str
) -> None:
    width = _narrowest(operation.attributes.get(torch.NARROW_FIDELITY)) if bits == "auto" else int(bits)
    queries, depth = torch.sizes_of(operation.query)[-2:]
    shape = AttentionShape(
        queries,
        torch.sizes_of(operation.key)[-2],
        depth,
        width,
        has_mask=not isinstance(operation.attn_mask.type, torch.NoneType),
        has_bias=operation.bias is not None,
        value_depth=torch.sizes_of(operation.value)[-1],
    )
    row = row_tiling(target, policy, shape) if mode != "online" else None
    online = online_tiling(target, policy, shape) if mode != "row" else None
    if row is None and online is None:
        chunk = None if mode == "row" else target.tile_columns
        raise CapacityError(f"{describe(operation)}: {too_long(target, policy, shape, chunk)}")
    is_online = online is not None and _is_online(target, policy, shape, row, online)
    operation.attributes[torch.SOFTMAX] = torch.SoftmaxAttr(width, online.chunk if online and is_online else None)


def _is_online(target: Target, policy: TilingPolicy, shape: AttentionShape, row: Tiling | None, online: Tiling) -> bool:
    """True if an online softmax is the better one, or the only one."""
    if row is None:
        return True
    whole = online.chunk is not None and online.chunk >= shape.keys
    cycles = head_cycles(target, policy, shape, online) + filling_cycles(target, shape, online)
    return head_cycles(target, policy, shape, row) > cycles * (1 + policy.row_preference) and not whole


def _narrowest(fidelity: Attribute | None) -> int:
    """The bits that exponentials need: 8, if calibration has shown that they suffice."""
    if not isinstance(fidelity, torch.DecibelsAttr):
        return 8
    return 8 if fidelity.number.value.data >= LEAST_FIDELITY else 16


@dataclass(frozen=True)
class TorchChooseSoftmaxPass(ModulePass):
    """
    Chooses for each attention a softmax over whole rows or chunk by chunk, and the width of its exponentials.

    `mode` is `auto`, `row` or `online`; `bits` is `auto`, `8` or `16`. Raises ValueError for others.
    """

    name = "torch-choose-softmax"

    mode: str = "auto"
    bits: str = "auto"

    def __post_init__(self) -> None:
        as_softmax(self.mode)
        as_probability_bits(self.bits)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Sets attributes on every attention of `op`; see `choose_softmax`."""
        choose_softmax(op, target_of(ctx), policy_of(ctx), self.mode, self.bits)
