"""
From an ONNX graph to a module of the `torch` dialect.

ONNX's reference operators compute everything that depends on weights and shapes alone. Quantize-dequantize pairs become
those of PyTorch's export quantization, which `torch-fold-quantization` reads: one path for quantized models. A node
without translation becomes an operation that stands for it, and is reported with all other unsupported ones.
"""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import (
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
from sta.dialect.torch import VTensorType, element_type_of, name_attributes, numpy_dtype, tensor_type
from sta.frontend.errors import ModelError
from sta.frontend.importer import RawImport
from sta.frontend.onnx.file import constants_of, input_types, label, names_taken, opset_of, real_inputs
from sta.frontend.onnx.folding import FROM_SHAPE, fold, is_foldable
from sta.frontend.onnx.functions import body_of, has_body
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.guards import find_guards
from sta.frontend.onnx.notes import note_of, operator_name
from sta.frontend.onnx.operators import is_known, translate, translated_operators
from sta.frontend.onnx.paths import node_paths
from sta.frontend.samples import InputType

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array = NDArray[Any]


def import_graph(model: ModelProto, directory: Path, examples: Mapping[str, Array]) -> RawImport:
    """
    Imports `model`, whose file is in `directory`; `examples` give its open sizes.

    The function is called `main`; its arguments and results carry their names as `sta.name`. Raises ModelError for
    dynamic shapes and for scales that cannot be compiled.
    """
    _refuse_dynamic_quantization(model)
    inputs = input_types(model.graph, examples)
    importing = Importing(model, constants_of(model.graph, directory), inputs)
    module = importing.module()
    return RawImport(module, importing.weights)


_DYNAMIC = ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM")


def _refuse_dynamic_quantization(model: ModelProto) -> None:
    """Raises UnsupportedOperationsError, once for the whole model, if it computes scales when it runs."""
    nodes = [node for node in model.graph.node if node.op_type in _DYNAMIC]
    if not nodes:
        return
    first, names = nodes[0], " and ".join(sorted({operator_name(node) for node in nodes}))
    note = (
        f"the model is quantized dynamically, with {len(nodes)} nodes {names}, and scales must be "
        "constants: compile the float model with calibration data, or use onnxruntime.quantization.quantize_static"
    )
    found = UnsupportedOperation(operator_name(first), first.name or first.output[0], note)
    raise UnsupportedOperationsError([found], translated_operators())


class Importing(OnnxGraph):
    """The import of one graph."""

    def __init__(self, model: ModelProto, constants: dict[str, Array], inputs: Mapping[str, InputType]) -> None:
        super().__init__(constants, inputs, opset_of(model))
        self._model = model
        self._inputs = inputs
        self._foreign: list[UnsupportedOperation] = []
        self._shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] | None = None
        self._nodes = list(model.graph.node)
        taken = (name for node in self._nodes for name in names_taken(node))
        self.used = frozenset([*taken, *(value.name for value in model.graph.output)])
        self._paths: dict[str, str] = {}

    def module(self) -> ModuleOp:
        """The module with the function `main`."""
        for node in self._nodes:
            with suppress(UnsupportedForm):
                self._take_constant(node)
        guards = find_guards(self._model.graph, self.constants)
        skipped = {test for _, test in guards.values()}
        self._paths = node_paths(self._model.graph, self.constants)
        for node in self._nodes:
            self.location = named(self._paths[node.output[0]], named(operator_name(node), UnknownLoc()))
            if node.output[0] in guards:
                self.set(node.output[0], self.value(guards[node.output[0]][0]))
            elif node.output[0] not in skipped:
                self._visit(node)
        return self._finish()

    def _visit(self, node: NodeProto) -> None:
        try:
            if not self._take_constant(node):
                self._translate(node)
        except UnsupportedForm as error:
            self._stand_in(node, str(error))
        except ModelError:
            raise
        except (ValueError, LookupError, TypeError) as error:
            # The checker looks at operators, not at shapes.
            raise ModelError(f"{label(node)} does not fit its operands: {error}") from error

    def _translate(self, node: NodeProto) -> None:
        """Adds what `node` computes, by its rule, or by the body that ONNX gives its operator."""
        try:
            translate(self, node)
        except UnsupportedForm as error:
            self._expand(node, error)

    def _expand(self, node: NodeProto, refusal: UnsupportedForm) -> None:
        """
        Adds what the body of the operator of `node` computes.

        Raises `refusal` if it has none that can be compiled, with the body's own reason if it has no other.
        """
        body = body_of(node, self.opset, [self._kind(name) for name in node.input], self.used)
        if body is None:
            raise refusal
        opset, self.opset = self.opset, body[1]
        self.used |= {name for one in body[0] for name in one.input}
        try:
            for one in body[0]:
                if not self._take_constant(one):
                    self._translate(one)
        except UnsupportedForm as inner:
            raise refusal if str(refusal) else inner from None
        except ModelError as inner:
            # Nodes of the body are not the user's.
            raise ModelError(f"{label(node)} does not fit its operands: {inner}") from None
        finally:
            self.opset = opset

    def _kind(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
        """Shape and dtype of the value `name`; None if it is absent."""
        if not name:
            return None
        array = self.constant(name)
        if array is not None:
            return array.shape, array.dtype
        kind = tensor_type(self.value(name))
        return kind.sizes, numpy_dtype(kind.element_type)

    def _take_constant(self, node: NodeProto) -> bool:
        """Computes `node` if it depends on no input; returns whether it does not."""
        if node.output[0] in self.constants:
            return True
        if node.op_type in FROM_SHAPE and not node.domain and node.input[0] in self.values:
            kind = tensor_type(self.values[node.input[0]])
            # A view of one element, whatever the shape: only the shape counts.
            given = {node.input[0]: np.broadcast_to(np.zeros((), numpy_dtype(kind.element_type)), kind.sizes)}
        elif is_foldable(node) and all(not name or self.constant(name) is not None for name in node.input):
            given = {name: self.constants[name] for name in dict.fromkeys(node.input) if name}
        else:
            return False
        self.constants.update(fold(node, given, self.opset))
        return True

    def _stand_in(self, node: NodeProto, note: str) -> None:
        """A stand-in for an operation that cannot be compiled, to be reported with the others."""
        found = UnsupportedOperation(operator_name(node), self._where(node), note)
        self._foreign.append(found)
        results = self._result_types(node)
        if results is None:
            # Without its type, later nodes cannot be analysed: the unknown ones are reported right away.
            self._foreign += self._unknown_behind(node)
            raise UnsupportedOperationsError(self._foreign, translated_operators())
        operands = [self.values[name] for name in node.input if name in self.values]
        attributes = {"name": StringAttr(found.name), "note": StringAttr(note)}
        kind = UnregisteredOp.with_name(FOREIGN_OPERATOR)
        operation = kind.create(operands=operands, result_types=results, attributes=attributes)
        self.location = named(found.module_path, UnknownLoc())
        self.insert(operation)
        for output, result in zip([output for output in node.output if output], operation.results, strict=True):
            self.set(output, result)

    def _result_types(self, node: NodeProto) -> list[VTensorType] | None:
        """Types of the results of `node`; None if one is unknown, or has no elements that the dialect has."""
        kinds = [self._inferred().get(output) for output in node.output if output]
        try:
            types = [VTensorType(kind[0], element_type_of(kind[1])) for kind in kinds if kind is not None]
        except ValueError:
            return None
        return types if len(types) == len(kinds) else None

    def _where(self, node: NodeProto) -> str:
        """The module path of `node`, and its name if that is another."""
        path = self._paths[node.output[0]]
        return path if path == node.name or not node.name else f"{path} ({node.name})"

    def _unknown_behind(self, node: NodeProto) -> list[UnsupportedOperation]:
        position = next(index for index, other in enumerate(self._nodes) if other.output[0] == node.output[0])
        unknown = [
            other for other in self._nodes[position + 1 :] if not is_known(other) and not has_body(other, self.opset)
        ]
        unknown = [other for other in unknown if other.output[0] not in self.constants]
        return [UnsupportedOperation(operator_name(other), self._where(other), note_of(other)) for other in unknown]

    def _may_be_translated(self, node: NodeProto) -> bool:
        return node.output[0] in self.constants or is_known(node) or has_body(node, self.opset)

    def _inferred(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shapes and dtypes as ONNX infers them, for known sizes."""
        if self._shapes is None:
            self._shapes = _inferred_types(self._model, self._inputs)
        return self._shapes

    def _finish(self) -> ModuleOp:
        outputs = [value.name for value in self._model.graph.output]
        self.location = named("outputs", UnknownLoc())
        results = [self.value(name) for name in outputs]
        self.block.add_op(ReturnOp(*results))
        kinds = ([argument.type for argument in self.block.args], [result.type for result in results])
        names = [value.name for value in real_inputs(self._model.graph)]
        function = FuncOp(
            "main", kinds, Region(self.block), arg_attrs=name_attributes(names), res_attrs=name_attributes(outputs)
        )
        module = ModuleOp([function])
        try:
            module.verify()
        except VerifyException as error:
            raise ModelError(f"the model's nodes do not fit each other: {error}") from error
        return module


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
