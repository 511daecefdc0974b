"""
Quantization of a model: methods used beyond each value's extremes, and the inputs that get 16 bits.

A candidate is judged by the model's output, on samples outside of its ranges' samples, and kept only if the noise there
is less; by LEAST_GAIN, if the method costs cycles. Nothing is judged by the error of a single layer: that can fall
while the output gets worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp, UnitAttr
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import TorchInterpretationError, run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import module_path
from sta.passes.option_values import METHODS
from sta.passes.options import StageProgress, silent
from sta.passes.quantization.calibrate import ExtremesObserver, Observation, RangeObserver
from sta.passes.quantization.calibration_observer import RowObserver
from sta.passes.quantization.candidate import Candidate
from sta.passes.quantization.gptq import products_of_rounding
from sta.passes.quantization.layer_selection import matches
from sta.passes.quantization.loudest_rounding import loudest_rounding
from sta.passes.quantization.noise import Noise
from sta.passes.quantization.padding_rows import padding_mask
from sta.passes.quantization.plan import Choice, Plan
from sta.passes.quantization.wide_inputs import SENSITIVITY_SAMPLES, WideInputs
from sta.passes.quantization.work import Work, products_of_layers
from sta.passes.quantization.workers import in_parallel
from sta.passes.rewriting.torch_operations import operations_of
from sta.passes.rewriting.uses_through_views import source_of_rows
from sta.passes.torch.quantize import narrow_kind
from sta.passes.torch.round_weights import name_rounded_weights
from sta.spec.accuracy import Trial

Array = NDArray[Any]
Sample = Mapping[str, Array]

_NAMES = {
    "smoothing": "SmoothQuant, strength {0.smoothing}",
    "ranges": "ranges by error",
    "weights": "GPTQ",
}
SMOOTHING_STRENGTHS = (0.5, 0.7)
HELD_OUT_PART = 4
"""One sample of so many is held out."""
MOST_HELD_OUT = 8
"""Most held-out samples: more make the choice slower, and hardly another one."""
DEFAULT_LEAST_SQNR = 20.0
"""Decibels at the output below which inputs get 16 bits at any cost: noise of a hundredth of the signal's power."""
WANTED_SQNR, IMPROVED_SQNR = 32.0, 30.0
"""
Decibels at the output up to which inputs get 16 bits while this costs little, and those that it has to reach for that:
noise of a thousandth. Few samples that judge are off by one or two decibels.
"""

LEAST_GAIN = 1.0
"""
Decibels that a method has to gain where it costs cycles. Below the required SQNR any gain counts: 16 bits cost more.
"""


