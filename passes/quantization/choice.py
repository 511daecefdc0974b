"""
Quantization of a model: methods used beyond each value's extremes, and the inputs that get 16 bits.

A candidate is judged by the model's output, on samples outside of its ranges' samples, and kept only if the noise there
is less. Nothing is judged by the error of a single layer: that can fall while the output gets worse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp, UnitAttr
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import TorchInterpretationError, run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.option_values import METHODS
from sta.passes.options import StageProgress, silent
from sta.passes.quantization.calibrate import ExtremesObserver, Observation, RangeObserver, set_range
from sta.passes.quantization.calibration_observer import RowObserver
from sta.passes.quantization.gptq import round_weights
from sta.passes.quantization.integer_weights import row_scales
from sta.passes.quantization.layer_selection import matches
from sta.passes.quantization.loudest_rounding import loudest_rounding
from sta.passes.quantization.padding_rows import PaddingMask, counted_rows, padding_mask
from sta.passes.quantization.range_by_error import range_by_error
from sta.passes.quantization.smoothquant import smooth
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of, operations_of
from sta.passes.rewriting.uses_through_views import source_of_rows
from sta.passes.torch.quantize import narrow_kind, quantize
from sta.passes.torch.round_weights import name_rounded_weights
from sta.spec.accuracy import Fidelity, Trial

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
EXACT = 200.0
"""Decibels that stand for no noise at all."""
DEFAULT_LEAST_SQNR = 20.0
"""Decibels at the output below which inputs get 16 bits: noise of a hundredth of the signal's power."""
USEFUL_PART, USEFUL_DECIBELS = 0.01, 0.1
"""
Least part of the noise that 16 bits for an input remove if the required SQNR is out of reach, and most decibels that
the output may lose by leaving out those that remove less.
"""
SENSITIVITY_SAMPLES = 4
"""Samples on which single inputs are tried with 16 bits."""


@dataclass(frozen=True)
class Plan:
    """A way to quantize a model."""

    smoothing: float | None = None
    """The strength of SmoothQuant; None for none."""
    ranges_by_error: bool = False
    weights_by_calibration: bool = False
    int16_inputs: tuple[str, ...] = ()
    """Module paths of linear layers whose input has 16 bits."""


@dataclass
class Choice:
    """Chosen methods, and the candidates."""

    plan: Plan = field(default_factory=Plan)
    trials: list[Trial] = field(default_factory=list[Trial])
    decibels: float = EXACT
    """SQNR of the output against the pruned model."""
    given: float = EXACT
    """The same against the model as it was given."""
    missed: float | None = None
    """The SQNR that is aimed at if none is asked for, if the output does not reach it."""
    loudest: str | None = None
    """Rounding that costs most of a missed SQNR; None if it is not one place alone."""
    held_out: int = 0
    """Samples that judged the choice and that the judged ranges had not observed."""

    @property
    def fidelity(self) -> Fidelity:
        """Both figures, rounded to hundredths: sums of floats differ in their last digits between processors."""
        return Fidelity(*(round(figure, 2) for figure in (self.given, self.decibels)))

    def __str__(self) -> str:
        """The kept trials, and the output's SQNR with each."""
        kept = [trial for trial in self.trials if trial.kept]
        gains = [
            f"{after.method} ({before.decibels:.1f} to {after.decibels:.1f} dB)" for before, after in pairwise(kept)
        ]
        return ", ".join(gains) or "ranges of values"


