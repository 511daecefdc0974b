"""Fusion of epilogues into the drains of products, and of elementwise chains into single passes of the vector unit."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import nm
from sta.dialect.ir.location import module_path
from sta.dialect.ir.quantized_value import keep_meaning
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.spec.vector import ADD, MULTIPLY

STORED = (nm.si8, nm.si16)
"""Element types of stored values that the vector unit adds."""


@dataclass
class Epilogue:
    """
    An epilogue on the vector unit, read backwards from its result: stages not found stay the identity.

    An int32 tensor passes the identity unchanged while its values are below 2^29 in magnitude.
    """

    residual: SSAValue | None = None
    residual_scale: tuple[int, int, int] = (0, *nm.IDENTITY_SCALE)
    combine: str = ADD
    table: SSAValue | None = None
    table_scale: tuple[int, int] = nm.IDENTITY_SCALE
    channels: nm.RescaleChannelsOp | None = None
    factors: nm.DynamicProductOp | None = None
    source: SSAValue | None = None
    scale: tuple[int, int, int] = (0, *nm.IDENTITY_SCALE)


def _scale(op: nm.RescaleOp | nm.MultiplyOp) -> tuple[int, int, int]:
    return op.bias.value.data, *op.scale.pair


def _is_stored(value: SSAValue) -> bool:
    return nm.tensor_of(value).element_type in STORED


def match_epilogue(value: SSAValue) -> Epilogue:
    """The longest epilogue on the vector unit that ends in `value`, an int32 tensor."""
    epilogue = Epilogue()
    main = _match_residual(value, epilogue)
    main = _match_table(main, epilogue)
    _match_first_stage(main, epilogue)
    return epilogue


def _match_residual(value: SSAValue, epilogue: Epilogue) -> SSAValue:
    op = value.owner
    if isinstance(op, nm.MultiplyOp):
        return _match_product(op, epilogue)
    if not isinstance(op, nm.CombinationOp):
        return value
    sides = ((op.a, op.b, op.COMBINE), (op.b, op.a, op.EXCHANGED))
    # A residual may broadcast, what it is combined with has the result's shape.
    whole = [side for side in sides if nm.tensor_of(side[0]).get_shape() == nm.tensor_of(value).get_shape()]
    for main, other, combine in whole:
        rescale = other.owner
        if isinstance(rescale, nm.RescaleOp) and _is_stored(rescale.x):
            epilogue.residual, epilogue.residual_scale, epilogue.combine = rescale.x, _scale(rescale), combine
            return main
    # Neither is a stored tensor: the one that may broadcast is written as int32 first.
    main, epilogue.residual, epilogue.combine = whole[0]
    return main


def _match_product(op: nm.MultiplyOp, epilogue: Epilogue) -> SSAValue:
    main, other = op.a, op.b
    exchangeable = not op.bias.value.data and _is_stored(op.a) and nm.tensor_of(op.a) == nm.tensor_of(op.b)
    # The result of an activation is multiplied as it leaves the table.
    if exchangeable and _absorbed(op.b) is not op.b and not _is_looked_up(op.a):
        main, other = op.b, op.a
    epilogue.residual, epilogue.residual_scale, epilogue.combine = other, _scale(op), MULTIPLY
    return _absorbed(main)


def _absorbed(value: SSAValue) -> SSAValue:
    """The operand of the clamp that defines `value`, if the next stage clamps anyway."""
    clamp = value.owner
    return clamp.x if isinstance(clamp, nm.ClampOp) and _is_absorbed(clamp) else value


def _is_looked_up(value: SSAValue) -> bool:
    op = _absorbed(value).owner
    return isinstance(op, nm.TableOp) or (isinstance(op, nm.RescaleOp) and isinstance(op.x.owner, nm.TableOp))


def _match_table(value: SSAValue, epilogue: Epilogue) -> SSAValue:
    op = value.owner
    if isinstance(op, nm.RescaleOp) and isinstance(op.x.owner, nm.TableOp) and not op.bias.value.data:
        epilogue.table_scale = _scale(op)[1:]
        op = op.x.owner
    if not isinstance(op, nm.TableOp):
        return value
    epilogue.table = op.table
    return _absorbed(op.x)


def _is_absorbed(clamp: nm.ClampOp) -> bool:
    """
    True if the next stage clamps anyway, so that a clamp in front of a table or a product is redundant. Combinations
    keep their clamps: they would be written as int32 otherwise.
    """
    saturates = clamp.zero_point.value.data == 0 and nm.element_of(clamp.result) == nm.si16
    return saturates and clamp.result.has_one_use() and not isinstance(clamp.x.owner, nm.CombinationOp | nm.MultiplyOp)


def _match_first_stage(value: SSAValue, epilogue: Epilogue) -> None:
    op = value.owner
    if isinstance(op, nm.RescaleChannelsOp) and isinstance(op.x.owner, nm.ProductOp):
        epilogue.channels = op
    elif isinstance(op, nm.RescaleOp) and isinstance(op.x.owner, nm.DynamicProductOp):
        epilogue.factors, epilogue.scale = op.x.owner, _scale(op)
    elif isinstance(op, nm.RescaleOp):
        epilogue.source, epilogue.scale = op.x, _scale(op)
    elif isinstance(op, nm.RescaleChannelsOp):
        raise ValueError(f"{module_path(op)}: nm.rescale_channels scales what no nm.product made; use nm.rescale")
    else:
        epilogue.source = value


Fused = nm.LinearOp | nm.MatmulOp | nm.MapOp
"""An operation with an epilogue."""


def build(epilogue: Epilogue, zero_point: int, result_type: Attribute) -> Fused:
    """The fused operation of an epilogue."""
    residual_bias, *residual_scale = epilogue.residual_scale
    scalars = nm.epilogue_properties(
        table_scale=epilogue.table_scale,
        residual_bias=residual_bias,
        residual_scale=(residual_scale[0], residual_scale[1]),
        zero_point=zero_point,
        combine=epilogue.combine,
    )
    if epilogue.factors is not None:
        factors = epilogue.factors.a, epilogue.factors.b
        return nm.MatmulOp(factors, epilogue.scale, epilogue.table, epilogue.residual, scalars, result_type)
    if epilogue.channels is None:
        assert epilogue.source is not None
        return nm.MapOp(epilogue.source, epilogue.scale, epilogue.table, epilogue.residual, scalars, result_type)
    product = epilogue.channels.x.owner
    assert isinstance(product, nm.ProductOp)
    scales = (epilogue.channels.bias, epilogue.channels.multiplier, epilogue.channels.shift)
    return nm.LinearOp((product.x, product.weight), scales, epilogue.table, epilogue.residual, scalars, result_type)


def _replace(op: Operation, fused: Fused, located: Operation, rewriter: PatternRewriter) -> None:
    fused.location = located.location
    keep_meaning(op.results[0], fused.result)
    rewriter.replace(op, fused)


class FuseIntoClamp(RewritePattern):
    """A clamp and the epilogue that ends in it are one operation."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nm.ClampOp, rewriter: PatternRewriter) -> None:
        if not op.result.uses:
            return
        epilogue = match_epilogue(op.x)
        _replace(
            op,
            build(epilogue, op.zero_point.value.data, op.result.type),
            epilogue.channels or epilogue.factors or op,
            rewriter,
        )


class FuseUnclamped(RewritePattern):
    """An epilogue that ends in an int32 value which no other one absorbs is one operation, too."""

    @op_type_rewrite_pattern
    def match_and_rewrite(
        self,
        op: nm.CombinationOp | nm.MultiplyOp | nm.RescaleOp | nm.RescaleChannelsOp | nm.TableOp,
        rewriter: PatternRewriter,
    ) -> None:
        if op.result.uses:
            _replace(op, build(match_epilogue(op.result), 0, op.result.type), op, rewriter)


@dataclass(frozen=True)
class NmFuseEpiloguesPass(ModulePass):
    """
    Replaces every epilogue by `nm.linear` or `nm.matmul` (if it starts at a product) or `nm.map`; bits stay.

    An int32 value that no epilogue absorbs is written as it is. Raises ValueError, naming the layer, for a scale per
    channel of a value other than a product.
    """

    name = "nm-fuse-epilogues"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        # Consumers first: a clamp before a table belongs to the epilogue of the clamp after it.
        sweep(op, FuseIntoClamp(), reverse=True)
        erase_dead(op)
        sweep(op, FuseUnclamped(), reverse=True)
        erase_dead(op)
