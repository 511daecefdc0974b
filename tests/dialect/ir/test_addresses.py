"""Addresses of chains of views, against the sums of their offsets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr
from xdsl.ir import SSAValue
from xdsl.utils.exceptions import VerifyException

from sta.dialect import nm, sta
from sta.dialect.ir.addresses import address_of, expect_addresses, first_element_of, offset_of
from sta.dialect.ir.port_attribute import PORT, PortAttr
from sta.spec.signature import TensorSignature

TERMS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=3)


@given(st.lists(st.tuples(st.integers(0, 9), TERMS), max_size=4))
def test_a_chain_of_views_begins_at_one_element(chain: list[tuple[int, list[tuple[int, int]]]]) -> None:
    loops = [sta.LoopOp(4) for _ in range(3)]
    buffer = sta.AllocOp("x", sta.memref((100,), nm.si16, "spad"))
    buffer.offset = nm.integer(640)
    last: SSAValue = buffer.result
    for offset, terms in chain:
        type_ = sta.memref((4,), nm.si16, "spad", (1,))
        last = sta.ViewOp(last, [(loops[index].counter, step) for index, step in terms], offset, type_).result
    first = first_element_of(last)
    assert first.buffer is buffer.result
    for counters in ((0, 0, 0), (1, 2, 3), (3, 0, 1)):
        values = {loop.counter: counter for loop, counter in zip(loops, counters, strict=True)}
        expected = sum(offset + sum(counters[index] * step for index, step in terms) for offset, terms in chain)
        assert first.position.at(values) == expected
        assert address_of(last).at(values) == 640 + 2 * expected


def test_buffers_have_addresses_after_allocation_only() -> None:
    op = sta.AllocOp("x", sta.memref((4, 3), nm.si32, "spad"))
    with pytest.raises(VerifyException, match="run sta-allocate first"):
        offset_of(op.result)
    op.offset = nm.integer(64)
    assert offset_of(op.result) == 64


def test_arguments_have_addresses_after_allocation_only() -> None:
    function = func.FuncOp("main", ([sta.memref((4, 3), nm.si32, "dram")], []))
    function.arg_attrs = ArrayAttr([DictionaryAttr({})])
    (argument,) = function.body.block.args
    with pytest.raises(VerifyException, match="run sta-allocate first"):
        address_of(argument)
    port = PortAttr(TensorSignature("x", (4, 3), "float32", "int32", "quantized"), "input", 128)
    function.arg_attrs = ArrayAttr([DictionaryAttr({PORT: port})])
    assert address_of(argument).at({}) == 128
    with pytest.raises(ValueError, match="the function has no addresses yet: run sta-allocate first"):
        expect_addresses(function)
    function.attributes["sta.memory"] = DictionaryAttr({})
    expect_addresses(function)
