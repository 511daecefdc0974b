"""
Puts quantize-dequantize pairs into a calibrated float module: which value is stored how, and with which scale.

The policy (DESIGN, Numbers): operands of products with weights are int8 with a zero point, queries, keys and values
symmetric int8, everything on the residual stream symmetric int16. A linear that feeds nothing but an addition stays in
the accumulators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import IntegerType, ModuleOp
from xdsl.ir import Block, Operation, SSAValue, Use
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from sta.dialect import torch
from sta.dialect.context import weights_of
from sta.dialect.location import module_path
from sta.dialect.torch_interpreter import main_function
from sta.dialect.weight_store import WeightStore
from sta.passes.torch_calibrate import range_of

VIEWS = (torch.ViewOp, torch.PermuteOp, torch.SliceTensorOp)
ACTIVATIONS = (torch.ReluOp, torch.TanhOp, torch.SiluOp, torch.SigmoidOp, torch.GeluOp)
PRODUCERS = (
    torch.LinearOp,
    torch.AddTensorOp,
    torch.LayerNormOp,
    torch.ScaledDotProductAttentionOp,
    torch.EmbeddingOp,
    *ACTIVATIONS,
)
NARROWEST = 1e-12
"""
The magnitude a range has at least: a value that was always 0 still needs a scale.
"""


@dataclass(frozen=True)
class Format:
    """
    How a value is stored.
    """

    storage: IntegerType
    scale: float
    zero_point: int = 0


def symmetric(low: float, high: float, storage: IntegerType) -> Format:
    """
    The symmetric format that reaches the larger of the two magnitudes.
    """
    limit = (1 << (storage.width.data - 1)) - 1
    return Format(storage, max(-low, high, NARROWEST) / limit)


def affine(low: float, high: float) -> Format:
    """
    The int8 format with zero point over [low, high]; 0 is in the range and is stored exactly.
    """
    scale = max(high - low, NARROWEST) / 255
    zero_point = int(np.clip(np.rint(-128 - low / scale), -128, 127))
    return Format(torch.si8, scale, zero_point)


def kinds_of(operation: Operation) -> set[str]:
    """
    How an operation needs its operand, seen through views: as operand of a "product" with weights, of "attention", or
    on the "stream".
    """
    if isinstance(operation, VIEWS):
        return {kind for use in operation.result.uses for kind in kinds_of(use.operation)} or {"stream"}
    if isinstance(operation, torch.LinearOp):
        return {"product"}
    if isinstance(operation, torch.ScaledDotProductAttentionOp):
        return {"attention"}
    return {"stream"}


def _single_chain(value: SSAValue) -> Operation | None:
    """
    The operation at the end of a chain of views in which every value has one use.
    """
    while value.has_one_use():
        operation = next(iter(value.uses)).operation
        if not isinstance(operation, VIEWS):
            return operation
        value = operation.result
    return None


def _origin(value: SSAValue) -> SSAValue:
    while isinstance(value.owner, VIEWS):
        value = value.owner.input
    return value


class Quantizer:
    """
    Quantizes one module.
    """

    def __init__(self, module: ModuleOp, weights: WeightStore):
        self.module = module
        self.weights = weights
        self.in_accumulators: set[SSAValue] = set()

    def run(self) -> None:
        """
        Quantizes inputs, then the results of operations in order, then constants that are added.
        """
        block = main_function(self.module).body.block
        for argument in list(block.args):
            if torch.tensor_type(argument).is_float and argument.uses:
                self._quantize(argument, InsertPoint.at_start(block))
        for operation in list(block.ops):
            if isinstance(operation, PRODUCERS) and not self._stays_in_accumulators(operation):
                self._quantize(operation.results[0], InsertPoint.after(operation))
        for operation in list(block.ops):
            if isinstance(operation, torch.AddTensorOp):
                self._quantize_constants(operation)

    def _stays_in_accumulators(self, operation: Operation) -> bool:
        """
        Whether a linear's only use is an addition to something that is stored.
        """
        if not isinstance(operation, torch.LinearOp):
            return False
        addition = _single_chain(operation.result)
        if not isinstance(addition, torch.AddTensorOp):
            return False
        same_shape = torch.sizes_of(addition.result)
        for term, other in ((addition.input, addition.other), (addition.other, addition.input)):
            if _origin(term) is operation.result and _origin(other) not in self.in_accumulators:
                if torch.sizes_of(term) != same_shape:
                    return False
                self.in_accumulators.add(operation.result)
                return True
        return False

    def _range(self, value: SSAValue) -> tuple[float, float]:
        owner = value.owner
        if isinstance(owner, torch.EmbeddingOp) and isinstance(owner.weight.owner, torch.LiteralOp):
            table = owner.weight.owner.array(self.weights)
            return float(table.min()), float(table.max())
        found = range_of(self.module, value)
        if found is None:
            where = "an input" if isinstance(owner, Block) else module_path(owner) or owner.name
            raise ValueError(f"{where}: no finite range: calibrate the module on finite data first")
        return found

    def _quantize(self, value: SSAValue, place: InsertPoint) -> None:
        """
        Stores a value in its primary format; narrower copies for other uses are made from that.
        """
        low, high = self._range(value)
        kinds = {kind for use in value.uses for kind in kinds_of(use.operation)}
        formats = {
            "stream": symmetric(low, high, torch.si16),
            "attention": symmetric(low, high, torch.si8),
            "product": affine(low, high),
        }
        must_be_wide = isinstance(value.owner, Block | torch.EmbeddingOp) or len(kinds) > 1 or not kinds
        primary = "stream" if must_be_wide else next(iter(kinds))
        uses = list(value.uses)
        stored = self._insert(value, formats[primary], place)
        self._route(stored.result, primary, uses, formats, InsertPoint.after(stored))

    def _route(
        self, stored: SSAValue, primary: str, uses: list[Use], formats: dict[str, Format], place: InsertPoint
    ) -> None:
        """
        Lets each use read the format it needs: `stored`, or a copy made of it once. A view whose uses differ reads
        `stored`, and its uses are routed in turn.
        """
        copies = {primary: stored}
        for use in uses:
            operation = use.operation
            kinds = kinds_of(operation)
            if len(kinds) > 1:
                operation.operands[use.index] = stored
                view = operation.results[0]
                self._route(view, primary, list(view.uses), formats, InsertPoint.after(operation))
                continue
            kind = next(iter(kinds), "stream")
            if kind not in copies:
                copies[kind] = self._insert(stored, formats[kind], place).result
            operation.operands[use.index] = copies[kind]

    def _insert(self, value: SSAValue, form: Format, place: InsertPoint) -> torch.FakeQuantizeOp:
        pair = torch.FakeQuantizeOp(value, form.scale, form.zero_point, form.storage)
        if not isinstance(value.owner, Block):
            pair.location = value.owner.location
        Rewriter.insert_op(pair, place)
        return pair

    def _quantize_constants(self, operation: torch.AddTensorOp) -> None:
        for index, operand in enumerate((operation.input, operation.other)):
            literal = _origin(operand).owner
            if isinstance(literal, torch.LiteralOp) and isinstance(operand.owner, torch.LiteralOp):
                values = literal.array(self.weights)
                form = symmetric(float(values.min()), float(values.max()), torch.si16)
                operation.operands[index] = self._insert(operand, form, InsertPoint.before(operation)).result


@dataclass(frozen=True)
class TorchQuantizePass(ModulePass):
    """
    Inserts `torch.fake_quantize` after every value that is stored, by the ranges that calibration left.
    """

    name = "torch-quantize"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        weights = weights_of(ctx)
        for function in op.ops:
            if isinstance(function, func.FuncOp):
                Quantizer(op, weights).run()
