"""
Double buffering: loops whose tiles alternate between two slots, and software pipelines of two stages.

A slot, 0 or 1, names which of two buffers of each kind a tile uses, so that one tile's buffers are filled while the
other's are in use. Loops are unrolled by two as they are emitted, with prologue and remainder. A body is a function of
its tile, since the remainder of an axis has other sizes than the tiles in the loop, and the second tile of a pair other
buffers than the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sta.passes.lowering.tile_builder import Part, Rows, TileBuilder
from sta.passes.lowering.tile_program import Counter, Position
from sta.passes.tiling.linear_tiling import SLOTS, is_rolled
from sta.passes.tiling.strided_view import Axis, StridedView, row_space
from sta.spec.affine import Affine

TileLoop = Callable[[TileBuilder, int, int, int, Callable[[Part], None]], None]
"""
Calls a body for each tile of an axis with the tile's size, its position and the slot around it: `TileBuilder.loop` or
`rotate`.
"""


def rotate(builder: TileBuilder, size: int, tile: int, slot: int, body: Callable[[Part], None]) -> None:
    """
    Runs `body` over tiles of an axis, in order, with the slot alternating from tile to tile.

    An axis of one tile leaves the slot to the loop around it. In a loop that rotates as well, an odd number of tiles
    continues with the slot after the last one of the previous iteration.
    """
    full, rest = divmod(size, tile)
    if size <= tile:
        builder.loop(size, tile, slot, body)
        return
    slots = [(slot * -(-size // tile) + index) % SLOTS for index in range(SLOTS)]

    def both(start: Position) -> None:
        for index, own in enumerate(slots):
            body(Part(start + index * tile, tile, own))

    pairs = full // SLOTS
    if builder.is_top() or is_rolled(builder.policy, size, tile):
        builder.loop(pairs, 1, slot, lambda pair: both(pair.start * (SLOTS * tile)))
    else:
        for pair in range(pairs):
            both(Affine(pair * SLOTS * tile))
    if full % SLOTS:
        body(Part(Affine((full - 1) * tile), tile, slots[0]))
    if rest:
        body(Part(Affine(full * tile), rest, slots[full % SLOTS]))


@dataclass(frozen=True)
class Segment:
    """Equal tiles of a pipeline: the size of their axis, a tile's size, and the two stages of each tile."""

    size: int
    tile: int
    first: Callable[[Part], None]
    second: Callable[[Part], None]


def pipeline(builder: TileBuilder, segments: Sequence[Segment]) -> None:
    """
    Software pipeline of two stages over the tiles of successive segments, with the slot alternating from tile to tile:
    the first stage of a tile runs before the second of the tile before it. Segments do not drain: the second stage of a
    segment's last tile follows the first stage of the next segment.
    """
    begun = 0
    finish: Callable[[], None] | None = None
    for segment in segments:
        full, rest = divmod(segment.size, segment.tile)
        if full:
            _stage(segment.first, begun, Affine(), segment.tile)
            if finish is not None:
                finish()
            _steps(builder, segment, full, begun)
            begun += full
            last = Affine((full - 1) * segment.tile)
            finish = partial(_stage, segment.second, begun - 1, last, segment.tile)
        if rest:
            position = Affine(full * segment.tile)
            _stage(segment.first, begun, position, rest)
            if finish is not None:
                finish()
            begun += 1
            finish = partial(_stage, segment.second, begun - 1, position, rest)
    if finish is not None:
        finish()


def _stage(body: Callable[[Part], None], tile: int, position: Position, count: int) -> None:
    """One stage of a tile, in the slot of that tile number."""
    body(Part(position, count, tile % SLOTS))


def _steps(builder: TileBuilder, segment: Segment, full: int, begun: int) -> None:
    """
    For each of the `full` tiles of a segment except the last: the first stage of the next tile, then the second of this
    one.
    """
    tile = segment.tile

    def step(start: Position, index: int) -> None:
        _stage(segment.first, begun + index + 1, start + (index + 1) * tile, tile)
        _stage(segment.second, begun + index, start + index * tile, tile)

    def both(counter: Counter) -> None:
        for index in range(SLOTS):
            step(Affine(0, ((counter, SLOTS * tile),)), index)

    pairs = (full - 1) // SLOTS
    if pairs == 1:
        step(Affine(), 0)
        step(Affine(), 1)
    if pairs > 1:
        builder.rolled(pairs, both)
    for index in range(SLOTS * pairs, full - 1):
        step(Affine(), index)


def rotate_rows(
    builder: TileBuilder, operands: Sequence[StridedView], tile: int, slot: int, body: Callable[[Rows], None]
) -> None:
    """
    Rotates over tiles of the rows (all axes but the last) that several operands share.

    Raises NotAView if the operands' rows do not nest.
    """
    starts = [Affine(view.offset) for view in operands]
    walk(builder, row_space(operands), starts, tile, slot, body)


def walk(
    builder: TileBuilder,
    axes: Sequence[Axis],
    starts: Sequence[Position],
    tile: int,
    slot: int,
    body: Callable[[Rows], None],
    loop: TileLoop = rotate,
) -> None:
    """
    Loops over an iteration space, from one position of each operand on; its innermost axis is cut into tiles. Unless
    `loop` rotates, the slot stays and loops hold one tile instead of two.
    """
    if not axes:
        body(Rows(starts, 1, [0] * len(starts), slot))
        return
    axis, *inner = axes

    def step(part: Part) -> None:
        moved = [start + part.start * stride for start, stride in zip(starts, axis.strides, strict=True)]
        if inner:
            walk(builder, inner, moved, tile, part.slot, body, loop)
        else:
            body(Rows(moved, part.size, axis.strides, part.slot))

    loop(builder, axis.size, 1 if inner else tile, slot, step)
