"""The plan of a function in the IR: attributes of the layers and of the values' operations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from xdsl.dialects import func
from xdsl.dialects.builtin import DenseArrayBase, StringAttr
from xdsl.ir import Attribute, Operation, SSAValue

from sta.dialect import nm
from sta.dialect.ir.location import describe
from sta.passes.lowering.lower_function import Plan
from sta.passes.memory.placement import Placement
from sta.passes.tiling.attention_tiling import AttentionShape, Tiling
from sta.passes.tiling.linear_tiling import COLUMNS, LinearShape, LinearTiling
from sta.passes.tiling.matmul_tiling import MatmulShape
from sta.spec.target import Target

TARGET = "nm.planned_for"
"""Attribute of a function: the target of its plan."""
TILING = "nm.tiling"
"""Attribute of a layer: its tiling."""
IN_DRAM = "nm.in_dram"
"""Attribute of an operation, and of the function for its arguments: the numbers of the values that live in DRAM."""
COPIES_IN_DRAM = "nm.copies_in_dram"
"""Attribute of an operation: the numbers of its copies of operands that live in DRAM."""


def write_plan(function: func.FuncOp, placement: Placement, target: Target) -> None:
    """Puts a plan on a function, and replaces the present one."""
    function.attributes[TARGET] = StringAttr(target.name)
    for op, values in _values(function):
        numbers = [number for number, value in enumerate(values) if value in placement.in_dram]
        copies = sorted(number for reader, number in placement.copies_in_dram if reader is op)
        for name, listed in ((IN_DRAM, numbers), (COPIES_IN_DRAM, copies)):
            op.attributes.pop(name, None)
            if listed:
                op.attributes[name] = nm.integers(listed)
    for op, layer in placement.layers.items():
        tiling = layer.tiling
        if isinstance(tiling, LinearTiling):
            op.attributes[TILING] = nm.LinearTilingAttr(tiling.rows, tiling.columns, tiling.depth, tiling.order)
        else:
            op.attributes[TILING] = nm.AttentionTilingAttr(tiling.rows, tiling.heads)


def is_planned(function: func.FuncOp, target: Target) -> bool:
    """True if a function has a plan for a target."""
    return function.attributes.get(TARGET) == StringAttr(target.name)


def read_plan(function: func.FuncOp) -> Plan:
    """The plan on a function. Lowering checks tilings against the layers when it uses them."""
    in_dram = {value for op, values in _values(function) for value in _numbered(op, values)}
    copies = {(op, number) for op in function.body.block.ops for number in _numbers(op, COPIES_IN_DRAM)}
    return Plan(in_dram, _linear, _matmul, _attention, copies)


def _values(function: func.FuncOp) -> Iterator[tuple[Operation, list[SSAValue]]]:
    """The operations with the values that they produce; the function itself produces its arguments."""
    yield function, list(function.body.block.args)
    for op in function.body.block.ops:
        yield op, list(op.results)


def _numbered(op: Operation, values: list[SSAValue]) -> list[SSAValue]:
    given = _numbers(op, IN_DRAM)
    if not all(0 <= number < len(values) for number in given):
        raise ValueError(f"{describe(op)}: {IN_DRAM} = {given} does not name values of {op.name}: run nm-plan-tiles")
    return [values[number] for number in given]


def _numbers(op: Operation, name: str) -> Sequence[int]:
    numbers = op.attributes.get(name)
    if numbers is None:
        return ()
    if not isinstance(numbers, DenseArrayBase):
        raise ValueError(f"{describe(op)}: {name} = {numbers} is no list of numbers: run nm-plan-tiles")
    return nm.integer_values(cast(DenseArrayBase, numbers))


def _linear(op: nm.LinearOp, shape: LinearShape) -> LinearTiling:
    tiling = _of_product(op, shape)
    if tiling.depth < shape.depth and tiling.depth % shape.pattern.m:
        raise _unplanned(op, op.attributes.get(TILING))
    return tiling


def _matmul(op: nm.MatmulOp, shape: MatmulShape) -> LinearTiling:
    tiling = _of_product(op, shape)
    if tiling.order != COLUMNS:
        raise _unplanned(op, op.attributes.get(TILING))
    return tiling


def _of_product(op: Operation, shape: LinearShape | MatmulShape) -> LinearTiling:
    given = op.attributes.get(TILING)
    if not isinstance(given, nm.LinearTilingAttr):
        raise _unplanned(op, given)
    rows, columns, depth = (size.value.data for size in (given.rows, given.columns, given.depth))
    if columns > shape.columns or depth > shape.depth:
        raise _unplanned(op, given)
    return LinearTiling(rows, columns, depth, given.order.data)


def _attention(op: nm.AttentionOp, shape: AttentionShape, _: int) -> Tiling:
    given = op.attributes.get(TILING)
    if not isinstance(given, nm.AttentionTilingAttr) or shape.sharing % given.heads.value.data:
        raise _unplanned(op, given)
    return Tiling(given.rows.value.data, op.chunk_keys, given.heads.value.data)


def _unplanned(op: Operation, given: Attribute | None) -> ValueError:
    return ValueError(f"{describe(op)}: {TILING} = {given} does not fit the layer: run nm-plan-tiles")
