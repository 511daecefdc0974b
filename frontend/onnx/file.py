"""Reading of ONNX files: the graph, with every size known."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sta.dialect.ir.model_errors import UnsupportedOperation, UnsupportedOperationsError
from sta.frontend.errors import ModelError
from sta.frontend.onnx.notes import ONNXRUNTIME, operator_name
from sta.frontend.program import closest_or_all
from sta.frontend.samples import InputType, as_array

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorShapeProto, ValueInfoProto

Array = NDArray[Any]

OLDEST_OPSET = 13
"""Since this version of the operators, softmax works on one axis, and axes are inputs."""

OWN_DOMAIN = "ai.onnx"
"""The domain of ONNX's own operators, which is also called ""."""

_INPUT_DTYPES = ("float32", "int64", "int32", "bool")


def load_onnx(path: str | os.PathLike[str]) -> ModelProto:
    """
    The model in the file at `path`, with its weights, including those in files beside it, without unused nodes.

    Operators of versions before 13 become those of 13. Raises ModelError if the file is missing, damaged, not valid or
    no ONNX file, if its weights cannot be read, and for operators without conversion; UnsupportedOperationsError for
    operators that ONNX does not have.
    """
    onnx = _library()
    if not Path(path).is_file():
        raise ModelError(f"there is no model file at {path}")
    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
        _check_names(model)
    except Exception as error:  # whatever the reader raises for bytes that are no model
        raise ModelError(f"{path} is not an ONNX file, or a damaged one: {_first_line(error)}") from error
    if not model.ir_version or not model.HasField("graph"):
        raise ModelError(f"{path} is not an ONNX file, or a damaged one: it holds no graph")
    _load_weights(model, Path(path))
    _check_operators(model, path)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # whatever the checker finds
        raise ModelError(f"{path} is not valid in ONNX: {_first_line(error)}") from error
    if opset_of(model) < OLDEST_OPSET:
        model = _converted(model, path)
    _drop_unused(model.graph)
    return model


def _converted(model: ModelProto, path: str | os.PathLike[str]) -> ModelProto:
    """The valid `model` with operators of the version OLDEST_OPSET. Raises ModelError if ONNX cannot convert it."""
    import onnx.version_converter

    try:
        return onnx.version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:  # whatever the converter raises for an operator that it does not have
        raise ModelError(
            f"{path} uses version {opset_of(model)} of the ONNX operators, and its conversion to {OLDEST_OPSET}, the "
            f"oldest one that is supported, fails: {_first_line(error)}; export the model for that version or a newer"
        ) from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _load_weights(model: ModelProto, path: Path) -> None:
    """Reads weights in files beside that of `model`. Raises ModelError if they cannot be read."""
    from onnx.external_data_helper import load_external_data_for_model, uses_external_data

    tensors = [*model.graph.initializer, *(entry.t for node in model.graph.node for entry in node.attribute)]
    outside = [tensor for tensor in tensors if uses_external_data(tensor)]
    for tensor in outside:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if (path.parent / location).is_symlink():
            raise ModelError(
                f"{path} keeps the weight {tensor.name!r} in {location}, which is a link, and links are not followed: "
                f"copy model and data into one folder, with cp -L {path} {path.parent / location} FOLDER"
            )
    try:
        load_external_data_for_model(model, os.fspath(path.parent))
    except Exception as error:  # whatever the reader raises for a file that is missing, too short or out of reach
        raise ModelError(
            f"the weights that {path} keeps in other files cannot be read: {_first_line(error)}"
        ) from error


_MISPLACED = ("SimplifiedLayerNormalization",)
"""Operators of onnxruntime that it writes as ONNX's own, which does not have them."""


def _check_operators(model: ModelProto, path: str | os.PathLike[str]) -> None:
    """
    Gives misplaced operators their domain.

    Raises ModelError for versions that are not known, UnsupportedOperationsError for operators of no version.
    """
    from onnx import defs

    version = opset_of(model)
    if version > defs.onnx_opset_version():
        raise ModelError(
            f"{path} uses version {version} of the ONNX operators, and the package onnx that is installed has up to "
            f"{defs.onnx_opset_version()}: install a newer one, or export the model for that version"
        )
    unknown: list[UnsupportedOperation] = []
    for node in model.graph.node:
        node.domain = "" if node.domain == OWN_DOMAIN else node.domain
        if node.domain:
            continue
        if node.op_type in _MISPLACED:
            node.domain = ONNXRUNTIME
        elif (note := _missing(node, version)) is not None:
            unknown.append(UnsupportedOperation(operator_name(node), node.name or "".join(node.output[:1]), note))
    if any(node.domain == ONNXRUNTIME for node in model.graph.node):
        _import_domain(model, ONNXRUNTIME)
    if unknown:
        raise UnsupportedOperationsError(unknown, f"the operators of version {version} of ONNX, as far as translated")


def _missing(node: NodeProto, version: int) -> str | None:
    """Reason why this version of ONNX lacks the operator of `node`; None if it has it."""
    from onnx import defs

    try:
        defs.get_schema(node.op_type, version)
    except defs.SchemaError:
        if not defs.has(node.op_type):
            return "ONNX has no such operator: export the model without a runtime's optimizer"
        since = defs.get_schema(node.op_type).since_version
        return f"ONNX has it since version {since}, and the model is of version {version}"
    return None


def _import_domain(model: ModelProto, domain: str) -> None:
    if all(entry.domain != domain for entry in model.opset_import):
        model.opset_import.add(domain=domain, version=1)


def _drop_unused(graph: GraphProto) -> None:
    """Drops nodes that no output depends on: nothing in them can stand in the way."""
    needed = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(names_taken(node))
            kept.append(node)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(reversed(kept))


def names_taken(node: NodeProto) -> Iterator[str]:
    """The names of values that `node` takes, graphs inside it included."""
    yield from node.input
    for entry in node.attribute:
        for graph in [entry.g, *entry.graphs]:
            for inner in graph.node:
                yield from names_taken(inner)
            yield from (value.name for value in graph.output)


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that `model` uses; the oldest one if it uses none."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", OWN_DOMAIN)), OLDEST_OPSET)


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
    # PaddlePaddle writes open sizes as -1.
    sizes = [axis.dim_value if _is_known(axis) else axis.dim_param or "?" for axis in tensor.shape.dim]
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


def _is_known(axis: TensorShapeProto.Dimension) -> bool:
    return axis.HasField("dim_value") and axis.dim_value >= 0


def label(node: NodeProto) -> str:
    """Name of `node` in messages."""
    return f"{node.op_type} node {node.name or node.output[0]!r}"


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes of `node` as Python values; texts are str."""
    from onnx import helper

    return {entry.name: _python(helper.get_attribute_value(entry)) for entry in node.attribute}


def default_attributes(node: NodeProto, opset: int) -> dict[str, Any]:
    """
    Values of absent attributes of `node`, in this version of ONNX's own operators; texts are str.

    Operators of other domains that are translated have the defaults of those that are called like them.
    """
    from onnx import defs, helper

    try:
        schema = defs.get_schema(node.op_type, opset)
    except defs.SchemaError:
        return {}
    defaults = {name: entry.default_value for name, entry in schema.attributes.items()}
    return {name: _python(helper.get_attribute_value(value)) for name, value in defaults.items() if value.name}


def _python(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
