"""Ports as attributes: nothing of a signature is lost on the way, through text either."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import DictionaryAttr, StringAttr
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError, VerifyException

from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.port_attribute import DIRECTIONS, PORT, PortAttr, port_entry, port_of
from sta.dialect.ir.unicode_strings import UnicodeParser
from sta.spec.signature import TensorSignature

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
SIGNATURES = st.one_of(
    st.builds(
        TensorSignature,
        NAMES,
        st.just((2, 3)),
        st.sampled_from(["float32", "float16"]),
        st.sampled_from(["int8", "int16"]),
        st.just("quantized"),
        st.floats(1e-300, 1e300),
        st.integers(-128, 127),
    ),
    st.builds(
        TensorSignature, NAMES, st.just((4,)), st.just("int64"), st.just("int32"), st.just("index"), limit=st.just(99)
    ),
    st.builds(
        TensorSignature,
        NAMES,
        st.just((1, 5)),
        st.just("bool"),
        st.just("uint8"),
        st.just("mask"),
        inverted=st.booleans(),
    ),
)


def read(text: str) -> object:
    return UnicodeParser(CompileContext(), text).parse_attribute()


def text_of(port: PortAttr) -> str:
    stream = StringIO()
    Printer(stream).print_attribute(port)
    return stream.getvalue()


@given(
    signature=SIGNATURES,
    direction=st.none() | st.sampled_from(DIRECTIONS),
    offset=st.none() | st.integers(0, 2**40),
)
def test_a_port_survives_as_text(signature: TensorSignature, direction: str | None, offset: int | None) -> None:
    port = PortAttr(signature, direction, offset)
    parsed = read(text_of(port))
    assert parsed == port
    assert isinstance(parsed, PortAttr)
    assert parsed.signature(signature.shape) == signature
    assert (parsed.is_input, parsed.address) == (direction == "input", offset)


def test_what_is_usual_is_left_out() -> None:
    port = PortAttr(TensorSignature("x", (2, 3), "float32", "int8", "quantized"))
    assert text_of(port) == '#sta.port<"x", quantized float32 as int8>'
    assert text_of(port.directed("output").placed(64)) == '#sta.port<output "x", quantized float32 as int8, at 64>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"x", quantised float32 as int8', "kind 'quantised' is not one of"),
        ('"x", quantized flaot32 as int8', "'flaot32' is not a dtype"),
        ('"x", quantized float32 as int8, scale -1.0', "scale must be finite and positive"),
        ('"x", quantized float32 as int8, offset 3', "'scale'"),
        ('inout "x", quantized float32 as int8', "string literal expected"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises((ParseError, VerifyException), match=message):
        read(f"#sta.port<{text}>")


def test_the_port_of_an_argument_is_one() -> None:
    signature = TensorSignature("x", (2, 3), "float32", "int8", "quantized")
    assert port_of(port_entry(signature)).signature((2, 3)) == signature
    with pytest.raises(KeyError, match=PORT):
        port_of(DictionaryAttr({}))
    with pytest.raises(ValueError, match=r"and no #sta\.port"):
        port_of(DictionaryAttr({PORT: StringAttr("x")}))
