"""
Lowering of the `nm` dialect to the machine: tile loops, DMA, and the choice of what stays on the chip.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import DictionaryAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import nm, sta
from sta.dialect.ir.context import policy_of, target_of, weights_of
from sta.dialect.ir.location import describe
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.lowering.buffer_contents import record_value
from sta.passes.lowering.lower_attention import AttentionLowering
from sta.passes.lowering.lower_linear import LinearLowering
from sta.passes.lowering.lower_vector import NormLowering, lower_gather, lower_map
from sta.passes.lowering.tile_builder import Operand, TileBuilder
from sta.passes.lowering.useful_macs import record_macs, useful_macs
from sta.passes.memory.memory_plan import CapacityError, plan_memory
from sta.passes.tiling.linear_tiling import COLUMNS, ROWS
from sta.passes.tiling.strided_view import NotAView, StridedView
from sta.passes.tiling.tile_choice import record
from sta.spec.instructions.table import definition_of
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy

TRANSFER_ROWS = definition_of("ld").field("rows").largest_power
"""
Rows of one tile of a copy.
"""

TiledLayer = LinearLowering | AttentionLowering
"""
What is cut into tiles of a size that can be chosen.
"""


@dataclass
class FunctionLowering:
    """
    One attempt at lowering a function; values in `in_dram` live in DRAM, all others in the scratchpad.
    """

    source: func.FuncOp
    weights: WeightStore
    target: Target
    in_dram: set[SSAValue]
    packed: dict[Hashable, NDArray[Any]]
    policy: TilingPolicy
    budgets: Mapping[Hashable, int] = field(default_factory=dict[Hashable, int])
    """
    Bytes that the tiles of layers of some sizes may take, where that is less than the usual share of the chip.
    """
    layers: dict[Operation, TiledLayer] = field(default_factory=dict[Operation, TiledLayer])
    norms: dict[Operation, NormLowering] = field(default_factory=dict[Operation, NormLowering])
    """
    Norms whose lowering was prepared with the linear before them.
    """
    fused: set[Operation] = field(default_factory=set[Operation])
    """
    Norms lowered together with the linear before them.
    """
    operands: dict[SSAValue, Operand] = field(default_factory=dict[SSAValue, Operand])
    buffers: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    """
    The buffer of the program that was made for a value of the source.
    """

    def lower(self) -> func.FuncOp:
        """
        The function on memrefs: its arguments are the inputs and then the outputs, all in DRAM.
        """
        inputs = self.source.body.block.args
        terminator = self.source.body.block.last_op
        assert isinstance(terminator, func.ReturnOp)
        types = [self._argument(value) for value in (*inputs, *terminator.arguments)]
        block = Block(arg_types=types)
        outputs = zip(terminator.arguments, block.args[len(inputs) :], strict=True)
        self.outputs: dict[SSAValue, SSAValue] = dict(reversed(list(outputs)))
        self.builder = TileBuilder(self.target, self.weights, block, self.packed, policy=self.policy)
        for value, argument in zip(inputs, block.args, strict=False):
            self._bind_input(value, argument)
        for op in self.source.body.block.ops:
            self.builder.begin(op)
            self._lower(op)
        for value, argument in zip(terminator.arguments, block.args[len(inputs) :], strict=True):
            self._store_output(value, argument)
        for op in [op for op in block.ops if isinstance(op, sta.AllocOp) and not op.result.uses]:
            # The second buffer of a pair whose loop runs once: it must not take a place.
            block.erase_op(op)
        for value, operand in self.operands.items():
            record_value(value, operand)
        block.add_op(func.ReturnOp())
        function = func.FuncOp(self.source.sym_name.data, (types, []), Region(block), arg_attrs=self._attributes())
        function.location = self.source.location
        record(function, self.builder.choices)
        return function

    def _attributes(self) -> Any:
        inputs, outputs = self.source.arg_attrs, self.source.res_attrs
        assert inputs is not None
        assert outputs is not None
        return type(inputs)(
            [_with_direction(entry, "input") for entry in inputs]
            + [_with_direction(entry, "output") for entry in outputs]
        )

    def _argument(self, value: SSAValue) -> Attribute:
        tensor = nm.tensor_of(value)
        return sta.memref(tensor.get_shape(), tensor.element_type, "dram")

    def _bind_input(self, value: SSAValue, argument: SSAValue) -> None:
        operand = self._contiguous(argument)
        if value in self.in_dram or not value.uses:
            self.operands[value] = operand
            return
        resident = self._result(value, "input")
        self._transfer(operand, resident)
        self.operands[value] = resident

    def _contiguous(self, buffer: SSAValue) -> Operand:
        return Operand(buffer, StridedView.contiguous(sta.memref_of(buffer).get_shape()), sta.element_of(buffer))

    def _transfer(self, source: Operand, destination: Operand) -> None:
        """
        Copies a whole contiguous tensor between DRAM and the scratchpad.
        """
        shape = source.view.shape
        rows, columns = prod(shape[:-1]), shape[-1]

        def move(position: Any, count: int) -> None:
            tiles = [
                self.builder.view(operand.buffer, position * columns, (count, columns), (columns, 1))
                for operand in (source, destination)
            ]
            op = sta.LoadOp if source.space == "dram" else sta.StoreOp
            self.builder.emit(op(tiles[0], tiles[1]))

        self.builder.loop(rows, TRANSFER_ROWS, move)

    def _result(self, value: SSAValue, label: str | None = None) -> Operand:
        """
        A contiguous buffer for a value: an output that is in DRAM is written where it belongs.
        """
        output = self.outputs.get(value) if value in self.in_dram else None
        self.operands[value] = self._contiguous(output or self._buffer(value, label))
        return self.operands[value]

    def _buffer(self, value: SSAValue, label: str | None = None) -> SSAValue:
        """
        A new buffer for a value.
        """
        tensor = nm.tensor_of(value)
        space = "dram" if value in self.in_dram else "spad"
        buffer = self.builder.allocate(label or self.builder.path, tensor.get_shape(), nm.element_of(value), space)
        self.buffers[value] = buffer
        return buffer

    def _in_place(self, value: SSAValue, source: SSAValue | None) -> Operand:
        """
        A buffer for a value: that of `source`, which is read element by element as the value is written, if this is its
        last use.
        """
        if source is None or value in self.in_dram or not source.has_one_use() or source not in self.buffers:
            return self._result(value)
        held = self.operands[source]
        if nm.tensor_of(source) != nm.tensor_of(value) or held.space != "spad" or not held.has_contiguous_rows():
            return self._result(value)
        self.buffers[value] = self.buffers[source]
        self.operands[value] = held
        return held

    def _attended(self, op: nm.AttentionOp) -> Operand:
        """
        A buffer for an attention's result, in the layout of the result unless that would tear the rows of a head apart.
        """
        if op.axes[-1] == 3:
            return self._result(op.result)
        view = StridedView.contiguous(nm.tensor_of(op.q).get_shape()).permuted(op.axes)
        self.operands[op.result] = Operand(self._buffer(op.result), view, nm.element_of(op.result))
        return self.operands[op.result]

    def _operand(self, value: SSAValue) -> Operand:
        if value not in self.operands:
            op = value.owner
            assert isinstance(op, nm.WeightOp)
            values = self.weights.get(op.store_name)
            element = nm.tensor_of(value).element_type
            self.operands[value] = self._contiguous(self.builder.constant(op.store_name, "other", values, element))
        return self.operands[value]

    def _optional(self, value: SSAValue | None) -> Operand | None:
        return None if value is None else self._operand(value)

    def _lower(self, op: Operation) -> None:
        builder = self.builder
        match op:
            case nm.WeightOp() | func.ReturnOp():
                return
            case nm.ViewOp() | nm.PermuteOp() | nm.SliceOp():
                self.operands[op.result] = self._view(op)
            case nm.LinearOp():
                residual = self._optional(op.residual)
                self._linear(op, residual, self._in_place(op.result, op.residual))
            case nm.MapOp():
                residual = self._optional(op.residual)
                lower_map(builder, op, self._operand(op.x), self._in_place(op.result, op.x), residual)
            case nm.NormOp():
                if op not in self.fused:
                    (self.norms.get(op) or self._norm(op)).lower()
            case nm.GatherOp():
                lower_gather(builder, op, self._operand(op.indices), self._result(op.result))
            case nm.AttentionOp():
                operands = (self._operand(op.q), self._operand(op.k), self._operand(op.v))
                mask = self._optional(op.mask)
                attention = AttentionLowering(builder, op, operands, mask, self._attended(op), self.budgets)
                self.layers[op] = attention
                builder.choices.append(attention.explain())
                attention.lower()
            case _:
                raise ValueError(
                    f"{describe(op)}: {op.name} stands alone: nm-fuse-epilogues makes one operation of a product, sum "
                    "or table and the rescaling and the clamp after it, where nothing else uses what is between"
                )

    def _norm(self, op: nm.NormOp) -> NormLowering:
        stream = None if op.result is None else self._in_place(op.result, op.x)
        copy = None if op.copy is None else self._result(op.copy)
        return NormLowering(self.builder, op, self._operand(op.x), stream, copy)

    def _linear(self, op: nm.LinearOp, residual: Operand | None, result: Operand) -> None:
        """
        A linear, together with the norm that follows if it is walked by rows.
        """
        norm = _following_norm(op) if result.space == "spad" else None
        normalized = norm is not None
        lowering = LinearLowering(
            self.builder, op, self._operand(op.x), result, residual, self.budgets, normalized=normalized
        )
        self.layers[op] = lowering
        self.builder.choices.append(lowering.explain())
        following = self._norm(norm) if norm is not None else None
        if lowering.tiling.order != COLUMNS:
            self.fused |= {norm} if norm is not None else set()
            lowering.lower_by_rows(following)
            return
        if norm is not None and following is not None:
            self.norms[norm] = following
            lowering.gather = following.gathered = lowering.is_one_tile() and following.is_one_tile()
        lowering.lower()

    def _view(self, op: nm.ViewOp | nm.PermuteOp | nm.SliceOp) -> Operand:
        operand = self._operand(op.x)
        try:
            return Operand(operand.buffer, _viewed(op, operand.view), operand.element)
        except NotAView:
            copy = self.builder.copied(operand)
            return Operand(copy.buffer, _viewed(op, copy.view), copy.element)

    def _store_output(self, value: SSAValue, argument: SSAValue) -> None:
        source, output = self._operand(value), self._contiguous(argument)
        if source.buffer is argument:
            return
        if source.space == "dram":
            self.builder.through_tiles(source, output)
            return
        self.builder.runs(source, output, lambda tile, place: self.builder.emit(sta.StoreOp(tile, place)))


def _viewed(op: nm.ViewOp | nm.PermuteOp | nm.SliceOp, view: StridedView) -> StridedView:
    match op:
        case nm.ViewOp():
            return view.reshaped(nm.tensor_of(op.result).get_shape())
        case nm.PermuteOp():
            return view.permuted(op.axes)
        case nm.SliceOp():
            return view.sliced(op.axis.value.data, op.start.value.data, op.stop.value.data)


def _with_direction(entry: DictionaryAttr, direction: str) -> DictionaryAttr:
    return DictionaryAttr({**entry.data, "sta.direction": StringAttr(direction)})


def _following_norm(op: nm.LinearOp) -> nm.NormOp | None:
    """
    The norm of a linear's result, if it is the next operation: the unit's row statistics are of one tensor at a time.
    """
    following = op.next_op
    while isinstance(following, nm.WeightOp | nm.ViewOp | nm.PermuteOp | nm.SliceOp):
        following = following.next_op
    return following if isinstance(following, nm.NormOp) and following.x is op.result else None


def _spill(lowering: FunctionLowering, crowded: Mapping[SSAValue, Sequence[SSAValue]]) -> set[SSAValue]:
    """
    Values that move to DRAM: those whose buffers found no place, and for each buffer without a place the largest value
    that it competes with.
    """
    values = set(lowering.buffers.values())
    buffers = set(crowded)
    for rivals in crowded.values():
        buffers |= set([rival for rival in rivals if rival in values][:1])
    return {value for value, buffer in lowering.buffers.items() if buffer in buffers}


def _crowding(lowering: FunctionLowering, crowded: Mapping[SSAValue, Sequence[SSAValue]]) -> list[TiledLayer]:
    """
    The layers to which buffers without a place, or those they compete with, belong.
    """
    sources = lowering.builder.sources
    found = {sources[buffer] for rivals in ([one, *others] for one, others in crowded.items()) for buffer in rivals}
    return [layer for op, layer in lowering.layers.items() if op in found]


def _dividing(lowering: FunctionLowering) -> list[TiledLayer]:
    """
    The layers that take most of the weight buffer and most of the accumulators: the scratchpad gets what these leave.
    """
    found: list[TiledLayer] = []
    for space in ("wbuf", "acc"):
        taken: dict[Operation, int] = {}
        for buffer, source in lowering.builder.sources.items():
            if source is not None and source in lowering.layers and sta.space_of(buffer) == space:
                taken[source] = taken.get(source, 0) + sta.buffer_bytes(buffer)
        most = max(taken.values(), default=0)
        found += [lowering.layers[source] for source, size in taken.items() if size == most]
    return found


def _keeps_weights(layer: TiledLayer) -> bool:
    return isinstance(layer, LinearLowering) and layer.tiling.order == ROWS


@dataclass
class Attempts:
    """
    What the attempts at lowering a function have found out about the room there is.
    """

    policy: TilingPolicy
    in_dram: set[SSAValue] = field(default_factory=set[SSAValue])
    budgets: dict[Hashable, int] = field(default_factory=dict[Hashable, int])

    def give_way(self, lowering: FunctionLowering, error: CapacityError) -> bool:
        """
        Makes room where an attempt found none: weights that stay on the chip go first, then values move to DRAM, then
        tiles shrink: of the layers concerned, and else of all, those that lose least by it. Returns whether there was
        anything left to do.
        """
        layers = sorted(lowering.layers.values(), key=lambda layer: -layer.size)
        concerned = _crowding(lowering, error.crowded)
        kept = [layer for layer in concerned if _keeps_weights(layer)]
        if self._shrink(kept or [layer for layer in layers if _keeps_weights(layer)][:1]):
            return True
        if spilled := _spill(lowering, error.crowded) - self.in_dram:
            self.in_dram |= spilled
            return True
        return self._shrink_cheapest([*concerned, *_dividing(lowering)]) or self._shrink_cheapest(layers)

    def _shrink_cheapest(self, layers: Sequence[TiledLayer]) -> bool:
        """
        Gives smaller budgets to those layers that lose next to nothing by it, or else to the one that loses least;
        returns whether there was any.
        """
        budgets = [(layer, budget) for layer in layers if (budget := layer.smaller_budget()) is not None]
        losses = [layer.extra_cycles(budget) for layer, budget in budgets]
        total = sum(layer.explain().cycles for layer in layers)
        cheap = [one for one, loss in zip(budgets, losses, strict=True) if loss * self.policy.loss_divisor <= total]
        if not cheap and budgets:
            cheap = [budgets[losses.index(min(losses))]]
        self.budgets |= {layer.key: budget for layer, budget in cheap}
        return bool(cheap)

    def _shrink(self, layers: Sequence[TiledLayer]) -> bool:
        """
        Gives smaller budgets to those layers that can do with less; returns whether there were any.
        """
        budgets = {layer.key: budget for layer in layers if (budget := layer.smaller_budget()) is not None}
        self.budgets |= budgets
        return bool(budgets)


@dataclass(frozen=True)
class ConvertNmToStaPass(ModulePass):
    """
    Lowers every operation to loops over tiles. Values stay in the scratchpad; those that do not fit move to DRAM, and
    the operations that use them load and store tiles.
    """

    name = "convert-nm-to-sta"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        weights, target, policy = weights_of(ctx), target_of(ctx), policy_of(ctx)
        for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
            lowered = self._lower(function, weights, target, policy)
            record_macs(lowered, useful_macs(op))
            op.body.block.insert_op_before(lowered, function)
            function.detach()
            function.erase(safe_erase=False)

    def _lower(self, function: func.FuncOp, weights: WeightStore, target: Target, policy: TilingPolicy) -> func.FuncOp:
        attempts = Attempts(policy)
        packed: dict[Hashable, NDArray[Any]] = {}
        while True:
            lowering = FunctionLowering(function, weights, target, attempts.in_dram, packed, policy, attempts.budgets)
            lowered = lowering.lower()
            try:
                plan_memory(lowered, target, policy)
            except CapacityError as error:
                if not attempts.give_way(lowering, error):
                    raise
                continue
            return lowered
