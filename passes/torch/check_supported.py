"""
Refusal of unsupported operations, all at once, before any work.

Runs on the folded and canonicalized module, so that operations on constants never count. Each lowering defines the
supported forms of its operation (`sta.passes.lowering.torch_to_nm`); operators without lowering have a remedy in their
row (`sta.spec.operators`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr, f32
from xdsl.dialects.func import ReturnOp
from xdsl.ir import BlockArgument, Operation, Use
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.interpreters.torch import is_function_of_elements, operation_name
from sta.dialect.ir.location import describe, source_operator
from sta.dialect.ir.model_errors import UnsupportedOperation, UnsupportedOperationsError
from sta.passes.lowering.torch_to_nm.lowering import lowering_of
from sta.passes.rewriting.causes import Cause, find_causes, serving
from sta.passes.rewriting.torch_operations import operations_of
from sta.spec.operators.elementwise import WITHOUT_ROW
from sta.spec.operators.operator import Role
from sta.spec.operators.registry import remedy_of, supported_operators


def check_supported(module: ModuleOp) -> None:
    """Raises UnsupportedOperationsError with every operation in `main` of `module` that cannot be compiled."""
    operations = operations_of(module)
    # Instead of operations that only masks or indices use, the attention or the embedding is reported.
    unseen = serving(operations, _is_mask_or_index)
    found_causes = find_causes(one for one in operations if one not in unseen)
    causes = {one.operation: one for one in found_causes if any(_problem(part) is not None for part in one.parts)}
    for cause in causes.values():
        unseen |= cause.parts
    found: list[UnsupportedOperation] = []
    refused = set(unseen)
    explained = set(unseen)
    for operation in operations:
        if _follows(operation, refused, explained):
            refused.add(operation)
        elif (problem := _problem_or_cause(operation, causes, unseen)) is not None:
            refused.add(operation)
            found.append(problem)
            if problem.note:
                explained.add(operation)
    if found:
        raise UnsupportedOperationsError(found, supported_operators())


def _problem_or_cause(
    operation: Operation, causes: Mapping[Operation, Cause], unseen: set[Operation]
) -> UnsupportedOperation | None:
    if operation in causes:
        name = operation_name(operation).removeprefix("torch.")
        return UnsupportedOperation(name, describe(operation), causes[operation].note)
    return None if operation in unseen else _problem(operation)


def _follows(operation: Operation, refused: set[Operation], explained: set[Operation]) -> bool:
    """
    True if `operation` is refused for numbers that another refused one gives: integers, or those it converts.

    An output of integers is, if the reason of the other is known.
    """
    made = [operand for operand in operation.operands if operand.owner in refused]
    row = torch.find_row(operation)
    converts = row is not None and row.role is Role.CONVERSION
    if isinstance(operation, ReturnOp):
        integers = [value for value in operation.arguments if not torch.tensor_type(value).is_float]
        return bool(integers) and all(value.owner in explained for value in integers)
    return bool(made) and (converts or _gives_integers(operation))


def _gives_integers(operation: Operation) -> bool:
    kinds = [result.type for result in operation.results]
    return any(isinstance(kind, torch.VTensorType) and not kind.is_float for kind in kinds)


def _is_mask_or_index(use: Use) -> bool:
    if isinstance(use.operation, torch.EmbeddingOp):
        return use.index == 1
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
        if not note and is_function_of_elements(operation):
            note = WITHOUT_ROW
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
        if not kind.sizes and isinstance(value, BlockArgument):
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
