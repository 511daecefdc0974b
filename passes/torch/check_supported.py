"""
What cannot be compiled, all of it at once, before any work.

Runs on the folded and canonicalized module, so what is computed from constants never counts. Each rule is a predicate
whose note tells the user what is supported instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr, f32, i1
from xdsl.dialects.func import ReturnOp
from xdsl.ir import BlockArgument, Operation, SSAValue, Use
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.location import describe
from sta.dialect.ir.model_errors import UnsupportedOperation, UnsupportedOperationsError
from sta.passes.rewriting.torch_operations import literal_of, operations_of
from sta.passes.torch.fold_masks import REASON

WIDEST_NORM = 8192
"""The longest row that a normalization takes."""

LARGEST_FLOAT32 = 3.4e38
"""What PyTorch computes with: a number above it is infinite there."""

SUPPORTED = (
    "linear, embedding, layer_norm, rms_norm and scaled_dot_product_attention (also spelled out), gelu, relu, tanh, "
    "silu, sigmoid, add, mul, rearrangements without copies (view, permute, slice, …), and whatever depends on no input"
)

_NOTES = {
    "aten._softmax": "softmax is supported inside attention: matmul, scale, mask, softmax over the keys, matmul",
    "aten.softmax.int": "softmax is supported inside attention: matmul, scale, mask, softmax over the keys, matmul",
    "aten.matmul": "products are supported with a constant weight, or inside attention",
    "aten.bmm": "products are supported with a constant weight, or inside attention",
    "aten.mm": "products are supported with a constant weight, or inside attention",
    "aten.addmm": "products are supported with a constant weight and bias, or inside attention",
    "aten.convolution": "patches that do not overlap can be cut by the host, and projected with linear",
    "aten.mean.dim": "leave pooling to the host: return the last hidden state",
    "aten.native_layer_norm": "layer_norm is supported",
    "aten.dropout": "export the model in evaluation mode: model.eval()",
    "aten.gather": "tables are read with embedding",
    "aten.index.Tensor": "tables are read with embedding",
    "aten.index.Tensor_hacked_twin": "tables are read with embedding",
    "aten.index_select": "tables are read with embedding",
    "aten.expand": "values cannot be repeated, except by the broadcast of an addition",
    "aten.cat": "values cannot be concatenated",
    "aten.sub.Tensor": "only additions are supported",
}
"""What to do instead, for operators that people meet."""

Rule = Callable[[Any], str | None]
"""What is wrong with an operation of the rule's kind; None if nothing is."""


def check_supported(module: ModuleOp) -> None:
    """
    Raises UnsupportedOperationsError with every operation in the function `main` of `module` that cannot be compiled.
    """
    operations = operations_of(module)
    of_masks = _of_masks(operations)
    counted = [operation for operation in operations if operation not in of_masks]
    found = [problem for operation in counted if (problem := _problem(operation)) is not None]
    if found:
        raise UnsupportedOperationsError(found, SUPPORTED)


def _of_masks(operations: list[Operation]) -> set[Operation]:
    """What only masks are made with: an attention whose mask is not supported is the one to be reported."""
    found: set[Operation] = set()
    for operation in reversed(operations):
        uses = [use for result in operation.results for use in result.uses]
        if uses and all(use.operation in found or _is_mask_use(use) for use in uses):
            found.add(operation)
    return found


def _is_mask_use(use: Use) -> bool:
    return isinstance(use.operation, torch.ScaledDotProductAttentionOp) and use.index == 3


def _problem(operation: Operation) -> UnsupportedOperation | None:
    name = operation_name(operation).removeprefix("torch.")
    if isinstance(operation, _ALWAYS):
        return None
    for kind, rule in _RULES.items():
        if isinstance(operation, kind):
            note = rule(operation) or _wrong_type(operation)
            return None if note is None else UnsupportedOperation(name, describe(operation), note)
    note = operation.attributes.get("note")
    return UnsupportedOperation(
        name, describe(operation), note.data if isinstance(note, StringAttr) else _NOTES.get(name, "")
    )


