"""
Profile of a run by module of the model.

Cycles are those that ``sta.runtime.analysis.cycle_attribution`` charges to a module's instructions, so that the
cycles of all modules sum to those of the run. Everything else is what the module's own instructions do: work of the
units, multiply-accumulates, DRAM traffic. Only ``concurrent`` and the utilisation made of it look at what the units
do, for whichever
module, in the cycles charged to this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sta.runtime.analysis.cycle_attribution import attribute
from sta.runtime.analysis.schedule import SEQUENCER, Integers, Schedule
from sta.runtime.analysis.traffic import CLASSES, dram_traffic
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.definition import RESOURCES, UNITS
from sta.spec.instructions.table import PRODUCT_UNIT
from sta.spec.target import Target

CAUSES = (*UNITS, "sequencer")
"""Causes of an idle product unit: the work or latency of a unit, or an instruction to be issued."""
BOUNDS = {
    resource: [unit for unit in UNITS if RESOURCES[unit] == resource] for resource in sorted(set(RESOURCES.values()))
}
"""The units whose work may be what a module cannot be faster than."""


@dataclass(frozen=True)
class ProfileRow:
    """The cost of one module, of a group of modules, or of the whole run."""

    module_path: str
    """Empty: instructions that belong to no module, or the whole run."""
    target: Target = field(repr=False)
    run_cycles: int
    """Cycles of the whole run."""
    working: int
    """Cycles in which the product unit works on the module's products."""
    idle: dict[str, int]
    """Cycles in which the product unit is idle, by the unit of the module that it waits for; keys: ``CAUSES``."""
    busy: dict[str, int]
    """Cycles in which each unit works for the module, no matter to which module these cycles are charged."""
    concurrent: dict[str, int]
    """Cycles in which each unit works, no matter for which module, among those charged to this module."""
    macs: int
    """Multiply-accumulates of the products executed, with the weights that are kept: rows * columns * depth * N / M."""
    dense_macs: int
    """The same, as if every weight were kept."""
    dram: dict[str, int]
    """Bytes moved between DRAM and the chip; keys: ``CLASSES``."""

    @property
    def cycles(self) -> int:
        """Cycles charged to the module."""
        return self.working + sum(self.idle.values())

    @property
    def share(self) -> float:
        """The part of the run's cycles that is charged to the module, 0..1."""
        return self.cycles / self.run_cycles

    @property
    def seconds(self) -> float:
        """The cycles as time, at the target's clock."""
        return self.cycles / (self.target.clock_mhz * 1e6)

    @property
    def utilisation(self) -> dict[str, float]:
        """For each unit the part of the cycles charged to the module in which it works for any module, 0..1."""
        return {unit: _ratio(cycles, self.cycles) for unit, cycles in self.concurrent.items()}

    @property
    def mac_efficiency(self) -> float:
        """MACs by what the array could have done in the cycles, 0..1."""
        return _ratio(self.macs, self.cycles * self.target.macs_per_cycle)

    @property
    def dense_equivalent_rate(self) -> float:
        """Dense MACs a second."""
        return _ratio(self.dense_macs, self.seconds)

    @property
    def dram_bytes(self) -> int:
        """Bytes moved between DRAM and the chip."""
        return sum(self.dram.values())

    @property
    def intensity(self) -> float | None:
        """MACs for each DRAM byte; None if no byte is moved."""
        return self.macs / self.dram_bytes if self.dram_bytes else None

    @property
    def roofline(self) -> float | None:
        """MACs a cycle that array and DMA allow at this intensity; None for a module without products."""
        if not self.macs:
            return None
        peak = float(self.target.macs_per_cycle)
        return peak if self.intensity is None else min(peak, self.intensity * self.target.dma_bytes_per_cycle)

    @property
    def bound(self) -> str:
        """The one of ``BOUNDS`` with the most work, which bounds the module's speed; ``none`` without any work."""
        most = {name: max(self.busy[unit] for unit in units) for name, units in BOUNDS.items()}
        name = max(most, key=lambda name: most[name])
        return name if most[name] else "none"

    def to_json(self) -> dict[str, Any]:
        """Returns the row as a dictionary that JSON can hold."""
        return {
            "module": self.module_path,
            "cycles": self.cycles,
            "share": self.share,
            "working": self.working,
            "idle": dict(self.idle),
            "busy": dict(self.busy),
            "utilisation": self.utilisation,
            "macs": self.macs,
            "dense_macs": self.dense_macs,
            "mac_efficiency": self.mac_efficiency,
            "dense_equivalent_rate": self.dense_equivalent_rate,
            "dram": dict(self.dram),
            "dram_bytes": self.dram_bytes,
            "intensity": self.intensity,
            "roofline": self.roofline,
            "bound": self.bound,
        }


