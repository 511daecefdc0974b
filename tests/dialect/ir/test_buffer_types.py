"""The text of a buffer's type: lossless, and unchanged for other types."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import DYNAMIC_INDEX, MemRefType, StridedLayoutAttr, TensorType, f32
from xdsl.ir import Attribute
from xdsl.parser import Parser
from xdsl.printer import Printer

from sta.dialect import nm, sta
from sta.dialect.ir.buffer_types import MEMORIES, parse_buffer_type, print_buffer_type
from sta.dialect.ir.context import CompileContext

SHAPES = st.lists(st.integers(1, 5000), max_size=4)
SPAD = MEMORIES["spad"]


def text_of(type_: Attribute) -> str:
    stream = StringIO()
    print_buffer_type(Printer(stream), type_)
    return stream.getvalue()


def read(text: str) -> Attribute:
    context = CompileContext()
    context.load_registered_dialect("sta")
    return parse_buffer_type(Parser(context, text))


@given(shape=SHAPES, element=st.sampled_from(sta.STORED_TYPES), space=st.sampled_from(sorted(MEMORIES)), data=st.data())
def test_a_buffer_survives_as_text(shape: list[int], element: Attribute, space: str, data: st.DataObject) -> None:
    strides = data.draw(st.none() | st.lists(st.integers(0, 10**6), min_size=len(shape), max_size=len(shape)))
    type_ = sta.memref(shape, element, space, strides)
    assert text_of(type_).startswith(f"{space}<")
    assert read(text_of(type_)) == type_


def test_it_is_short() -> None:
    assert text_of(sta.memref((32, 64), nm.si8, "spad", (768, 1))) == "spad<32x64xsi8, [768, 1]>"
    assert text_of(sta.memref((44,), nm.ui8, "wbuf")) == "wbuf<44xui8>"


@pytest.mark.parametrize(
    "type_",
    [
        MemRefType(nm.si8, [4]),
        MemRefType(f32, [4], memory_space=SPAD),
        MemRefType(nm.si8, [4], StridedLayoutAttr([2], 3), SPAD),
        MemRefType(nm.si8, [4, 4], StridedLayoutAttr([None, 1], None), SPAD),
        TensorType(nm.si8, [4]),
    ],
    ids=["no memory", "no integers", "an offset", "a dynamic stride", "no buffer"],
)
def test_what_does_not_fit_is_written_as_it_is(type_: Attribute) -> None:
    assert text_of(type_) == str(type_)
    assert read(text_of(type_)) == type_


def test_a_dynamic_size_does_not_fit() -> None:
    type_ = MemRefType(nm.si8, [DYNAMIC_INDEX, 4], memory_space=SPAD)
    assert read(text_of(type_)) == type_