def _wrong_type(operation: Operation) -> str | None:
    for value in (*operation.operands, *operation.results):
        kind = value.type
        if not isinstance(kind, torch.VTensorType) or not (kind.is_float or isinstance(value, BlockArgument)):
            continue
        if kind.is_float and kind.element_type != f32:
            return f"works on {kind.element_type}, and only f32 is supported: convert the model with model.float()"
        if not kind.sizes:
            return "works on a tensor without axes: give it an axis of one element"
    return None


def _linear(operation: torch.LinearOp) -> str | None:
    """A linear layer has a weight and a bias that are constants."""
    weight = operation.weight
    if isinstance(weight.owner, torch.FakeQuantizeChannelsOp):
        weight = weight.owner.input
    constant = literal_of(weight) is not None and _is_parameter(operation.bias)
    return None if constant else "its weight and bias must be constants"


def _embedding(operation: torch.EmbeddingOp) -> str | None:
    """An embedding reads a constant table at positions that are an input."""
    if literal_of(operation.weight) is None:
        return "its table must be a constant"
    value = operation.indices
    while isinstance(value.owner, _REARRANGING | torch.ToDtypeOp):
        value = value.owner.operands[0]
    return None if isinstance(value, BlockArgument) else "its indices must be an input of the model"


def _norm(operation: torch.NormOp) -> str | None:
    """A normalization is over the last axis, with constant parameters."""
    if len(torch.integers_of(operation.normalized_shape)) != 1:
        return "only the last axis can be normalized over"
    if not _is_parameter(operation.weight):
        return "its weight must be a constant"
    if isinstance(operation, torch.LayerNormOp) and not _is_parameter(operation.bias):
        return "its bias must be a constant"
    epsilon = torch.epsilon_of(operation)
    if not 0.0 <= epsilon <= LARGEST_FLOAT32:
        return f"its eps must be a number that is not negative, not {epsilon}"
    width = torch.sizes_of(operation.input)[-1]
    return None if width <= WIDEST_NORM else f"rows of {width} are longer than {WIDEST_NORM}"


def _gelu(operation: torch.GeluOp) -> str | None:
    """GELU is exact or approximated by tanh."""
    approximate = torch.constant_of(operation.approximate)
    return None if approximate in ("none", "tanh") else f"the approximation {approximate!r} is unknown"


def _add(operation: torch.AddTensorOp) -> str | None:
    """An addition is of two float values: one has the shape of the result, the other at least its last axis."""
    if torch.constant_of(operation.alpha) != 1:
        return "only alpha = 1 is supported"
    if not operation.result.type.is_float:
        return "only float values can be added"
    return _one_is_whole(operation) or _have_one_width(operation)


def _multiply(operation: torch.MulTensorOp) -> str | None:
    """A product is of two float values, one of which has the shape of the result, the other at least its last axis."""
    operands = (operation.input, operation.other)
    if not all(torch.tensor_type(value).is_float for value in operands):
        return "only float values can be multiplied"
    return _one_is_whole(operation) or _have_one_width(operation)


def _have_one_width(operation: torch.AddTensorOp | torch.MulTensorOp) -> str | None:
    width = operation.result.type.sizes[-1:]
    same = all(torch.sizes_of(value)[-1:] == width for value in (operation.input, operation.other))
    return None if same else "its operands must have the same last axis"


def _one_is_whole(operation: torch.AddTensorOp | torch.MulTensorOp) -> str | None:
    shapes = (torch.sizes_of(operation.input), torch.sizes_of(operation.other))
    return None if operation.result.type.sizes in shapes else "one of its operands must have the shape of the result"