@dataclass(frozen=True)
class Profile:
    """The cost of a run by module, in the order of the program."""

    target: Target
    cycles: int
    useful_macs: int
    """MACs that the model needs, from its unpadded shapes."""
    useful_dense_macs: int
    rows: list[ProfileRow]
    """One for each module path; modules come in the order of their first instruction."""

    def __repr__(self) -> str:
        """``<Profile for sta-base: 12 modules, 12,345 cycles>``."""
        return f"<Profile for {self.target.name}: {len(self.rows)} modules, {self.cycles:,} cycles>"

    @property
    def total(self) -> ProfileRow:
        """The sum of all rows: the whole run."""
        return _sum("", self.rows, self.target, self.cycles)

    @property
    def mac_efficiency(self) -> float:
        """Useful MACs by what the array could have done in all cycles, 0..1."""
        return self.useful_macs / (self.cycles * self.target.macs_per_cycle)

    def grouped(self, depth: int) -> Profile:
        """
        Returns the profile with the modules that agree in the first ``depth`` parts of their paths as one row.

        Raises:
            ValueError: ``depth`` is negative.
        """
        if depth < 0:
            raise ValueError(f"depth is {depth}, must not be negative")
        groups: dict[str, list[ProfileRow]] = {}
        for row in self.rows:
            groups.setdefault(".".join(row.module_path.split(".")[:depth]), []).append(row)
        rows = [_sum(path, group, self.target, self.cycles) for path, group in groups.items()]
        return Profile(self.target, self.cycles, self.useful_macs, self.useful_dense_macs, rows)

    def to_json(self) -> dict[str, Any]:
        """Returns the profile as a dictionary that JSON can hold."""
        return {
            "target": self.target.name,
            "cycles": self.cycles,
            "seconds": self.total.seconds,
            "macs_per_cycle": self.target.macs_per_cycle,
            "dma_bytes_per_cycle": self.target.dma_bytes_per_cycle,
            "useful_macs": self.useful_macs,
            "useful_dense_macs": self.useful_dense_macs,
            "mac_efficiency": self.mac_efficiency,
            "total": self.total.to_json(),
            "rows": [row.to_json() for row in self.rows],
        }


@dataclass(frozen=True)
class ModuleCycles:
    """Cycles by module, int64 ``[modules]`` or ``[.., modules]``; see ``ProfileRow`` for what they are."""

    working: Integers
    idle: Integers
    """By cause, in the order of ``CAUSES``."""
    busy: Integers
    """By unit, in the order of ``UNITS``."""
    concurrent: Integers


Measure = Callable[[Integers, int], ModuleCycles]
"""Returns the cycles of each module; takes the number of the module of each instruction, and how many there are."""


def profile(program: ValidProgram, schedule: Schedule, measure: Measure | None = None) -> Profile:
    """
    Returns the profile of a run, which does not depend on data.

    Args:
        program: the program.
        schedule: its schedule.
        measure: what sums cycles up; ``module_cycles`` if None.
    """
    target = program.target
    path_of_pc = program.container.module_paths()
    executed: list[int] = np.flatnonzero(np.bincount(schedule.pc)).tolist()
    paths = list(dict.fromkeys(path_of_pc[pc] for pc in executed))
    numbers = {path: number for number, path in enumerate(paths)}
    # Only executed instructions are looked up.
    module_of_pc = np.array([numbers.get(path, 0) for path in path_of_pc])
    measured = (
        measure(module_of_pc, len(paths)) if measure else module_cycles(program, schedule, module_of_pc, len(paths))
    )
    working, idle, busy, concurrent = (
        values.T.tolist() for values in (measured.working, measured.idle, measured.busy, measured.concurrent)
    )
    macs, dense_macs, dram = _work(program, module_of_pc, len(paths))
    rows = [
        ProfileRow(
            path,
            target,
            schedule.cycles,
            working[i],
            dict(zip(CAUSES, idle[i], strict=True)),
            dict(zip(UNITS, busy[i], strict=True)),
            dict(zip(UNITS, concurrent[i], strict=True)),
            macs[i],
            dense_macs[i],
            dram[i],
        )
        for i, path in enumerate(paths)
    ]
    header = program.container.program
    return Profile(target, schedule.cycles, header["macs"], header["dense_macs"], rows)


