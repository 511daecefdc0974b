"""Names of the tensors that a `torch` function computes, for matching a program's values with the float model's."""

from __future__ import annotations

from collections import Counter

from xdsl.dialects.builtin import StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import input_names, operation_name
from sta.dialect.ir.location import module_path

REARRANGEMENTS = (torch.ViewOp, torch.PermuteOp, torch.FakeQuantizeOp)
"""Operations that change only the order of a tensor's elements, or round as a quantized model does."""

BESIDE, INSTEAD = StringAttr("beside"), StringAttr("instead")
"""Values of the annotation `sta.smoothed`."""


def origin(value: SSAValue) -> SSAValue:
    """The tensor that `value` rearranges."""
    while isinstance(value.owner, REARRANGEMENTS):
        value = value.owner.operands[0]
    return value


def short_name(value: SSAValue) -> str:
    """The operation that defines `value`, without its dialect: `gelu`, `add`; `input` for an argument."""
    operation = value.owner
    if not isinstance(operation, Operation):
        return "input"
    return operation_name(operation).removeprefix("torch.").removeprefix("aten.").partition(".")[0]


def float_names(function: FuncOp) -> dict[SSAValue, str]:
    """
    A name for every tensor that is computed or given: module path and operation, `layer:gelu`, from the second of a
    kind on with its number, `layer:gelu#2`.

    Rearrangements, slices and constants have none, so that passes may copy and move them: the name of a tensor stays
    from the last pass on the float model to the conversion to integers. So a normalization smoothed by calibration has
    none either: it is another tensor, and one that stands instead of the float model's counts like it.
    """
    block = function.body.block
    names: dict[SSAValue, str] = {}
    for name, argument in zip(input_names(function), block.args, strict=True):
        names[argument] = f"{name}:input"
    seen: Counter[str] = Counter()
    for operation in block.ops:
        if isinstance(operation, (*REARRANGEMENTS, torch.SliceTensorOp, torch.ExpandOp, torch.LiteralOp)):
            continue
        smoothed = operation.attributes.get(torch.SMOOTHED)
        if smoothed == BESIDE:
            continue
        for result in operation.results:
            if not isinstance(result.type, torch.VTensorType):
                continue
            kind = f"{module_path(operation)}:{short_name(result)}"
            seen[kind] += 1
            if smoothed is not None:
                continue
            names[result] = kind if seen[kind] == 1 else f"{kind}#{seen[kind]}"
    return names
