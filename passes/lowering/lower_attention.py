"""
`nm.attention` as a pipeline on the chip: scores into accumulators, softmax, P.V, normalizing drain.

The scores of one tile are made while the softmax unit works on those of the tile before. With a softmax over whole rows
a tile is some rows with all their keys; with an online softmax it is a chunk of their keys, and what the rows have
summed up so far is shifted to the new maximum while the scores of the next chunk are made. Heads of queries that share
keys and values take turns at each chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.dialect.ir.parameter_blocks import scalar_map_parameters
from sta.passes.lowering.tile_builder import Operand, Position, Stretch, TileBuilder
from sta.passes.memory.memory_plan import CapacityError
from sta.passes.tiling.attention_tiling import (
    AttentionShape,
    Group,
    Tiling,
    capacity,
    head_cycles,
    online_tilings,
    row_groups,
    row_tilings,
    tile_bytes,
    tile_parts,
    too_long,
)
from sta.passes.tiling.strided_view import Axis, StridedView, iteration_space, merge
from sta.passes.tiling.tile_choice import TileChoice
from sta.spec.affine import Affine
from sta.spec.nm_format import DENSE
from sta.spec.parameters import SoftmaxParameters

DENSE_OPERAND = nm.PatternAttr(DENSE, "dense")
HEADS = slice(0, 2)
"""
The axes of `[B, H, S, D]` whose steps are heads.
"""
Q, K, V, RESULT, MASK = range(5)
"""
The operands in the order in which their positions are kept.
"""


@dataclass(frozen=True)
class Matrix:
    """
    A matrix in the scratchpad: buffer, position of its first element, row stride.
    """

    buffer: SSAValue
    start: Position
    stride: int


@dataclass(frozen=True)
class Head:
    """
    Where a head starts in each operand; its keys and values if they have been loaded for several tiles.
    """

    positions: Sequence[Position]
    keys: Matrix | None = None
    values: Matrix | None = None


@dataclass(frozen=True)
class Part:
    """
    A tile of rows of one head; `turn` counts the heads that share a chunk of keys, of which the first loads it.
    """

    head: Head
    row: Position
    rows: int
    turn: int = 0


@dataclass(frozen=True)
class Span:
    """
    Keys in a row of scores; `slot` says which buffer they are loaded to if that is not the slot of the scores.
    """

    first: Position
    count: int
    slot: int | None = None


class AttentionLowering:
    """
    Lowers one `nm.attention`: every batch and head in turn, rows in tiles.
    """

    def __init__(
        self,
        builder: TileBuilder,
        op: nm.AttentionOp,
        operands: tuple[Operand, Operand, Operand],
        mask: Operand | None,
        result: Operand,
        budgets: Mapping[Hashable, int],
    ):
        self.builder = builder
        self.op = op
        inverse = [op.axes.index(axis) for axis in range(4)]
        written = Operand(result.buffer, result.view.permuted(inverse), result.element)
        q, k, v = (self._matrices(operand) for operand in operands)
        batch, heads, self.queries, self.depth = q.view.shape
        self.keys = k.view.shape[2]
        self.heads = batch * heads
        masks: list[Operand] = []
        if mask is not None:
            rows = self._matrices(mask)
            full = (batch, heads, self.queries, self.keys)
            masks = [Operand(rows.buffer, rows.view.broadcast(full), rows.element)]
        k, v = (_repeated(operand, heads) for operand in (k, v))
        self.q, self.k, self.v, *masks, self.result = builder.walkable([q, k, v, *masks, written], HEADS)
        self.mask = masks[0] if masks else None
        causal = op.causal is not None
        walked = [self.q, self.k, self.v, self.result, *masks]
        self.offsets = [Affine(operand.view.offset) for operand in walked]
        self.axes = iteration_space([operand.view.axes[HEADS] for operand in walked])
        """
        The loops over heads.
        """
        shared = self.axes and _is_shared(self.axes[-1]) and not self._on_chip()
        sharing = self.axes[-1].size if shared else 1
        self.shape = AttentionShape(self.queries, self.keys, self.depth, op.bits, bool(masks), causal, sharing)
        self.key = (self.shape, op.chunk_keys)
        """
        What attentions of the same size have in common.
        """
        self.tilings = self._tilings(budgets.get(self.key))
        self.tiling = self.tilings[0]
        self.span = min(self.tiling.chunk or self.keys, self.keys)

    def _matrices(self, operand: Operand) -> Operand:
        """
        The operand, copied if the rows of a head are not a strided matrix.
        """
        rows = self.builder.with_rows(operand)
        return rows if len(merge(rows.view.axes[2])) <= 1 else self.builder.copied(rows)

    @property
    def size(self) -> int:
        """
        Bytes on the chip that the tiles take.
        """
        return tile_bytes(self.shape, self.tiling)

    def smaller_budget(self) -> int | None:
        """
        A budget under which the tiles take less; None if there is nothing smaller. Only just less: keys and values do
        not shrink with the rows, and half of everything would leave next to none of them.
        """
        least = tile_bytes(self.shape, self._tilings(0)[0])
        return self.size - 1 if least < self.size else None

    def extra_cycles(self, budget: int) -> int:
        """
        The cycles, by the estimate, that the attention takes more if its tiles have that many bytes.
        """
        target, policy, shape = self.builder.target, self.builder.policy, self.shape
        now, then = (head_cycles(target, policy, shape, tiling) for tiling in (self.tiling, self._tilings(budget)[0]))
        return self.heads * (then - now)

    def _tilings(self, budget: int | None) -> list[Tiling]:
        """
        The ways to cut it, the best first.

        Raises CapacityError, with the bytes that are needed and there, if none fits.
        """
        target, policy, shape, chunk = self.builder.target, self.builder.policy, self.shape, self.op.chunk_keys
        if chunk is None:
            tilings = row_tilings(target, policy, shape, budget)
        else:
            tilings = online_tilings(target, policy, shape, chunk, budget)
        if tilings:
            return tilings
        raise CapacityError(f"{self.builder.path}: {too_long(target, policy, shape, chunk)}", {})

    def explain(self) -> TileChoice:
        """
        What was chosen and why.
        """
        first, *others = (self._choice(tiling) for tiling in self.tilings[:2])
        runner_up = {**others[0].tile, "cycles": others[0].cycles} if others else {}
        return replace(first, runner_up=runner_up)

    def _choice(self, tiling: Tiling) -> TileChoice:
        target, shape = self.builder.target, self.shape
        parts = tile_parts(target, shape, tiling)
        order = "row" if tiling.chunk is None else "online"
        tile: dict[str, int | str] = {"rows": tiling.rows, "keys": tiling.chunk or self.keys, "order": order}
        if tiling.heads > 1:
            tile["heads"] = tiling.heads
        return TileChoice(
            self.builder.path,
            "attention",
            tile,
            max(parts, key=lambda part: parts[part]),
            head_cycles(target, self.builder.policy, shape, tiling) * self.heads,
            tile_bytes(shape, tiling),
        )

    def lower(self) -> None:
        """
        Emits the loops over heads and row tiles.
        """
        self._load_parameters()
        self._allocate()
        head = Head(self.offsets)
        *outer, inner = self.axes or [Axis(1, (0,) * len(self.offsets))]
        if self.tiling.chunk is not None:
            self._walk(outer, head, lambda head: self._online_heads(inner, head))
            return
        tiles = -(-self.queries // self.tiling.rows)
        few = tiles <= self.builder.policy.causal_groups if self.shape.causal else tiles < inner.size
        if tiles == 1 or (self._on_chip() and few):
            self._walk(outer, head, lambda head: self._all_heads(inner, head))
            return
        self._walk(self.axes, head, self._head)

    def _load_parameters(self) -> None:
        builder, path, op = self.builder, self.builder.path, self.op
        softmax = SoftmaxParameters(*op.score_scale.pair)
        self.softmax_parameters = builder.load_parameters(f"{path}.scores@parameters", softmax.to_bytes())
        scale = op.output_scale.pair
        drain = scalar_map_parameters(0, *scale, {"zero_point": op.zero_point.value.data})
        self.drain_parameters = builder.load_parameters(f"{path}.output@parameters", drain.to_bytes())

    def _allocate(self) -> None:
        """
        Two buffers of each kind; what rows sum up has them for each head that takes turns.
        """
        rows, planes = self.tiling.rows, self.shape.planes
        exponential = nm.ui8 if planes == 1 else nm.ui16
        # Online, the state of a row is its sum, its maximum and its shift.
        numbers = 1 if self.tiling.chunk is None else 3
        self.scores = self._pair("scores", (rows, self.span), nm.si32, "acc")
        self.exponentials = self._pair("exponentials", (rows, self.span), exponential, "spad")
        turns = range(self.tiling.heads)
        self.accs = [self._pair(_named("acc", turn), (rows, planes * self.depth), nm.si32, "acc") for turn in turns]
        self.states = [self._pair(_named("sums", turn), (numbers * rows,), nm.si32, "spad") for turn in turns]

    def _pair(self, what: str, shape: tuple[int, ...], element: nm.IntegerType, space: str) -> list[SSAValue]:
        path = self.builder.path
        return [self.builder.allocate(f"{path}:{what}{slot}", shape, element, space) for slot in (0, 1)]

    def _on_chip(self) -> bool:
        """
        Whether keys and values are in the scratchpad already.
        """
        return self.k.space == self.v.space == "spad"

    def _walk(self, heads: Sequence[Axis], head: Head, body: Callable[[Head], None]) -> None:
        """
        Calls `body` for each head, inside rolled loops. Keys and values that all its tiles take are loaded outside of
        the loops over heads that share them, into buffers that take turns if there is room.
        """
        if not heads:
            body(head)
            return
        if self.tiling.chunk is None and all(_is_shared(axis) for axis in heads):
            head = self._loaded(head)
        axis, *inner = heads
        builder = self.builder

        def step(index: Position, _: int) -> None:
            self._walk(inner, _moved(head, axis, index), body)

        ahead = tile_bytes(self.shape, self.tiling, ahead=True) <= capacity(builder.target, builder.policy)
        if self._on_chip() or self.tiling.chunk is not None or not ahead or _is_shared(axis):
            builder.loop(axis.size, 1, step)
        else:
            builder.rotate(axis.size, 1, step)

    def _groups(self) -> list[Group]:
        """
        The rows, in groups of whole tiles with equally many keys.
        """
        return row_groups(self.builder.policy, self.shape, self.tiling.rows)

    def _all_heads(self, axis: Axis, outer: Head) -> None:
        """
        Row tiles of all heads in turn, one head after the other.
        """
        head = self._loaded(outer) if _is_shared(axis) else outer

        def stretch(row: Position, rows: int, keys: int) -> Stretch:
            return self._stretch(axis.size, 1, lambda index, _: Part(_moved(head, axis, index), row, rows), keys)

        tile, groups = self.tiling.rows, self._groups()
        if len(groups) == 1 and groups[0].rows > self.builder.policy.unrolled_row_tiles * tile:
            keys = groups[0].keys
            self.builder.loop(groups[0].rows, tile, lambda row, rows: self.builder.pipeline([stretch(row, rows, keys)]))
            return
        self.builder.pipeline(
            [
                stretch(Affine(group.first + row), min(tile, group.rows - row), group.keys)
                for group in groups
                for row in range(0, group.rows, tile)
            ]
        )

    def _head(self, head: Head) -> None:
        """
        One head in several row tiles; its keys and values are loaded once.
        """
        loaded = self._loaded(head)
        stretches: list[Stretch] = []
        for group in self._groups():

            def part(row: Position, rows: int, group: Group = group) -> Part:
                return Part(loaded, row + group.first, rows)

            stretches.append(self._stretch(group.rows, self.tiling.rows, part, group.keys))
        self.builder.pipeline(stretches)

    def _loaded(self, head: Head) -> Head:
        """
        The head with all its keys and values in the scratchpad.
        """
        if head.keys is not None:
            return head
        span = Span(Affine(), self.keys)
        return replace(
            head,
            keys=self._matrix("keys", self.k, head.positions[K], span),
            values=self._matrix("values", self.v, head.positions[V], span),
        )

    def _stretch(self, size: int, tile: int, part: Callable[[Position, int], Part], keys: int) -> Stretch:
        """
        Whole rows: the scores of a tile are made while the softmax of the one before it runs.
        """
        span = Span(Affine(), keys)

        def first(position: Position, count: int) -> None:
            tile = part(position, count)
            self._weigh(tile, self._queries(tile), span, self.states[0][self.builder.slot], "row")

        def second(position: Position, count: int) -> None:
            slot = self.builder.slot
            tile = part(position, count)
            self._combine(tile, span, self.accs[0][slot], accumulate=False)
            self._drain(tile, self.accs[0][slot], self.states[0][slot])

        return Stretch(size, tile, first, second)

    def _online_heads(self, axis: Axis, outer: Head) -> None:
        """
        The heads along an axis, as many at a time as take turns at a chunk: their row tiles one after the other.
        Several heads need no second buffers to drain into while the next tile begins: another head's turn is between.
        """
        builder = self.builder
        row_tiles = builder.rotate if self.tiling.heads == 1 else builder.loop

        def heads(first: Position, count: int) -> None:
            together = [_moved(outer, axis, first + turn) for turn in range(count)]
            for group in self._groups():

                def row_tile(row: Position, rows: int, group: Group = group) -> None:
                    parts = [Part(head, row + group.first, rows, turn) for turn, head in enumerate(together)]
                    self._chunks(parts, group.keys)

                row_tiles(group.rows, self.tiling.rows, row_tile)

        builder.loop(axis.size, self.tiling.heads, heads)

    def _chunks(self, parts: Sequence[Part], keys: int) -> None:
        """
        Online: row tiles of heads that share their keys take turns at one chunk after the other. The scores of a turn
        are made while the softmax of the one before it runs, and while what was summed up before is shifted.
        """
        builder, span, turns = self.builder, self.span, len(parts)
        own = builder.slot
        accs, states = ([pair[own] for pair in pairs[:turns]] for pairs in (self.accs, self.states))
        queries = [self._queries(part) for part in parts]
        full, rest = divmod(keys, span)
        count = full + (rest > 0)

        def chunk(index: int, start: Position) -> Span:
            return Span(start + index * span, span if index < full else rest, index % 2)

        def weigh(index: int, turn: int, start: Position) -> None:
            builder.slot = (index * turns + turn) % 2
            mode = "online" if index else "online_first"
            self._weigh(parts[turn], queries[turn], chunk(index, start), states[turn], mode)

        def step(index: int, turn: int, start: Position) -> None:
            """
            Sums up chunk `index` for one head, after the scores of the next turn.
            """
            if index:
                # Before the next softmax of these rows, which writes other shifts.
                self._shift(parts[turn], accs[turn], states[turn])
            following = divmod(index * turns + turn + 1, turns)
            if following[0] < count:
                weigh(*following, start)
            builder.slot = (index * turns + turn) % 2
            self._combine(parts[turn], chunk(index, start), accs[turn], accumulate=index > 0)

        def steps(indices: Iterable[int], start: Position) -> None:
            for index in indices:
                for turn in range(turns):
                    step(index, turn, start)

        weigh(0, 0, Affine())
        steps([0], Affine())
        # Steps with a full chunk before and behind them.
        pairs = max(full - 2, 0) // 2
        rolled = 2 * pairs if pairs > 1 else 0
        if rolled:
            builder.rolled(pairs, lambda c: steps((1, 2), Affine(0, ((c, 2 * span),))))
        steps(range(1 + rolled, count), Affine())
        builder.slot = own
        for part, acc, state in zip(parts, accs, states, strict=True):
            self._drain(part, acc, state)

    def _queries(self, part: Part) -> SSAValue:
        """
        The rows of queries of a tile.
        """
        stride = _row_stride(self.q.view)
        position = part.head.positions[Q] + part.row * stride
        return self.builder.read(
            _named("queries", part.turn),
            self.q,
            position,
            (part.rows, self.depth),
            stride,
            (self.tiling.rows, self.depth),
        )

    def _matrix(self, role: str, operand: Operand, position: Position, span: Span, turn: int = 0) -> Matrix:
        """
        Rows of keys or values in the scratchpad: where they are, or loaded in the first turn.
        """
        stride = _row_stride(operand.view)
        start = position + span.first * stride
        if operand.space == "spad":
            return Matrix(operand.buffer, start, stride)
        limit, shape = (self.span, self.depth), (span.count, self.depth)
        with self.builder.using_slot(self.builder.slot if span.slot is None else span.slot):
            if turn:
                tile = self.builder.staged(role, operand, limit, shape)
            else:
                tile = self.builder.read(role, operand, start, shape, stride, limit)
        return Matrix(tile, Affine(), self.depth)

    def _weigh(self, part: Part, queries: SSAValue, span: Span, state: SSAValue, mode: str) -> None:
        """
        Scores and their exponentials.
        """
        builder, rows = self.builder, part.rows
        scores, exponentials = self.scores[builder.slot], self.exponentials[builder.slot]
        keys = part.head.keys or self._matrix("keys", self.k, part.head.positions[K], span, part.turn)

        def columns(key: Position, count: int) -> None:
            k = builder.view(keys.buffer, keys.start + key * keys.stride, (count, self.depth), (keys.stride, 1))
            acc = builder.view(scores, key, (rows, count), (self.span, 1))
            builder.emit(sta.ProductOp(acc, queries, k, DENSE_OPERAND, scores=True))

        builder.loop(span.count, builder.target.tile_columns, columns)
        causal = self.op.causal is not None
        first_row, first_key = (part.row, span.first) if causal else (Affine(), Affine())
        numbers = 1 if mode == "row" else 3
        builder.emit(
            sta.SoftmaxOp(
                (
                    builder.view(scores, Affine(), (rows, span.count), (self.span, 1)),
                    builder.view(exponentials, Affine(), (rows, span.count), (self.span, 1)),
                    builder.view(state, Affine(), (numbers * rows,), (1,)),
                    self.softmax_parameters,
                ),
                None if self.mask is None else self._mask(self.mask, part, span),
                causal,
                first_row,
                first_key,
                mode,
            )
        )

    def _mask(self, mask: Operand, part: Part, span: Span) -> SSAValue:
        """
        The mask of a tile; one row of it where all rows have the same.
        """
        builder, stride = self.builder, _row_stride(mask.view)
        start = part.head.positions[MASK] + part.row * stride + span.first
        shape = (part.rows, span.count)
        if mask.space == "spad":
            return builder.view(mask.buffer, start, shape, (stride, 1))
        rows, most = (part.rows, self.tiling.rows) if stride else (1, 1)
        tile = builder.read("mask", mask, start, (rows, span.count), stride, (most, self.span))
        return builder.view(tile, Affine(), shape, (self.span if stride else 0, 1))

    def _shift(self, part: Part, acc: SSAValue, state: SSAValue) -> None:
        """
        Brings what the rows have summed up to their new maxima.
        """
        builder, rows, width = self.builder, part.rows, self.shape.planes * self.depth
        shifts = builder.view(state, Affine(2 * rows), (rows,), (1,))
        builder.emit(sta.RescaleOp(builder.view(acc, Affine(), (rows, width), (width, 1)), shifts))

    def _combine(self, part: Part, span: Span, acc: SSAValue, *, accumulate: bool) -> None:
        """
        The product of the exponentials with the values: of 16-bit ones that of their high bytes and that of their low.
        """
        builder, rows, planes = self.builder, part.rows, self.shape.planes
        values = part.head.values or self._matrix("values", self.v, part.head.positions[V], span, part.turn)
        exponentials = self.exponentials[builder.slot]
        tile = builder.view(exponentials, Affine(), (rows, span.count), (self.span, 1))
        places = [(None, 0)] if planes == 1 else [("high", 0), ("low", self.depth)]

        def columns(column: Position, count: int) -> None:
            v = builder.view(values.buffer, values.start + column, (span.count, count), (values.stride, 1))
            for plane, place in places:
                target = builder.view(acc, column + place, (rows, count), (planes * self.depth, 1))
                product = sta.ProductOp(
                    target, tile, v, DENSE_OPERAND, transposed=True, accumulate=accumulate, plane=plane
                )
                builder.emit(product)

        builder.loop(self.depth, builder.target.tile_columns, columns)

    def _drain(self, part: Part, acc: SSAValue, state: SSAValue) -> None:
        """
        Divides by the sums of the rows, and writes the result.
        """
        builder, rows, planes = self.builder, part.rows, self.shape.planes
        width = planes * self.depth
        source = builder.view(acc, Affine(), (rows, width), (width, 1))
        sums = builder.view(state, Affine(), (rows,), (1,))
        stride = _row_stride(self.result.view)
        position = part.head.positions[RESULT] + part.row * stride

        def drain(destination: SSAValue) -> None:
            operands = (source, destination, self.drain_parameters)
            builder.emit(sta.MapOp(operands, None, sums, normalize=True, wide=planes > 1))

        limit = (self.tiling.rows, self.depth)
        role = _named("result", part.turn)
        builder.write(role, self.result, position, (rows, self.depth), stride, limit, drain)


def _named(what: str, turn: int) -> str:
    """
    The name of a buffer that each of the heads that take turns has for itself.
    """
    return f"turn{turn}.{what}" if turn else what


def _moved(head: Head, axis: Axis, index: Position) -> Head:
    """
    Another head, `index` steps along an axis.
    """
    places = zip(head.positions, axis.strides, strict=True)
    return replace(head, positions=[position + index * stride for position, stride in places])


def _is_shared(axis: Axis) -> bool:
    """
    Whether the heads along an axis have the same keys and values.
    """
    return axis.strides[K] == axis.strides[V] == 0


def _repeated(operand: Operand, heads: int) -> Operand:
    """
    Keys or values with as many heads as the queries, each repeated for those that share it.
    """
    batches, own, *matrix = operand.view.axes
    times = heads // operand.view.shape[1]
    shared = (*own, (times, 0)) if times > 1 else own
    return Operand(operand.buffer, StridedView((batches, shared, *matrix), operand.view.offset), operand.element)


def _row_stride(view: StridedView) -> int:
    factors = merge(view.axes[2])
    return factors[0][1] if factors else 0
