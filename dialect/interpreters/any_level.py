"""Execution of a module of any level on the model's inputs, as `--check` does after every pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp
from xdsl.interpreter import Interpreter
from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.dialect.host import prologue_of
from sta.dialect.interpreters.func import FuncFunctions
from sta.dialect.interpreters.nm import NmFunctions
from sta.dialect.interpreters.sta import StaFunctions, argument_view
from sta.dialect.interpreters.torch import input_names
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.port_attribute import port_of
from sta.dialect.ir.weight_store import WeightStore
from sta.dialect.torch import VTensorType
from sta.spec.signature import TensorSignature

Array = NDArray[Any]


def level_of(module: ModuleOp) -> str:
    """The dialect of a module: `torch`, `nm` or `sta`."""
    function = main_function(module)
    types = [*function.function_type.inputs, *function.function_type.outputs]
    if any(isinstance(type_, VTensorType) for type_ in types):
        return "torch"
    return "sta" if any(isinstance(type_, sta.MemRefType) for type_ in types) else "nm"


def machine_input_names(module: ModuleOp) -> list[str]:
    """The names of the inputs of `main`, at any level."""
    function, level = main_function(module), level_of(module)
    if level == "torch":
        return input_names(function)
    ports = [port_of(entry) for entry in _entries(function.arg_attrs)]
    return [port.port.data for port in ports if level == "nm" or port.is_input]


def _entries(attributes: ArrayAttr[DictionaryAttr] | None) -> list[DictionaryAttr]:
    return [] if attributes is None else list(attributes)


def _signature(entry: DictionaryAttr, value: SSAValue) -> TensorSignature:
    type_ = value.type
    shape = sta.memref_of(value).get_shape() if isinstance(type_, sta.MemRefType) else nm.tensor_of(value).get_shape()
    return port_of(entry).signature(shape)


def run_integers(
    module: ModuleOp, weights: WeightStore, inputs: Mapping[str, Array], poison: int = 0xA5
) -> tuple[dict[str, Array], dict[str, TensorSignature]]:
    """
    Runs an `nm` or `sta` module on host inputs by name; returns the raw integers and signature of each output.

    Raises ValueError if an input does not match its signature.
    """
    function = main_function(module)
    if level_of(module) == "sta":
        return _run_sta(module, function, weights, inputs, poison)
    return _run_nm(module, function, weights, inputs)


def _encoded(
    ports: list[TensorSignature], module: ModuleOp, weights: WeightStore, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """The integers of the machine's inputs by name, in the order of `ports`, behind the host prologue."""
    prologue = prologue_of(module, weights)
    if prologue is not None:
        return prologue.encode(ports, inputs)
    return {port.name: port.encode(inputs[port.name]) for port in ports}


def _run_nm(
    module: ModuleOp, function: func.FuncOp, weights: WeightStore, inputs: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, TensorSignature]]:
    interpreter = Interpreter(module)
    interpreter.register_implementations(FuncFunctions())
    interpreter.register_implementations(NmFunctions(weights))
    arguments = zip(_entries(function.arg_attrs), function.body.block.args, strict=True)
    encoded = _encoded([_signature(entry, value) for entry, value in arguments], module, weights, inputs)
    results = interpreter.call_op(function, tuple(encoded.values()))
    terminator = function.body.block.last_op
    assert isinstance(terminator, func.ReturnOp)
    outputs = [
        _signature(entry, value)
        for entry, value in zip(_entries(function.res_attrs), terminator.arguments, strict=True)
    ]
    raw = {signature.name: np.ascontiguousarray(result) for signature, result in zip(outputs, results, strict=True)}
    return raw, {signature.name: signature for signature in outputs}


def _run_sta(
    module: ModuleOp, function: func.FuncOp, weights: WeightStore, inputs: Mapping[str, Array], poison: int
) -> tuple[dict[str, Array], dict[str, TensorSignature]]:
    sizes = function.attributes.get("sta.memory")
    memories = None
    if isinstance(sizes, DictionaryAttr):
        memories = {space: nm.integer_value(size) for space, size in sizes.data.items()}
    interpreter = Interpreter(module)
    interpreter.register_implementations(FuncFunctions())
    interpreter.register_implementations(StaFunctions(weights, memories, poison))
    views: list[Any] = []
    outputs: dict[str, tuple[Any, TensorSignature]] = {}
    arguments = list(zip(_entries(function.arg_attrs), function.body.block.args, strict=True))
    ports = [_signature(entry, value) for entry, value in arguments if port_of(entry).is_input]
    encoded = _encoded(ports, module, weights, inputs)
    for entry, value in arguments:
        signature = _signature(entry, value)
        if port_of(entry).is_input:
            views.append(argument_view(value, encoded[signature.name], poison))
        else:
            views.append(argument_view(value, None, poison))
            outputs[signature.name] = (views[-1], signature)
    interpreter.call_op(function, tuple(views))
    raw = {name: view.array().copy() for name, (view, _) in outputs.items()}
    return raw, {name: signature for name, (_, signature) in outputs.items()}
