"""
An interpreter of the `torch` dialect that calls PyTorch, operation by operation.

An operation `torch.aten.add.Tensor` is run by `torch.ops.aten.add.Tensor`; there is no table of operators, so any
import of torch-mlir runs. An operator of another package that is not loaded is run by its float reference. PyTorch
itself is imported on the first run.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp, StringAttr, UnregisteredOp
from xdsl.dialects.func import FuncOp
from xdsl.interpreter import PythonValues
from xdsl.ir import Block, Operation, SSAValue

from sta.dialect import torch as dialect
from sta.dialect.host import device_inputs
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import describe
from sta.dialect.ir.main_function import main_function, prologue_function
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.operators.expression import Expression, Variable
from sta.spec.rotation import partners

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
Observe = Callable[[SSAValue, "Tensor", PythonValues], None]
"""Callback with a value, its tensor, and the values of the operands that it was computed from."""

ATEN = "torch.aten."

_FILTERS = Lock()

FOREIGN_OPERATOR = "foreign.operator"
"""A stand-in for an operator that torch-mlir does not know; its attribute `name` names it."""


class TorchInterpretationError(ValueError):
    """An operation could not be run. The message names it and its module path."""


def operation_name(operation: Operation) -> str:
    """
    The name of `operation`, even if its dialect does not define it.

    For FOREIGN_OPERATOR, the operator that it stands for.
    """
    if not isinstance(operation, UnregisteredOp):
        return operation.name
    wrapped = operation.properties.get("name", operation.attributes.get("name"))
    if operation.op_name.data == FOREIGN_OPERATOR and isinstance(wrapped, StringAttr):
        return wrapped.data
    return operation.op_name.data


def evaluate(operation: Operation, values: PythonValues, store: WeightStore) -> PythonValues:
    """
    The results of `operation` of the `torch` dialect for the operand values `values`.

    Values are torch tensors, Python numbers, bools, strings, None and lists of those. Raises TorchInterpretationError
    if PyTorch has no such operator or refuses the values.
    """
    try:
        return _evaluate(operation, values, store)
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        name = operation_name(operation)
        raise TorchInterpretationError(f"cannot run {name} of {describe(operation)}: {error}") from error


def _evaluate(operation: Operation, values: PythonValues, store: WeightStore) -> PythonValues:
    if isinstance(operation, dialect.LiteralOp):
        return (tensor_from(operation.array(store)),)
    if isinstance(operation, dialect.ListConstructOp):
        return (list(values),)
    if isinstance(operation, dialect.ListUnpackOp):
        return tuple(values[0])
    if isinstance(operation, dialect.PointwiseOp):
        return (_pointwise(operation.function, values[0]),)
    if isinstance(operation, dialect.FakeQuantizeOp):
        return (_fake_quantize(operation, values[0]),)
    if isinstance(operation, dialect.FakeQuantizeChannelsOp):
        return (_fake_quantize_channels(values[0], values[1]),)
    if isinstance(operation, dialect.ScaledDotProductAttentionOp):
        return (_attention(values),)
    if isinstance(operation, dialect.RotateOp):
        return (_rotated(operation, *values),)
    if isinstance(operation, dialect.ConcatenateOp):
        return _call(f"{ATEN}cat", (list(values), operation.axis.value.data))
    if isinstance(operation, dialect.ConvolutionOp) and not values[7]:
        # torch-mlir leaves out what is zero for each axis.
        values = (*values[:7], [0] * len(values[3]), values[8])
    if isinstance(operation, dialect.EmbeddingOp):
        _check_indices(values[0], values[1])
    name = operation_name(operation)
    if operation.results and dialect.is_constant(operation.results[0]):
        return (dialect.constant_of(operation.results[0]),)
    if _overload(name) is None:
        return (_by_reference(operation, values),)
    return _call(name, values)


def _check_indices(table: Tensor, indices: Tensor) -> None:
    """Raises IndexError, naming both, for an index that is no row of the table; PyTorch names neither."""
    outside = indices[(indices < 0) | (indices >= len(table))]
    if outside.numel():
        raise IndexError(f"its table has rows 0..{len(table) - 1}, and there is an index {int(outside[0])}")


def is_random(operation: Operation) -> bool:
    """True if `operation` draws random numbers, so that its result is no constant even if its operands are."""
    import torch

    function = _overload(operation_name(operation))
    return function is not None and torch.Tag.nondeterministic_seeded in function.tags


def tensor_from(array: Array) -> Tensor:
    """The tensor that shares `array`'s memory. It must not be written to if the array is read-only."""
    import torch

    # Filters of warnings belong to all threads.
    with _FILTERS, warnings.catch_warnings():
        # The interpreter runs only pure operators: nothing writes to a weight.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type


