"""
Number formats from samples: methods are tried and kept if they improve the output, ranges are observed.

A quantized model keeps its formats. Only values without one are observed, or get the ranges that follow from values
with one.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from sta.dialect.ir.accuracy import set_fidelity
from sta.dialect.ir.context import CompileContext, compile_context
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.samples import Sample
from sta.passes.errors import CompileError
from sta.passes.option_values import METHODS
from sta.passes.quantization.bound_ranges import bound_ranges, place_of
from sta.passes.quantization.calibrate import calibrate
from sta.passes.quantization.choice import QuantizationChoice
from sta.passes.quantization.mask_depth import check_by_formats
from sta.passes.quantization.padding_rows import padding_mask
from sta.passes.quantization.plan import Choice
from sta.passes.quantization.poor_samples import faults_of
from sta.passes.torch.fold_quantization import is_quantized
from sta.passes.torch.prune import forget_dense_weights, unpruned
from sta.passes.torch.quantize import check_int16_inputs, values_without_format
from sta.passes.torch.round_weights import TorchRoundWeightsPass

MOST_DEPARTURE = 6.0
"""Decibels that roundings may cost more against the model than against what was read of it; they are no noise."""


@dataclass(frozen=True)
class TorchCalibratePass(ModulePass):
    """
    Chooses how a float module is quantized, and sets the ranges of its values (`sta.range`), from sample inputs.

    `methods` are tried in their order (`sta.passes.quantization.choice`). `min_sqnr` is the required SQNR of the
    output in decibels, against the module as this pass finds it: with pruned weights. Linear layers that match a glob
    of `int16_inputs` have 16-bit inputs in any case. `fast` tries no methods and looks for no other inputs.
    """

    name = "torch-calibrate"

    methods: tuple[str, ...] = METHODS
    min_sqnr: float | None = None
    int16_inputs: tuple[str, ...] = ()
    fast: bool = False

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """
        Sets ranges on `op`, which smoothing may change, and names the weights that `torch-round-weights` is to put. The
        context notes the `Choice` under the pass's name.

        Raises CompileError if the model cannot be quantized as asked, ValueError for samples that cannot be run,
        UnsupportedOperationsError for masks whose numbers do not leave keys out.
        """
        context = compile_context(ctx)
        check_int16_inputs(op, self.int16_inputs)
        if is_quantized(op):
            self._complete(op, context)
            return
        samples = _samples(op, context, needed=True)
        evaluation = context.samples.of("evaluation")
        given = unpruned(op, context.weights)
        forget_dense_weights(op)
        methods, least_sqnr = ((), 0.0) if self.fast else (self.methods, self.min_sqnr)
        chooser = QuantizationChoice(op, context, samples, methods, context.report, evaluation, given)
        choice = chooser.choose(least_sqnr, self.int16_inputs)
        judges = _judges(choice.held_out, bool(evaluation))
        self._check_reached(choice, judges, given is not None)
        if given is None and choice.given < choice.decibels - MOST_DEPARTURE:
            warnings.warn(
                f"the output reaches {choice.decibels:.1f} dB against the model as it was read, but "
                f"{choice.given:.1f} dB against the model itself on {judges}: what was read is not the model; sta diff "
                "shows where they part, and a report of it is welcome",
                stacklevel=6,
            )
        chooser.apply(choice.plan)
        set_fidelity(main_function(op), choice.fidelity)
        context.notes[self.name] = choice
        if choice.plan.weights_by_calibration:
            context.notes[TorchRoundWeightsPass.name] = choice

    def _check_reached(self, choice: Choice, judges: str, pruned: bool) -> None:
        model = "the pruned model" if pruned else "the model"
        if self.min_sqnr is not None and choice.decibels < self.min_sqnr:
            raise CompileError(
                f"the output reaches {choice.decibels:.1f} dB against {model} on {judges}, with 16 bits "
                f"for the input of every linear layer, and not the {self.min_sqnr:g} dB that were asked for: ask "
                "for less"
            )
        if choice.missed is not None:
            lost = f"; most is lost by rounding {choice.loudest}" if choice.loudest else ""
            warnings.warn(
                f"the output reaches {choice.decibels:.1f} dB against {model} on {judges}, and not the "
                f"{choice.missed:g} dB that are aimed at{lost}",
                stacklevel=9,
            )

    def _complete(self, op: ModuleOp, context: CompileContext) -> None:
        """Gives a format to values of a quantized model that have none."""
        if self.int16_inputs or self.min_sqnr is not None or context.samples.given("evaluation"):
            raise CompileError(
                "the model is quantized already and keeps its number formats: leave out int16_inputs, min_sqnr and "
                "evaluation"
            )
        values = _values_to_see(op, context)
        samples = _samples(op, context, needed=bool(values))
        if samples:
            count = len(samples)
            calibrate(op, context, samples, lambda done: context.report("calibrate", done / count))
        else:
            check_by_formats(op)
        if not context.samples.given("calibration"):
            # Safer than what a single example shows.
            _bound(op, context)


def _judges(held_out: int, is_evaluation: bool) -> str:
    """The samples that measured the output."""
    if is_evaluation:
        return f"{held_out} evaluation sample{'s' * (held_out > 1)}"
    if not held_out:
        return "a calibration sample, with too few to hold one out"
    return f"{held_out} held-out calibration sample{'s' * (held_out > 1)}"


def _values_to_see(module: ModuleOp, context: CompileContext) -> list[SSAValue]:
    """The values of a quantized model whose formats only samples can tell."""
    if context.samples.given("calibration"):
        return values_without_format(module, context.weights)
    values = _bound(module, context)
    if values and not context.samples.examples:
        places = ", ".join(dict.fromkeys(place_of(value) for value in values))
        raise CompileError(f"the model does not say how to quantize {places}: give calibration data")
    return values


def _bound(module: ModuleOp, context: CompileContext) -> list[SSAValue]:
    """Gives values of a quantized model without format the ranges that follow from others; returns the rest."""
    return bound_ranges(module, context.weights, values_without_format(module, context.weights))


def _samples(module: ModuleOp, context: CompileContext, needed: bool) -> list[Sample]:
    """Calibration data, or else the example inputs; there may be none if they are not `needed` for ranges."""
    if context.samples.given("calibration"):
        samples = context.samples.of("calibration")
        mask = padding_mask(module, context.weights)
        for fault in faults_of(samples, None if mask is None else mask.name):
            warnings.warn(fault, stacklevel=9)
        return samples
    examples = context.samples.examples
    if needed and not examples:
        raise CompileError("the model came without example inputs: give calibration data")
    if needed:
        warnings.warn(
            "no calibration data: activation ranges are taken from the example inputs alone, which costs "
            "accuracy; give some real inputs",
            stacklevel=9,
        )
    return examples
