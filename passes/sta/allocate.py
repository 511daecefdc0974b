"""Byte offsets for every buffer, constant and argument."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import DictionaryAttr, ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from sta.dialect import sta
from sta.dialect.ir.context import policy_of, target_of
from sta.dialect.ir.main_function import machine_functions
from sta.dialect.ir.port_attribute import PORT, port_of
from sta.dialect.nm import integer
from sta.passes.memory.memory_plan import MemoryPlan, plan_memory


@dataclass(frozen=True)
class StaAllocatePass(ModulePass):
    """
    Gives every `sta.alloc`, `sta.constant` and argument its byte offset, and the function the size of each memory
    (`sta.memory`).
    """

    name = "sta-allocate"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target, policy = target_of(ctx), policy_of(ctx)
        for function in machine_functions(op):
            assign_offsets(function, plan_memory(function, target, policy))


def assign_offsets(function: func.FuncOp, plan: MemoryPlan[SSAValue]) -> None:
    """Writes a memory plan into the IR."""
    for op in function.body.block.ops:
        if isinstance(op, sta.AllocOp | sta.ConstantOp):
            op.offset = integer(plan.offsets[op.result])
    arguments = function.body.block.args
    attributes = function.arg_attrs
    assert attributes is not None
    entries = zip(attributes, arguments, strict=True)
    function.arg_attrs = type(attributes)(
        [DictionaryAttr({**entry.data, PORT: port_of(entry).placed(plan.offsets[value])}) for entry, value in entries]
    )
    function.attributes["sta.memory"] = DictionaryAttr({space: integer(size) for space, size in plan.sizes.items()})
