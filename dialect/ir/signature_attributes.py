"""Signatures of inputs and outputs as attributes of a function's arguments and results."""

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import DictionaryAttr, FloatAttr, IntegerAttr, IntegerType, StringAttr, UnitAttr, f64, i64
from xdsl.ir import Attribute

from sta.spec.signature import TensorSignature


def signature_attribute(signature: TensorSignature) -> DictionaryAttr:
    """The signature as a dictionary of `sta.` attributes; the shape is the value's own."""
    attributes: dict[str, Attribute] = {
        "sta.name": StringAttr(signature.name),
        "sta.host_dtype": StringAttr(signature.host_dtype),
        "sta.device_dtype": StringAttr(signature.device_dtype),
        "sta.kind": StringAttr(signature.kind),
        "sta.scale": FloatAttr(signature.scale, f64),
        "sta.zero_point": IntegerAttr(signature.zero_point, i64),
        "sta.limit": IntegerAttr(signature.limit, i64),
    }
    if signature.inverted:
        attributes["sta.inverted"] = UnitAttr()
    return DictionaryAttr(attributes)


def signature_of(entry: DictionaryAttr, shape: tuple[int, ...]) -> TensorSignature:
    """The signature of an argument or result of `shape`. Raises KeyError if the attributes hold none."""
    return TensorSignature(
        name=_text(entry.data["sta.name"]),
        shape=shape,
        host_dtype=_text(entry.data["sta.host_dtype"]),
        device_dtype=_text(entry.data["sta.device_dtype"]),
        kind=_text(entry.data["sta.kind"]),
        scale=_number(entry.data["sta.scale"]),
        zero_point=int(_number(entry.data["sta.zero_point"])),
        limit=int(_number(entry.data["sta.limit"])),
        inverted="sta.inverted" in entry.data,
    )


def _text(attribute: Attribute) -> str:
    assert isinstance(attribute, StringAttr)
    return attribute.data


def _number(attribute: Attribute) -> float:
    if isinstance(attribute, FloatAttr):
        return attribute.value.data
    return cast("IntegerAttr[IntegerType]", attribute).value.data
