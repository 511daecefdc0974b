"""Loops over tiles cover their axis in order, with slots that alternate; pipelines run one stage ahead."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sta.dialect import nm, sta
from sta.passes.lowering.double_buffering import Segment, pipeline, rotate
from sta.passes.lowering.tile_builder import Part
from sta.passes.lowering.tile_program import Counter, Instruction, Loop, Node, Position, View
from sta.spec.affine import Affine
from tests.support.tile_programs import builder_for

SIZES = st.integers(1, 40)
TILES = st.integers(1, 12)


class Recorder:
    """Notes tiles as loads from an argument, so that the loops around them can be unrolled."""

    def __init__(self, size: int) -> None:
        self.builder = builder_for([(size, nm.si8)])
        self.stages = [self.builder.pair(stage, (size,), nm.si8, "spad") for stage in ("first", "second")]

    def note(self, part: Part, stage: int = 0, first: Position | int = 0) -> None:
        """Appends a load of a tile that starts `first` elements later, into the buffer of the stage and the slot."""
        source = self.builder.view(self.builder.program.arguments[0], part.start + first, (part.size,), (1,))
        destination = self.builder.view(self.stages[stage][part.slot], Affine(), (part.size,), (1,))
        self.builder.emit(sta.LoadOp, source, destination)

    def tiles(self) -> list[tuple[int, int, int, int]]:
        """Returns stage, slot, start and size of each tile in the order of a run."""
        return self._tiles(self.builder.program.nodes, {})

    def _tiles(self, nodes: Sequence[Node], counters: dict[Counter, int]) -> list[tuple[int, int, int, int]]:
        found: list[tuple[int, int, int, int]] = []
        for node in nodes:
            if isinstance(node, Loop):
                for iteration in range(node.count):
                    found += self._tiles(node.body, {**counters, node.counter: iteration})
            if isinstance(node, Instruction):
                source, destination = node.operands
                assert not isinstance(source, Affine | None)
                assert not isinstance(destination, Affine | None)
                start = source.position.at(counters) if isinstance(source, View) else 0
                stage = next(index for index, pair in enumerate(self.stages) if destination.buffer in pair)
                slot = self.stages[stage].index(destination.buffer)  # pyright: ignore[reportArgumentType] - a pair's
                found.append((stage, slot, start, source.shape[0]))
        return found

    def static_tiles(self) -> int:
        """Returns how many loads there are in the program."""
        return _instructions(self.builder.program.nodes)


def _instructions(nodes: Sequence[Node]) -> int:
    return sum(_instructions(node.body) if isinstance(node, Loop) else isinstance(node, Instruction) for node in nodes)


def cut(size: int, tile: int) -> list[tuple[int, int]]:
    """Start and size of the tiles of an axis."""
    return [(start, min(tile, size - start)) for start in range(0, size, tile)]


@settings(deadline=None)
@given(SIZES, TILES, st.integers(0, 1))
def test_a_loop_covers_its_axis_once_and_in_order(size: int, tile: int, slot: int) -> None:
    recorder = Recorder(size)
    recorder.builder.loop(size, tile, slot, recorder.note)
    assert [tile[1:] for tile in recorder.tiles()] == [(slot, *part) for part in cut(size, tile)]
    assert recorder.static_tiles() <= 2
    assert recorder.builder.is_top()


@settings(deadline=None)
@given(SIZES, TILES)
def test_rotation_alternates_between_slots(size: int, tile: int) -> None:
    recorder = Recorder(size)
    rotate(recorder.builder, size, tile, 0, recorder.note)
    tiles = recorder.tiles()
    assert [(start, count) for _, _, start, count in tiles] == cut(size, tile)
    assert [slot for _, slot, _, _ in tiles] == [index % 2 for index in range(len(tiles))]
    assert recorder.static_tiles() <= 4


@settings(deadline=None)
@given(SIZES, TILES, st.integers(2, 7))
def test_rotation_alternates_across_the_iterations_around_it(size: int, tile: int, iterations: int) -> None:
    recorder = Recorder(iterations * size)

    def inner(outer: Part) -> None:
        rotate(recorder.builder, size, tile, outer.slot, partial(recorder.note, first=outer.start * size))

    rotate(recorder.builder, iterations, 1, 0, inner)
    tiles = recorder.tiles()
    assert [(start, count) for _, _, start, count in tiles] == [
        (index * size + start, count) for index in range(iterations) for start, count in cut(size, tile)
    ]
    assert [slot for _, slot, _, _ in tiles] == [index % 2 for index in range(len(tiles))]


@settings(deadline=None)
@given(st.lists(st.tuples(SIZES, TILES), min_size=1, max_size=4))
def test_pipeline_runs_one_stage_ahead(axes: list[tuple[int, int]]) -> None:
    recorder = Recorder(sum(size for size, _ in axes))
    starts: list[tuple[int, int]] = []
    segments: list[Segment] = []
    for size, tile in axes:
        first = sum(size for size, _ in axes[: len(segments)])
        starts += [(first + start, count) for start, count in cut(size, tile)]
        stages = [partial(recorder.note, stage=stage, first=first) for stage in (0, 1)]
        segments.append(Segment(size, tile, *stages))
    pipeline(recorder.builder, segments)
    tiles = recorder.tiles()
    for stage in (0, 1):
        own = [(slot, (start, count)) for which, slot, start, count in tiles if which == stage]
        assert own == [(index % 2, part) for index, part in enumerate(starts)]
    # A tile is begun, then the one before it is finished, across the ends of segments; so of each stage two are begun
    # at most, and the buffers of a tile are free again before the one after the next is begun.
    order = [(stage, start) for stage, _, start, _ in tiles]
    expected = [(0, starts[0][0])]
    for (earlier, _), (later, _) in pairwise(starts):
        expected += [(0, later), (1, earlier)]
    assert order == [*expected, (1, starts[-1][0])]
    assert recorder.static_tiles() <= 12 * len(axes)
