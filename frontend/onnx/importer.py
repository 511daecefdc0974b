"""
From an ONNX graph to a module of the `torch` dialect.

ONNX's reference operators compute everything that depends on weights and shapes alone. Quantize-dequantize pairs become
those of PyTorch's export quantization, which `torch-fold-quantization` reads: one path for quantized models. A node
without translation becomes an operation that stands for it, and is reported with all other unsupported ones.
"""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    ModuleOp,
    StringAttr,
    UnknownLoc,
    UnregisteredOp,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Region
from xdsl.utils.exceptions import VerifyException

from sta.dialect.interpreters.torch import FOREIGN_OPERATOR
from sta.dialect.ir.location import named
from sta.dialect.ir.model_errors import UnsupportedOperation, UnsupportedOperationsError
from sta.dialect.torch import VTensorType, element_type_of, sizes_of
from sta.frontend.errors import ModelError
from sta.frontend.importer import RawImport
from sta.frontend.onnx.file import attributes_of, constants_of, input_types, label, real_inputs
from sta.frontend.onnx.gelu import find_gelu
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.operators import is_known, supported_operators, translate
from sta.frontend.onnx.paths import node_paths
from sta.frontend.samples import InputType

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array = NDArray[Any]

LARGEST_FOLDED = 1 << 26
"""Elements of the largest tensor that is computed from its shape: a larger one is an attack, or a mistake."""

