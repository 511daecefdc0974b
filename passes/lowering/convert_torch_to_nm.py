"""
From a `torch` module with quantize-dequantize pairs to integers: the pairs are folded into `nm` operations.

The input is the output of `torch-quantize` (or of an importer of quantized models). Every float result of a supported
operation passes through one `torch.fake_quantize`, except a linear layer that an addition reads straight from the
accumulators. The list of `sta.passes.lowering.torch_to_nm` lowers the operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr, TensorType
from xdsl.ir import Operation, Region, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import nm, torch
from sta.dialect.interpreters.nm import tensor_dtype
from sta.dialect.ir.accuracy import keep_accuracy
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.main_function import machine_functions
from sta.dialect.ir.port_attribute import port_entry
from sta.dialect.ir.quantized_value import set_meaning
from sta.dialect.ir.tensor_names import float_names
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.lowering.torch_to_nm.conversion import Conversion, ConversionError, Quantized, Storage, storage_of
from sta.passes.lowering.torch_to_nm.lowering import lowering_of
from sta.passes.lowering.torch_to_nm.views import users_through_views
from sta.passes.rewriting.torch_operations import makes_floats_of_integers
from sta.spec.signature import TensorSignature


class FunctionConversion:
    """The conversion of one function."""

    def __init__(self, source: func.FuncOp, weights: WeightStore) -> None:
        self._source = source
        self._conversion = Conversion(weights, float_names(source))

    def convert(self) -> func.FuncOp:
        """The function on integer tensors."""
        source, conversion = self._source.body.block, self._conversion
        inputs = [
            self._input(value, name) for value, name in zip(source.args, _names(self._source.arg_attrs), strict=True)
        ]
        for op in source.ops:
            conversion.current = op
            try:
                self._convert(op)
            except ConversionError:
                raise
            except ValueError as error:
                remedy = "look at this layer's weights, and at its values on the calibration samples"
                raise conversion.error(f"{error}; {remedy}") from error
        terminator = source.last_op
        assert isinstance(terminator, func.ReturnOp)
        results = [conversion.quantized(value) for value in terminator.arguments]
        outputs = [_output(result, name) for result, name in zip(results, _names(self._source.res_attrs), strict=True)]
        conversion.block.add_op(func.ReturnOp(*(result.value for result in results)))
        types = ([arg.type for arg in conversion.block.args], [result.value.type for result in results])
        function = func.FuncOp(
            self._source.sym_name.data,
            types,
            Region(conversion.block),
            arg_attrs=ArrayAttr([port_entry(signature) for signature in inputs]),
            res_attrs=ArrayAttr([port_entry(signature) for signature in outputs]),
        )
        function.location = self._source.location
        keep_accuracy(self._source, function)
        return function

    def _input(self, value: SSAValue, name: str) -> TensorSignature:
        """Adds an argument: activations and integers that become floats as int16, indices as int32, masks as bytes."""
        tensor = torch.tensor_type(value)
        host = torch.numpy_dtype(tensor.element_type).name
        floats = [use.operation.results[0] for use in value.uses if makes_floats_of_integers(use.operation)]
        if tensor.is_float or floats:
            storage = _input_storage(floats[0] if floats else value, name)
            signature = TensorSignature(
                name,
                tensor.sizes,
                host,
                f"int{storage.element.width.data}",
                "quantized",
                storage.scale,
                storage.zero_point,
            )
            element = storage.element
        elif limit := _index_limit(value):
            signature = TensorSignature(name, tensor.sizes, host, "int32", "index", limit=limit)
            element = nm.si32
        else:
            inverted = any(isinstance(use.operation, torch.LogicalNotOp) for use in value.uses)
            signature = TensorSignature(name, tensor.sizes, host, "uint8", "mask", inverted=inverted)
            element = nm.ui8
        block = self._conversion.block
        argument = block.insert_arg(TensorType(element, tensor.sizes), len(block.args))
        self._conversion.values[value] = Quantized(argument, signature.scale, signature.zero_point)
        return signature

    def _convert(self, op: Operation) -> None:
        conversion = self._conversion
        if isinstance(op, torch.FakeQuantizeOp):
            quantized = conversion.values[op.result] = self._fake_quantize(op)
            if quantized is not conversion.values.get(op.input):
                set_meaning(quantized.value, conversion.meaning(quantized, op.input))
            return
        # An operation is converted with the fake_quantize that follows it.
        lowering = lowering_of(op)
        if lowering is not None and lowering.follow is not None:
            lowering.follow(conversion, op)

    def _fake_quantize(self, op: torch.FakeQuantizeOp) -> Quantized:
        conversion, storage = self._conversion, storage_of(op)
        if op.input in conversion.values:
            return conversion.requantized(conversion.values[op.input], storage)
        producer = op.input.owner
        if not isinstance(producer, Operation):
            raise conversion.error("a function input is used without being quantized")
        conversion.current = producer
        lowering = lowering_of(producer)
        if lowering is None or lowering.round is None:
            raise conversion.error(f"{producer.name} has no integer form")
        return lowering.round(conversion, producer, storage)


def _input_storage(value: SSAValue, name: str) -> Storage:
    for use in value.uses:
        if isinstance(use.operation, torch.FakeQuantizeOp):
            return storage_of(use.operation)
    if value.uses:
        raise ConversionError(f"input '{name}' is used without being quantized: run torch-quantize first")
    return Storage(nm.si16, 1.0, 0)


def _output(result: Quantized, name: str) -> TensorSignature:
    shape = tuple(nm.tensor_of(result.value).get_shape())
    dtype = tensor_dtype(result.value).name
    return TensorSignature(name, shape, "float32", dtype, "quantized", result.scale, result.zero_point)


def _names(attributes: ArrayAttr[DictionaryAttr] | None) -> list[str]:
    if attributes is None:
        raise ConversionError("the function's inputs and outputs have no names (sta.name)")
    names: list[str] = []
    for entry in attributes:
        name = entry.data.get("sta.name")
        if not isinstance(name, StringAttr):
            raise ConversionError("the function's inputs and outputs have no names (sta.name)")
        names.append(name.data)
    return names


def _index_limit(value: SSAValue) -> int:
    """Rows of the smallest table that the value indexes, 0 if it indexes none."""
    tables = [op.weight for op in users_through_views(value) if isinstance(op, torch.EmbeddingOp)]
    return min((torch.sizes_of(table)[0] for table in tables), default=0)


@dataclass(frozen=True)
class ConvertTorchToNmPass(ModulePass):
    """Folds quantize-dequantize pairs and float parameters into integer operations."""

    name = "convert-torch-to-nm"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Converts every function of `op` in place. Raises ConversionError."""
        weights = weights_of(ctx)
        for function in machine_functions(op):
            converted = FunctionConversion(function, weights).convert()
            op.body.block.insert_op_before(converted, function)
            function.detach()
            function.erase(safe_erase=False)