def _call(name: str, values: PythonValues) -> PythonValues:
    """Calls the overload with torch-mlir's name, `torch.aten.add.Tensor` or `torch.aten.gelu`."""
    import torch

    function = _overload(name)
    arguments = function._schema.arguments
    positional = [value for argument, value in zip(arguments, values, strict=True) if not argument.kwarg_only]
    keywords = {argument.name: value for argument, value in zip(arguments, values, strict=True) if argument.kwarg_only}
    with torch.no_grad():
        result: Any = function(*positional, **keywords)
    if name.startswith((f"{ATEN}empty", f"{ATEN}new_empty")):
        # The memory of a new tensor must not depend on chance.
        result.zero_()
    return cast(PythonValues, result) if isinstance(result, tuple) else (result,)


def _by_reference(operation: Operation, values: PythonValues) -> Tensor:
    """The result of an operator that PyTorch does not have here, by the float reference of its row."""
    row = dialect.find_row(operation)
    if row is None or row.reference is None:
        raise AttributeError("this PyTorch has no such operator")
    dtype = dialect.numpy_dtype(dialect.tensor_type(operation.results[0]).element_type)
    return tensor_from(np.array(row.reference(*map(_in_float64, values)), dtype, order="C"))


def _in_float64(value: Any) -> Any:
    """An operand as references take it: floats in float64, other tensors as arrays of their kind."""
    if not hasattr(value, "numpy"):
        return value
    return (value.double() if value.is_floating_point() else value).numpy()


def _overload(name: str) -> Any:
    """PyTorch's operator for torch-mlir's `torch.aten.add.Tensor` or `torch.aten.gelu`; None if there is none."""
    import torch

    namespace, _, overload = name.removeprefix("torch.").partition(".")
    if namespace == "quantized_decomposed":
        # Its operators exist once their module is imported.
        importlib.import_module("torch.ao.quantization.fx._decomposed")
    operator, _, variant = overload.partition(".")
    # Values have no strides: a view that PyTorch refuses because of its own tensors' strides is a reshape.
    operator = "reshape" if operator in ("view", "_unsafe_view") else operator
    # torch-mlir drops the optional entries of an index list and marks the result as a twin.
    variant = variant.removesuffix("_hacked_twin") or "default"
    packet = getattr(getattr(torch.ops, namespace), operator, None) if operator else None
    return getattr(packet, variant, None)


def is_function_of_elements(operation: Operation) -> bool:
    """True if PyTorch says that the operator of `operation` gives for each element of one tensor a function of it."""
    import torch

    tensors = [value for value in operation.operands if isinstance(value.type, dialect.VTensorType)]
    return len(tensors) == 1 and torch.Tag.pointwise in getattr(_overload(operation_name(operation)), "tags", ())


def _pointwise(expression: Expression, x: Tensor) -> Tensor:
    """The calls of an expression one after the other, in float32, as the model has them."""
    values: list[Any] = [x]
    for call in expression.calls:
        given = [values[one.index] if isinstance(one, Variable) else one for one in call.arguments]
        values += _call(f"torch.{call.name}", tuple(_as_declared(f"torch.{call.name}", given)))
    return values[-1]


def _as_declared(name: str, values: list[Any]) -> list[Any]:
    """Operands with a tensor for each number where the operator takes a tensor."""
    import torch

    arguments = _overload(name)._schema.arguments
    return [
        torch.tensor(value, dtype=torch.float32 if isinstance(value, float) else None)
        if isinstance(value, int | float) and str(argument.type) == "Tensor"
        else list(cast(Sequence[Any], value))
        if isinstance(value, tuple)
        else value
        for argument, value in zip(arguments, values, strict=True)
    ]


def _fake_quantize(operation: dialect.FakeQuantizeOp, value: Tensor) -> Tensor:
    import torch

    scale, zero_point = operation.scale.value.data, operation.zero_point.value.data
    return torch.fake_quantize_per_tensor_affine(value, scale, zero_point, *operation.limits)


def _fake_quantize_channels(value: Tensor, scales: Tensor) -> Tensor:
    import torch

    return torch.fake_quantize_per_channel_affine(
        value, scales, torch.zeros_like(scales, dtype=torch.int32), 0, -128, 127
    )


