"""
`nm.map`, `nm.norm` and `nm.gather` as tiles of the vector unit and of the DMA.
"""

from __future__ import annotations

from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.dialect.ir.parameter_blocks import epilogue_scalars, norm_parameters, scalar_map_parameters
from sta.passes.lowering.tile_builder import ROWS, Operand, Position, TileBuilder
from sta.passes.tiling.strided_view import StridedView, row_space
from sta.spec.instructions.table import definition_of

COLUMN_LIMIT = definition_of("map").field("columns").largest_power
"""
Columns of one tile of the vector unit: within its field, and 1 MiB for 128 rows of 16 bits.
"""


def lower_map(builder: TileBuilder, op: nm.MapOp, x: Operand, result: Operand, residual: Operand | None) -> None:
    """
    Row tiles of the vector unit over a whole tensor.
    """
    added = [broadcast_rows(builder, residual, result)] if residual else []
    x, *added, result = builder.walkable([builder.with_rows(x), *added, result], ROWS)
    operands = [x, result, *added]
    widest = min(x.columns, COLUMN_LIMIT)
    limit = (builder.tile_rows(x.rows, [(operand, widest) for operand in operands]), widest)
    scale = (op.bias.value.data, *op.scale.pair)
    parameters = builder.load_parameters(
        f"{builder.path}@parameters", scalar_map_parameters(*scale, epilogue_scalars(op)).to_bytes()
    )
    table = builder.load_table(op.table)

    def rows(positions: list[Position], count: int, strides: list[int]) -> None:
        def columns(column: Position, width: int) -> None:
            shape = (count, width)
            source = builder.read("source", x, positions[0] + column, shape, strides[0], limit)
            tile = None
            if added:
                tile = builder.read("residual", added[0], positions[2] + column, shape, strides[2], limit)

            def write(destination: SSAValue) -> None:
                operands, multiply = (source, destination, parameters), op.multiply is not None
                builder.emit(sta.MapOp(operands, table, tile, multiply=multiply))

            builder.write("result", result, positions[1] + column, shape, strides[1], limit, write)

        builder.loop(x.columns, COLUMN_LIMIT, columns)

    builder.rows([operand.view for operand in operands], limit[0], rows)


class NormLowering:
    """
    Lowers one `nm.norm`: tiles of whole rows; the 16-bit stream and the 8-bit copy are written together.
    """

    def __init__(self, builder: TileBuilder, op: nm.NormOp, x: Operand, stream: Operand | None, copy: Operand | None):
        self.builder = builder
        self.op = op
        self.x = builder.with_rows(x)
        self.stream = stream
        self.written = [operand for operand in (stream, copy) if operand is not None]
        self.has_copy = copy is not None
        self.gathered = False
        """
        Whether the drains before it gather the statistics of its rows.
        """
        staged = [(operand, self.x.columns) for operand in (self.x, *self.written)]
        self.limit = (builder.tile_rows(self.x.rows, staged), self.x.columns)

    def load(self) -> None:
        """
        Loads the norm's parameters.
        """
        names = (self.builder.store_name(value) for value in (self.op.gamma, self.op.beta))
        gamma, beta = (self.builder.weights.get(name) for name in names)
        block = norm_parameters(self.op, gamma, beta).to_bytes()
        self.parameters = self.builder.load_parameters(f"{self.builder.path}@parameters", block)

    def _views(self) -> list[StridedView]:
        return [self.x.view, *(operand.view for operand in self.written)]

    def is_one_tile(self) -> bool:
        """
        Whether one tile holds all rows.
        """
        axes = row_space(self._views())
        return not axes or (len(axes) == 1 and axes[0].size <= self.limit[0])

    def lower(self) -> None:
        """
        Emits the loop over row tiles.
        """
        self.load()
        self.builder.rows(self._views(), self.limit[0], self.tile)

    def tile(self, positions: list[Position], rows: int, strides: list[int]) -> None:
        """
        Normalizes a tile of rows; positions and strides are those of the source and of what is written.
        """
        builder = self.builder
        limit = self.limit
        shape = (rows, self.x.columns)
        source = builder.read("source", self.x, positions[0], shape, strides[0], limit)
        places = list(zip(self.written, positions[1:], strides[1:], strict=True))

        def write(destinations: list[SSAValue]) -> None:
            if len(destinations) < len(places):
                operand, position, stride = places[len(destinations)]
                role = "stream" if operand is self.stream else "copy"
                builder.write(role, operand, position, shape, stride, limit, lambda tile: write([*destinations, tile]))
                return
            targets = iter(destinations)
            first = next(targets) if self.stream is not None else None
            second = next(targets) if self.has_copy else None
            builder.emit(sta.NormOp(source, self.parameters, first, second, self.op.kind.data, gathered=self.gathered))

        write([])


def lower_gather(builder: TileBuilder, op: nm.GatherOp, indices: Operand, result: Operand) -> None:
    """
    Rows of the embedding table by DMA, a tile at a time.
    """
    name = builder.store_name(op.table)
    values = builder.weights.get(name)
    table = builder.constant(name, "embedding", values, result.element)
    if indices.space == "dram" or indices.view != StridedView.contiguous(indices.view.shape):
        indices = builder.copied(indices)
    width = values.shape[1]
    limit = (builder.tile_rows(result.rows, [(result, width)]), width)

    def rows(positions: list[Position], count: int, strides: list[int]) -> None:
        window = builder.view(indices.buffer, positions[0], (count,), (1,))

        def write(destination: SSAValue) -> None:
            builder.emit(sta.GatherOp(table, window, destination))

        builder.write("result", result, positions[1], (count, width), strides[1], limit, write)

    one_a_row = StridedView((*indices.view.axes, ()))
    builder.rows([one_a_row, result.view], limit[0], rows)


def broadcast_rows(builder: TileBuilder, residual: Operand, result: Operand) -> Operand:
    """
    A residual that moves along with the result, repeating where it broadcasts.
    """
    rows = builder.with_rows(residual)
    return Operand(rows.buffer, rows.view.broadcast(result.view.shape), rows.element)
