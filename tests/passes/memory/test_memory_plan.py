"""Places of buffers: live buffers never overlap, and a buffer that does not fit is named with its sizes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from xdsl.dialects.builtin import DictionaryAttr
from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.dialect.ir.addresses import first_element_of
from sta.dialect.ir.port_attribute import port_of
from sta.passes.memory.memory_plan import Crowding, place, plan_memory, timeline_of
from sta.passes.pipeline import INTEGER_PIPELINE
from sta.passes.tiling.capacity import CapacityError
from sta.spec.alignment import ALIGNMENT
from sta.spec.tiling_policy import TilingPolicy
from tests.support.nm_builder import PLAIN_TARGET, Case, NmBuilder
from tests.support.ordering import base_addresses
from tests.support.pipeline_check import apply, function_of, integers, operations
from tests.support.sta_builder import StaBuilder
from tests.support.transformers import Transformer, transformers

POLICY = TilingPolicy()
BEFORE = INTEGER_PIPELINE[: INTEGER_PIPELINE.index("sta-allocate")]


def uses(case: Case) -> dict[SSAValue, tuple[int, int]]:
    """Returns the first and last operation of the function's own block that uses each buffer, loops being one."""
    block = function_of(case).body.block
    found: dict[SSAValue, tuple[int, int]] = {}
    for index, top in enumerate(block.ops):
        for op in top.walk():
            for operand in op.operands if not isinstance(op, sta.ViewOp) else ():
                if isinstance(operand.type, sta.MemRefType):
                    buffer = first_element_of(operand).buffer
                    found[buffer] = (found.get(buffer, (index, index))[0], index)
    return found


@settings(deadline=None, max_examples=20)
@given(transformers(longest=10, widest=16))
def test_what_is_live_at_once_does_not_overlap(model: Transformer) -> None:
    case = model.case()
    apply(case.module, case.context, *BEFORE, "sta-allocate")
    function = function_of(case)
    bases, live = base_addresses(function), uses(case)
    sizes = function.attributes["sta.memory"]
    assert isinstance(sizes, DictionaryAttr)
    memory = {space: nm.integer_value(size) for space, size in sizes.data.items()}
    assert memory["spad"] + memory["wbuf"] + memory["acc"] == model.target.sram_bytes
    placed = [
        (sta.space_of(buffer), bases[buffer], bases[buffer] + sta.buffer_bytes(buffer), live[buffer]) for buffer in live
    ]
    for space, start, stop, _ in placed:
        assert start % ALIGNMENT == 0
        assert stop <= memory[space]
    always = {value: (0, 10**9) for value in (*function.body.block.args, *_constants(case))}
    everything = placed + [("dram", bases[v], bases[v] + sta.buffer_bytes(v), span) for v, span in always.items()]
    for index, (space, start, stop, (first, last)) in enumerate(everything):
        for other, low, high, (begin, end) in everything[:index]:
            same = (space, start, stop) == (other, low, high)
            apart = space != other or stop <= low or high <= start or last < begin or end < first
            assert apart or same


def _constants(case: Case) -> list[SSAValue]:
    return [op.results[0] for op in operations(case, sta.ConstantOp)]


def test_constants_then_arguments_then_scratch() -> None:
    builder = StaBuilder()
    constant = builder.identity()
    argument = builder.argument("x", "input", (3, 5), nm.si8)
    scratch = builder.buffer("dram", (7,), nm.si32, "scratch")
    tile = builder.buffer("spad", (3, 5), nm.si8)
    builder.add(sta.LoadOp(argument, tile))
    block = builder.buffer("wbuf", sta.memref_of(constant).get_shape(), nm.ui8)
    builder.add(sta.LoadOp(constant, block))
    builder.add(sta.StoreOp(builder.view(tile, (1, 5)), builder.view(argument, (1, 5))))
    moved = builder.buffer("spad", (7,), nm.si32)
    builder.add(sta.LoadOp(scratch, moved))
    case = builder.case()
    plan = plan_memory(function_of(case), PLAIN_TARGET, POLICY)
    assert plan.offsets[constant] < plan.offsets[argument] < plan.offsets[scratch]
    assert plan.offsets[scratch] == 64 + 64
    assert plan.sizes["dram"] == 64 + 64 + 64
    assert plan.sizes["acc"] == 0


