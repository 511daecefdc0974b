"""Reads and writes of the `sta` operations, which come from the instruction table."""

from __future__ import annotations

import pytest
from xdsl.parser import Parser
from xdsl.traits import MemoryEffectKind, get_effects

from sta.dialect import sta
from sta.dialect.ir.context import CompileContext
from tests.support.docstring_examples import example_of

ACCUMULATING = "sta.mm %a, %b to %acc accumulate : spad<6x8xsi8>, spad<4x8xsi8>, acc<6x4xsi32>"
ONLINE = (
    "sta.softmax online %s to %p sums %state parameters %v mask %m : acc<6x4xsi32>, spad<6x4xui8>, spad<18xsi32>, "
    "wbuf<16xui8>, spad<6x4xui8>"
)
DIVIDING = (
    "sta.map %s to %y parameters %v residual %sums normalize : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<44xui8>, spad<6xsi32>"
)
EFFECTS = [
    (example_of(sta.LoadOp), {"source"}, {"destination"}),
    (example_of(sta.StoreOp), {"source"}, {"destination"}),
    (example_of(sta.GatherOp), {"table", "indices"}, {"destination"}),
    ("sta.mm %a, %b to %acc : spad<6x8xsi8>, spad<4x8xsi8>, acc<6x4xsi32>", {"a", "b"}, {"acc"}),
    (ACCUMULATING, {"a", "b", "acc"}, {"acc"}),
    (example_of(sta.SoftmaxOp), {"scores", "parameters"}, {"destination", "sums"}),
    (ONLINE, {"scores", "parameters", "mask", "sums"}, {"destination", "sums"}),
    (example_of(sta.MapOp), {"source", "parameters", "residual"}, {"destination"}),
    (DIVIDING, {"source", "parameters", "residual"}, {"destination"}),
    (example_of(sta.NormOp), {"source", "parameters"}, {"copy"}),
    (example_of(sta.ShiftOp), {"acc", "shifts"}, {"acc"}),
    (example_of(sta.SyncOp), set[str](), set[str]()),
]


def operation(text: str) -> sta.UnitOp:
    parsed = Parser(CompileContext(), text).parse_op()
    assert isinstance(parsed, sta.UnitOp)
    return parsed


@pytest.mark.parametrize(("text", "read", "written"), EFFECTS)
def test_operands_are_read_and_written(text: str, read: set[str], written: set[str]) -> None:
    op = operation(text)
    for kind, names in ((MemoryEffectKind.READ, read), (MemoryEffectKind.WRITE, written)):
        expected = {getattr(op, name) for name in names}
        assert set(sta.operands_with(op, kind)) == expected


@pytest.mark.parametrize("text", [text for text, _, _ in EFFECTS])
def test_the_queues_are_written_whatever_else_is(text: str) -> None:
    effects = get_effects(operation(text))
    assert effects is not None
    assert any(isinstance(effect.resource, sta.QueueResource) for effect in effects)


@pytest.mark.parametrize("text", [text for text, _, _ in EFFECTS])
def test_every_register_that_an_instruction_requires_has_a_value(text: str) -> None:
    op = operation(text)
    fields = {field.name: field for field in op.definition.fields if field.kind == "register"}
    accesses = [access for access, _ in op.accesses()]
    given = {name for access in accesses for name in (access.address, access.stride, access.rows_register) if name}
    assert set(op.scalars()) == set(op.definition.scalars)
    assert {name for name, field in fields.items() if field.default is None} <= given | set(op.scalars()) <= set(fields)
    assert set(op.LOADED_FIRST) <= set(fields)
