"""
Gathers what follows a product into its drain, and elementwise chains into single passes of the vector unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from sta.dialect import nm
from sta.dialect.ir.location import module_path
from sta.dialect.ir.quantized_value import keep_meaning
from sta.passes.rewriting.dead_code import erase_dead

STORED = (nm.si8, nm.si16)
"""
Element types of stored values that the vector unit adds.
"""


@dataclass
class Chain:
    """
    A chain of the vector unit, read backwards from its result: stages not found stay the identity.

    An int32 tensor passes the identity unchanged while its values are below 2^29 in magnitude.
    """

    residual: SSAValue | None = None
    residual_scale: tuple[int, int, int] = (0, *nm.IDENTITY_SCALE)
    multiply: bool = False
    table: SSAValue | None = None
    table_scale: tuple[int, int] = nm.IDENTITY_SCALE
    channels: nm.RescaleChannelsOp | None = None
    source: SSAValue | None = None
    scale: tuple[int, int, int] = (0, *nm.IDENTITY_SCALE)


def _scale(op: nm.RescaleOp | nm.MultiplyOp) -> tuple[int, int, int]:
    return op.bias.value.data, *op.scale.pair


def _is_stored(value: SSAValue) -> bool:
    return nm.tensor_of(value).element_type in STORED


def match_chain(value: SSAValue) -> Chain:
    """
    The longest chain of the vector unit that ends in `value`, an int32 tensor.
    """
    chain = Chain()
    main = _match_residual(value, chain)
    main = _match_table(main, chain)
    _match_first_stage(main, chain)
    return chain


def _match_residual(value: SSAValue, chain: Chain) -> SSAValue:
    op = value.owner
    if isinstance(op, nm.MultiplyOp):
        return _match_product(op, chain)
    if not isinstance(op, nm.AddOp):
        return value
    for main, other in ((op.a, op.b), (op.b, op.a)):
        rescale = other.owner
        full = nm.tensor_of(main).get_shape() == nm.tensor_of(value).get_shape()
        if full and isinstance(rescale, nm.RescaleOp) and _is_stored(rescale.x):
            chain.residual, chain.residual_scale = rescale.x, _scale(rescale)
            return main
    # Neither is a stored tensor: the one that may broadcast is written as int32 first.
    chain.residual = op.b
    return op.a


def _match_product(op: nm.MultiplyOp, chain: Chain) -> SSAValue:
    main, other = op.a, op.b
    exchangeable = not op.bias.value.data and _is_stored(op.a) and nm.tensor_of(op.a) == nm.tensor_of(op.b)
    # What an activation gives is multiplied as it leaves the table.
    if exchangeable and _absorbed(op.b) is not op.b and not _is_looked_up(op.a):
        main, other = op.b, op.a
    chain.residual, chain.residual_scale, chain.multiply = other, _scale(op), True
    return _absorbed(main)


def _absorbed(value: SSAValue) -> SSAValue:
    """
    The value before the clamp that it comes from, if the next stage makes that clamp itself.
    """
    clamp = value.owner
    return clamp.x if isinstance(clamp, nm.ClampOp) and _is_absorbed(clamp) else value


def _is_looked_up(value: SSAValue) -> bool:
    op = _absorbed(value).owner
    return isinstance(op, nm.TableOp) or (isinstance(op, nm.RescaleOp) and isinstance(op.x.owner, nm.TableOp))


def _match_table(value: SSAValue, chain: Chain) -> SSAValue:
    op = value.owner
    if isinstance(op, nm.RescaleOp) and isinstance(op.x.owner, nm.TableOp) and not op.bias.value.data:
        chain.table_scale = _scale(op)[1:]
        op = op.x.owner
    if not isinstance(op, nm.TableOp):
        return value
    chain.table = op.table
    return _absorbed(op.x)


def _is_absorbed(clamp: nm.ClampOp) -> bool:
    """
    Whether a clamp in front of a table or a product is the one that this makes itself. A sum and a product keep theirs:
    they would be written as int32 otherwise.
    """
    saturates = clamp.zero_point.value.data == 0 and nm.element_of(clamp.result) == nm.si16
    return saturates and clamp.result.has_one_use() and not isinstance(clamp.x.owner, nm.AddOp | nm.MultiplyOp)


def _match_first_stage(value: SSAValue, chain: Chain) -> None:
    op = value.owner
    if isinstance(op, nm.RescaleChannelsOp) and isinstance(op.x.owner, nm.ProductOp):
        chain.channels = op
    elif isinstance(op, nm.RescaleOp):
        chain.source, chain.scale = op.x, _scale(op)
    elif isinstance(op, nm.RescaleChannelsOp):
        raise ValueError(f"{module_path(op)}: nm.rescale_channels scales what no nm.product made; use nm.rescale")
    else:
        chain.source = value


def build(chain: Chain, zero_point: int, result_type: Attribute) -> nm.LinearOp | nm.MapOp:
    """
    The fused operation of a chain.
    """
    residual_bias, *residual_scale = chain.residual_scale
    scalars = nm.epilogue_properties(
        table_scale=chain.table_scale,
        residual_bias=residual_bias,
        residual_scale=(residual_scale[0], residual_scale[1]),
        zero_point=zero_point,
        multiply=chain.multiply,
    )
    if chain.channels is None:
        assert chain.source is not None
        return nm.MapOp(chain.source, chain.scale, chain.table, chain.residual, scalars, result_type)
    product = chain.channels.x.owner
    assert isinstance(product, nm.ProductOp)
    scales = (chain.channels.bias, chain.channels.multiplier, chain.channels.shift)
    return nm.LinearOp((product.x, product.weight), scales, chain.table, chain.residual, scalars, result_type)


def _replace(op: Operation, fused: nm.LinearOp | nm.MapOp, located: Operation) -> None:
    fused.location = located.location
    keep_meaning(op.results[0], fused.result)
    Rewriter.insert_op(fused, InsertPoint.before(op))
    op.results[0].replace_all_uses_with(fused.result)


@dataclass(frozen=True)
class NmFuseEpiloguesPass(ModulePass):
    """
    Replaces every chain of elementwise operations by `nm.linear` (where it starts at a product) or `nm.map`; bits stay.

    An int32 value that no chain absorbs is written as it is. Raises ValueError, naming the layer, for a scale per
    channel of something that is no product.
    """

    name = "nm-fuse-epilogues"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        operations = [inner for inner in op.walk() if isinstance(inner, nm.ClampOp)]
        # Consumers first: a clamp before a table belongs to the chain of the clamp after it.
        for clamp in reversed(operations):
            if clamp.result.uses:
                chain = match_chain(clamp.x)
                located = clamp if chain.channels is None else chain.channels
                _replace(clamp, build(chain, clamp.zero_point.value.data, clamp.result.type), located)
        erase_dead(op)
        for leftover in reversed(list(op.walk())):
            if (
                isinstance(leftover, nm.AddOp | nm.MultiplyOp | nm.RescaleOp | nm.RescaleChannelsOp | nm.TableOp)
                and leftover.results[0].uses
            ):
                _replace(leftover, build(match_chain(leftover.results[0]), 0, leftover.results[0].type), leftover)
        erase_dead(op)