_FROM_SHAPES = ("ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "OneHot", "EyeLike")
_NEVER_FOLDED = ("If", "Loop", "Scan", "DequantizeLinear", *_FROM_SHAPES)


def import_graph(model: ModelProto, directory: Path, examples: Mapping[str, Array]) -> RawImport:
    """
    Imports `model`, whose file is in `directory`; `examples` give its open sizes.

    The function is called `main`; its arguments and results carry their names as `sta.name`. Raises ModelError for
    dynamic shapes and for scales that cannot be compiled.
    """
    inputs = input_types(model.graph, examples)
    importing = Importing(model, constants_of(model.graph, directory), inputs)
    module = importing.module()
    return RawImport(module, importing.weights)


class Importing(OnnxGraph):
    """The import of one graph."""

    def __init__(self, model: ModelProto, constants: dict[str, Array], inputs: Mapping[str, InputType]) -> None:
        super().__init__(constants, inputs)
        self._model = model
        self._inputs = inputs
        self._foreign: list[UnsupportedOperation] = []
        self._shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] | None = None
        self._path = ""

    def module(self) -> ModuleOp:
        """The module with the function `main`."""
        graph = self._model.graph
        for node in graph.node:
            self._take_constant(node)
        gelus = find_gelu(graph, self.constants)
        skipped = {output for gelu in gelus.values() for output in gelu.inner}
        paths = node_paths(graph, self.constants)
        for node in graph.node:
            self._place(paths[node.output[0]])
            if node.output[0] in gelus:
                self.set(node.output[0], self.gelu(gelus[node.output[0]].input, "none"))
            elif node.output[0] not in skipped:
                self._visit(node)
        return self._finish()

    def _place(self, path: str) -> None:
        self._path = path
        self.location = named(path, UnknownLoc())

    def _visit(self, node: NodeProto) -> None:
        if self._take_constant(node):
            return
        try:
            translate(self, node)
        except UnsupportedForm as error:
            self._stand_in(node, str(error))
        except ModelError:
            raise
        except (ValueError, LookupError, TypeError) as error:
            # The checker looks at operators, not at shapes.
            raise ModelError(f"{label(node)} does not fit its operands: {error}") from error

    def _take_constant(self, node: NodeProto) -> bool:
        """Computes `node` if it depends on no input; returns whether it does not."""
        if node.op_type == "Shape" and node.input[0] in self.values:
            sizes = np.array(sizes_of(self.values[node.input[0]]), np.int64)
            attributes = attributes_of(node)
            self.constants[node.output[0]] = sizes[attributes.get("start", 0) : attributes.get("end")]
            return True
        known = all(not name or self.constant(name) is not None for name in node.input)
        if not known or node.op_type in _NEVER_FOLDED or node.op_type.startswith("Random") or node.domain:
            return known and node.op_type in ("ConstantOfShape", "Expand") and self._fill(node)
        if node.output[0] not in self.constants:
            self._compute(node)
        return True

    def _fill(self, node: NodeProto) -> bool:
        shape = self.constants[node.input[-1]].reshape(-1)
        if math.prod(int(size) for size in shape) > LARGEST_FOLDED:
            raise ModelError(f"{label(node)}: a constant of shape {shape.tolist()} is too large")
        self._compute(node)
        return True

    def _compute(self, node: NodeProto) -> None:
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        names = [name for name in dict.fromkeys(node.input) if name]
        given = {name: self.constants[name] for name in names}
        value = helper.make_tensor_value_info
        types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in given.items()}
        graph = helper.make_graph(
            [node],
            "constant",
            [value(name, types[name], given[name].shape) for name in names],
            [helper.make_empty_tensor_value_info(name) for name in node.output if name],
        )
        versions = [entry for entry in self._model.opset_import if entry.domain in ("", "ai.onnx")]
        model = helper.make_model(graph, opset_imports=versions)
        try:
            results = ReferenceEvaluator(model).run(None, given)
        except Exception as error:  # whatever an operator raises for operands that do not fit
            raise ModelError(f"{label(node)} cannot be computed: {error}") from error
        for name, result in zip([name for name in node.output if name], results, strict=True):
            self.constants[name] = np.asarray(result)

    def _stand_in(self, node: NodeProto, note: str) -> None:
        """A stand-in for an operation that cannot be compiled, to be reported with the others."""
        name = f"onnx.{node.op_type}" if not node.domain else f"{node.domain}.{node.op_type}"
        where = self._path if self._path == node.name or not node.name else f"{self._path} ({node.name})"
        self._foreign.append(UnsupportedOperation(name, where, note))
        kinds = [self._inferred().get(output) for output in node.output if output]
        operands = [self.values[name] for name in node.input if name in self.values]
        if any(kind is None for kind in kinds):
            # Without its shape, later nodes cannot be analysed: the unknown ones are reported right away.
            self._foreign += self._unknown_behind(node)
            raise UnsupportedOperationsError(self._foreign, supported_operators())
        results = [VTensorType(kind[0], element_type_of(kind[1])) for kind in kinds if kind is not None]
        kind = UnregisteredOp.with_name(FOREIGN_OPERATOR)
        attributes = {"name": StringAttr(name), "note": StringAttr(note)}
        operation = kind.create(operands=operands, result_types=results, attributes=attributes)
        self.location = named(where, UnknownLoc())
        self.insert(operation)
        for output, result in zip([output for output in node.output if output], operation.results, strict=True):
            self.set(output, result)

    def _unknown_behind(self, node: NodeProto) -> list[UnsupportedOperation]:
        nodes = list(self._model.graph.node)
        position = next(index for index, other in enumerate(nodes) if other.output[0] == node.output[0])
        unknown = [other for other in nodes[position + 1 :] if not is_known(other)]
        return [UnsupportedOperation(f"onnx.{other.op_type}", other.name or other.output[0], "") for other in unknown]

    def _inferred(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shapes and dtypes as ONNX infers them, for known sizes."""
        if self._shapes is None:
            self._shapes = _inferred_types(self._model, self._inputs)
        return self._shapes

    def _finish(self) -> ModuleOp:
        outputs = [value.name for value in self._model.graph.output]
        self._place("outputs")
        results = [self.value(name) for name in outputs]
        self.block.add_op(ReturnOp(*results))
        kinds = ([argument.type for argument in self.block.args], [result.type for result in results])
        names = [value.name for value in real_inputs(self._model.graph)]
        function = FuncOp("main", kinds, Region(self.block), arg_attrs=_named(names), res_attrs=_named(outputs))
        module = ModuleOp([function])
        try:
            module.verify()
        except VerifyException as error:
            raise ModelError(f"the model's nodes do not fit each other: {error}") from error
        return module


def _named(names: list[str]) -> ArrayAttr[DictionaryAttr]:
    return ArrayAttr([DictionaryAttr({"sta.name": StringAttr(name)}) for name in names])


def _inferred_types(
    model: ModelProto, inputs: Mapping[str, InputType]
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    from onnx import ModelProto, helper, shape_inference

    copy = ModelProto()
    copy.CopyFrom(model)
    # The model's own shapes may concern its open sizes.
    del copy.graph.value_info[:]
    for value in real_inputs(copy.graph):
        for axis, size in zip(value.type.tensor_type.shape.dim, inputs[value.name].sizes, strict=True):
            axis.dim_value = size
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        graph = shape_inference.infer_shapes(copy, data_prop=True).graph
    except Exception:  # a model that cannot be inferred has no known shapes
        return {}
    found: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
    for value in [*graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        axes = tensor.shape.dim
        if tensor.HasField("shape") and all(axis.HasField("dim_value") for axis in axes):
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            found[value.name] = (tuple(axis.dim_value for axis in axes), dtype)
    return found
