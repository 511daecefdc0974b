"""
`nm.attention` as a software pipeline on the chip: scores into accumulators, softmax, P.V, normalizing drain.

The array computes the scores of one tile while the softmax unit works on the tile before. With a softmax over whole
rows a tile is some rows with all their keys. With an online softmax it is a chunk of their keys, and the rows' sums are
shifted to the new maximum while the scores of the next chunk are computed. Heads of queries that share keys and values
alternate on each chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.dialect.ir.parameter_blocks import scalar_map_parameters
from sta.passes.lowering.double_buffering import Segment, pipeline, rotate
from sta.passes.lowering.operand_copies import copied, walkable, with_rows
from sta.passes.lowering.tile_builder import Operand, Part, TileBuilder, map_op
from sta.passes.lowering.tile_program import Buffer, Counter, Position, Tile
from sta.passes.tiling.attention_tiling import AttentionShape, RowGroup, Tiling, capacity, row_groups, tile_bytes
from sta.passes.tiling.strided_view import Axis, StridedView, iteration_space, merge
from sta.spec.affine import Affine
from sta.spec.nm_format import DENSE
from sta.spec.parameters import SoftmaxParameters
from sta.spec.softmax import STATE_ARRAYS

DENSE_OPERAND = nm.PatternAttr(DENSE, "dense")
HEADS = slice(0, 2)
"""The axes of `[B, H, S, D]` that count heads."""
Q, K, V, RESULT = range(4)
"""The operands in the order of their positions; mask and bias follow."""


@dataclass(frozen=True)
class AttentionOperands:
    """
    Operands of an attention in layouts whose heads can be walked together. Keys and values have as many heads as the
    queries; shared ones repeat.
    """

    q: Operand
    k: Operand
    v: Operand
    result: Operand
    mask: Operand | None
    bias: Operand | None

    @property
    def of_scores(self) -> list[tuple[str, Operand]]:
        """Mask and bias by their role, as far as they exist: each has an element for every score."""
        return [(role, operand) for role, operand in (("mask", self.mask), ("bias", self.bias)) if operand is not None]

    @property
    def walked(self) -> list[Operand]:
        """All of them, in the order of their positions."""
        return [self.q, self.k, self.v, self.result, *(operand for _, operand in self.of_scores)]

    @property
    def head_axes(self) -> tuple[Axis, ...]:
        """The loops over heads."""
        return iteration_space([operand.view.axes[HEADS] for operand in self.walked])

    @property
    def heads(self) -> int:
        """Number of heads over all batches."""
        batch, heads, _, _ = self.q.view.shape
        return batch * heads

    def is_resident(self) -> bool:
        """True if keys and values are in the scratchpad already."""
        return self.k.space == self.v.space == "spad"


def attention_operands(
    builder: TileBuilder,
    op: nm.AttentionOp,
    operands: tuple[Operand, Operand, Operand],
    of_scores: tuple[Operand | None, Operand | None],
    result: Operand,
) -> AttentionOperands:
    """
    The operands of an attention, copied if the rows of a head are no strided matrix or the heads do not nest;
    `of_scores` are mask and bias.
    """
    inverse = [op.axes.index(axis) for axis in range(4)]
    written = Operand(result.buffer, result.view.permuted(inverse), result.element)
    q, k, v = (_matrices(builder, operand) for operand in operands)
    batch, heads, queries, _ = q.view.shape
    full = (batch, heads, queries, k.view.shape[2])
    found = [_broadcast(builder, operand, full) for operand in of_scores if operand is not None]
    k, v = (_repeated(operand, heads) for operand in (k, v))
    q, k, v, *found, written = walkable(builder, [q, k, v, *found, written], HEADS)
    rest = iter(found)
    mask, bias = (None if operand is None else next(rest) for operand in of_scores)
    return AttentionOperands(q, k, v, written, mask, bias)


def attention_shape(op: nm.AttentionOp, operands: AttentionOperands) -> AttentionShape:
    """Parameters that determine the tiles of an attention."""
    _, _, queries, depth = operands.q.view.shape
    axes = operands.head_axes
    shared = axes and _is_shared(axes[-1]) and not operands.is_resident()
    return AttentionShape(
        queries,
        operands.k.view.shape[2],
        depth,
        op.bits,
        operands.mask is not None,
        op.causal is not None,
        axes[-1].size if shared else 1,
        operands.bias is not None,
        operands.v.view.shape[3],
    )


def lower_attention(
    builder: TileBuilder, op: nm.AttentionOp, operands: AttentionOperands, shape: AttentionShape, tiling: Tiling
) -> None:
    """The loops over heads and row tiles."""
    layer = _begin(builder, op, operands, shape, tiling)
    head = Head([Affine(operand.view.offset) for operand in operands.walked])
    axes = operands.head_axes
    *outer, inner = axes or [Axis(1, (0,) * len(operands.walked))]
    if tiling.chunk is not None:
        layer.walk(outer, head, 0, partial(layer.online_heads, inner))
        return
    tiles = -(-shape.queries // tiling.rows)
    few = tiles <= builder.policy.causal_groups if shape.causal else tiles < inner.size
    if tiles == 1 or (operands.is_resident() and few):
        layer.walk(outer, head, 0, partial(layer.all_heads, inner), (inner,))
        return
    layer.walk(axes, head, 0, layer.head)


@dataclass(frozen=True)
class Matrix:
    """A matrix in the scratchpad: buffer, position of its first element, row stride."""

    buffer: Tile
    start: Position
    stride: int


@dataclass(frozen=True)
class Head:
    """Position of a head in each operand; its keys and values if they have been loaded for several tiles."""

    positions: Sequence[Position]
    keys: Matrix | None = None
    values: Matrix | None = None


@dataclass(frozen=True)
class RowTile:
    """A tile of rows of one head; `turn` numbers the heads that share a chunk of keys, of which the first loads it."""

    head: Head
    row: Position
    rows: int
    turn: int = 0


@dataclass(frozen=True)
class Chunk:
    """Keys of one step, all of a row or some, and the slot of their buffers."""

    first: Position
    count: int
    slot: int


def _begin(
    builder: TileBuilder, op: nm.AttentionOp, operands: AttentionOperands, shape: AttentionShape, tiling: Tiling
) -> _Attention:
    """
    Loads the parameters, and allocates two buffers of each kind; buffers for the rows' sums exist for each alternating
    head.
    """
    path = builder.path
    softmax = SoftmaxParameters(*op.score_scale.pair, None if op.bias_scale is None else op.bias_scale.pair)
    softmax_parameters = builder.load_parameters(f"{path}.scores@parameters", softmax.to_bytes())
    drain = scalar_map_parameters(0, *op.output_scale.pair, {"zero_point": op.zero_point.value.data})
    drain_parameters = builder.load_parameters(f"{path}.output@parameters", drain.to_bytes())
    rows, planes = tiling.rows, shape.planes
    chunk = min(tiling.chunk or shape.keys, shape.keys)
    exponential = nm.ui8 if planes == 1 else nm.ui16
    # An online softmax keeps for each row its sum, its maximum and its shift.
    numbers = 1 if tiling.chunk is None else STATE_ARRAYS
    scores = builder.pair("scores", (rows, chunk), nm.si32, "acc")
    exponentials = builder.pair("exponentials", (rows, chunk), exponential, "spad")
    turns = range(tiling.heads)
    accs = [builder.pair(_named("acc", turn), (rows, planes * shape.width), nm.si32, "acc") for turn in turns]
    states = [builder.pair(_named("sums", turn), (numbers * rows,), nm.si32, "spad") for turn in turns]
    return _Attention(
        builder,
        op,
        operands,
        shape,
        tiling,
        chunk,
        softmax_parameters,
        drain_parameters,
        scores,
        exponentials,
        accs,
        states,
    )


@dataclass(frozen=True)
class _Attention:
    """An attention with its buffers, for its loops."""

    builder: TileBuilder
    op: nm.AttentionOp
    operands: AttentionOperands
    shape: AttentionShape
    tiling: Tiling
    chunk: int
    """Keys of one step."""
    softmax_parameters: Tile
    drain_parameters: Tile
    scores: Sequence[Buffer]
    exponentials: Sequence[Buffer]
    accs: Sequence[Sequence[Buffer]]
    """Two for each alternating head; likewise `states`."""
    states: Sequence[Sequence[Buffer]]

    def walk(
        self,
        heads: Sequence[Axis],
        head: Head,
        slot: int,
        body: Callable[[Head, int], None],
        inside: Sequence[Axis] = (),
    ) -> None:
        """
        Calls `body` for each head and its slot, inside rolled loops; it walks the heads along the axes `inside` itself.
        Keys and values that all tiles of a head use are loaded outside of the loops over heads that share them, into
        alternating buffers if there is room.
        """
        if not heads:
            body(head, slot)
            return
        builder, whole = self.builder, self.tiling.chunk is None
        if whole and all(_is_shared(axis) for axis in (*heads, *inside)):
            head = self.loaded(head, slot)
        axis, *inner = heads

        def step(part: Part) -> None:
            self.walk(inner, _moved(head, axis, part.start), part.slot, body, inside)

        ahead = tile_bytes(self.shape, self.tiling, ahead=True) <= capacity(builder.target, builder.policy)
        if self.operands.is_resident() or not whole or not ahead or _is_shared(axis):
            builder.loop(axis.size, 1, slot, step)
        else:
            rotate(builder, axis.size, 1, slot, step)

    def groups(self) -> list[RowGroup]:
        """The rows, in groups of whole tiles with equally many keys."""
        return row_groups(self.builder.policy, self.shape, self.tiling.rows)

    def all_heads(self, axis: Axis, outer: Head, slot: int) -> None:
        """Row tiles of all heads, one head after the other."""
        builder, tile, groups = self.builder, self.tiling.rows, self.groups()
        head = self.loaded(outer, slot) if _is_shared(axis) else outer

        def segment(row: Position, rows: int, keys: int) -> Segment:
            return self.segment(axis.size, 1, lambda part: RowTile(_moved(head, axis, part.start), row, rows), keys)

        if len(groups) == 1 and groups[0].rows > builder.policy.unrolled_row_tiles * tile:
            keys = groups[0].keys
            builder.loop(
                groups[0].rows, tile, slot, lambda part: pipeline(builder, [segment(part.start, part.size, keys)])
            )
            return
        pipeline(
            builder,
            [
                segment(Affine(group.first + row), min(tile, group.rows - row), group.keys)
                for group in groups
                for row in range(0, group.rows, tile)
            ],
        )

    def head(self, head: Head, slot: int) -> None:
        """One head in several row tiles; its keys and values are loaded once."""
        loaded = self.loaded(head, slot)
        segments: list[Segment] = []
        for group in self.groups():

            def row_tile(part: Part, group: RowGroup = group) -> RowTile:
                return RowTile(loaded, part.start + group.first, part.size)

            segments.append(self.segment(group.rows, self.tiling.rows, row_tile, group.keys))
        pipeline(self.builder, segments)

    def loaded(self, head: Head, slot: int) -> Head:
        """The head with all its keys and values in the scratchpad."""
        if head.keys is not None:
            return head
        chunk = Chunk(Affine(), self.shape.keys, slot)
        return replace(
            head,
            keys=self.matrix("keys", self.operands.k, head.positions[K], chunk),
            values=self.matrix("values", self.operands.v, head.positions[V], chunk),
        )

    def segment(self, size: int, tile: int, row_tile: Callable[[Part], RowTile], keys: int) -> Segment:
        """Whole rows: the scores of a tile are computed during the softmax of the tile before it."""

        def first(part: Part) -> None:
            tile = row_tile(part)
            chunk = Chunk(Affine(), keys, part.slot)
            self.weigh(tile, self.queries(tile, part.slot), chunk, self.states[0][part.slot], "row", part.slot)

        def second(part: Part) -> None:
            slot = part.slot
            tile = row_tile(part)
            self.combine(tile, Chunk(Affine(), keys, slot), self.accs[0][slot], slot, accumulate=False)
            self.drain(tile, self.accs[0][slot], self.states[0][slot], slot)

        return Segment(size, tile, first, second)

    def online_heads(self, axis: Axis, outer: Head, slot: int) -> None:
        """
        The heads along an axis, in groups that alternate on a chunk: their row tiles one after the other. Several heads
        need no second buffers to drain into while the next tile begins: another head's step is between.
        """
        builder = self.builder
        loop = rotate if self.tiling.heads == 1 else TileBuilder.loop

        def heads(part: Part) -> None:
            together = [_moved(outer, axis, part.start + turn) for turn in range(part.size)]
            for group in self.groups():

                def row_tile(rows: Part, group: RowGroup = group) -> None:
                    tiles = [
                        RowTile(head, rows.start + group.first, rows.size, turn) for turn, head in enumerate(together)
                    ]
                    self.chunks(tiles, group.keys, rows.slot)

                loop(builder, group.rows, self.tiling.rows, part.slot, row_tile)

        builder.loop(axis.size, self.tiling.heads, slot, heads)

    def chunks(self, tiles: Sequence[RowTile], keys: int, slot: int) -> None:
        """
        Online: row tiles of heads that share their keys alternate on one chunk after the other. The scores of a step
        are computed during the softmax of the step before it, and while the earlier sums are shifted.
        """
        builder, size, turns = self.builder, self.chunk, len(tiles)
        accs, states = ([pair[slot] for pair in pairs[:turns]] for pairs in (self.accs, self.states))
        queries = [self.queries(tile, slot) for tile in tiles]
        full, rest = divmod(keys, size)
        count = full + (rest > 0)

        def chunk(index: int, start: Position) -> Chunk:
            return Chunk(start + index * size, size if index < full else rest, index % 2)

        def weigh(index: int, turn: int, start: Position) -> None:
            own = (index * turns + turn) % 2
            mode = "online" if index else "online_first"
            self.weigh(tiles[turn], queries[turn], chunk(index, start), states[turn], mode, own)

        def step(index: int, turn: int, start: Position) -> None:
            """Sums up chunk `index` for one head, after the scores of the next step."""
            if index:
                # Before the next softmax of these rows, which writes other shifts.
                self.shift(tiles[turn], accs[turn], states[turn])
            following = divmod(index * turns + turn + 1, turns)
            if following[0] < count:
                weigh(*following, start)
            own = (index * turns + turn) % 2
            self.combine(tiles[turn], chunk(index, start), accs[turn], own, accumulate=index > 0)

        def steps(indices: Iterable[int], start: Position) -> None:
            for index in indices:
                for turn in range(turns):
                    step(index, turn, start)

        def both(counter: Counter) -> None:
            steps((1, 2), Affine(0, ((counter, 2 * size),)))

        weigh(0, 0, Affine())
        steps([0], Affine())
        # Steps with a full chunk before and after them.
        pairs = max(full - 2, 0) // 2
        rolled = 2 * pairs if pairs > 1 else 0
        if rolled:
            builder.rolled(pairs, both)
        steps(range(1 + rolled, count), Affine())
        for tile, acc, state in zip(tiles, accs, states, strict=True):
            self.drain(tile, acc, state, slot)

    def queries(self, tile: RowTile, slot: int) -> Tile:
        """The rows of queries of a tile."""
        stride, depth = _row_stride(self.operands.q.view), self.shape.depth
        position = tile.head.positions[Q] + tile.row * stride
        role, limit = _named("queries", tile.turn), (self.tiling.rows, depth)
        return self.builder.read(role, self.operands.q, position, (tile.rows, depth), stride, limit, slot)

    def matrix(self, role: str, operand: Operand, position: Position, chunk: Chunk, turn: int = 0) -> Matrix:
        """Rows of keys or values in the scratchpad: resident, or loaded in the first step."""
        stride = _row_stride(operand.view)
        start = position + chunk.first * stride
        if operand.space == "spad":
            return Matrix(operand.buffer, start, stride)
        depth = operand.columns
        limit, shape = (self.chunk, depth), (chunk.count, depth)
        if turn:
            tile = self.builder.staged(role, operand, limit, shape, chunk.slot)
        else:
            tile = self.builder.read(role, operand, start, shape, stride, limit, chunk.slot)
        return Matrix(tile, Affine(), depth)

    def weigh(self, tile: RowTile, queries: Tile, chunk: Chunk, state: Buffer, mode: str, slot: int) -> None:
        """Scores and their exponentials."""
        builder, rows = self.builder, tile.rows
        scores, exponentials = self.scores[slot], self.exponentials[slot]
        keys = tile.head.keys or self.matrix("keys", self.operands.k, tile.head.positions[K], chunk, tile.turn)
        make = partial(sta.ProductOp, pattern=DENSE_OPERAND, scores=True)

        def columns(part: Part) -> None:
            shape, first = (part.size, self.shape.depth), keys.start + part.start * keys.stride
            k = builder.view(keys.buffer, first, shape, (keys.stride, 1))
            acc = builder.view(scores, part.start, (rows, part.size), (self.chunk, 1))
            builder.emit(make, acc, queries, k)

        builder.loop(chunk.count, builder.target.tile_columns, slot, columns)
        causal = self.op.causal is not None
        shape, strides = (rows, chunk.count), (self.chunk, 1)
        numbers = 1 if mode == "row" else STATE_ARRAYS
        builder.emit(
            partial(_softmax_op, causal=causal, mode=mode),
            builder.view(scores, Affine(), shape, strides),
            builder.view(exponentials, Affine(), shape, strides),
            builder.view(state, Affine(), (numbers * rows,), (1,)),
            self.softmax_parameters,
            *(self.of_scores(role, tile, chunk, slot) for role in ("mask", "bias")),
            tile.row if causal else Affine(),
            chunk.first if causal else Affine(),
        )

    def of_scores(self, role: str, tile: RowTile, chunk: Chunk, slot: int) -> Tile | None:
        """The mask or the bias of a tile; one row of it if all rows have the same, None if there is none."""
        present = self.operands.of_scores
        index = next((index for index, (name, _) in enumerate(present) if name == role), None)
        if index is None:
            return None
        builder, operand = self.builder, present[index][1]
        stride = _row_stride(operand.view)
        start = tile.head.positions[RESULT + 1 + index] + tile.row * stride + chunk.first
        shape = (tile.rows, chunk.count)
        if operand.space == "spad":
            return builder.view(operand.buffer, start, shape, (stride, 1))
        rows, most = (tile.rows, self.tiling.rows) if stride else (1, 1)
        staged = builder.read(role, operand, start, (rows, chunk.count), stride, (most, self.chunk), slot)
        return builder.view(staged, Affine(), shape, (self.chunk if stride else 0, 1))

    def shift(self, tile: RowTile, acc: Buffer, state: Buffer) -> None:
        """Shifts the rows' sums to their new maxima."""
        builder, rows, width = self.builder, tile.rows, self.shape.planes * self.shape.width
        shifts = builder.view(state, Affine(2 * rows), (rows,), (1,))
        builder.emit(sta.ShiftOp, builder.view(acc, Affine(), (rows, width), (width, 1)), shifts)

    def combine(self, tile: RowTile, chunk: Chunk, acc: Buffer, slot: int, *, accumulate: bool) -> None:
        """
        The product of the exponentials with the values; two products for the high and the low bytes of 16-bit
        exponentials.
        """
        builder, rows, planes, width = self.builder, tile.rows, self.shape.planes, self.shape.width
        values = tile.head.values or self.matrix("values", self.operands.v, tile.head.positions[V], chunk, tile.turn)
        exponentials = builder.view(self.exponentials[slot], Affine(), (rows, chunk.count), (self.chunk, 1))
        places = [(None, 0)] if planes == 1 else [("high", 0), ("low", width)]

        def columns(part: Part) -> None:
            v = builder.view(values.buffer, values.start + part.start, (chunk.count, part.size), (values.stride, 1))
            for plane, place in places:
                target = builder.view(acc, part.start + place, (rows, part.size), (planes * width, 1))
                make = partial(
                    sta.ProductOp, pattern=DENSE_OPERAND, transposed=True, accumulate=accumulate, plane=plane
                )
                builder.emit(make, target, exponentials, v)

        builder.loop(width, builder.target.tile_columns, slot, columns)

    def drain(self, tile: RowTile, acc: Buffer, state: Buffer, slot: int) -> None:
        """Divides by the sums of the rows, and writes the result."""
        builder, rows, planes, width = self.builder, tile.rows, self.shape.planes, self.shape.width
        result, sources = self.operands.result, planes * width
        source = builder.view(acc, Affine(), (rows, sources), (sources, 1))
        sums = builder.view(state, Affine(), (rows,), (1,))
        stride = _row_stride(result.view)
        position = tile.head.positions[RESULT] + tile.row * stride
        make = partial(map_op, normalize=True, wide=planes > 1)

        def drain(destination: Tile) -> None:
            builder.emit(make, source, destination, self.drain_parameters, None, sums)

        limit = (self.tiling.rows, width)
        role = _named("result", tile.turn)
        builder.write(role, result, position, (rows, width), stride, limit, slot, drain)


