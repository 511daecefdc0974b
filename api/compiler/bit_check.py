"""`--check`: the result of a sample after every pass, compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation, SSAValue

from sta.dialect.interpreters.any_level import level_of, run_integers
from sta.dialect.interpreters.torch import operation_name, run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.torch import FakeQuantizeOp
from sta.passes.quantization.padding_rows import counted_rows
from sta.passes.step import Kind, Step
from sta.passes.torch.fold_quantization import PREFIX as PAIRS
from sta.runtime import Program

Array = NDArray[Any]

FLOAT_FIDELITY = 60.0
"""Least SQNR in decibels of a close step on the float module: reassociated float32 sums stay far above."""
ROUNDED_FIDELITY = 20.0
"""
The same for a module that rounds: a sum on the other side of a half turns a value into its neighbour, and later values
may follow. A range of -127..127 becomes -128..127, as the machine saturates, which is one step more for a value beyond
it.
"""
POISONS = (0xA5, 0x5A)


class CheckError(ValueError):
    """A step that must keep the model's function changed it; names the pass and the first difference."""


@dataclass(frozen=True)
class Fidelity:
    """Worst SQNR in decibels of the sample's outputs after one step; infinite if nothing differs."""

    step: Step
    before: float
    """Against the step before."""
    model: float
    """Against the imported model."""


def signal_to_noise(reference: Array, values: Array) -> float:
    """SQNR in decibels: the power of `reference` over that of the difference; infinite where they are equal."""
    noise = float(np.square(np.asarray(values, np.float64) - reference).sum())
    signal = float(np.square(np.asarray(reference, np.float64)).sum())
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def _rounds(operation: Operation) -> bool:
    """True if an operation rounds values, in the form of quantized models or in ours."""
    return isinstance(operation, FakeQuantizeOp) or operation_name(operation).startswith(PAIRS)


_Written = tuple[Operation, tuple[SSAValue, ...], tuple[Attribute, ...], dict[str, Attribute], dict[str, Attribute]]


def _written(operation: Operation) -> _Written:
    """All that a step may change about an operation; names of weights stand for numbers that stay the same."""
    types = tuple(result.type for result in operation.results)
    return operation, tuple(operation.operands), types, dict(operation.attributes), dict(operation.properties)


@dataclass
class BitCheck:
    """
    Runs one sample through every module of a compile, and enforces each step's kind. What a step left as it was is not
    run again.

    `fidelity` lists the steps from the imported model on; it is empty if the compile began with integers. Rows of
    padding do not count if the model computes other numbers there than the machine's zero.
    """

    inputs: dict[str, Array]
    original: tuple[str, dict[str, Array]] | None = None
    """
    Runner of the model as it was given, and the model's outputs on the sample.
    """
    counted: Array | None = None
    """
    The positions that count, bool [batch, positions]; None where all do.
    """
    fidelity: list[Fidelity] = field(default_factory=list[Fidelity])
    _imported: dict[str, Array] = field(default_factory=dict[str, Array])
    _before: dict[str, Array] = field(default_factory=dict[str, Array])
    _bits: dict[str, Array] = field(default_factory=dict[str, Array])
    _last_lossy_step: str = ""
    _written: list[_Written] = field(default_factory=list["_Written"])

    def compare(self, step: Step, module: ModuleOp, context: CompileContext) -> None:
        """Raises CheckError if the module computes something else than the one before it, and the step is not lossy."""
        written = [_written(operation) for operation in module.walk()]
        if written == self._written:
            self._note(step, self._before)
            return
        self._written = written
        if level_of(module) == "torch":
            rounds = any(_rounds(operation) for operation in module.walk())
            outputs = run_torch(module, context, self.inputs)
            self._compare_floats(step, outputs, ROUNDED_FIDELITY if rounds else FLOAT_FIDELITY)
            return
        decoded: dict[str, Array] = {}
        lossy = step.kind == Kind.LOSSY
        for poison in POISONS if level_of(module) == "sta" else POISONS[:1]:
            raw, signatures = run_integers(module, context.weights, self.inputs, poison)
            if not self._bits or lossy:
                self._bits, self._last_lossy_step, lossy = raw, step.name, False
            self._compare_bits(step.name, raw)
            decoded = {name: signatures[name].decode(values) for name, values in raw.items()}
        self._note(step, decoded)

    def compare_program(self, program: Program) -> None:
        """Raises CheckError if the emulator's bits differ from the last integer module's."""
        for poison in POISONS:
            self._compare_bits("emit", program.run(self.inputs, engine="reference", poison=poison).raw)

    def _compare_floats(self, step: Step, outputs: dict[str, Array], expected: float) -> None:
        runner = ""
        if not self._imported:
            runner, self._before = self.original or ("", outputs)
            self._imported = outputs
        before = f"the model as {runner} runs it" if runner else "the step before it"
        if step.kind != Kind.LOSSY:
            for name, values in outputs.items():
                kept = self._kept(self._before[name], values)
                # What is not a number is not enough.
                if not kept >= expected:
                    raise CheckError(
                        f"pass {step.name} changed output '{name}': {kept:.1f} dB from {before}, at least "
                        f"{expected:.0f} dB expected"
                    )
        self._note(step, outputs)

    def _note(self, step: Step, outputs: dict[str, Array]) -> None:
        if not self._imported:
            # The compile began with integers.
            return
        before, model = (
            min(self._kept(reference[name], values) for name, values in outputs.items())
            for reference in (self._before, self._imported)
        )
        self._before = outputs
        self.fidelity.append(Fidelity(step, before, model))

    def _kept(self, reference: Array, values: Array) -> float:
        """SQNR in decibels over the rows that count; infinite where none does."""
        if self.counted is None:
            return signal_to_noise(reference, values)
        if not self.counted.any():
            return float("inf")
        return signal_to_noise(counted_rows(reference, self.counted), counted_rows(values, self.counted))

    def _compare_bits(self, step: str, raw: dict[str, Array]) -> None:
        for name, expected in self._bits.items():
            differs = expected != raw[name]
            if differs.any():
                place = tuple(int(axis[0]) for axis in np.nonzero(differs))
                raise CheckError(
                    f"pass {step} changed {int(differs.sum()):,} of {differs.size:,} integers of output '{name}' "
                    f"(first at {place}: {expected[place]} after {self._last_lossy_step}, now {raw[name][place]})"
                )