@dataclass(frozen=True)
class Noise:
    """Judges modules by the noise of their outputs."""

    context: CompileContext
    samples: Sequence[Sample]
    references: Sequence[Mapping[str, Array]]
    mask: PaddingMask | None

    def decibels(self, module: ModuleOp) -> float:
        """The SQNR of the outputs of `module`, the worst of them; rows of padding do not count."""
        signal: dict[str, float] = {}
        noise: dict[str, float] = {}
        for sample, reference in zip(self.samples, self.references, strict=True):
            counted = self.mask.counted(sample) if self.mask is not None else None
            outputs = run_torch(module, self.context, sample)
            for name, exact in reference.items():
                wanted = counted_rows(exact, counted).astype(np.float64)
                found = counted_rows(outputs[name], counted)
                signal[name] = signal.get(name, 0.0) + float(np.square(wanted).sum())
                noise[name] = noise.get(name, 0.0) + float(np.square(wanted - found).sum())
        return min((_decibels(signal[name], noise[name]) for name in signal), default=EXACT)


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0 or signal == 0.0:
        return EXACT
    return max(min(10 * math.log10(signal / noise), EXACT), -EXACT)


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
        self._mask = padding_mask(module)
        # Candidates' arrays must not stay in a store of weights.
        self._scratch = CompileContext(context.weights.copy())
        self._rounded: dict[str, str] = {}
        self._calibrated: dict[str, str] = {}

    def choose(self, least_sqnr: float | None, int16_inputs: Sequence[str] = ()) -> Choice:
        """
        The best plan on held-out samples, with 16-bit inputs by sensitivity.

        `least_sqnr` is the required SQNR of the output in decibels, at any cost; None is DEFAULT_LEAST_SQNR, as long as
        there are samples to hold out: the sample of the ranges does not show the needs of others. Inputs that match a
        glob in `int16_inputs` have 16 bits in any case. Raises ValueError for samples that cannot be run, and values
        that are not finite.
        """
        noise, held_out = self._observe()
        asked = least_sqnr
        if least_sqnr is None:
            least_sqnr = DEFAULT_LEAST_SQNR if held_out else 0.0
        choice = Choice(Plan(int16_inputs=tuple(int16_inputs)), held_out=held_out)
        choice.decibels = self._judge(noise, choice.plan)
        choice.trials.append(Trial("extremes", choice.decibels, True))
        if held_out:
            for method, plans in self._candidates():
                self._try(noise, choice, method, plans)
        if choice.decibels < least_sqnr:
            self._widen(noise, choice, least_sqnr)
        if asked is None and choice.decibels < least_sqnr:
            choice.missed = least_sqnr
            choice.loudest = self._loudest(noise, choice.plan)
        choice.given = self._against_given(noise, choice)
        self._observe_rest()
        return choice

    def _loudest(self, noise: Noise, plan: Plan) -> str | None:
        self._report("find what costs most", None)
        return loudest_rounding(self._quantized(plan), noise.on_first(SENSITIVITY_SAMPLES).decibels)

    def _against_given(self, noise: Noise, choice: Choice) -> float:
        """The SQNR of the choice against the model as it was given, on the samples that judge."""
        if self._given is None:
            return choice.decibels
        self._report("compare with the model given", None)
        references = [run_torch(self._given, self._context, sample) for sample in noise.samples]
        return self._judge(replace(noise, references=references), choice.plan)

    def _observe(self) -> tuple[Noise, int]:
        """Observes the samples of the judged ranges; the others judge."""
        outputs: Mapping[str, Array] = {}
        for index, sample in enumerate(self._samples[: self._seen]):
            outputs = self._observation.update(sample)
            self._report("calibrate", (index + 1) / len(self._samples))
        self._observation.write()
        if self._evaluation:
            references = [self._evaluated(index, sample) for index, sample in enumerate(self._evaluation)]
            return Noise(self._scratch, self._evaluation, references, self._mask), len(self._evaluation)
        held_out = self._samples[self._seen :]
        if not held_out:
            return Noise(self._scratch, self._samples[-1:], [outputs], self._mask), 0
        references = [run_torch(self._module, self._context, sample) for sample in held_out]
        return Noise(self._scratch, held_out, references, self._mask), len(held_out)

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
        for sample in self._samples[self._seen :]:
            self._observation.update(sample)
        self._observation.write()

    def _candidates(self) -> list[tuple[str, Callable[[Plan], list[Plan]]]]:
        known: dict[str, Callable[[Plan], list[Plan]]] = {
            "smoothing": lambda plan: [replace(plan, smoothing=strength) for strength in SMOOTHING_STRENGTHS],
            "ranges": lambda plan: [replace(plan, ranges_by_error=True)],
            "weights": lambda plan: [replace(plan, weights_by_calibration=True)],
        }
        return [(method, known[method]) for method in METHODS if method in self._methods]

    def _try(self, noise: Noise, choice: Choice, method: str, plans: Callable[[Plan], list[Plan]]) -> None:
        for plan in plans(choice.plan):
            self._report(f"try {method}", None)
            decibels = self._judge(noise, plan)
            kept = decibels > choice.decibels
            choice.trials.append(Trial(_NAMES[method].format(plan), decibels, kept))
            if kept:
                choice.plan, choice.decibels = plan, decibels

    def _judge(self, noise: Noise, plan: Plan) -> float:
        return noise.decibels(self._quantized(plan))

    def _quantized(self, plan: Plan) -> ModuleOp:
        """A copy of the module with values and weights that are rounded by a plan."""
        store = self._scratch.weights
        module = self._prepared(plan, self._module_copy(), store, self._calibrated)
        quantize(module, store, plan.int16_inputs)
        self._round_weights(module)
        return module

    def _module_copy(self) -> tuple[ModuleOp, dict[SSAValue, SSAValue]]:
        """A copy of the module, and the positions of its values in it."""
        copy = self._module.clone()
        places: dict[SSAValue, SSAValue] = {}
        for before, after in zip(operations_of(self._module), operations_of(copy), strict=True):
            places.update(zip(before.results, after.results, strict=True))
        arguments = (main_function(module).body.block.args for module in (self._module, copy))
        places.update(zip(*arguments, strict=True))
        return copy, places

    def _prepared(
        self,
        plan: Plan,
        copy: tuple[ModuleOp, dict[SSAValue, SSAValue]],
        store: WeightStore,
        calibrated: MutableMapping[str, str],
    ) -> ModuleOp:
        module, places = copy
        observers = {places[value]: observer for value, observer in self._observation.observers.items()}
        _smooth_and_narrow(plan, module, store, observers)
        if plan.weights_by_calibration:
            round_weights(module, store, observers, calibrated)
        return module

    def _round_weights(self, module: ModuleOp) -> None:
        """Rounds the weights of linear layers to 8 bits, as the conversion to integers will."""
        store = self._scratch.weights
        for operation in operations_of(module):
            literal = literal_of(operation.weight) if isinstance(operation, torch.LinearOp) else None
            if literal is None or literal.resource is None:
                continue
            assert isinstance(operation, torch.LinearOp)
            name = literal.resource
            if name not in self._rounded:
                self._rounded[name] = store.put_unique(f"{name}.rounded", rounded_weights(literal.array(store)))
            rounded = store.get(self._rounded[name])
            weight = TorchBuilder(operation, store).literal(rounded, self._rounded[name])
            operation.operands = [operation.input, weight, operation.bias]

    def apply(self, plan: Plan) -> None:
        """Prepares the module itself, for `torch-round-weights` and `torch-quantize`."""
        store, observers = self._context.weights, dict(self._observation.observers)
        _smooth_and_narrow(plan, self._module, store, observers)
        if plan.weights_by_calibration:
            # Not the rounded weights of trials: by now there are more rows.
            name_rounded_weights(self._module, lambda: round_weights(self._module, store, observers))
        for operation in operations_of(self._module):
            if isinstance(operation, torch.LinearOp) and matches(module_path(operation), plan.int16_inputs):
                operation.attributes[torch.INT16_INPUT] = UnitAttr()

    def _widen(self, noise: Noise, choice: Choice, least_sqnr: float) -> None:
        """
        Gives inputs 16 bits, first those that remove most noise from the output for their cycles.

        Noise of different places nearly adds up, so each input is tried alone, and then as many together as should
        suffice; their joint result is judged, and more are added until it suffices.
        """
        narrow = choice.plan
        sites = _sites(self._module, narrow.int16_inputs)
        few = replace(
            noise, samples=noise.samples[:SENSITIVITY_SAMPLES], references=noise.references[:SENSITIVITY_SAMPLES]
        )
        before = _power(self._judge(few, narrow))
        gains: list[tuple[float, _Site]] = []
        for index, site in enumerate(sites):
            self._report("find inputs that need 16 bits", index / len(sites))
            gain = before - _power(self._judge(few, _wider(narrow, [site])))
            gains.append((gain, site))
        gains.sort(key=lambda pair: -pair[0] / pair[1].products)
        taken: list[_Site] = []
        expected = _power(choice.decibels)
        for gain, site in gains:
            taken.append(site)
            expected -= max(gain, 0.0)
            if expected > _power(least_sqnr) and site is not gains[-1][1]:
                continue
            plan = _wider(narrow, taken)
            decibels = self._judge(noise, plan)
            choice.trials.append(Trial(f"16 bits for {len(taken)} of {len(sites)} inputs", decibels, True))
            if decibels >= least_sqnr or site is gains[-1][1]:
                choice.plan, choice.decibels = plan, decibels
                break
            expected = max(expected, _power(decibels))
        if choice.decibels >= least_sqnr:
            self._leave_out(noise, choice, narrow, taken, least_sqnr)
            return
        # Out of reach: 16 bits only where they remove a part of the noise worth speaking of.
        useful = [site for gain, site in gains if gain > USEFUL_PART * before]
        plan = _wider(narrow, useful)
        decibels = self._judge(noise, plan)
        if len(useful) < len(gains) and decibels > choice.decibels - USEFUL_DECIBELS:
            choice.plan, choice.decibels = plan, decibels
            choice.trials.append(Trial(f"16 bits for {len(useful) or 'no'} inputs", decibels, True))

    def _leave_out(self, noise: Noise, choice: Choice, narrow: Plan, taken: list[_Site], least_sqnr: float) -> None:
        """Takes 16 bits away again, first where they cost most, as long as the required SQNR is reached."""
        for site in sorted(taken[:-1], key=lambda site: -site.products):
            fewer = [other for other in taken if other is not site]
            plan = _wider(narrow, fewer)
            decibels = self._judge(noise, plan)
            if decibels >= least_sqnr:
                taken = fewer
                choice.plan, choice.decibels = plan, decibels
                choice.trials.append(Trial(f"16 bits for {len(taken)} inputs", decibels, True))


