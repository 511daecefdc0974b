"""Signatures as attributes: nothing is lost on the way, through text either."""

import dataclasses

import pytest
from xdsl.dialects.builtin import DictionaryAttr, StringAttr
from xdsl.parser import Parser

from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.signature_attributes import signature_attribute, signature_of
from sta.spec.signature import TensorSignature


@pytest.mark.parametrize(
    "signature",
    [
        TensorSignature("x", (2, 3), "float32", "int8", "quantized", 1 / 3, -7),
        TensorSignature("ids", (4,), "int32", "int32", "index", limit=99),
        TensorSignature("keep", (1, 5), "int64", "uint8", "mask"),
        TensorSignature("padding", (1, 5), "bool", "uint8", "mask", inverted=True),
    ],
)
def test_a_signature_survives_as_text(signature: TensorSignature) -> None:
    attribute = signature_attribute(signature)
    context = CompileContext()
    parsed = Parser(context, str(attribute)).parse_attribute()
    assert isinstance(parsed, DictionaryAttr)
    assert signature_of(parsed, signature.shape) == signature
    renamed = DictionaryAttr({**attribute.data, "sta.name": StringAttr("other")})
    assert signature_of(renamed, signature.shape) == dataclasses.replace(signature, name="other")
