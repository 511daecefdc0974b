"""Values of the model in a buffer, kept with the buffer as `sta.values` for the debug map."""

from __future__ import annotations

from xdsl.dialects.builtin import ArrayAttr
from xdsl.ir import OpResult, SSAValue

from sta.dialect import nm, sta
from sta.dialect.ir.location import module_path
from sta.dialect.ir.quantized_value import meaning_of
from sta.passes.tiling.strided_view import StridedView


def record_value(value: SSAValue, view: StridedView, buffer: sta.AllocOp) -> None:
    """
    Records on the buffer of an operation's result which value it holds: module path, operation, layout of the elements,
    and meaning of the integers.
    """
    if not isinstance(value, OpResult) or isinstance(value.op, nm.View):
        return
    meaning = meaning_of(value)
    known = None if meaning is None else meaning.to_attribute()
    held = sta.HeldAttr(module_path(value.op), value.op.name, view.axes, view.offset, known)
    buffer.attributes[sta.VALUES] = ArrayAttr([*sta.held_values(buffer), held])