def _rotated(operation: dialect.RotateOp, value: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    import torch

    width = operation.width
    paired = torch.from_numpy(partners(width, width, operation.pairing.data))  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    own = value[..., :width]
    turned = torch.where(paired < torch.arange(width), own[..., paired], -own[..., paired])
    return torch.cat((own * cosines + turned * sines, value[..., width:]), -1)


def _attention(values: PythonValues) -> Tensor:
    """PyTorch's attention, extended by masks together with is_causal, which PyTorch refuses, and by biases."""
    import torch

    query, key, value, mask, dropout, is_causal, scale, enable_gqa, *biases = values
    if is_causal and (mask is not None or biases):
        causal = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        mask, is_causal = _both(mask, causal), False
    for bias in biases:
        mask = _both(mask, bias)
    with torch.no_grad():
        result = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, mask, dropout, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if not biases:
        return result
    # With a bool mask alone PyTorch gives zero for rows without a key.
    return result.masked_fill((mask == -torch.inf).all(-1, keepdim=True), 0.0)


def _both(mask: Tensor | None, other: Tensor) -> Tensor:
    """A mask, bool or added, that does what two do."""
    import torch

    if mask is None:
        return other
    if mask.dtype == torch.bool:
        return mask & other if other.dtype == torch.bool else torch.where(mask, other, -torch.inf)
    return torch.where(other, mask, -torch.inf) if other.dtype == torch.bool else mask + other


def _run_block(block: Block, arguments: Sequence[Tensor], store: WeightStore, observe: Observe | None) -> PythonValues:
    """The operands of the block's last operation. A value is dropped behind its last use."""
    values: dict[SSAValue, Any] = dict(zip(block.args, arguments, strict=True))
    uses: dict[SSAValue, int] = {value: sum(1 for _ in value.uses) for value in block.args}
    for operation in block.ops:
        operands = tuple(values[operand] for operand in operation.operands)
        if operation is block.last_op:
            return operands
        results = evaluate(operation, operands, store)
        if observe is not None:
            _report(operation, results, operands, observe)
        values.update(zip(operation.results, results, strict=True))
        uses.update((result, sum(1 for _ in result.uses)) for result in operation.results)
        for operand in operation.operands:
            uses[operand] -= 1
        for value in (*operation.operands, *operation.results):
            if uses[value] == 0:
                values.pop(value, None)
    return ()


def _report(operation: Operation, results: PythonValues, operands: PythonValues, observe: Observe) -> None:
    for value, result in zip(operation.results, results, strict=True):
        if isinstance(value.type, dialect.VTensorType) and not isinstance(operation, dialect.LiteralOp):
            observe(value, result, operands)


def input_names(function: FuncOp) -> list[str]:
    """The names of a function's inputs, in order (`sta.name`; "input_0" … where there is none)."""
    return _names(function.arg_attrs, len(function.body.block.args), "input")


def model_input_names(module: ModuleOp) -> list[str]:
    """The names of the model's inputs, in order: those of the host prologue, if there is one."""
    return input_names(prologue_function(module) or main_function(module))


def output_names(function: FuncOp) -> list[str]:
    """The names of a function's outputs, in order (`sta.name`; "output_0" … where there is none)."""
    return _names(function.res_attrs, len(function.function_type.outputs), "output")


def _names(attributes: Any, count: int, default: str) -> list[str]:
    names: list[str] = []
    for index in range(count):
        name = attributes.data[index].data.get("sta.name") if attributes is not None else None
        names.append(name.data if isinstance(name, StringAttr) else f"{default}_{index}")
    return names


def run_torch(
    module: ModuleOp, context: CompileContext, inputs: Mapping[str, Array], observe: Observe | None = None
) -> dict[str, Array]:
    """
    Runs the function `main` of a module of the `torch` dialect in float, behind its host prologue.

    `inputs` has one array for each of the model's inputs, by name, of the input's shape and dtype. `observe` is called
    for every tensor that an operation computes, literals excepted. Returns the outputs by name.

    Raises ValueError for a missing, unknown or ill-shaped input, TorchInterpretationError for an operation that fails.
    """
    function = main_function(module)
    names = input_names(function)
    _check_names(model_input_names(module), inputs)
    given = device_inputs(module, context.weights, inputs)
    arguments = [
        _argument(name, value, given[name]) for name, value in zip(names, function.body.block.args, strict=True)
    ]
    results = _run_block(function.body.block, arguments, context.weights, observe)
    outputs = [np.array(result.numpy()) for result in results]
    return dict(zip(output_names(function), outputs, strict=True))


def _check_names(names: list[str], inputs: Mapping[str, Array]) -> None:
    missing = [name for name in names if name not in inputs]
    unknown = [name for name in inputs if name not in names]
    if missing or unknown:
        raise ValueError(f"the inputs are {names}; missing: {missing}, unknown: {unknown}")


def _argument(name: str, value: SSAValue, array: Array) -> Tensor:
    expected = dialect.tensor_type(value)
    dtype = dialect.numpy_dtype(expected.element_type)
    if array.shape != expected.sizes or array.dtype != dtype:
        raise ValueError(f"input {name!r} is {dtype}{list(expected.sizes)}, not {array.dtype}{list(array.shape)}")
    return tensor_from(np.asarray(array, order="C"))