def test_allocation_writes_the_plan_and_keeps_the_rest() -> None:
    builder = NmBuilder()
    case = builder.case(builder.clamp(builder.linear(builder.bytes("x", (5, 8)), 6, "w"), nm.si8))
    apply(case.module, case.context, *BEFORE)
    function = function_of(case)
    assert function.arg_attrs is not None
    before = [port_of(entry) for entry in function.arg_attrs]
    assert all(port.address is None for port in before)
    expected = integers(case)
    apply(case.module, case.context, "sta-allocate")
    assert function.arg_attrs is not None
    for old, new in zip(before, function.arg_attrs, strict=True):
        port = port_of(new)
        assert port.address is not None
        assert port == old.placed(port.address)
    for op in operations(case, sta.AllocOp, sta.ConstantOp):
        assert "offset" in op.properties
    assert integers(case)["out0"].tolist() == expected["out0"].tolist()
    text = str(case.module)
    apply(case.module, case.context, "sta-allocate")
    assert str(case.module) == text


def crowded(case: Case) -> str:
    """Returns the message of a case that does not fit."""
    with pytest.raises(CapacityError) as caught:
        apply(case.module, case.context, *BEFORE)
    return str(caught.value)


NUMBERS = re.compile(r"needs ([\d,]+) bytes of (\w+) at once, ([\d,]+) are there")


def sizes_in(message: str) -> tuple[int, str, int]:
    """Returns the bytes needed, the memory, and the bytes there."""
    match = NUMBERS.search(message)
    assert match is not None
    return int(match[1].replace(",", "")), match[2], int(match[3].replace(",", ""))


@pytest.mark.parametrize("memory", ["wbuf", "spad"])
def test_what_does_not_fit_is_named(memory: str) -> None:
    target = replace(PLAIN_TARGET, sram_bytes=4096)
    builder = NmBuilder(target, path="encoder.layer.3.attention")
    if memory == "wbuf":
        # The parameters of a norm are as long as its rows.
        case = builder.case(builder.norm(builder.stream("x", (1, 600)), "n"))
    else:
        # So are the rows themselves.
        case = builder.case(builder.norm(builder.stream("x", (1, 450)), "n"))
    message = crowded(case)
    assert message.startswith("encoder.layer.3.attention")
    needed, space, there = sizes_in(message)
    assert space == memory
    assert needed > there
    assert there <= 4096
    assert "use a target with more memory or a shorter sequence" in message
    assert re.search(r"largest buffers: encoder\.layer\.3\.attention\S* [\d,]+", message)


def test_the_sizes_in_the_message_are_those_of_the_buffers() -> None:
    builder = StaBuilder(replace(PLAIN_TARGET, sram_bytes=1024))
    identity = builder.buffer("wbuf", (44,), nm.ui8, "identity")
    first, second = (builder.buffer("spad", (10, 60), nm.si8, name) for name in ("layer.a", "layer.b"))
    builder.add(sta.MapOp((first, second, identity)))
    case = builder.case()
    with pytest.raises(CapacityError) as caught:
        plan_memory(function_of(case), builder.target, POLICY)
    assert sizes_in(str(caught.value)) == (2 * 640, "spad", 1024 - 64)
    assert "largest buffers: layer.b 600, layer.a 600" in str(caught.value)
    crowding = place(timeline_of(function_of(case)), builder.target, POLICY)
    assert isinstance(crowding, Crowding)
    ((buffer, rivals),) = crowding.rivals.items()
    assert {buffer, *rivals} == {first, second}


def test_buffers_that_are_not_needed_at_once_share_memory() -> None:
    builder = StaBuilder(replace(PLAIN_TARGET, sram_bytes=1536))
    source = builder.argument("x", "input", (10, 60), nm.si8)
    target = builder.argument("y", "output", (10, 60), nm.si8)
    for index in range(4):
        tile = builder.buffer("spad", (10, 60), nm.si8, f"tile{index}")
        builder.add(sta.LoadOp(source, tile))
        builder.add(sta.StoreOp(tile, target))
    plan = plan_memory(function_of(builder.case()), builder.target, POLICY)
    assert {offset for value, offset in plan.offsets.items() if sta.space_of(value) == "spad"} == {0}
