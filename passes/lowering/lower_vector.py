"""`nm.map`, `nm.norm` and `nm.gather` as tiles of the vector unit and of the DMA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sta.dialect import nm, sta
from sta.dialect.ir.parameter_blocks import epilogue_scalars, norm_parameters, scalar_map_parameters
from sta.passes.lowering.double_buffering import rotate_rows
from sta.passes.lowering.operand_copies import ROWS, broadcast_rows, read_residual, resident, walkable, with_rows
from sta.passes.lowering.tile_builder import Operand, Part, Rows, TileBuilder, map_op
from sta.passes.lowering.tile_program import Tile
from sta.passes.tiling.strided_view import StridedView, row_space
from sta.spec.instructions.table import definition_of

COLUMN_LIMIT = definition_of("map").field("columns").largest_power
"""Columns of one tile of the vector unit: within its field, and 1 MiB for 128 rows of 16 bits."""


def lower_map(builder: TileBuilder, op: nm.MapOp, x: Operand, result: Operand, residual: Operand | None) -> None:
    """Row tiles of the vector unit over a whole tensor."""
    added = [broadcast_rows(builder, residual, result)] if residual else []
    x, *added, result = walkable(builder, [with_rows(builder, x), *added, result], ROWS)
    operands = [x, result, *added]
    widest = min(x.columns, COLUMN_LIMIT)
    staged = [(operand, min(widest, operand.columns)) for operand in operands]
    limit = (builder.tile_rows(x.rows, staged), widest)
    scale = (op.bias.value.data, *op.scale.pair)
    parameters = builder.load_parameters(
        f"{builder.path}@parameters", scalar_map_parameters(*scale, epilogue_scalars(op)).to_bytes()
    )
    table = builder.load_table(op.table)
    make = partial(map_op, combine=op.combine.data)

    def tile(rows: Rows) -> None:
        places = list(zip(rows.positions, rows.strides, strict=True))

        def columns(part: Part) -> None:
            shape = (rows.count, part.size)
            position, stride = places[0]
            source = builder.read("source", x, position + part.start, shape, stride, limit, rows.slot)
            second = None
            if added:
                position, stride = places[2]
                second = read_residual(builder, added[0], position, part, (rows.count, stride), limit, rows.slot)
            position, stride = places[1]

            def write(destination: Tile) -> None:
                builder.emit(make, source, destination, parameters, table, second)

            builder.write("result", result, position + part.start, shape, stride, limit, rows.slot, write)

        builder.loop(x.columns, COLUMN_LIMIT, rows.slot, columns)

    rotate_rows(builder, [operand.view for operand in operands], limit[0], 0, tile)


@dataclass(frozen=True)
class NormTiles:
    """A norm and its operands: tiles of whole rows, which write the 16-bit stream and the 8-bit copy together."""

    op: nm.NormOp
    x: Operand
    stream: Operand | None
    copy: Operand | None
    limit: tuple[int, int]
    """Rows and columns of a tile."""

    @property
    def written(self) -> list[Operand]:
        """The stream and the copy, if present."""
        return [operand for operand in (self.stream, self.copy) if operand is not None]

    @property
    def views(self) -> list[StridedView]:
        """Views of the source and of the results in memory."""
        return [self.x.view, *(operand.view for operand in self.written)]

    def is_one_tile(self) -> bool:
        """True if one tile holds all rows."""
        axes = row_space(self.views)
        return not axes or (len(axes) == 1 and axes[0].size <= self.limit[0])


def norm_tiles(
    builder: TileBuilder, op: nm.NormOp, x: Operand, stream: Operand | None, copy: Operand | None
) -> NormTiles:
    """The tiles of a norm; its source is copied if its rows are not contiguous."""
    x = with_rows(builder, x)
    staged = [(operand, x.columns) for operand in (x, stream, copy) if operand is not None]
    return NormTiles(op, x, stream, copy, (builder.tile_rows(x.rows, staged), x.columns))


def lower_norm(builder: TileBuilder, norm: NormTiles, *, statistics: bool) -> None:
    """The loop over the tiles of a norm. `statistics`: earlier drains have added its rows to the row statistics."""
    parameters = load_norm(builder, norm.op)
    rotate_rows(
        builder,
        norm.views,
        norm.limit[0],
        0,
        lambda rows: lower_norm_tile(builder, norm, parameters, rows, statistics=statistics),
    )


def load_norm(builder: TileBuilder, op: nm.NormOp) -> Tile:
    """A norm's parameters, loaded into the weight buffer."""
    names = (builder.store_name(value) for value in (op.gamma, op.beta))
    gamma, beta = (builder.weights.get(name) for name in names)
    return builder.load_parameters(f"{builder.path}@parameters", norm_parameters(op, gamma, beta).to_bytes())


def lower_norm_tile(builder: TileBuilder, norm: NormTiles, parameters: Tile, rows: Rows, *, statistics: bool) -> None:
    """Normalizes a tile of rows; positions and strides belong to the source and the results."""
    shape = (rows.count, norm.x.columns)
    limit, slot = norm.limit, rows.slot
    source = builder.read("source", norm.x, rows.positions[0], shape, rows.strides[0], limit, slot)
    places = list(zip(norm.written, rows.positions[1:], rows.strides[1:], strict=True))
    kind = norm.op.kind.data

    def write(destinations: Sequence[Tile]) -> None:
        if len(destinations) < len(places):
            operand, position, stride = places[len(destinations)]
            role = "stream" if operand is norm.stream else "copy"
            builder.write(
                role, operand, position, shape, stride, limit, slot, lambda tile: write([*destinations, tile])
            )
            return
        targets = iter(destinations)
        first = next(targets) if norm.stream is not None else None
        second = next(targets) if norm.copy is not None else None
        builder.emit(partial(sta.NormOp, kind=kind, statistics=statistics), source, parameters, first, second)

    write([])


def lower_gather(builder: TileBuilder, op: nm.GatherOp, indices: Operand, result: Operand) -> None:
    """Rows of the embedding table by DMA, a tile at a time."""
    table = builder.stored(builder.store_name(op.table), "embedding", result.element)
    indices = resident(builder, indices)
    width = table.shape[1]
    limit = (builder.tile_rows(result.rows, [(result, width)]), width)

    def tile(rows: Rows) -> None:
        listed = builder.view(indices.buffer, rows.positions[0], (rows.count,), (1,))
        builder.write(
            "result",
            result,
            rows.positions[1],
            (rows.count, width),
            rows.strides[1],
            limit,
            rows.slot,
            lambda destination: builder.emit(sta.GatherOp, table, listed, destination),
        )

    one_a_row = StridedView((*indices.view.axes, ()))
    rotate_rows(builder, [one_a_row, result.view], limit[0], 0, tile)
