"""Reading of ONNX files: the graph, with every size known."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sta.frontend.errors import ModelError
from sta.frontend.program import closest_or_all
from sta.frontend.samples import InputType, as_array

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

Array = NDArray[Any]

OLDEST_OPSET = 13
"""Since this version of the operators, softmax works on one axis, and axes are inputs."""

_INPUT_DTYPES = ("float32", "int64", "int32", "bool")


def load_onnx(path: str | os.PathLike[str]) -> ModelProto:
    """
    The model in the file at `path`, with its weights, including those in files beside it.

    Raises ModelError if the file is missing, damaged or no ONNX file, and for operators of a version before 13.
    """
    onnx = _library()
    if not Path(path).is_file():
        raise ModelError(f"there is no model file at {path}")
    try:
        model = onnx.load(os.fspath(path))
        onnx.checker.check_model(model)
        _check_names(model)
    except Exception as error:  # whatever the reader and the checker raise for bytes that are no model
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"{path} is not an ONNX file, or a damaged one: {first}") from error
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OLDEST_OPSET)
    if version < OLDEST_OPSET:
        raise ModelError(
            f"{path} uses version {version} of the ONNX operators, and only {OLDEST_OPSET} and later are supported: "
            f"convert it with onnx.version_converter.convert_version(model, {OLDEST_OPSET})"
        )
    return model


def _check_names(model: ModelProto) -> None:
    """Raises ValueError for a name that is no text: protocol buffers give the bytes of a damaged one."""
    for node in model.graph.node:
        for name in (node.name, node.op_type, node.domain, *node.input, *node.output):
            if not isinstance(name, str):
                raise ValueError(f"the name {name!r} is not text")


def _library() -> Any:
    try:
        import onnx
        import onnx.checker
    except ImportError as error:
        raise ModelError("reading ONNX files takes the package onnx: pip install 'sta-toolchain[onnx]'") from error
    return onnx


def constants_of(graph: GraphProto, directory: str | os.PathLike[str]) -> dict[str, Array]:
    """
    The weights of `graph` by name; `directory` is the folder of its file. Raises ModelError, naming the weight, if data
    do not match their shape.
    """
    from onnx import numpy_helper

    constants: dict[str, Array] = {}
    for entry in graph.initializer:
        try:
            constants[entry.name] = numpy_helper.to_array(entry, os.fspath(directory))
        except (ValueError, TypeError) as error:
            raise ModelError(f"the weight {entry.name!r} cannot be read: {error}") from error
    return constants


def examples_by_name(graph: GraphProto, given: Mapping[str, Any] | Sequence[Any] | None) -> dict[str, Array]:
    """
    Example inputs by name, from a mapping or in the order of the inputs; empty if none are given. Raises ModelError if
    names or their number do not match.
    """
    names = [value.name for value in real_inputs(graph)]
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if len(given) != len(names):
            raise ModelError(f"the model has {len(names)} inputs ({', '.join(names)}), not {len(given)}")
        given = dict(zip(names, given, strict=True))
    for name in given:
        if name not in names:
            raise ModelError(f"the model has no input {name!r}{closest_or_all(name, names)}")
    if missing := [name for name in names if name not in given]:
        raise ModelError(f"example inputs lack {', '.join(missing)}")
    return {name: as_array(f"example input {name!r}", given[name]) for name in names}


def real_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """The inputs of `graph` that are not weights with a default."""
    weights = {entry.name for entry in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def input_types(graph: GraphProto, examples: Mapping[str, Array]) -> dict[str, InputType]:
    """
    Shape and dtype of every input; open sizes of the model come from `examples`.

    Raises ModelError for sizes that stay open, for examples of other sizes, and for numbers of another type than
    float32, int32, int64 and bool.
    """
    return {value.name: _input_type(value, examples.get(value.name)) for value in real_inputs(graph)}


def _input_type(value: ValueInfoProto, example: Array | None) -> InputType:
    from onnx import helper

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise ModelError(f"input {value.name!r} is no tensor with a known number of axes")
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if dtype.name not in _INPUT_DTYPES:
        raise ModelError(f"input {value.name!r} is {dtype}, and only {', '.join(_INPUT_DTYPES)} are supported")
    sizes = [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in tensor.shape.dim]
    text = ", ".join(str(size) for size in sizes)
    if example is not None:
        fits = len(sizes) == example.ndim and all(
            isinstance(size, str) or size == given for size, given in zip(sizes, example.shape, strict=True)
        )
        if not fits:
            raise ModelError(f"example input {value.name!r} is {list(example.shape)}, not [{text}]")
        sizes = list(example.shape)
    if any(isinstance(size, str) for size in sizes):
        raise ModelError(
            f"input {value.name!r} has dynamic sizes [{text}], and only static shapes can be compiled: set them with "
            "onnx.tools.update_model_dims.update_inputs_outputs_dims, or give sta.compile example inputs"
        )
    if 0 in sizes:
        raise ModelError(f"input {value.name!r} is empty, its sizes are [{text}]: give one with elements")
    return InputType(tuple(int(size) for size in sizes), dtype)


def label(node: NodeProto) -> str:
    """Name of `node` in messages."""
    return f"{node.op_type} node {node.name or node.output[0]!r}"


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes of `node` as Python values; texts are str."""
    from onnx import helper

    found = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}
