"""
Meaning of a value's integers: real = (integer - zero_point) * scale, and its tensor in the float model.

Kept with the operation that makes the value, as a discardable attribute with one entry a result, for whoever looks at
a run: the debugger, a comparison with the float model. Nothing computes with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import ArrayAttr, NoneAttr
from xdsl.ir import Attribute, Operation, OpResult, SSAValue

from sta.dialect import nm

ATTRIBUTE = "nm.meaning"


@dataclass(frozen=True)
class Meaning:
    """Scale and zero point of a tensor of integers, and where it comes from."""

    scale: float
    zero_point: int = 0
    source: str = ""
    """The float model's tensor, as `sta.dialect.ir.tensor_names` names it; "" where there is none."""

    def to_attribute(self) -> nm.MeaningAttr:
        """As it stands in the IR."""
        return nm.MeaningAttr(self.scale, self.zero_point, self.source)

    @classmethod
    def of_attribute(cls, attribute: nm.MeaningAttr) -> Meaning:
        """From the IR."""
        return cls(attribute.scale.value.data, attribute.zero_point.value.data, attribute.source.data)


def _entries(operation: Operation) -> tuple[Attribute, ...]:
    """One attribute a result; empty where nothing has been said."""
    known = operation.attributes.get(ATTRIBUTE)
    return tuple(cast("ArrayAttr[Attribute]", known)) if isinstance(known, ArrayAttr) else ()


def _made(value: SSAValue) -> OpResult | None:
    """The result that a value is, or is a view of; None for an argument of the function."""
    while isinstance(value.owner, nm.View):
        value = value.owner.x
    return value if isinstance(value, OpResult) else None


def set_meaning(value: SSAValue, meaning: Meaning) -> None:
    """Sets the meaning of a value's integers, or of those behind its views."""
    result = _made(value)
    if result is None:
        return
    entries = list(_entries(result.op) or [NoneAttr() for _ in result.op.results])
    entries[result.index] = meaning.to_attribute()
    result.op.attributes[ATTRIBUTE] = ArrayAttr(entries)


def meaning_of(value: SSAValue) -> Meaning | None:
    """Meaning of a value's integers, seen through views; None if unknown."""
    result = _made(value)
    entries = () if result is None else _entries(result.op)
    if result is None or result.index >= len(entries):
        return None
    entry = entries[result.index]
    return Meaning.of_attribute(entry) if isinstance(entry, nm.MeaningAttr) else None


def keep_meaning(old: SSAValue, new: SSAValue) -> None:
    """Says of a value that takes the place of another what was said of that."""
    meaning = meaning_of(old)
    if meaning is not None:
        set_meaning(new, meaning)
