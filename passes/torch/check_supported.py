"""
Refusal of unsupported operations, all at once, before any work.

Runs on the folded and canonicalized module, so that operations on constants never count. Each lowering defines the
supported forms of its operation (`sta.passes.lowering.torch_to_nm`); operators without lowering have a remedy in their
row (`sta.spec.operators`).
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr, f32
from xdsl.dialects.func import ReturnOp
from xdsl.ir import BlockArgument, Operation, Use
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.location import describe, source_operator
from sta.dialect.ir.model_errors import UnsupportedOperation, UnsupportedOperationsError
from sta.passes.lowering.torch_to_nm.lowering import lowering_of
from sta.passes.rewriting.torch_operations import operations_of
from sta.spec.operators.registry import remedy_of, supported_operators


def check_supported(module: ModuleOp) -> None:
    """Raises UnsupportedOperationsError with every operation in `main` of `module` that cannot be compiled."""
    operations = operations_of(module)
    of_masks = _of_masks(operations)
    counted = [operation for operation in operations if operation not in of_masks]
    found = [problem for operation in counted if (problem := _problem(operation)) is not None]
    if found:
        raise UnsupportedOperationsError(found, supported_operators())


def _of_masks(operations: list[Operation]) -> set[Operation]:
    """Operations that only masks use: instead of them, the attention with the unsupported mask is reported."""
    found: set[Operation] = set()
    for operation in reversed(operations):
        uses = [use for result in operation.results for use in result.uses]
        if uses and all(use.operation in found or _is_mask_use(use) for use in uses):
            found.add(operation)
    return found


def _is_mask_use(use: Use) -> bool:
    return isinstance(use.operation, torch.ScaledDotProductAttentionOp) and use.index == 3


def _problem(operation: Operation) -> UnsupportedOperation | None:
    if isinstance(operation, _ALWAYS):
        return None
    name = operation_name(operation).removeprefix("torch.")
    if isinstance(operation, ReturnOp):
        note = _return(operation) or _wrong_type(operation)
    elif (lowering := lowering_of(operation)) is not None:
        note = lowering.refusal(operation) or _wrong_type(operation)
    else:
        given = operation.attributes.get("note")
        note = given.data if isinstance(given, StringAttr) else remedy_of(name)
    if note is None:
        return None
    # An attention is made of many operators.
    origin = "" if isinstance(operation, torch.ScaledDotProductAttentionOp) else source_operator(operation)
    return UnsupportedOperation(origin or name, describe(operation), note)


def _wrong_type(operation: Operation) -> str | None:
    for value in (*operation.operands, *operation.results):
        kind = value.type
        if not isinstance(kind, torch.VTensorType) or not (kind.is_float or isinstance(value, BlockArgument)):
            continue
        if kind.is_float and kind.element_type != f32:
            return f"works on {kind.element_type}, and only f32 is supported: {_in_float32(operation)}"
        if not kind.sizes:
            return "works on a tensor without axes: give it an axis of one element"
    return None


def _in_float32(operation: Operation) -> str:
    return "export the model in float32" if source_operator(operation) else "convert the model with model.float()"


def _return(operation: ReturnOp) -> str | None:
    """Outputs are float values."""
    integers = [value for value in operation.arguments if not torch.tensor_type(value).is_float]
    return "an output that is not a float tensor is not supported" if integers else None


_ALWAYS = (
    torch.LiteralOp
    | torch.ConstantIntOp
    | torch.ConstantFloatOp
    | torch.ConstantBoolOp
    | torch.ConstantNoneOp
    | torch.ConstantStrOp
    | torch.ConstantDeviceOp
    | torch.ListConstructOp
    | torch.FakeQuantizeOp
    | torch.FakeQuantizeChannelsOp
)


@dataclass(frozen=True)
class TorchCheckSupportedPass(ModulePass):
    """Refuses a module with operations that cannot be compiled, and lists all of them."""

    name = "torch-check-supported"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises UnsupportedOperationsError if anything in `op` cannot be compiled."""
        check_supported(op)
