"""Building `nm` modules by hand: what tests of the dialect, the passes and the back end start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, IntegerType, ModuleOp, TensorType, UnknownLoc
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.irdl import IRDLOperation

from sta.dialect import nm
from sta.dialect.interpreters.nm import element_dtype, tensor_dtype
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import named
from sta.dialect.ir.port_attribute import port_entry
from sta.spec.integers import encode_scale
from sta.spec.nm_format import Pattern, prune_by_magnitude
from sta.spec.signature import TensorSignature
from sta.spec.target import Target

Array = NDArray[Any]
OperationType = TypeVar("OperationType", bound=IRDLOperation)

PLAIN_TARGET = Target(
    name="plain",
    array_rows=4,
    array_columns=4,
    multipliers=4,
    window=32,
    vector_lanes=8,
    softmax_lanes=8,
    clock_mhz=100,
    sram_bytes=1 << 18,
    dma_bytes_per_cycle=16,
    dma_latency=20,
    drain_latency=10,
    tile_rows=32,
    tile_columns=16,
    queue_depth=8,
)
"""A machine with room enough for small models, and tiles that do not divide their shapes."""


@dataclass(frozen=True)
class Case:
    """A module, the context it is compiled in, and inputs for it."""

    module: ModuleOp = field(repr=False)
    """Of a large one Hypothesis would warn that its text is too long."""
    context: CompileContext = field(repr=False)
    inputs: dict[str, Array] = field(repr=False)


@dataclass
class NmBuilder:
    """
    Appends operations to the `main` function of a module.

    `path` is the module path that operations get; random numbers come from `random`.
    """

    target: Target = PLAIN_TARGET
    seed: int = 0
    path: str = "model"
    block: Block = field(default_factory=Block)
    signatures: list[TensorSignature] = field(default_factory=list[TensorSignature])
    inputs: dict[str, Array] = field(default_factory=dict[str, Array])

    def __post_init__(self) -> None:
        self.context = CompileContext(target=self.target)
        self.random = np.random.default_rng(self.seed)

    def add(self, op: OperationType) -> OperationType:
        """Appends an operation, located at the current path."""
        op.location = named(self.path, UnknownLoc())
        self.block.add_op(op)
        return op

    def argument(
        self,
        name: str,
        shape: Sequence[int],
        element: IntegerType,
        values: Array,
        kind: str = "quantized",
        limit: int = 0,
    ) -> SSAValue:
        """An input of the model whose device integers are `values`."""
        dtype = element_dtype(element)
        host = "float32" if kind == "quantized" else "int64"
        self.signatures.append(TensorSignature(name, tuple(shape), host, dtype.name, kind, limit=limit))
        self.inputs[name] = values.astype(host)
        return self.block.insert_arg(TensorType(element, shape), len(self.block.args))

    def stream(self, name: str, shape: Sequence[int], spread: float = 6000.0) -> SSAValue:
        """A random int16 input."""
        values = np.clip(np.rint(self.random.normal(0, spread, shape)), -32768, 32767)
        return self.argument(name, shape, nm.si16, values)

    def bytes(self, name: str, shape: Sequence[int]) -> SSAValue:
        """A random int8 input."""
        return self.argument(name, shape, nm.si8, self.random.integers(-128, 128, shape))

    def mask(self, name: str, shape: Sequence[int], admissible: float = 0.7) -> SSAValue:
        """A random mask, given to the model as int64."""
        return self.argument(name, shape, nm.ui8, self.random.random(shape) < admissible, "mask")

    def weight(self, name: str, values: Array, element: IntegerType, encoding: Attribute | None = None) -> SSAValue:
        """A constant in the weight store."""
        values = np.ascontiguousarray(values, element_dtype(element))
        type_ = TensorType(element, values.shape, *([] if encoding is None else [encoding]))
        return self.add(nm.WeightOp(self.context.weights.put_unique(name, values), type_)).result

    def rescale(self, x: SSAValue, scale: float, bias: int = 0) -> SSAValue:
        """`(x + bias) * scale` as int32."""
        multiplier, shift = encode_scale(scale)
        return self.add(nm.RescaleOp(x, bias, int(multiplier), int(shift))).result

    def clamp(self, x: SSAValue, element: IntegerType, zero_point: int = 0) -> SSAValue:
        """Saturation to a stored type."""
        return self.add(nm.ClampOp(x, zero_point, element)).result

    def weights(self, columns: int, depth: int, pattern: Pattern | None = None) -> Array:
        """Random int8 weights that satisfy a pattern."""
        values = self.random.integers(-127, 128, (columns, depth)).astype(np.int8)
        if pattern is None or pattern.is_dense:
            return values
        return prune_by_magnitude(values.astype(np.float32), pattern).astype(np.int8)

    def product(self, x: SSAValue, columns: int, name: str, pattern: Pattern | None = None) -> SSAValue:
        """Accumulators of a product with random weights."""
        depth = nm.tensor_of(x).get_shape()[-1]
        weight = self.weight(f"{name}.weight", self.weights(columns, depth, pattern), nm.si8)
        return self.add(nm.ProductOp(x, weight)).result

    def scaled_channels(self, acc: SSAValue, scale: float, name: str, bias: int = 9999) -> SSAValue:
        """Accumulators with a random bias and a random scale a channel, around `scale`."""
        channels = nm.tensor_of(acc).get_shape()[-1]
        multiplier, shift = encode_scale(scale * self.random.uniform(0.5, 1.5, channels))
        return self.add(
            nm.RescaleChannelsOp(
                acc,
                self.weight(f"{name}.bias", self.random.integers(-bias, bias + 1, channels), nm.si32),
                self.weight(f"{name}.multiplier", multiplier, nm.si32),
                self.weight(f"{name}.shift", shift, nm.si8),
            )
        ).result

    def linear(
        self, x: SSAValue, columns: int, name: str, pattern: Pattern | None = None, spread: float = 60.0
    ) -> SSAValue:
        """A linear layer before its clamp; the results have a standard deviation of about `spread`."""
        depth = nm.tensor_of(x).get_shape()[-1]
        acc = self.product(x, columns, name, pattern)
        if nm.is_wide(x):
            return self.scaled_channels(acc, spread / (6000 * 70 * depth**0.5), name, bias=1 << 20)
        return self.scaled_channels(acc, spread / (50 * 70 * depth**0.5), name)

    def matmul(self, a: SSAValue, b: SSAValue, spread: float = 60.0) -> SSAValue:
        """The product of `a` `[..., M, K]` and `b` `[..., N, K]`, with a standard deviation of about `spread`."""
        depth = nm.tensor_of(a).get_shape()[-1]
        unit = (6000 if nm.is_wide(a) else 70) * 70 * depth**0.5
        return self.rescale(self.add(nm.DynamicProductOp(a, b)).result, spread / unit)

    def table(self, x: SSAValue, name: str) -> SSAValue:
        """A random activation table that rises and falls."""
        points = np.arange(-256, 257) / 64.0
        values = np.rint(9000 * np.tanh(points * self.random.uniform(0.3, 3)) + 3000 * np.sin(points)).astype(np.int16)
        return self.add(nm.TableOp(x, self.weight(name, values, nm.si16))).result

    def norm(self, x: SSAValue, name: str, kind: str = "layer", epsilon: int = 7) -> SSAValue:
        """A normalization with random gamma and beta; its results have a standard deviation of about 5000."""
        width = nm.tensor_of(x).get_shape()[-1]
        gamma, beta = self.random.normal(5000, 2000, width), self.random.normal(0, 2000, width)
        quantized = [
            self.weight(f"{name}.{part}", np.rint(values * 64), nm.si32) for part, values in (("g", gamma), ("b", beta))
        ]
        result = self.add(nm.NormOp(x, quantized[0], quantized[1], kind, epsilon, 26)).result
        assert result is not None
        return result

    def rotate(
        self,
        x: SSAValue,
        tables: tuple[SSAValue, SSAValue],
        width: int,
        element: IntegerType = nm.si16,
        pairing: str = "half",
    ) -> SSAValue:
        """Pairs of columns, rotated with any tables of int16."""
        return self.add(nm.RotateOp(x, tables, pairing, width, (1 << 30, 45), element)).result

    def angles(self, name: str, *shape: int) -> tuple[SSAValue, SSAValue]:
        """Random cosines and sines."""
        first, second = (self.random.integers(-32768, 32768, shape) for _ in range(2))
        return self.weight(f"{name}.cosines", first, nm.si16), self.weight(f"{name}.sines", second, nm.si16)

    def view(self, x: SSAValue, *shape: int) -> SSAValue:
        """The same elements under another shape."""
        return self.add(nm.ViewOp(x, shape)).result

    def permute(self, x: SSAValue, *axes: int) -> SSAValue:
        """The axes in another order."""
        return self.add(nm.PermuteOp(x, axes)).result

    def slice(self, x: SSAValue, axis: int, start: int, stop: int, step: int = 1) -> SSAValue:
        """Elements `start:stop:step` of one axis."""
        return self.add(nm.SliceOp(x, axis, start, stop, step)).result

    def broadcast(self, x: SSAValue, *shape: int) -> SSAValue:
        """Axes of size 1, and axes that `x` has not, repeated."""
        return self.add(nm.BroadcastOp(x, shape)).result

    def concatenate(self, axis: int, *parts: SSAValue) -> SSAValue:
        """Tensors one after the other."""
        return self.add(nm.ConcatenateOp(parts, axis)).result

    def windows(self, x: SSAValue, axis: int, size: int, step: int) -> SSAValue:
        """Windows of `size` elements of one axis, each `step` behind the one before."""
        return self.add(nm.WindowsOp(x, axis, size, step)).result

    def sum(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """The sum of two int32 tensors."""
        return self.combine(nm.AddOp, a, b)

    def combine(self, kind: type[nm.CombinationOp], a: SSAValue, b: SSAValue) -> SSAValue:
        """Two int32 tensors combined by an operation."""
        return self.add(kind(a, b)).result

    def multiply(self, a: SSAValue, b: SSAValue, scale: float, bias: int = 0) -> SSAValue:
        """`a * (b + bias) * scale` as int32."""
        multiplier, shift = encode_scale(scale)
        return self.add(nm.MultiplyOp(a, b, bias, int(multiplier), int(shift))).result

    def attention(
        self,
        operands: tuple[SSAValue, SSAValue, SSAValue],
        mask: SSAValue | None = None,
        causal: bool = False,
        element: IntegerType = nm.si8,
        permutation: Sequence[int] = (0, 1, 2, 3),
        *,
        bits: int = 8,
        chunk: int | None = None,
        bias: SSAValue | None = None,
    ) -> SSAValue:
        """Attention whose scores, and their biases, spread over several octaves."""
        depth = nm.tensor_of(operands[0]).get_shape()[-1]
        score, output = (
            encode_scale([300.0 / (70 * 70 * depth**0.5), 0.9])[0],
            encode_scale([300.0 / (70 * 70 * depth**0.5), 0.9])[1],
        )
        return self.add(
            nm.AttentionOp(
                operands,
                mask,
                (int(score[0]), int(output[0])),
                (int(score[1]), int(output[1]), 5),
                causal,
                element,
                permutation,
                bits=bits,
                chunk=chunk,
                bias=None if bias is None else (bias, (1 << 30, 32)),
            )
        ).result

    def case(self, *outputs: SSAValue) -> Case:
        """The module that returns `outputs`, called `out0`, `out1` and so on."""
        self.block.add_op(func.ReturnOp(*outputs))
        results = [
            TensorSignature(
                f"out{i}", tuple(nm.tensor_of(value).get_shape()), "float32", tensor_dtype(value).name, "quantized"
            )
            for i, value in enumerate(outputs)
        ]
        function = func.FuncOp(
            "main",
            ([argument.type for argument in self.block.args], [value.type for value in outputs]),
            Region(self.block),
            arg_attrs=_attributes(self.signatures),
            res_attrs=_attributes(results),
        )
        module = ModuleOp([function])
        module.verify()
        return Case(module, self.context, self.inputs)


def _attributes(signatures: Sequence[TensorSignature]) -> ArrayAttr[DictionaryAttr]:
    return ArrayAttr([port_entry(signature) for signature in signatures])