def _attention(operation: torch.ScaledDotProductAttentionOp) -> str | None:
    """Attention has four axes, heads of one width, no dropout, and one of the masks that torch-fold-masks makes."""
    if isinstance(reason := operation.attributes.get(REASON), StringAttr):
        return f"its mask is not supported: {reason.data}"
    scale = operation.scale
    if not isinstance(scale.type, torch.NoneType) and not 0.0 < torch.number_of(scale) <= LARGEST_FLOAT32:
        return f"its scale must be a positive number, not {torch.number_of(scale):g}"
    query, key, value = (torch.sizes_of(part) for part in (operation.query, operation.key, operation.value))
    if torch.number_of(operation.dropout_p) != 0.0:
        return _NOTES["aten.dropout"]
    if key != value or len(query) != 4 or len(key) != 4:
        return "query, key and value must have four axes, and keys and values the same shape"
    shares = bool(torch.constant_of(operation.enable_gqa)) and query[1] % key[1] == 0
    if query[0] != key[0] or (query[1] != key[1] and not shares):
        return "query, key and value must have the same batch and heads, or several heads of queries for each of keys"
    return None if _is_mask(operation.attn_mask) else "its mask must be a constant, or a padding mask that is an input"


def _slice(operation: torch.SliceTensorOp) -> str | None:
    """A slice takes positions that follow each other."""
    step = operation.bounds[3]
    return None if step == 1 else f"takes every {step}th position, and only step 1 is supported"


def _to_dtype(operation: torch.ToDtypeOp) -> str | None:
    """A conversion makes a mask of an input, or other integers of its integers."""
    from_input = isinstance(operation.input, BlockArgument) and not torch.tensor_type(operation.input).is_float
    return None if from_input and not operation.result.type.is_float else "only integer inputs can be converted"


def _logical_not(operation: torch.LogicalNotOp) -> str | None:
    """The negation of an input makes a mask of one that is true where a key is left out."""
    is_input = isinstance(operation.input, BlockArgument) and not torch.tensor_type(operation.input).is_float
    return None if is_input else "only integer and bool inputs can be negated"


def _return(operation: ReturnOp) -> str | None:
    """Outputs are float values."""
    integers = [value for value in operation.arguments if not torch.tensor_type(value).is_float]
    return "an output that is not a float tensor is not supported" if integers else None


def _is_parameter(value: SSAValue) -> bool:
    return isinstance(value.type, torch.NoneType) or literal_of(value) is not None


def _is_mask(value: SSAValue) -> bool:
    if isinstance(value.type, torch.NoneType):
        return True
    if torch.tensor_type(value).element_type != i1:
        return False
    while isinstance(value.owner, torch.ViewOp | torch.ToDtypeOp | torch.LogicalNotOp):
        value = value.owner.operands[0]
    return isinstance(value, BlockArgument) or literal_of(value) is not None


_REARRANGING = torch.ViewOp | torch.PermuteOp | torch.SliceTensorOp

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


def _nothing(operation: Operation) -> None:
    """Supported in every form."""


_RULES: dict[type[Operation], Rule] = {
    torch.LinearOp: _linear,
    torch.EmbeddingOp: _embedding,
    torch.LayerNormOp: _norm,
    torch.RmsNormOp: _norm,
    torch.GeluOp: _gelu,
    torch.ReluOp: _nothing,
    torch.TanhOp: _nothing,
    torch.SiluOp: _nothing,
    torch.SigmoidOp: _nothing,
    torch.AddTensorOp: _add,
    torch.MulTensorOp: _multiply,
    torch.ScaledDotProductAttentionOp: _attention,
    torch.ViewOp: _nothing,
    torch.PermuteOp: _nothing,
    torch.SliceTensorOp: _slice,
    torch.ToDtypeOp: _to_dtype,
    torch.LogicalNotOp: _logical_not,
    ReturnOp: _return,
}


@dataclass(frozen=True)
class TorchCheckSupportedPass(ModulePass):
    """Refuse a module with operations that cannot be compiled, and list all of them."""

    name = "torch-check-supported"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises UnsupportedOperationsError if anything in `op` cannot be compiled."""
        check_supported(op)
