"""
Which values of the model a buffer holds, and how: kept with the buffer, `sta.values`, for the debug map.
"""

from __future__ import annotations

from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, DictionaryAttr, IntegerAttr, StringAttr, i64
from xdsl.ir import Attribute, OpResult, SSAValue

from sta.dialect import sta
from sta.dialect.ir.location import module_path
from sta.dialect.ir.quantized_value import VIEWS, meaning_of
from sta.passes.lowering.tile_builder import Operand


def record_value(value: SSAValue, operand: Operand) -> None:
    """
    Keeps with the buffer of an operation's result which value it is: the path of its module, the operation, how its
    elements lie in the buffer, and what its integers mean.
    """
    buffer = operand.buffer.owner
    if not isinstance(value, OpResult) or isinstance(value.op, VIEWS) or not isinstance(buffer, sta.AllocOp):
        return
    axes = [DenseArrayBase.from_list(i64, [part for factor in axis for part in factor]) for axis in operand.view.axes]
    entry: dict[str, Attribute] = {
        "path": StringAttr(module_path(value.op)),
        "operation": StringAttr(value.op.name),
        "axes": ArrayAttr(axes),
        "offset": IntegerAttr(operand.view.offset, i64),
    }
    if meaning := meaning_of(value):
        entry |= meaning.to_attribute().data
    buffer.attributes[sta.VALUES] = ArrayAttr([*sta.held_values(buffer), DictionaryAttr(entry)])
