"""A function of the `nm` dialect as a tile program, from a plan: placement of values, and the tiles of each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from math import prod

from xdsl.dialects import func
from xdsl.ir import Operation, SSAValue

from sta.dialect import nm, sta
from sta.dialect.ir.location import describe
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.lowering.lower_attention import attention_operands, attention_shape, lower_attention
from sta.passes.lowering.lower_linear import linear_operands, linear_shape, lower_linear
from sta.passes.lowering.lower_matmul import lower_matmul, matmul_operands, matmul_shape
from sta.passes.lowering.lower_rotation import RotationOperands, lower_rotation
from sta.passes.lowering.lower_vector import NormTiles, lower_gather, lower_map, lower_norm, norm_tiles
from sta.passes.lowering.operand_copies import copied, copy_elements, with_rows
from sta.passes.lowering.tile_builder import Copy, Operand, Part, TileBuilder, contiguous
from sta.passes.lowering.tile_program import Allocation, Buffer, TileProgram
from sta.passes.tiling.attention_tiling import AttentionShape, Tiling
from sta.passes.tiling.linear_tiling import COLUMNS, LinearShape, LinearTiling
from sta.passes.tiling.matmul_tiling import MatmulShape
from sta.passes.tiling.strided_view import NotAView, StridedView
from sta.spec.instructions.table import definition_of
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy

TRANSFER_ROWS = definition_of("ld").field("rows").largest_power
"""Rows of one transfer between DRAM and the scratchpad."""


@dataclass(frozen=True)
class Plan:
    """
    Decisions for lowering: the values and the copies of operands that live in DRAM rather than the scratchpad, and each
    layer's tiling. A tiling is a function of the layer and its shape, which names the operands that have to be loaded.
    """

    in_dram: Set[SSAValue]
    linear: Callable[[nm.LinearOp, LinearShape], LinearTiling]
    matmul: Callable[[nm.MatmulOp, MatmulShape], LinearTiling]
    attention: Callable[[nm.AttentionOp, AttentionShape, int], Tiling]
    """The last argument is the number of heads over all batches."""
    copies_in_dram: Set[Copy] = frozenset()


@dataclass
class LoweredFunction:
    """A tile program, with the places of the function's values."""

    program: TileProgram
    operands: dict[SSAValue, Operand] = field(default_factory=dict[SSAValue, Operand])
    allocations: dict[SSAValue, Allocation] = field(default_factory=dict[SSAValue, Allocation])
    """The buffer of a value."""
    copies: Mapping[Copy, Allocation] = field(default_factory=dict[Copy, Allocation])
    """The buffer of a copy of an operand."""


def lower_function(
    function: func.FuncOp, weights: WeightStore, target: Target, policy: TilingPolicy, plan: Plan
) -> LoweredFunction:
    """
    The program of a function: its arguments are the inputs and then the outputs, all in DRAM.

    Raises ValueError, naming the layer, for an operation that cannot be lowered alone and for operands that have to be
    constants and are not.
    """
    terminator = function.body.block.last_op
    assert isinstance(terminator, func.ReturnOp)
    inputs, results = function.body.block.args, terminator.arguments
    arguments = [_argument(value) for value in (*inputs, *results)]
    outputs = list(zip(results, arguments[len(inputs) :], strict=True))
    program = TileProgram(arguments)
    builder = TileBuilder(target, policy, weights, program, copies_in_dram=plan.copies_in_dram)
    lowered = LoweredFunction(program, copies=builder.copies)
    walk = _Walk(builder, plan, lowered, dict(reversed(outputs)), _written_in_place(function))
    for value, argument in zip(inputs, arguments, strict=False):
        walk.bind_input(value, argument)
    for op in function.body.block.ops:
        builder.begin(op)
        walk.lower(op)
    for value, argument in outputs:
        walk.store_output(value, argument)
    return lowered


def _argument(value: SSAValue) -> Buffer:
    return Buffer(tuple(nm.tensor_of(value).get_shape()), nm.element_of(value), "dram")


