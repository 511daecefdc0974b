"""A tile program as IR: each of its nodes is one operation of the `sta` dialect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.ir import Block, Operation, SSAValue

from sta.dialect import sta
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.lowering.tile_program import (
    Allocation,
    Buffer,
    Constant,
    Counter,
    Instruction,
    Loop,
    Node,
    Position,
    Tile,
    TileProgram,
    View,
)
from sta.spec.affine import Affine


@dataclass
class ProgramIr:
    """The IR of a tile program, and which value each buffer, view and counter has become."""

    block: Block
    values: dict[Tile | Counter, SSAValue] = field(default_factory=dict["Tile | Counter", SSAValue])


def to_ir(program: TileProgram, weights: WeightStore) -> ProgramIr:
    """The block of a program, with the program's arguments; the data of its constants goes to `weights`."""
    types = [sta.memref(argument.shape, argument.element, argument.space) for argument in program.arguments]
    block = Block(arg_types=types)
    made = ProgramIr(block, dict(zip(program.arguments, block.args, strict=True)))
    _fill(block, program.used_nodes(), made.values, weights)
    return made


def _fill(block: Block, nodes: Sequence[Node], values: dict[Tile | Counter, SSAValue], weights: WeightStore) -> None:
    for node in nodes:
        op = _operation(node, values, weights)
        if node.source is not None:
            op.location = node.source.location
        block.add_op(op)


def _operation(node: Node, values: dict[Tile | Counter, SSAValue], weights: WeightStore) -> Operation:
    match node:
        case Instruction():
            return node.make(*(_resolved(operand, values) for operand in node.operands))
        case View():
            position = _index(node.position, values)
            kind = sta.memref(node.shape, node.buffer.element, node.space, node.strides)
            view = sta.ViewOp(values[node.buffer], position.terms, position.base, kind)
            values[node] = view.result
            return view
        case Loop():
            loop = sta.LoopOp(node.count)
            values[node.counter] = loop.counter
            _fill(loop.body.block, node.body, values, weights)
            return loop
        case Allocation():
            allocation = sta.AllocOp(node.label, sta.memref(node.shape, node.element, node.space))
            values[node] = allocation.result
            return allocation
        case Constant():
            return _constant(node, values, weights)


def _constant(node: Constant, values: dict[Tile | Counter, SSAValue], weights: WeightStore) -> sta.ConstantOp:
    name = weights.put_unique(node.name, node.values())
    constant = sta.ConstantOp(name, node.kind, sta.memref(node.shape, node.element, node.space))
    if node.packing is not None:
        sta.record_packing(constant.result, node.packing)
    values[node] = constant.result
    return constant


def _resolved(
    operand: Tile | Position | None, values: dict[Tile | Counter, SSAValue]
) -> SSAValue | Affine[SSAValue] | None:
    if isinstance(operand, Buffer | View):
        return values[operand]
    return None if operand is None else _index(operand, values)


def _index(position: Position, values: dict[Tile | Counter, SSAValue]) -> Affine[SSAValue]:
    return Affine(position.base, tuple((values[counter], coefficient) for counter, coefficient in position.terms))