@dataclass(frozen=True)
class _Site:
    """Linear layers whose inputs are widened together: their module paths and their multiply-accumulates."""

    layers: tuple[str, ...]
    products: int


def _sites(module: ModuleOp, taken: Sequence[str]) -> list[_Site]:
    layers: dict[SSAValue, list[torch.LinearOp]] = {}
    for operation in operations_of(module):
        if isinstance(operation, torch.LinearOp) and not matches(module_path(operation), taken):
            layers.setdefault(operation.input, []).append(operation)
    products: dict[tuple[str, ...], int] = {}
    for found in layers.values():
        # A module may hold several layers, as PyTorch's attention does: they have one name, and are widened together.
        paths = tuple(dict.fromkeys(module_path(layer) for layer in found))
        products[paths] = products.get(paths, 0) + sum(_products(layer) for layer in found)
    return [_Site(*entry) for entry in products.items()]


def _products(layer: torch.LinearOp) -> int:
    return math.prod(torch.sizes_of(layer.input)) * torch.sizes_of(layer.weight)[0]


def _wider(plan: Plan, sites: Sequence[_Site]) -> Plan:
    return replace(plan, int16_inputs=(*plan.int16_inputs, *(path for site in sites for path in site.layers)))


def _power(decibels: float) -> float:
    """Noise relative to the signal."""
    return 10 ** (-decibels / 10)


