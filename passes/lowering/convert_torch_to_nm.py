"""
From a `torch` module with quantize-dequantize pairs to integers: the pairs are folded into `nm` operations.

What it takes is what `torch-quantize` (or an importer of quantized models) leaves: every float value that a supported
operation makes passes through one `torch.fake_quantize`, except a linear that an addition takes straight from the
accumulators.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, IntegerType, ModuleOp, StringAttr, TensorType
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import nm, torch
from sta.dialect.interpreters.nm import tensor_dtype
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import module_path
from sta.dialect.ir.quantized_value import Meaning, set_meaning
from sta.dialect.ir.signature_attributes import signature_attribute
from sta.dialect.ir.tensor_names import float_names, origin
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.quantization.integer_weights import LinearIntegers, quantize_linear, quantize_symmetric, requantization
from sta.passes.torch.choose_softmax import BITS, CHUNK
from sta.spec.integers import encode_scale
from sta.spec.norm import quantize_norm_parameters
from sta.spec.signature import TensorSignature
from sta.spec.tables import ACTIVATIONS, build_table_8, build_table_16, widened_table

LOG2_UNITS = 1024 / math.log(2)
"""
Units of a score in the softmax: log2 with 10 fraction bits.
"""
TABLE_UNITS = 128
"""
A TOSA 16-bit table's result has 7 fraction bits.
"""
STREAM_LIMIT = 32767

Array = NDArray[Any]
VIEWS = (torch.ViewOp, torch.PermuteOp, torch.SliceTensorOp)


class ConversionError(ValueError):
    """
    A module is not in the form the conversion takes; names the layer.
    """


@dataclass(frozen=True)
class Quantized:
    """
    An integer tensor and what its integers mean: real = (integer - zero_point) * scale.
    """

    value: SSAValue
    scale: float
    zero_point: int = 0


@dataclass(frozen=True)
class Storage:
    """
    The number format a `torch.fake_quantize` asks for.
    """

    element: IntegerType
    scale: float
    zero_point: int


def _storage(op: torch.FakeQuantizeOp) -> Storage:
    return Storage(op.storage, op.scale.value.data, op.zero_point.value.data)


def _scale(real: float) -> tuple[int, int]:
    multiplier, shift = encode_scale(real)
    return int(multiplier), int(shift)


@dataclass
class FunctionConversion:
    """
    The conversion of one function.
    """

    source: func.FuncOp
    weights: WeightStore
    block: Block = field(default_factory=Block)
    values: dict[SSAValue, Quantized] = field(default_factory=dict[SSAValue, Quantized])
    current: Operation | None = None
    names: dict[SSAValue, str] = field(default_factory=dict[SSAValue, str])
    """
    What the tensors of the float model are called.
    """

    def convert(self) -> func.FuncOp:
        """
        The function on integer tensors.
        """
        source = self.source.body.block
        self.names = float_names(self.source)
        inputs = [
            self._input(value, name) for value, name in zip(source.args, _names(self.source.arg_attrs), strict=True)
        ]
        for op in source.ops:
            self.current = op
            try:
                self._convert(op)
            except ConversionError:
                raise
            except ValueError as error:
                way_out = "look at this layer's weights, and at its values on the calibration samples"
                raise ConversionError(f"{self.path}: {error}; {way_out}") from error
        terminator = source.last_op
        assert isinstance(terminator, func.ReturnOp)
        results = [self._quantized(value) for value in terminator.arguments]
        outputs = [
            self._output(result, name) for result, name in zip(results, _names(self.source.res_attrs), strict=True)
        ]
        self.block.add_op(func.ReturnOp(*(result.value for result in results)))
        types = ([arg.type for arg in self.block.args], [result.value.type for result in results])
        function = func.FuncOp(
            self.source.sym_name.data,
            types,
            Region(self.block),
            arg_attrs=ArrayAttr([signature_attribute(signature) for signature in inputs]),
            res_attrs=ArrayAttr([signature_attribute(signature) for signature in outputs]),
        )
        function.location = self.source.location
        return function

    @property
    def path(self) -> str:
        """
        Module path of the operation being converted.
        """
        return "" if self.current is None else module_path(self.current)

    def _emit(self, op: Any) -> Any:
        assert self.current is not None
        op.location = self.current.location
        self.block.add_op(op)
        return op

    def _constant(self, name: str, values: Array, element: IntegerType, encoding: Any = None) -> SSAValue:
        type_ = TensorType(element, values.shape, *([encoding] if encoding else []))
        return self._emit(nm.WeightOp(self.weights.put_unique(name, values), type_)).result

    def _input(self, value: SSAValue, name: str) -> TensorSignature:
        """
        Adds an argument: activations as int16, indices as int32, masks as bytes.
        """
        tensor = torch.tensor_type(value)
        host = torch.numpy_dtype(tensor.element_type).name
        if tensor.is_float:
            storage = self._input_storage(value, name)
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
        argument = self.block.insert_arg(TensorType(element, tensor.sizes), len(self.block.args))
        self.values[value] = Quantized(argument, signature.scale, signature.zero_point)
        return signature

    def _input_storage(self, value: SSAValue, name: str) -> Storage:
        for use in value.uses:
            if isinstance(use.operation, torch.FakeQuantizeOp):
                return _storage(use.operation)
        if value.uses:
            raise ConversionError(f"input '{name}' is used without being quantized: run torch-quantize first")
        return Storage(nm.si16, 1.0, 0)

    def _output(self, result: Quantized, name: str) -> TensorSignature:
        shape = tuple(nm.tensor_of(result.value).get_shape())
        dtype = tensor_dtype(result.value).name
        return TensorSignature(name, shape, "float32", dtype, "quantized", result.scale, result.zero_point)

    def _quantized(self, value: SSAValue) -> Quantized:
        if value not in self.values:
            raise ConversionError(f"{self.path}: a value is used without being quantized: run torch-quantize first")
        return self.values[value]

    def _array(self, value: SSAValue) -> tuple[str, Array] | None:
        """
        Name and array of a constant operand; None for Python's None.
        """
        if isinstance(value.type, torch.NoneType):
            return None
        op = value.owner
        if not isinstance(op, torch.LiteralOp):
            raise ConversionError(f"{self.path}: a parameter is not a constant of the model")
        return op.resource or f"{self.path}.constant", op.array(self.weights)

    def _convert(self, op: Operation) -> None:
        match op:
            case torch.FakeQuantizeOp():
                quantized = self.values[op.result] = self._fake_quantize(op)
                if quantized is not self.values.get(op.input):
                    set_meaning(quantized.value, self._meaning(quantized, op.input))
            case torch.ViewOp() | torch.PermuteOp() | torch.SliceTensorOp():
                if op.input in self.values:
                    quantized = self.values[op.input]
                    viewed = self._view(op, quantized.value)
                    self.values[op.result] = Quantized(viewed, quantized.scale, quantized.zero_point)
            case torch.ToDtypeOp() | torch.LogicalNotOp():
                # The host brings masks into their device form: see the input's signature.
                self.values[op.result] = self._quantized(op.input)
            case torch.LiteralOp():
                self._mask_constant(op)
            case _:
                # Producers are converted with the fake_quantize that follows them.
                return

    def _meaning(self, quantized: Quantized, value: SSAValue) -> Meaning:
        return Meaning(quantized.scale, quantized.zero_point, self.names.get(origin(value), ""))

    def _mask_constant(self, op: torch.LiteralOp) -> None:
        """
        A constant attention mask: bytes, non-zero where a key is admissible.
        """
        if not any(isinstance(user, torch.ScaledDotProductAttentionOp) for user in _users_through_views(op.result)):
            return
        values = op.array(self.weights)
        if values.dtype == np.bool_:
            name = f"{op.resource or 'mask'}@mask"
            self.values[op.result] = Quantized(self._constant(name, values.astype(np.uint8), nm.ui8), 1.0)

    def _view(self, op: torch.ViewOp | torch.PermuteOp | torch.SliceTensorOp, value: SSAValue) -> SSAValue:
        match op:
            case torch.ViewOp():
                return self._emit(nm.ViewOp(value, torch.sizes_of(op.result))).result
            case torch.PermuteOp():
                return self._emit(nm.PermuteOp(value, op.axes)).result
            case torch.SliceTensorOp():
                axis, start, stop, step = op.bounds
                if step != 1:
                    raise ConversionError(f"{self.path}: a slice with step {step} is not supported")
                return self._emit(nm.SliceOp(value, axis, start, stop)).result

    def _clamp(self, value: SSAValue, storage: Storage) -> Quantized:
        clamped = self._emit(nm.ClampOp(value, storage.zero_point, storage.element)).result
        return Quantized(clamped, storage.scale, storage.zero_point)

    def _rescaled(self, quantized: Quantized, scale: float) -> SSAValue:
        """
        The value without its zero point, in units of `scale`.
        """
        return self._emit(nm.RescaleOp(quantized.value, -quantized.zero_point, *_scale(quantized.scale / scale))).result

    def _fake_quantize(self, op: torch.FakeQuantizeOp) -> Quantized:
        storage = _storage(op)
        value = op.input
        if value in self.values:
            return self._requantized(self.values[value], storage)
        producer = value.owner
        if not isinstance(producer, Operation):
            raise ConversionError(f"{self.path}: a function input is used without being quantized")
        self.current = producer
        match producer:
            case torch.LiteralOp():
                return self._constant_stream(producer, storage)
            case torch.LinearOp() | torch.ViewOp() | torch.PermuteOp():
                return self._clamp(self._accumulated(value, storage.scale, is_sum=False), storage)
            case torch.AddTensorOp():
                return self._clamp(self._sum(producer, storage.scale), storage)
            case torch.EmbeddingOp():
                return self._embedding(producer, storage)
            case torch.MulTensorOp():
                return self._clamp(self._multiplied(producer, storage.scale), storage)
            case torch.LayerNormOp() | torch.RmsNormOp():
                return self._norm(producer, storage)
            case torch.ScaledDotProductAttentionOp():
                return self._attention(producer, storage)
            case torch.ReluOp() | torch.TanhOp() | torch.SiluOp() | torch.SigmoidOp() | torch.GeluOp():
                return self._activation(producer, storage)
            case _:
                raise ConversionError(f"{self.path}: {producer.name} has no integer form")

    def _requantized(self, quantized: Quantized, storage: Storage) -> Quantized:
        same = (quantized.scale, quantized.zero_point) == (storage.scale, storage.zero_point)
        if same and nm.tensor_of(quantized.value).element_type == storage.element:
            return quantized
        return self._clamp(self._rescaled(quantized, storage.scale), storage)

    def _constant_stream(self, op: torch.LiteralOp, storage: Storage) -> Quantized:
        values = quantize_symmetric(op.array(self.weights), storage.scale)
        name = f"{op.resource or self.path}@int16"
        return Quantized(self._constant(name, values, nm.si16), storage.scale)

    def _accumulated(self, value: SSAValue, scale: float, is_sum: bool = True) -> SSAValue:
        """
        A linear's accumulators in units of `scale`, seen through views of its result; for a sum, or by themselves.
        """
        op = value.owner
        if isinstance(op, VIEWS):
            inner = self._accumulated(op.input, scale, is_sum)
            return self._view(op, inner)
        if not isinstance(op, torch.LinearOp):
            raise ConversionError(f"{self.path}: a value is used without being quantized: run torch-quantize first")
        self.current = op
        acc, integers = self._linear(op)
        if not is_sum and isinstance(op.weight.owner, torch.FakeQuantizeChannelsOp) and integers.vanishes(scale):
            raise ConversionError(
                f"{self.path}: the scales that it came with cannot be realised: every result rounds to zero with an "
                f"output scale of {scale:g}, since a unit of the product is at most {float(integers.scales.max()):g}"
            )
        multiplier, shift = requantization(integers.scales, scale)
        return self._emit(
            nm.RescaleChannelsOp(
                acc,
                self._constant(f"{self.path}.bias@int32", integers.bias, nm.si32),
                self._constant(f"{self.path}.multiplier", multiplier, nm.si32),
                self._constant(f"{self.path}.shift", shift, nm.si8),
            )
        ).result

    def _linear(self, op: torch.LinearOp) -> tuple[SSAValue, LinearIntegers]:
        x = self._quantized(op.input)
        rounded = op.weight.owner
        scales, source = None, op.weight
        if isinstance(rounded, torch.FakeQuantizeChannelsOp):
            scales, source = self._array(rounded.scales), rounded.input
        weight = self._array(source)
        bias = self._array(op.bias)
        assert weight is not None
        offsets = None if bias is None else bias[1]
        try:
            integers = quantize_linear(
                weight[1],
                offsets,
                x.scale,
                x.zero_point,
                wide=nm.is_wide(x.value),
                given_scales=None if scales is None else scales[1],
            )
        except (OverflowError, ValueError) as error:
            raise ConversionError(f"{self.path}: {error}") from error
        constant = self._constant(f"{weight[0]}@int8", integers.weights, nm.si8)
        return self._emit(nm.ProductOp(x.value, constant)).result, integers

    def _sum(self, op: torch.AddTensorOp, scale: float) -> SSAValue:
        """
        Both addends in units of the result; the one of the result's shape first.
        """
        terms = [
            self._rescaled(self.values[value], scale) if value in self.values else self._accumulated(value, scale)
            for value in (op.input, op.other)
        ]
        self.current = op
        full = torch.sizes_of(op.result)
        terms.sort(key=lambda term: nm.tensor_of(term).get_shape() != full)
        if nm.tensor_of(terms[0]).get_shape() != full:
            raise ConversionError(f"{self.path}: an addition in which both operands broadcast is not supported")
        return self._emit(nm.AddOp(*terms)).result

    def _multiplied(self, op: torch.MulTensorOp, scale: float) -> SSAValue:
        """
        The product in units of the result; the factor of the result's shape first.
        """
        factors = [self._quantized(value) for value in (op.input, op.other)]
        full = torch.sizes_of(op.result)
        factors.sort(key=lambda factor: nm.tensor_of(factor.value).get_shape() != full)
        first, second = factors
        if nm.tensor_of(first.value).get_shape() != full:
            raise ConversionError(f"{self.path}: a product in which both operands broadcast is not supported")
        value = first.value if not first.zero_point else self._rescaled(first, first.scale)
        scales = _scale(first.scale * second.scale / scale)
        return self._emit(nm.MultiplyOp(value, second.value, -second.zero_point, *scales)).result

    def _embedding(self, op: torch.EmbeddingOp, storage: Storage) -> Quantized:
        table = self._array(op.weight)
        assert table is not None
        values = self._constant(f"{table[0]}@int16", quantize_symmetric(table[1], storage.scale), nm.si16)
        rows = self._emit(nm.GatherOp(values, self._quantized(op.indices).value)).result
        return Quantized(rows, storage.scale)

    def _stream(self, quantized: Quantized) -> Quantized:
        """
        A value as int16 without zero point: what norms take. Of 8 bits it is the same numbers.
        """
        if nm.element_of(quantized.value) == nm.si16 and quantized.zero_point == 0:
            return quantized
        return self._clamp(self._rescaled(quantized, quantized.scale), Storage(nm.si16, quantized.scale, 0))

    def _norm(self, op: torch.NormOp, storage: Storage) -> Quantized:
        x = self._stream(self._quantized(op.input))
        width = torch.sizes_of(op.input)[-1]
        kind = "layer" if isinstance(op, torch.LayerNormOp) else "rms"
        gamma = self._array(op.weight)
        beta = self._array(op.bias) if isinstance(op, torch.LayerNormOp) else None
        stream = storage
        if storage.element != nm.si16:
            reach = max(storage.zero_point + 128, 127 - storage.zero_point) * storage.scale
            stream = Storage(nm.si16, reach / STREAM_LIMIT, 0)
        gamma_q, beta_q, epsilon, shift = quantize_norm_parameters(
            np.ones(width) if gamma is None else gamma[1].astype(np.float64),
            np.zeros(width) if beta is None else beta[1].astype(np.float64),
            x.scale,
            stream.scale,
            torch.epsilon_of(op),
            width,
            kind,
        )
        norm = self._emit(
            nm.NormOp(
                x.value,
                self._constant(f"{self.path}.gamma@int32", gamma_q, nm.si32),
                self._constant(f"{self.path}.beta@int32", beta_q, nm.si32),
                kind,
                epsilon,
                shift,
            )
        )
        set_meaning(norm.result, Meaning(stream.scale, source=self.names.get(op.result, "")))
        return self._requantized(Quantized(norm.result, stream.scale), storage)

    def _activation(self, op: torch.ActivationOp, storage: Storage) -> Quantized:
        x = self._quantized(op.input)
        function = ACTIVATIONS[torch.activation_name(op)]
        if nm.element_of(x.value) == nm.si8 and storage.element == nm.si8:
            return self._looked_up_8(op, x, storage)
        if nm.element_of(x.value) == nm.si8:
            # Every value is that of an entry.
            wide = nm.RescaleOp(x.value, -x.zero_point, *_scale(TABLE_UNITS))
            x = Quantized(self._emit(wide).result, x.scale / TABLE_UNITS)
        samples = function(np.arange(-256, 257, dtype=np.float64) * (128.0 * x.scale))
        table_scale = float(np.abs(samples).max()) / STREAM_LIMIT or 1.0
        table = build_table_16(function, x.scale, table_scale)
        constant = self._constant(f"{self.path}.{torch.activation_name(op)}@table", table, nm.si16)
        looked_up = self._emit(nm.TableOp(x.value, constant)).result
        rescaled = self._emit(nm.RescaleOp(looked_up, 0, *_scale(table_scale / TABLE_UNITS / storage.scale))).result
        return self._clamp(rescaled, storage)

    def _looked_up_8(self, op: torch.ActivationOp, x: Quantized, storage: Storage) -> Quantized:
        """
        An activation of 8 bits to 8 bits: the correctly rounded result for each of 256 inputs.
        """
        name = torch.activation_name(op)
        narrow = build_table_8(ACTIVATIONS[name], x.scale, storage.scale, x.zero_point, storage.zero_point)
        table = self._constant(f"{self.path}.{name}@table", widened_table(narrow), nm.si16)
        wide = self._emit(nm.RescaleOp(x.value, 0, *_scale(256.0))).result
        looked_up = self._emit(nm.TableOp(wide, table)).result
        result = self._emit(nm.RescaleOp(looked_up, 0, *_scale(1 / TABLE_UNITS))).result
        # The table has the zero point in it.
        return replace(self._clamp(result, replace(storage, zero_point=0)), zero_point=storage.zero_point)

    def _attention(self, op: torch.ScaledDotProductAttentionOp, storage: Storage) -> Quantized:
        q, k, v = (self._quantized(value) for value in (op.query, op.key, op.value))
        if torch.sizes_of(op.key) != torch.sizes_of(op.value):
            raise ConversionError(f"{self.path}: values of another width than the keys are not supported")
        for part, what in ((q, "query"), (k, "key"), (v, "value")):
            if nm.tensor_of(part.value).element_type != nm.si8:
                raise ConversionError(f"{self.path}: its {what} must be quantized to 8 bits, not to 16")
        q = self._centred(q)
        given = torch.constant_of(op.scale)
        width = torch.sizes_of(op.query)[-1]
        scale = float(given) if isinstance(given, int | float) else 1 / math.sqrt(width)
        mask = None
        if not isinstance(op.attn_mask.type, torch.NoneType):
            mask = self._four_axes(self._quantized(op.attn_mask).value)
        result = Storage(nm.si16, v.scale * 128 / STREAM_LIMIT, 0) if v.zero_point else storage
        attention = self._emit(
            nm.AttentionOp(
                (self._four_axes(q.value), self._four_axes(k.value), self._four_axes(v.value)),
                mask,
                _scale(q.scale * k.scale * scale * LOG2_UNITS),
                (*_scale(v.scale / result.scale), result.zero_point),
                torch.constant_of(op.is_causal) is True,
                result.element,
                bits=_number(op, BITS) or 8,
                chunk=_number(op, CHUNK),
            )
        )
        shape = torch.sizes_of(op.result)
        value: SSAValue = attention.result
        if nm.tensor_of(value).get_shape() != shape:
            value = self._emit(nm.ViewOp(value, shape)).result
        if not v.zero_point:
            return Quantized(value, storage.scale, storage.zero_point)
        # The weights of a row add up to one, so that the zero point of the values comes out of attention as it went in.
        offset = -round(v.zero_point * v.scale / result.scale)
        rescaled = self._emit(nm.RescaleOp(value, offset, *_scale(result.scale / storage.scale))).result
        return self._clamp(rescaled, storage)

    def _centred(self, q: Quantized) -> Quantized:
        """
        Queries without zero point. One in the queries would add a term to each score that depends on the key, other
        than that of the keys, which is the same in all scores of a row and cancels in the softmax. Without it they have
        up to 9 bits, so that they are rounded to a grid that is up to twice as coarse.
        """
        if not q.zero_point:
            return q
        reach = max(128 + q.zero_point, 127 - q.zero_point)
        return self._requantized(q, Storage(nm.si8, q.scale * reach / 127, 0))

    def _four_axes(self, value: SSAValue) -> SSAValue:
        """
        `[..., S, D]` as `[B, H, S, D]`: missing axes are 1, further ones join the batch.
        """
        shape = nm.tensor_of(value).get_shape()
        if len(shape) == 4:
            return value
        leading = (1,) * (4 - len(shape)) if len(shape) < 4 else (math.prod(shape[:-3]),)
        rest = shape if len(shape) < 4 else shape[-3:]
        return self._emit(nm.ViewOp(value, (*leading, *rest))).result


def _number(op: Operation, attribute: str) -> int | None:
    """
    The integer that a pass before has set on an operation; None if it has not.
    """
    found = op.attributes.get(attribute)
    return None if found is None else nm.integer_of(found)


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


def _users_through_views(value: SSAValue) -> list[Operation]:
    users: list[Operation] = []
    for use in value.uses:
        users.append(use.operation)
        if isinstance(use.operation, (*VIEWS, torch.ToDtypeOp)):
            users += _users_through_views(use.operation.result)
    return users


def _index_limit(value: SSAValue) -> int:
    """
    Rows of the smallest table that the value indexes, 0 if it indexes none.
    """
    tables = [op.weight for op in _users_through_views(value) if isinstance(op, torch.EmbeddingOp)]
    return min((torch.sizes_of(table)[0] for table in tables), default=0)


@dataclass(frozen=True)
class ConvertTorchToNmPass(ModulePass):
    """
    Folds quantize-dequantize pairs and float parameters into integer operations.
    """

    name = "convert-torch-to-nm"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        weights = weights_of(ctx)
        for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
            converted = FunctionConversion(function, weights).convert()
            op.body.block.insert_op_before(converted, function)
            function.detach()
            function.erase(safe_erase=False)
