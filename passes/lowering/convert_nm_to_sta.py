"""Lowering of the `nm` dialect to the machine: tile loops and DMA, by the plan of each function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import DictionaryAttr, ModuleOp
from xdsl.ir import Region
from xdsl.passes import ModulePass

from sta.dialect import sta
from sta.dialect.ir.accuracy import keep_accuracy
from sta.dialect.ir.context import policy_of, target_of, weights_of
from sta.dialect.ir.main_function import machine_functions
from sta.dialect.ir.port_attribute import PORT, port_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.lowering.buffer_contents import record_value
from sta.passes.lowering.lower_function import lower_function
from sta.passes.lowering.program_ir import to_ir
from sta.passes.lowering.useful_macs import record_macs, useful_macs
from sta.passes.nm.plan_tiles import plan_function
from sta.passes.tiling.plan_attributes import is_planned, read_plan
from sta.passes.tiling.tile_choice import ATTRIBUTE
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy


@dataclass(frozen=True)
class ConvertNmToStaPass(ModulePass):
    """
    Lowers every operation to loops over tiles, as planned by `nm-plan-tiles`; a function without a plan for the target
    is planned first. Operations on values in DRAM load and store tiles of them.
    """

    name = "convert-nm-to-sta"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        weights, target, policy = weights_of(ctx), target_of(ctx), policy_of(ctx)
        for function in machine_functions(op):
            if not is_planned(function, target):
                plan_function(function, weights, target, policy)
            lowered = _lowered(function, weights, target, policy)
            record_macs(lowered, useful_macs(op))
            op.body.block.insert_op_before(lowered, function)
            function.detach()
            function.erase(safe_erase=False)


def _lowered(function: func.FuncOp, weights: WeightStore, target: Target, policy: TilingPolicy) -> func.FuncOp:
    lowered = lower_function(function, weights, target, policy, read_plan(function))
    made = to_ir(lowered.program, weights)
    for value, operand in lowered.operands.items():
        allocation = made.values[operand.buffer].owner
        if isinstance(allocation, sta.AllocOp):
            record_value(value, operand.view, allocation)
    made.block.add_op(func.ReturnOp())
    types = [argument.type for argument in made.block.args]
    result = func.FuncOp(
        function.sym_name.data, (types, []), Region(made.block), arg_attrs=_argument_attributes(function)
    )
    result.location = function.location
    keep_accuracy(function, result)
    if ATTRIBUTE in function.attributes:
        result.attributes[ATTRIBUTE] = function.attributes[ATTRIBUTE]
    return result


def _argument_attributes(function: func.FuncOp) -> Any:
    inputs, outputs = function.arg_attrs, function.res_attrs
    assert inputs is not None
    assert outputs is not None
    return type(inputs)(
        [_with_direction(entry, "input") for entry in inputs] + [_with_direction(entry, "output") for entry in outputs]
    )


def _with_direction(entry: DictionaryAttr, direction: str) -> DictionaryAttr:
    return DictionaryAttr({**entry.data, PORT: port_of(entry).directed(direction)})