def module_cycles(program: ValidProgram, schedule: Schedule, module_of_pc: Integers, modules: int) -> ModuleCycles:
    """
    Returns the cycles of each module.

    Args:
        program: the program.
        schedule: its schedule.
        module_of_pc: for each instruction the number of its module.
        modules: how many there are.
    """
    return _Sums(program, schedule, module_of_pc, modules).cycles()


class _Sums:
    def __init__(self, program: ValidProgram, schedule: Schedule, module_of_pc: Integers, modules: int) -> None:
        self.schedule = schedule
        self.module_of_pc = module_of_pc
        self.modules = modules
        self.charges = attribute(program, schedule)

    def cycles(self) -> ModuleCycles:
        schedule, charges = self.schedule, self.charges
        module, own = self.module_of_pc[schedule.pc[charges.row]], self.module_of_pc[schedule.pc]
        units = range(len(UNITS))
        working, idle = self._cycles(module)
        busy = [self._sums(own, (schedule.end - schedule.start) * (schedule.unit == unit)) for unit in units]
        concurrent = [self._sums(module, self._worked(unit)) for unit in units]
        return ModuleCycles(working, idle, np.stack(busy), np.stack(concurrent))

    def _sums(self, module: Integers, values: Integers) -> Integers:
        """Returns the sum of the values of each module."""
        sums = np.zeros(self.modules, np.int64)
        np.add.at(sums, module, values)
        return sums

    def _cycles(self, module: Integers) -> tuple[Integers, Integers]:
        """Returns for each module the cycles in which its products work, and by cause the cycles in which they wait."""
        charges, rows = self.charges, self.charges.row
        lengths = charges.end - charges.start
        products = (self.schedule.unit[rows] == UNITS.index(PRODUCT_UNIT)) & ~charges.issued
        works = products & (charges.end <= self.schedule.end[rows])
        cause = np.where(charges.issued, SEQUENCER, self.schedule.unit[rows])
        idle = [self._sums(module, lengths * (~works & (cause == number))) for number in range(len(CAUSES))]
        return self._sums(module, lengths * works), np.stack(idle)

    def _worked(self, unit: int) -> Integers:
        """Returns the cycles that a unit works in each of the charged intervals."""
        rows = self.schedule.rows_of_unit[unit]
        start, end = self.schedule.start[rows], self.schedule.end[rows]
        before = np.concatenate([[0], np.cumsum(end - start)])

        def until(times: Integers) -> Integers:
            """Returns the cycles that the unit works up to some times."""
            begun = np.searchsorted(start, times, "right")
            overhang = np.maximum(end[begun - 1] - times, 0) * (begun > 0) if rows.size else 0
            return before[begun] - overhang

        return until(self.charges.end) - until(self.charges.start)


def _work(
    program: ValidProgram, module_of_pc: Integers, modules: int
) -> tuple[list[int], list[int], list[dict[str, int]]]:
    """Returns MACs, dense MACs and DRAM bytes of each module."""
    macs, dense_macs = [0] * modules, [0] * modules
    dram: list[dict[str, int]] = [{kind: 0 for kind in CLASSES} for _ in range(modules)]
    for step in program.steps:
        products = step.instruction.definition.products
        if products is None or not step.executions:
            continue
        once, pattern = products(step.instruction)
        module, dense = module_of_pc[step.pc], step.executions * once
        dense_macs[module] += dense
        macs[module] += dense * pattern.n // pattern.m
    for pc, classes in dram_traffic(program).items():
        for kind, size in classes.items():
            dram[module_of_pc[pc]][kind] += size
    return macs, dense_macs, dram


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0


def _sum(path: str, rows: Sequence[ProfileRow], target: Target, cycles: int) -> ProfileRow:
    return ProfileRow(
        path,
        target,
        cycles,
        sum(row.working for row in rows),
        {cause: sum(row.idle[cause] for row in rows) for cause in CAUSES},
        {unit: sum(row.busy[unit] for row in rows) for unit in UNITS},
        {unit: sum(row.concurrent[unit] for row in rows) for unit in UNITS},
        sum(row.macs for row in rows),
        sum(row.dense_macs for row in rows),
        {kind: sum(row.dram[kind] for row in rows) for kind in CLASSES},
    )
