"""`nm.rotate` as tiles of the vector unit: rows with their cosines and sines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.passes.lowering.double_buffering import rotate, walk
from sta.passes.lowering.operand_copies import ROWS, broadcast_rows, walkable, with_rows
from sta.passes.lowering.tile_builder import Operand, Part, Rows, TileBuilder
from sta.passes.lowering.tile_program import Position, Tile
from sta.passes.tiling.strided_view import Axis, iteration_space
from sta.spec.affine import Affine
from sta.spec.parameters import RotateParameters

X, COSINES, SINES, RESULT = range(4)
"""The operands in the order of their positions."""


@dataclass(frozen=True)
class RotationOperands:
    """Operands of a rotation."""

    x: Operand
    cosines: Operand
    sines: Operand
    result: Operand


def lower_rotation(builder: TileBuilder, op: nm.RotateOp, operands: RotationOperands) -> None:
    """
    Tiles of rows over whole rows, since a row's pairs lie in all of it. What shares its cosines and sines, as heads do,
    is walked inside of their tiles, which are loaded once.
    """
    result = operands.result
    tables = [broadcast_rows(builder, table, result) for table in (operands.cosines, operands.sines)]
    walked = walkable(builder, [with_rows(builder, operands.x), *tables, result], ROWS)
    columns = result.columns
    limit = (builder.tile_rows(result.rows, [(operand, columns) for operand in walked]), columns)
    block = RotateParameters(*op.scale.pair).to_bytes()
    parameters = builder.load_parameters(f"{builder.path}@parameters", block)
    make = partial(_rotate_op, pairing=op.pairing.data, width=op.width.value.data)
    moving, shared = _row_axes(walked)

    def tile(rows: Rows) -> None:
        shape = (rows.count, columns)

        def read(role: str, index: int, position: Position, slot: int) -> Tile:
            return builder.read(role, walked[index], position, shape, rows.strides[index], limit, slot)

        cosines = read("cosines", COSINES, rows.positions[COSINES], rows.slot)
        sines = read("sines", SINES, rows.positions[SINES], rows.slot)

        def part(positions: Sequence[Position], slot: int) -> None:
            source = read("source", X, positions[X], slot)
            builder.write(
                "result",
                result,
                positions[RESULT],
                shape,
                rows.strides[RESULT],
                limit,
                slot,
                lambda destination: builder.emit(make, source, cosines, sines, destination, parameters),
            )

        _each(builder, shared, rows.positions, rows.slot, part)

    walk(builder, moving, [Affine(operand.view.offset) for operand in walked], limit[0], 0, tile)


def _row_axes(operands: Sequence[Operand]) -> tuple[list[Axis], list[Axis]]:
    """
    The axes of the rows: those along which cosines or sines move, the longest innermost, and those that share them. If
    nothing moves, the longest axis is cut into tiles anyway.
    """
    axes = iteration_space([operand.view.axes[ROWS] for operand in operands])
    moving = [axis for axis in axes if axis.strides[COSINES] or axis.strides[SINES]]
    cut = max(moving or axes, key=lambda axis: axis.size, default=None)
    if cut is None:
        return [], []
    return [*(axis for axis in moving if axis is not cut), cut], [
        axis for axis in axes if axis not in moving and axis is not cut
    ]


def _each(
    builder: TileBuilder,
    axes: Sequence[Axis],
    positions: Sequence[Position],
    slot: int,
    body: Callable[[Sequence[Position], int], None],
) -> None:
    """Calls `body` with the operands' positions and the slot for each step along the axes."""
    if not axes:
        body(positions, slot)
        return
    axis, *inner = axes

    def step(part: Part) -> None:
        moved = [position + part.start * stride for position, stride in zip(positions, axis.strides, strict=True)]
        _each(builder, inner, moved, part.slot, body)

    rotate(builder, axis.size, 1, slot, step)


def _rotate_op(
    source: SSAValue,
    cosines: SSAValue,
    sines: SSAValue,
    destination: SSAValue,
    parameters: SSAValue,
    *,
    pairing: str,
    width: int,
) -> sta.RotateOp:
    return sta.RotateOp(source, (cosines, sines), destination, parameters, pairing, width)
