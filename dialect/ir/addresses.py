"""Addresses: the byte at which a view begins, as an affine form in the loop counters around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import func
from xdsl.dialects.builtin import DictionaryAttr
from xdsl.ir import BlockArgument, SSAValue
from xdsl.utils.exceptions import VerifyException

from sta.dialect import sta
from sta.dialect.ir.port_attribute import PORT, port_of
from sta.dialect.nm import integer_value
from sta.spec.affine import Affine, affine


@dataclass(frozen=True)
class Element:
    """An element of a buffer, by its position."""

    buffer: SSAValue
    position: Affine[SSAValue]


def first_element_of(value: SSAValue) -> Element:
    """The buffer behind a chain of views, and its element at which the view begins."""
    offset = 0
    terms: list[tuple[SSAValue, int]] = []
    while isinstance(value.owner, sta.ViewOp):
        view = value.owner
        offset += view.offset.value.data
        terms += view.terms
        value = view.source
    return Element(value, affine(offset, terms))


def address_of(value: SSAValue) -> Affine[SSAValue]:
    """
    Byte address of a view's first element in its memory.

    Raises VerifyException before allocation.
    """
    element = first_element_of(value)
    return element.position * sta.element_bytes(value) + offset_of(element.buffer)


def offset_of(buffer: SSAValue) -> int:
    """
    Byte offset of a buffer, a constant or an argument in its memory.

    Raises VerifyException before allocation.
    """
    offset = _known_offset(buffer)
    if offset is None:
        raise VerifyException("the buffer has no offset yet: run sta-allocate first")
    return offset


def _known_offset(buffer: SSAValue) -> int | None:
    if isinstance(buffer, BlockArgument):
        function = buffer.block.parent_op()
        assert isinstance(function, func.FuncOp)
        return _port_offset(argument_attributes(function)[buffer.index])
    assert isinstance(buffer.owner, sta.AllocOp | sta.ConstantOp)
    return None if buffer.owner.offset is None else integer_value(buffer.owner.offset)


def _port_offset(entry: DictionaryAttr) -> int | None:
    return port_of(entry).address if PORT in entry.data else None


def argument_attributes(function: func.FuncOp) -> Sequence[DictionaryAttr]:
    """The attributes of a function's arguments, one dictionary each."""
    return () if function.arg_attrs is None else tuple(function.arg_attrs)


def expect_addresses(function: func.FuncOp) -> None:
    """Raises ValueError unless the function's memories are allocated."""
    entries = argument_attributes(function)
    if "sta.memory" not in function.attributes or any(_port_offset(entry) is None for entry in entries):
        raise ValueError("the function has no addresses yet: run sta-allocate first")