def _observer(value: SSAValue) -> RangeObserver:
    """Records rows of values that are rounded to 8 bits."""
    keep = narrow_kind(value) is not None and source_of_rows(value) is value
    return RowObserver() if keep else ExtremesObserver()


def _smooth_and_narrow(
    plan: Plan, module: ModuleOp, store: WeightStore, observers: MutableMapping[SSAValue, RangeObserver]
) -> None:
    """Does what a plan does to the module before weights are rounded, which keeps its function."""
    if plan.smoothing is not None:
        smooth(module, store, observers, plan.smoothing)
    if plan.ranges_by_error:
        _set_narrow_ranges(module, observers)


def _set_narrow_ranges(module: ModuleOp, observers: Mapping[SSAValue, RangeObserver]) -> None:
    function = main_function(module)
    for value, observer in observers.items():
        kind = narrow_kind(value)
        if kind is not None and isinstance(observer, RowObserver):
            set_range(function, value, *range_by_error(observer, kind == "symmetric"), torch.NARROW_RANGE)


def rounded_weights(weights: Array) -> Array:
    """Weights [n, k] rounded to 8 bits, float32: symmetric, each row with the scale of its largest weight."""
    scales = row_scales(weights)[:, np.newaxis]
    # In place: a new array costs as much as a step.
    rounded = weights / scales
    np.rint(rounded, out=rounded)
    rounded *= scales
    return rounded.astype(np.float32, copy=False)