@dataclass
class _Walk:
    """The walk over the operations of a function."""

    builder: TileBuilder
    plan: Plan
    lowered: LoweredFunction
    outputs: dict[SSAValue, Buffer]
    """The argument that returns an output; for values returned twice the first."""
    written_in_place: Mapping[SSAValue, tuple[nm.ConcatenateOp, int]]
    """Values that are written as parts of a concatenation, each with its number there."""
    norms: dict[Operation, tuple[NormTiles, bool] | None] = field(
        default_factory=dict[Operation, "tuple[NormTiles, bool] | None"]
    )
    """
    Norms that were prepared with the linear before them, and whether its drains add to the row statistics; None for
    those that were lowered with it.
    """

    def bind_input(self, value: SSAValue, argument: Buffer) -> None:
        """Places an input: in DRAM, or in the scratchpad, to which it is loaded."""
        operand = contiguous(argument)
        if value in self.plan.in_dram or all(isinstance(use.operation, nm.ConcatenateOp) for use in value.uses):
            self.lowered.operands[value] = operand
            return
        resident = self._result(value, "input")
        self._transfer(operand, resident)
        self.lowered.operands[value] = resident

    def store_output(self, value: SSAValue, argument: Buffer) -> None:
        """Copies an output to its argument, unless it was written there."""
        source = self._operand(value)
        if source.buffer is not argument:
            copy_elements(self.builder, source, contiguous(argument))

    def lower(self, op: Operation) -> None:
        """Lowers one operation."""
        builder = self.builder
        match op:
            case nm.WeightOp() | func.ReturnOp():
                return
            case nm.ViewOp() | nm.PermuteOp() | nm.SliceOp() | nm.BroadcastOp() | nm.WindowsOp():
                self.lowered.operands[op.result] = self._view(op)
            case nm.ConcatenateOp():
                self._concatenate(op)
            case nm.LinearOp():
                self._linear(op)
            case nm.MatmulOp():
                self._matmul(op)
            case nm.MapOp():
                residual = self._optional(op.residual)
                lower_map(builder, op, self._operand(op.x), self._in_place(op.result, op.x), residual)
            case nm.NormOp():
                prepared = self.norms[op] if op in self.norms else (self._norm(op), False)
                if prepared is not None:
                    norm, statistics = prepared
                    lower_norm(builder, norm, statistics=statistics)
            case nm.RotateOp():
                operands = RotationOperands(
                    self._operand(op.x), self._operand(op.cosines), self._operand(op.sines), self._result(op.result)
                )
                lower_rotation(builder, op, operands)
            case nm.GatherOp():
                lower_gather(builder, op, self._operand(op.indices), self._result(op.result))
            case nm.AttentionOp():
                self._attention(op)
            case _:
                raise ValueError(
                    f"{describe(op)}: {op.name} stands alone: nm-fuse-epilogues makes one operation of a product, sum "
                    "or table and the rescaling and the clamp after it, where nothing else uses what is between"
                )

    def _linear(self, op: nm.LinearOp) -> None:
        """A linear layer, together with the following norm if it is walked by rows."""
        residual = self._optional(op.residual)
        result = self._in_place(op.result, op.residual)
        following = following_norm(op) if result.space == "spad" else None
        operands = linear_operands(self.builder, op, self._operand(op.x), result, residual)
        shape = linear_shape(op, operands, norm=following is not None)
        tiling = self.plan.linear(op, shape)
        norm = None if following is None else self._norm(following)
        statistics = False
        if following is not None and norm is not None:
            statistics = tiling.order != COLUMNS or (_is_one_tile(shape, tiling) and norm.is_one_tile())
            self.norms[following] = (norm, statistics) if tiling.order == COLUMNS else None
        fused = None if tiling.order == COLUMNS else norm
        lower_linear(self.builder, op, operands, shape, tiling, fused, statistics=statistics)

    def _matmul(self, op: nm.MatmulOp) -> None:
        factors = (self._operand(op.a), self._operand(op.b))
        result = self._in_place(op.result, op.residual)
        operands = matmul_operands(self.builder, factors, result, self._optional(op.residual))
        shape = matmul_shape(op, operands)
        lower_matmul(self.builder, op, operands, shape, self.plan.matmul(op, shape))

    def _attention(self, op: nm.AttentionOp) -> None:
        builder = self.builder
        inputs = (self._operand(op.q), self._operand(op.k), self._operand(op.v))
        scores = (self._optional(op.mask), self._optional(op.bias))
        operands = attention_operands(builder, op, inputs, scores, self._attended(op))
        shape = attention_shape(op, operands)
        lower_attention(builder, op, operands, shape, self.plan.attention(op, shape, operands.heads))

    def _concatenate(self, op: nm.ConcatenateOp) -> None:
        """Copies the parts that their producers have not written into their places."""
        for index, part in enumerate(op.parts):
            if part not in self.written_in_place:
                copy_elements(self.builder, self._operand(part), self._place(op, index))

    def _place(self, op: nm.ConcatenateOp, index: int) -> Operand:
        """The place of a part in the buffer of a concatenation, which the first of its parts makes."""
        made = self.lowered.operands
        whole = made[op.result] if op.result in made else self._result(op.result)
        view = whole.view.sliced(op.axis.value.data, *op.ranges[index])
        return Operand(whole.buffer, view, whole.element)

    def _norm(self, op: nm.NormOp) -> NormTiles:
        stream = None if op.result is None else self._in_place(op.result, op.x)
        copy = None if op.copy is None else self._result(op.copy)
        return norm_tiles(self.builder, op, self._operand(op.x), stream, copy)

    def _transfer(self, source: Operand, destination: Operand) -> None:
        """Loads a whole contiguous tensor into the scratchpad."""
        shape = source.view.shape
        rows, columns = prod(shape[:-1]), shape[-1]

        def move(part: Part) -> None:
            position = part.start * columns
            tiles = [
                self.builder.view(operand.buffer, position, (part.size, columns), (columns, 1))
                for operand in (source, destination)
            ]
            self.builder.emit(sta.LoadOp, *tiles)

        self.builder.loop(rows, TRANSFER_ROWS, 0, move)

    def _result(self, value: SSAValue, label: str | None = None) -> Operand:
        """A contiguous buffer for a value, or its place in a concatenation; an output in DRAM is written in place."""
        if value in self.written_in_place:
            self.lowered.operands[value] = self._place(*self.written_in_place[value])
            return self.lowered.operands[value]
        output = self.outputs.get(value) if value in self.plan.in_dram else None
        self.lowered.operands[value] = contiguous(output or self._allocate(value, label))
        return self.lowered.operands[value]

    def _allocate(self, value: SSAValue, label: str | None = None) -> Allocation:
        """A new buffer for a value."""
        builder, tensor = self.builder, nm.tensor_of(value)
        space = "dram" if value in self.plan.in_dram else "spad"
        buffer = builder.allocate(label or builder.path, tensor.get_shape(), nm.element_of(value), space)
        self.lowered.allocations[value] = buffer
        return buffer

    def _in_place(self, value: SSAValue, source: SSAValue | None) -> Operand:
        """
        A buffer for a value. It is the buffer of `source`, which is read element by element as the value is written, if
        this is its last use.
        """
        lowered = self.lowered
        if source is None or value in self.plan.in_dram or not source.has_one_use():
            return self._result(value)
        if source not in lowered.allocations or value in self.written_in_place:
            return self._result(value)
        held = lowered.operands[source]
        if nm.tensor_of(source) != nm.tensor_of(value) or held.space != "spad" or not held.has_contiguous_rows():
            return self._result(value)
        lowered.allocations[value] = lowered.allocations[source]
        lowered.operands[value] = held
        return held

    def _attended(self, op: nm.AttentionOp) -> Operand:
        """A buffer for an attention's result, in the result's layout unless that would split the rows of a head."""
        if op.axes[-1] == 3:
            return self._result(op.result)
        result = nm.tensor_of(op.result).get_shape()
        view = StridedView.contiguous([result[op.axes.index(axis)] for axis in range(4)]).permuted(op.axes)
        operand = Operand(self._allocate(op.result), view, nm.element_of(op.result))
        self.lowered.operands[op.result] = operand
        return operand

    def _operand(self, value: SSAValue) -> Operand:
        if value not in self.lowered.operands:
            op = value.owner
            assert isinstance(op, nm.WeightOp)
            constant = self.builder.stored(op.store_name, "other", nm.element_of(value))
            self.lowered.operands[value] = contiguous(constant)
        return self.lowered.operands[value]

    def _optional(self, value: SSAValue | None) -> Operand | None:
        return None if value is None else self._operand(value)

    def _view(self, op: nm.View) -> Operand:
        operand = self._operand(op.x)
        if isinstance(op, nm.WindowsOp) and not isinstance(op.x.owner, nm.WindowsOp):
            # Rows that overlapping windows share are copied once, not for each window.
            operand = with_rows(self.builder, operand)
        try:
            return Operand(operand.buffer, _viewed(op, operand.view), operand.element)
        except NotAView:
            copy = copied(self.builder, operand)
            return Operand(copy.buffer, _viewed(op, copy.view), copy.element)


