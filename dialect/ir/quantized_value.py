"""
What the integers of a value mean: real = (integer - zero_point) * scale, and which tensor of the float model it is.

Kept with the operation that makes the value, as a discardable attribute with one entry a result, for whoever looks at
a run: the debugger, a comparison with the float model. Nothing computes with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, FloatAttr, IntegerAttr, StringAttr, f64, i64
from xdsl.ir import Attribute, Operation, OpResult, SSAValue

from sta.dialect import nm

ATTRIBUTE = "nm.meaning"
VIEWS = (nm.ViewOp, nm.PermuteOp, nm.SliceOp)


@dataclass(frozen=True)
class Meaning:
    """
    Scale and zero point of a tensor of integers, and where it comes from.
    """

    scale: float
    zero_point: int = 0
    source: str = ""
    """
    The float model's tensor, as `sta.dialect.ir.tensor_names` names it; "" where there is none.
    """

    def to_attribute(self) -> DictionaryAttr:
        """
        As it stands in the IR.
        """
        source = {"source": StringAttr(self.source)} if self.source else {}
        numbers = {"scale": FloatAttr(self.scale, f64), "zero_point": IntegerAttr(self.zero_point, i64)}
        return DictionaryAttr({**numbers, **source})


def _entries(operation: Operation) -> tuple[Attribute, ...]:
    """
    One attribute a result; empty where nothing has been said.
    """
    known = operation.attributes.get(ATTRIBUTE)
    return tuple(cast("ArrayAttr[Attribute]", known)) if isinstance(known, ArrayAttr) else ()


def _made(value: SSAValue) -> OpResult | None:
    """
    The result that a value is, or is a view of; None for an argument of the function.
    """
    while isinstance(value.owner, VIEWS):
        value = value.owner.x
    return value if isinstance(value, OpResult) else None


def set_meaning(value: SSAValue, meaning: Meaning) -> None:
    """
    Says what the integers of a value mean, or those of the value that it is a view of.
    """
    result = _made(value)
    if result is None:
        return
    entries = list(_entries(result.op) or [DictionaryAttr({}) for _ in result.op.results])
    entries[result.index] = meaning.to_attribute()
    result.op.attributes[ATTRIBUTE] = ArrayAttr(entries)


def meaning_of(value: SSAValue) -> Meaning | None:
    """
    What the integers of a value mean, seen through views; None where nobody has said so.
    """
    result = _made(value)
    entries = () if result is None else _entries(result.op)
    if result is None or result.index >= len(entries):
        return None
    entry = entries[result.index]
    if not isinstance(entry, DictionaryAttr):
        return None
    scale, zero_point = entry.data.get("scale"), entry.data.get("zero_point")
    if not isinstance(scale, FloatAttr) or not isinstance(zero_point, IntegerAttr):
        return None
    source = entry.data.get("source")
    return Meaning(scale.value.data, zero_point.value.data, source.data if isinstance(source, StringAttr) else "")


def keep_meaning(old: SSAValue, new: SSAValue) -> None:
    """
    Says of a value that takes the place of another what was said of that.
    """
    meaning = meaning_of(old)
    if meaning is not None:
        set_meaning(new, meaning)