def _softmax_op(
    scores: SSAValue,
    exponentials: SSAValue,
    sums: SSAValue,
    parameters: SSAValue,
    mask: SSAValue | None,
    bias: SSAValue | None,
    first_row: Affine[SSAValue],
    first_key: Affine[SSAValue],
    *,
    causal: bool,
    mode: str,
) -> sta.SoftmaxOp:
    operands = (scores, exponentials, sums, parameters)
    return sta.SoftmaxOp(operands, mask, causal, first_row, first_key, mode, bias)


def _matrices(builder: TileBuilder, operand: Operand) -> Operand:
    """The operand, copied if the rows of a head are not a strided matrix."""
    rows = with_rows(builder, operand)
    return rows if len(merge(rows.view.axes[2])) <= 1 else copied(builder, rows)


def _broadcast(builder: TileBuilder, operand: Operand, full: tuple[int, ...]) -> Operand:
    """A mask or a bias with an element for every score."""
    rows = _matrices(builder, operand)
    return Operand(rows.buffer, rows.view.broadcast(full), rows.element)


def _named(what: str, turn: int) -> str:
    """Name of a buffer that each alternating head has for itself."""
    return f"turn{turn}.{what}" if turn else what


def _moved(head: Head, axis: Axis, index: Position) -> Head:
    """Another head, `index` steps along an axis."""
    places = zip(head.positions, axis.strides, strict=True)
    return replace(head, positions=[position + index * stride for position, stride in places])


def _is_shared(axis: Axis) -> bool:
    """True if the heads along an axis have the same keys and values."""
    return axis.strides[K] == axis.strides[V] == 0


def _repeated(operand: Operand, heads: int) -> Operand:
    """Keys or values with as many heads as the queries, each repeated for the heads that share it."""
    batches, own, *matrix = operand.view.axes
    times = heads // operand.view.shape[1]
    shared = (*own, (times, 0)) if times > 1 else own
    return Operand(operand.buffer, StridedView((batches, shared, *matrix), operand.view.offset), operand.element)


def _row_stride(view: StridedView) -> int:
    factors = merge(view.axes[2])
    return factors[0][1] if factors else 0