def _viewed(op: nm.View, view: StridedView) -> StridedView:
    match op:
        case nm.ViewOp():
            return view.reshaped(nm.tensor_of(op.result).get_shape())
        case nm.PermuteOp():
            return view.permuted(op.axes)
        case nm.SliceOp():
            positions = op.positions
            return view.sliced(op.axis.value.data, positions.start, positions.stop, positions.step)
        case nm.BroadcastOp():
            return view.broadcast(nm.tensor_of(op.result).get_shape())
        case nm.WindowsOp():
            return view.windowed(*op.numbers)


def _written_in_place(function: func.FuncOp) -> dict[SSAValue, tuple[nm.ConcatenateOp, int]]:
    """
    The values that are written as parts of a concatenation, their only use: results of operations that write rows at
    any distance from each other.
    """
    return {
        part: (op, index)
        for op in function.body.block.ops
        if isinstance(op, nm.ConcatenateOp)
        for index, part in enumerate(op.parts)
        if part.has_one_use() and isinstance(part.owner, _WRITING_ROWS)
    }


_WRITING_ROWS = nm.LinearOp | nm.MapOp | nm.NormOp | nm.GatherOp | nm.ConcatenateOp


def _is_one_tile(shape: LinearShape, tiling: LinearTiling) -> bool:
    """True if one tile holds all rows, so that the unit's row statistics cover whole rows after the last group."""
    return shape.batches == 1 and shape.rows <= tiling.rows


def following_norm(op: nm.LinearOp) -> nm.NormOp | None:
    """
    The norm of a linear's result, if it is the next operation: the unit's row statistics belong to one tensor at a
    time.
    """
    following = op.next_op
    while isinstance(following, nm.WeightOp | nm.View):
        following = following.next_op
    return following if isinstance(following, nm.NormOp) and following.x is op.result else None
