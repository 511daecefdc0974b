"""Tile programs made by hand: a builder of an empty function, and a run of what was built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import IntegerType, ModuleOp
from xdsl.interpreter import Interpreter
from xdsl.ir import Region

from sta.dialect.interpreters.func import FuncFunctions
from sta.dialect.interpreters.sta import StaFunctions, argument_view
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.lowering.program_ir import to_ir
from sta.passes.lowering.tile_builder import TileBuilder
from sta.passes.lowering.tile_program import Buffer, TileProgram
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy
from tests.support.nm_builder import PLAIN_TARGET


def builder_for(arguments: Sequence[tuple[int, IntegerType]] = (), target: Target = PLAIN_TARGET) -> TileBuilder:
    """Returns a builder of an empty function whose arguments have some elements each, in DRAM."""
    buffers = [Buffer((size,), element, "dram") for size, element in arguments]
    builder = TileBuilder(target, TilingPolicy(), WeightStore(), TileProgram(buffers))
    # Copies belong to an operation that is lowered.
    builder.source = ModuleOp([])
    return builder


def run(builder: TileBuilder, values: NDArray[Any]) -> NDArray[Any]:
    """Runs what was built, with values for the first argument, and returns the second."""
    made = to_ir(builder.program, builder.weights)
    made.block.add_op(func.ReturnOp())
    arguments = made.block.args
    function = func.FuncOp("main", ([argument.type for argument in arguments], []), Region(made.block))
    module = ModuleOp([function])
    module.verify()
    interpreter = Interpreter(module)
    interpreter.register_implementations(FuncFunctions())
    interpreter.register_implementations(StaFunctions(builder.weights))
    views = (argument_view(arguments[0], values, 0xA5), argument_view(arguments[1], None, 0xA5))
    interpreter.call_op(function, views)
    return views[1].array()
