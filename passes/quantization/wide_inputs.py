"""
The inputs of linear layers that get 16 bits, so that the output reaches a required SQNR.

Noise of different places nearly adds up, so each input is tried alone, and then as many together as should suffice;
their joint result is judged, and more are added until it suffices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.ir.location import module_path
from sta.passes.options import StageProgress
from sta.passes.quantization.candidate import Candidate
from sta.passes.quantization.layer_selection import matches
from sta.passes.quantization.noise import Noise
from sta.passes.quantization.plan import Choice, Plan
from sta.passes.quantization.work import products_of
from sta.passes.rewriting.torch_operations import operations_of
from sta.spec.accuracy import Trial

USEFUL_PART, USEFUL_DECIBELS = 0.01, 0.1
"""
Least part of the noise that 16 bits for an input remove if the required SQNR is out of reach, and most decibels that
the output may lose by leaving out those that remove less.
"""
MOST_COST = 0.5
"""
Multiply-accumulates of layers whose inputs get 16 bits for a better output than the required one, of all that have 8.
"""
SENSITIVITY_SAMPLES = 4
"""Samples on which single inputs are tried with 16 bits."""


class WideInputs:
    """The choice of inputs with 16 bits for a candidate, whose layers are those of a module."""

    def __init__(self, module: ModuleOp, candidate: Candidate, noise: Noise, report: StageProgress) -> None:
        self._module = module
        self._candidate = candidate
        self._noise = noise
        self._report = report

    def choose(self, choice: Choice, least_sqnr: float) -> None:
        """
        Gives inputs 16 bits in `choice`, first those that remove most noise from the output for their cycles.

        Stops where the output reaches `least_sqnr` decibels, or where all inputs have 16 bits.
        """
        narrow = choice.plan
        before, gains = self._gains(narrow, _sites(self._module, narrow.int16_inputs))
        taken, tried = self._take(choice, narrow, gains, least_sqnr)
        if choice.decibels >= least_sqnr:
            tried += self._leave_out(choice, narrow, taken, least_sqnr)
            choice.record(tried)
            return
        # Out of reach: 16 bits only where they remove a part of the noise worth speaking of.
        useful = [site for gain, site in gains if gain > USEFUL_PART * before]
        plan = _wider(narrow, useful)
        decibels = self._judge(self._noise, plan)
        if len(useful) < len(gains) and decibels > choice.decibels - USEFUL_DECIBELS:
            choice.plan, choice.decibels = plan, decibels
            tried.append((plan, Trial(f"16 bits for {len(useful) or 'no'} inputs", decibels)))
        choice.record(tried)

    def improve(self, choice: Choice, wanted: float, least_sqnr: float) -> None:
        """
        Gives inputs 16 bits in `choice` for an output of `wanted` decibels, as far as MOST_COST goes.

        Below `least_sqnr` decibels `choice` stays as it was.
        """
        narrow = choice.plan
        sites = _sites(self._module, narrow.int16_inputs)
        few = self._noise.on_first(SENSITIVITY_SAMPLES)
        # One run tells whether the search is worth its time.
        if not sites or self._judge(few, _wider(narrow, sites)) < least_sqnr:
            return
        _, gains = self._gains(narrow, sites)
        affordable = _affordable(gains, MOST_COST * sum(site.products for site in sites))
        better = replace(choice)
        taken, tried = self._take(better, narrow, affordable, wanted)
        if better.decibels < least_sqnr:
            return
        tried += self._leave_out(better, narrow, taken, min(wanted, better.decibels))
        choice.plan, choice.decibels = better.plan, better.decibels
        choice.record(tried)

    def _take(
        self, choice: Choice, narrow: Plan, gains: Sequence[tuple[float, _Site]], least_sqnr: float
    ) -> tuple[list[_Site], list[tuple[Plan, Trial]]]:
        """Takes inputs in the order of `gains` until `least_sqnr` is reached; returns them and the trials."""
        taken: list[_Site] = []
        tried: list[tuple[Plan, Trial]] = []
        expected = _power(choice.decibels)
        for gain, site in gains:
            taken.append(site)
            expected -= max(gain, 0.0)
            if expected > _power(least_sqnr) and site is not gains[-1][1]:
                continue
            plan = _wider(narrow, taken)
            decibels = self._judge(self._noise, plan)
            tried.append((plan, Trial(f"16 bits for {len(taken)} of {len(gains)} inputs", decibels)))
            if decibels >= least_sqnr or site is gains[-1][1]:
                choice.plan, choice.decibels = plan, decibels
                break
            expected = max(expected, _power(decibels))
        return taken, tried

    def _gains(self, narrow: Plan, sites: Sequence[_Site]) -> tuple[float, list[tuple[float, _Site]]]:
        """
        The noise relative to the signal, and each input with the noise that 16 bits for it alone remove; first those
        that remove most for their cycles.
        """
        few = self._noise.on_first(SENSITIVITY_SAMPLES)
        before = _power(self._judge(few, narrow))
        gains: list[tuple[float, _Site]] = []
        for index, site in enumerate(sites):
            self._report("find inputs that need 16 bits", index / len(sites))
            gains.append((before - _power(self._judge(few, _wider(narrow, [site]))), site))
        gains.sort(key=lambda pair: -pair[0] / pair[1].products)
        return before, gains

    def _leave_out(
        self, choice: Choice, narrow: Plan, taken: list[_Site], least_sqnr: float
    ) -> list[tuple[Plan, Trial]]:
        """
        Takes 16 bits away again, first where they cost most, as long as the required SQNR is reached; returns what it
        took.
        """
        tried: list[tuple[Plan, Trial]] = []
        rest = sorted(taken[:-1], key=lambda site: -site.products)
        for index, site in enumerate(rest):
            self._report("leave out inputs that need no 16 bits", index / len(rest))
            fewer = [other for other in taken if other is not site]
            plan = _wider(narrow, fewer)
            decibels = self._judge(self._noise, plan)
            if decibels >= least_sqnr:
                taken = fewer
                choice.plan, choice.decibels = plan, decibels
                tried.append((plan, Trial(f"16 bits for {len(taken)} inputs", decibels)))
        return tried

    def _judge(self, noise: Noise, plan: Plan) -> float:
        return self._candidate.decibels(noise, plan.int16_inputs)


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
        products[paths] = products.get(paths, 0) + sum(products_of(layer) for layer in found)
    return [_Site(*entry) for entry in products.items()]


def _affordable(gains: Sequence[tuple[float, _Site]], most: float) -> list[tuple[float, _Site]]:
    """Inputs that remove noise, in their order, whose layers have no more than `most` multiply-accumulates together."""
    found: list[tuple[float, _Site]] = []
    for gain, site in gains:
        if gain > 0.0 and site.products <= most:
            found.append((gain, site))
            most -= site.products
    return found


def _wider(plan: Plan, sites: Sequence[_Site]) -> Plan:
    return replace(plan, int16_inputs=(*plan.int16_inputs, *(path for site in sites for path in site.layers)))


def _power(decibels: float) -> float:
    """Noise relative to the signal."""
    return 10 ** (-decibels / 10)