class QuantizationChoice:
    """Chooses the plan for a float module of the `torch` dialect; `apply` then prepares the module for it."""

    def __init__(
        self,
        module: ModuleOp,
        context: CompileContext,
        samples: Sequence[Sample],
        methods: Sequence[str] = METHODS,
        report: StageProgress = silent,
        evaluation: Sequence[Sample] = (),
        given: ModuleOp | None = None,
    ) -> None:
        """
        Splits samples into those of the ranges and those that judge the output. Without `evaluation` a part of
        `samples` is held out until the choice is made. `given` is the module before weights were pruned, if some were:
        the choice is measured against it, too.
        """
        count = len(samples)
        held_out = 0 if evaluation else min(count // HELD_OUT_PART or count // 2, MOST_HELD_OUT)
        self._module = module
        self._context = context
        self._samples = samples
        self._seen = count - held_out
        """Number of samples of the judged ranges."""
        self._evaluation = evaluation
        self._given = given
        self._methods = methods
        self._report = report
        self._observation = Observation(module, context, _observer)
        self._mask = padding_mask(module, context.weights)
        self._forward = products_of_layers(module)
        self._work = Work(report, 0)

    def choose(self, least_sqnr: float | None, int16_inputs: Sequence[str] = ()) -> Choice:
        """
        The best plan on held-out samples, with 16-bit inputs by sensitivity.

        `least_sqnr` is the required SQNR of the output in decibels, at any cost; None is DEFAULT_LEAST_SQNR, and
        WANTED_SQNR where that costs little, as long as there are samples to hold out: the sample of the ranges does not
        show the needs of others. Inputs that match a glob in `int16_inputs` have 16 bits in any case. Raises ValueError
        for samples that cannot be run, and values that are not finite.
        """
        noise, held_out = self._observe()
        choice = Choice(Plan(int16_inputs=tuple(int16_inputs)), held_out=held_out)
        # The arrays of candidates are gone before the rest is observed.
        self._choose(choice, noise, least_sqnr)
        self._observe_rest()
        return choice

    def _choose(self, choice: Choice, noise: Noise, asked: float | None) -> None:
        """Tries candidates and notes them in `choice`."""
        least_sqnr = asked
        if least_sqnr is None:
            least_sqnr = DEFAULT_LEAST_SQNR if choice.held_out else 0.0
        kept = Candidate(self._module, self._context, self._observation.observers).copy()
        choice.decibels = self._judge(noise, kept, choice.plan)
        choice.record([(choice.plan, Trial("extremes", choice.decibels))])
        for method, plans in self._candidates() if choice.held_out else ():
            kept = self._try(noise, choice, kept, method, plans(choice.plan), least_sqnr)
        if choice.plan.ranges_by_error:
            choice.trials[0] = replace(choice.trials[0], kept=False)
        if choice.decibels < least_sqnr:
            WideInputs(self._module, kept, noise, self._report).choose(choice, least_sqnr)
        if asked is None and choice.held_out and choice.decibels < WANTED_SQNR:
            WideInputs(self._module, kept, noise, self._report).improve(choice, WANTED_SQNR, IMPROVED_SQNR)
        if asked is None and choice.decibels < least_sqnr:
            choice.missed = least_sqnr
            choice.loudest = self._loudest(noise, kept, choice.plan)
        choice.given = self._against_given(noise, kept, choice)

    def _loudest(self, noise: Noise, candidate: Candidate, plan: Plan) -> str | None:
        self._report("find what costs most", None)
        quantized, few = candidate.quantized(plan.int16_inputs), noise.on_first(SENSITIVITY_SAMPLES)
        return loudest_rounding(quantized.module, lambda module: few.decibels(module, quantized.context))

    def _against_given(self, noise: Noise, candidate: Candidate, choice: Choice) -> float:
        """The SQNR of the choice against the model as it was given, on the samples that judge."""
        given = self._given
        if self._context.original is None and given is None:
            return choice.decibels
        self._report("compare with the model given", None)
        references = self._of_original(noise.samples)
        if references is None and given is None:
            return choice.decibels
        if references is None:
            assert given is not None
            found: list[Mapping[str, Array]] = []
            in_parallel(lambda sample: run_torch(given, self._context, sample), noise.samples, found.append)
            references = found
        return candidate.decibels(replace(noise, references=references), choice.plan.int16_inputs)

    def _of_original(self, samples: Sequence[Sample]) -> list[Mapping[str, Array]] | None:
        """The outputs of the model by the library that it came from; None where that does not run it."""
        if self._context.original is None:
            return None
        try:
            return [self._context.original(sample) for sample in samples]
        except ValueError:
            return None

    def _observe(self) -> tuple[Noise, int]:
        """Observes the samples of the judged ranges; the others judge."""
        judges = self._evaluation or self._samples[self._seen :]
        self._work = self._expected(len(judges))
        outputs = self._observe_samples(self._samples[: self._seen])
        if not judges:
            return Noise(self._samples[-1:], [outputs], self._mask), 0
        references: list[Mapping[str, Array]] = []

        def take(outputs: Mapping[str, Array]) -> None:
            references.append(outputs)
            self._work.add("run the judging samples", self._forward)

        in_parallel(self._reference, list(enumerate(judges)), take)
        return Noise(judges, references, self._mask), len(judges)

    def _expected(self, judges: int) -> Work:
        """The work to come, if nothing needs 16 bits and GPTQ is kept."""
        trials = 1
        rounding = 0
        if judges:
            trials += sum(len(plans(Plan())) for _, plans in self._candidates())
            rounding = 2 * products_of_rounding(self._module) if "weights" in self._methods else 0
        return Work(self._report, (len(self._samples) + judges * (1 + trials)) * self._forward + rounding)

    def _observe_samples(self, samples: Sequence[Sample]) -> Mapping[str, Array]:
        """The outputs of the last sample."""
        outputs = self._observation.update(samples, lambda done: self._work.add("calibrate", self._forward))
        self._observation.write()
        return outputs

    def _reference(self, numbered: tuple[int, Sample]) -> Mapping[str, Array]:
        """The reference outputs of the model."""
        index, sample = numbered
        if not self._evaluation:
            return run_torch(self._module, self._context, sample)
        return self._evaluated(index, sample)

    def _evaluated(self, index: int, sample: Sample) -> Mapping[str, Array]:
        """The reference outputs of the model."""
        try:
            outputs = run_torch(self._module, self._context, sample)
        except TorchInterpretationError as error:
            raise ValueError(f"evaluation sample {index}: {error}") from error
        for name, output in outputs.items():
            if not np.isfinite(output).all():
                raise ValueError(f"evaluation sample {index}: output {name!r} is not finite: look at the sample")
        return outputs

    def _observe_rest(self) -> None:
        """Observes the held-out samples, too: the final ranges cover all samples."""
        if self._seen < len(self._samples):
            self._observe_samples(self._samples[self._seen :])

    def _candidates(self) -> list[tuple[str, Callable[[Plan], list[Plan]]]]:
        known: dict[str, Callable[[Plan], list[Plan]]] = {
            "smoothing": lambda plan: [replace(plan, smoothing=strength) for strength in SMOOTHING_STRENGTHS],
            "ranges": lambda plan: [replace(plan, ranges_by_error=True)],
            "weights": lambda plan: [replace(plan, weights_by_calibration=True)],
        }
        return [(method, known[method]) for method in METHODS if method in self._methods]

    def _try(
        self, noise: Noise, choice: Choice, start: Candidate, method: str, plans: Sequence[Plan], least_sqnr: float
    ) -> Candidate:
        """Judges `plans`, of which each adds `method` to the candidate `start`; returns the candidate to go on with."""
        kept, stage = start, f"try {method}"
        before, tried = choice.decibels, list[tuple[Plan, Trial]]()
        if method == "weights":
            # They are as many as its own, and found again quickly if those are not kept.
            start.forget_rounded()
        for plan in plans:
            candidate = start.copy()
            candidate.prepare(plan, lambda products: self._work.add(stage, products))
            decibels = self._judge(noise, candidate, plan, stage)
            costs_cycles = candidate.costs_cycles and not start.costs_cycles
            too_little = costs_cycles and before >= least_sqnr and decibels < before + LEAST_GAIN
            tried.append((plan, Trial(_NAMES[method].format(plan), decibels, costs_cycles=costs_cycles)))
            if decibels > choice.decibels and not too_little:
                kept, choice.plan, choice.decibels = candidate, plan, decibels
        choice.record(tried)
        kept.forget_unused()
        return kept

    def _judge(self, noise: Noise, candidate: Candidate, plan: Plan, stage: str = "judge the ranges") -> float:
        return candidate.decibels(noise, plan.int16_inputs, lambda: self._work.add(stage, self._forward))

    def apply(self, plan: Plan) -> None:
        """Prepares the module itself, for `torch-round-weights` and `torch-quantize`."""
        whole = Candidate(self._module, self._context, dict(self._observation.observers))
        whole.prepare(replace(plan, weights_by_calibration=False))
        if plan.weights_by_calibration:
            # Not the rounded weights of trials: by now there are more rows.
            count = partial(self._work.add, "round weights by GPTQ")
            name_rounded_weights(self._module, lambda: whole.prepare(plan, count))
        for operation in operations_of(self._module):
            if isinstance(operation, torch.LinearOp) and matches(module_path(operation), plan.int16_inputs):
                operation.attributes[torch.INT16_INPUT] = UnitAttr()


def _observer(value: SSAValue) -> RangeObserver:
    """Records rows of values that are rounded to 8 bits."""
    keep = narrow_kind(value) is not None and source_of_rows(value) is value
    return RowObserver() if keep else ExtremesObserver()
