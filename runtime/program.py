"""Loading, running and saving compiled programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.backend.container import Container, Source, read_container, write_container
from sta.runtime.analysis.profile import Profile
from sta.runtime.analysis.races import RaceCheck
from sta.runtime.analysis.schedule import Schedule
from sta.runtime.analysis.trace import TRACE_LIMIT
from sta.runtime.engines import Engines, check_same, chosen
from sta.runtime.errors import ProgramError
from sta.runtime.html import table
from sta.runtime.losses import StepLoss
from sta.runtime.quantization import Quantization
from sta.runtime.reference import RunProgress
from sta.runtime.timing import Timing
from sta.runtime.validate import INSTRUCTION_LIMIT, MEMORY_LIMIT, ValidProgram, validate
from sta.runtime.values.stepper import Stepper
from sta.spec.accuracy import Fidelity
from sta.spec.host_prologue import HostPrologue
from sta.spec.pattern import Pattern
from sta.spec.signature import TensorSignature
from sta.spec.suggestion import suggestion
from sta.spec.target import Target

MOST_THREADS = 256
"""The most threads that a run may use."""
POISON = 0xA5
"""The default byte of writable memory at the start of a run."""


@dataclass(frozen=True)
class Result:
    """Outputs and cost of a run."""

    outputs: dict[str, NDArray[np.float32]]
    """The outputs by name, as real numbers."""
    raw: dict[str, NDArray[Any]]
    """The same as the device's integers."""
    timing: Timing
    seconds: float
    """The time on the target, at its clock."""
    mac_efficiency: float
    """Useful MACs divided by the array's capacity in all cycles, 0..1."""
    macs: int
    """Useful MACs, from the model's unpadded shapes."""

    @property
    def cycles(self) -> int:
        """Cycles on the target."""
        return self.timing.cycles

    @property
    def dram_bytes(self) -> int:
        """Bytes read from and written to DRAM."""
        return self.timing.dram_bytes

    def __repr__(self) -> str:
        """``<Result: output (1, 24, 64) float32; 12,345 cycles, 61.7 µs>``."""
        outputs = ", ".join(f"{name} {values.shape} {values.dtype}" for name, values in self.outputs.items())
        return f"<Result: {outputs or 'no outputs'}; {self.cycles:,} cycles, {self.seconds * 1e6:,.1f} µs>"

    def _repr_html_(self) -> str:
        """HTML for a notebook."""
        outputs = [
            (name, " x ".join(map(str, values.shape)), f"{values.min():.6g}", f"{values.max():.6g}")
            for name, values in self.outputs.items()
            if values.size
        ]
        costs = [
            ("cycles", f"{self.cycles:,}"),
            ("time", f"{self.seconds * 1e6:,.1f} µs"),
            ("MAC efficiency", f"{self.mac_efficiency:.1%}"),
            ("useful MACs", f"{self.macs:,}"),
            ("DRAM bytes", f"{self.dram_bytes:,}"),
        ]
        return table(outputs, ("output", "shape", "smallest", "largest")) + table(costs)

    def to_json(self) -> dict[str, Any]:
        """Returns the costs (not the outputs) as a dictionary for JSON."""
        return {
            **self.timing.to_json(),
            "seconds": self.seconds,
            "mac_efficiency": self.mac_efficiency,
            "macs": self.macs,
            "dram_bytes": self.dram_bytes,
        }


class Program:
    """
    A compiled model, ready to run. Several threads may use one at once: each run has an engine to itself.

    Creating one validates the container; everything that does not depend on data (timing, the check that attention
    scores stay on the chip) is computed once, on first use. Programs can be pickled and copied; what engines keep from
    run to run stays behind.
    """

    def __init__(
        self, container: Container, *, instruction_limit: int = INSTRUCTION_LIMIT, memory_limit: int = MEMORY_LIMIT
    ) -> None:
        """
        Checks a container.

        Args:
            container: the compiled model.
            instruction_limit: most instructions that a run may issue.
            memory_limit: most bytes of on-chip memory and writable DRAM that a run may need.

        Raises:
            ContainerError: a section does not have its documented form.
            ProgramError: the program breaks a rule of the machine or exceeds a limit.
        """
        container.check()
        self._valid = validate(container, instruction_limit=instruction_limit, memory_limit=memory_limit)
        self._engines = Engines(self._valid)
        self._scores_stay_on_chip = False
        self.losses: tuple[StepLoss, ...] = ()
        """Cost of lossy steps, for a program just compiled with a check; files do not keep it."""
        self.quantization: Quantization | None = None
        """
        Methods of quantization tried and kept, for a program just compiled; files do not keep it. None for a model that
        came with its formats.
        """

    @staticmethod
    def load(
        source: Source, *, instruction_limit: int = INSTRUCTION_LIMIT, memory_limit: int = MEMORY_LIMIT
    ) -> Program:
        """
        Reads a program and checks it.

        Args:
            source: the path of a ``.sta`` file, its bytes, or a file object opened with mode ``rb``.
            instruction_limit: as for ``Program``.
            memory_limit: as for ``Program``.

        Raises:
            OSError: the file cannot be opened.
            ValueError: the file object gives text.
            ContainerError: the file is not a container, or is corrupt, truncated or of another version.
            ProgramError: the program breaks a rule of the machine or exceeds a limit.
        """
        return Program(read_container(source), instruction_limit=instruction_limit, memory_limit=memory_limit)

    def __repr__(self) -> str:
        """``<Program for sta-base: src (1, 24, 64) -> output (1, 24, 64); 1,234 instructions>``."""
        inputs, outputs = (
            ", ".join(f"{port.name} {port.shape}" for port in ports) or "nothing"
            for ports in (self.inputs, self.outputs)
        )
        code = f"{len(self.container.code):,} instructions"
        return f"<Program for {self.target.name}: {inputs} -> {outputs}; {code}>"

    def _repr_html_(self) -> str:
        """HTML for a notebook: inputs, outputs, and the cost of a run."""
        ports = [
            (direction, port.name, " x ".join(map(str, port.shape)), port.host_dtype, port.device_dtype, port.kind)
            for direction, signatures in (("input", self.inputs), ("output", self.outputs))
            for port in signatures
        ]
        costs = [
            ("instructions", f"{len(self.container.code):,}"),
            ("cycles", f"{self.cycles:,}"),
            ("MAC efficiency", f"{self.mac_efficiency:.1%}"),
            ("DRAM bytes", f"{self.dram_bytes:,}"),
        ]
        if self.fidelity is not None:
            costs.append(("SQNR against the model given", f"{self.fidelity.given:.1f} dB"))
        if self.fidelity is not None and self.pruned:
            costs.append(("SQNR against the pruned model", f"{self.fidelity.pruned:.1f} dB"))
        title = f"Program for {self.target.name}"
        return table(ports, ("", "name", "shape", "host", "machine", "kind"), title) + table(costs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the program to a ``.sta`` file, completely or not at all; raises OSError if that fails."""
        write_container(self.container, path)

    @property
    def container(self) -> Container:
        """The container of the program."""
        return self._valid.container

    @property
    def valid(self) -> ValidProgram:
        """The checked program: resolved steps, memory sizes, ports."""
        return self._valid

    @property
    def target(self) -> Target:
        """The machine that the program was compiled for."""
        return self._valid.target

    @property
    def inputs(self) -> list[TensorSignature]:
        """Signatures of the model's inputs; those that only the host prologue reads have the kind ``host``."""
        prologue, ports = self._valid.prologue, [port.signature for port in self._valid.inputs]
        if prologue is None:
            return ports
        direct = {port.name: port for port in ports}
        return [direct.get(one.name) or one.signature for one in prologue.inputs]

    @property
    def prologue(self) -> HostPrologue | None:
        """The computations of the host before the machine starts; None if there are none."""
        return self._valid.prologue

    @property
    def outputs(self) -> list[TensorSignature]:
        """Signatures of the outputs."""
        return [port.signature for port in self._valid.outputs]

    @cached_property
    def timing(self) -> Timing:
        """The cost of a run, which does not depend on data; ProgramError if the program deadlocks."""
        return self._engines.timing()

    @cached_property
    def schedule(self) -> Schedule:
        """Start and end of every instruction of a run; ProgramError if there are too many, or a deadlock."""
        return self._engines.schedule()

    @property
    def cycles(self) -> int:
        """Cycles of a run on the target."""
        return self.timing.cycles

    @property
    def seconds(self) -> float:
        """Time of a run on the target, at its clock."""
        return self.cycles / (self.target.clock_mhz * 1e6)

    @property
    def dram_bytes(self) -> int:
        """Bytes that a run reads from and writes to DRAM."""
        return self.timing.dram_bytes

    @property
    def macs(self) -> int:
        """Useful MACs of a run, from the model's unpadded shapes."""
        return self.container.program["macs"]

    @property
    def dense_macs(self) -> int:
        """MACs of a run if every weight were counted, zero or not."""
        return self.container.program["dense_macs"]

    @property
    def mac_efficiency(self) -> float:
        """Useful MACs divided by the array's capacity in all cycles, 0..1."""
        return self.macs / (self.cycles * self.target.macs_per_cycle)

    @property
    def fidelity(self) -> Fidelity | None:
        """
        SQNR of the output against the model given and against the pruned one, as the compile measured it on samples.

        None for a model that came quantized, and for a program without a compile. It says what the file says.
        """
        found = self.container.program.get("fidelity")
        return None if found is None else Fidelity(**found)

    @property
    def pruned(self) -> dict[str, Pattern]:
        """The layers whose weights the compile pruned, by module path, with their patterns."""
        found: dict[str, str] = self.container.program.get("pruned", {})
        return {path: Pattern.parse(pattern) for path, pattern in found.items()}

    def check(self) -> None:
        """
        Runs the checks that need a walk through the whole run: no deadlock, and attention scores stay on the chip.

        They do not depend on data; ``run`` runs them before the first run.

        Raises:
            ProgramError: a check failed; names the instruction.
        """
        _ = self.timing
        if not self._scores_stay_on_chip:
            self._engines.check_taint()
        self._scores_stay_on_chip = True

    def check_races(self) -> RaceCheck:
        """
        Checks that semaphores and fences order all conflicting accesses, whatever the durations of instructions.

        Raises:
            RaceError: they do not; names the instructions, the memory and the bytes.
            ProgramError: the program deadlocks, or is too long to be recorded.
        """
        return self._engines.check_races(self.schedule)

    def profile(self) -> Profile:
        """
        Returns the attribution of a run's time to modules of the model; the same for all inputs.

        Raises:
            ProgramError: the program deadlocks, is too long to be recorded, or moves attention scores off the chip.
        """
        self.check()
        return self._engines.profile(self.schedule)

    def write_trace(self, path: str | os.PathLike[str], limit: int = TRACE_LIMIT) -> int:
        """
        Writes a trace of a run for ui.perfetto.dev; see ``sta.runtime.analysis.trace.write_trace``.

        Args:
            path: the file; compressed if its name ends in ``.gz``.
            limit: most instructions of units in the trace.

        Returns:
            The number of instructions of units in the trace.

        Raises:
            OSError: the file cannot be written.
            ProgramError: the program deadlocks, or is too long to be recorded.
            ValueError: the limit is negative.
        """
        return self._engines.write_trace(self.schedule, path, limit)

    def encode_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """
        Returns the device's integers for host arrays, by input name.

        The host prologue runs here: its results are among them.

        Raises:
            TypeError: the inputs are no mapping.
            ValueError: a name is missing or unexpected, or an array has the wrong shape, dtype or values; or the
                prologue has no result for them, for an index outside of a table.
        """
        if not isinstance(inputs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"inputs is a mapping from an input's name to its array, not {type(inputs).__name__}")
        signatures, prologue = self.inputs, self._valid.prologue
        _check_names(inputs, [signature.name for signature in signatures])
        for signature in signatures:
            _check_is_one_sample(signature, inputs[signature.name])
        if prologue is not None:
            return prologue.encode([port.signature for port in self._valid.inputs], inputs)
        return {signature.name: signature.encode(inputs[signature.name]) for signature in signatures}

    def run(
        self,
        inputs: Mapping[str, NDArray[Any]],
        engine: str = "auto",
        poison: int = POISON,
        threads: int = 1,
        report: RunProgress | None = None,
    ) -> Result:
        """
        Runs the program on one sample; ``run_batch`` takes many.

        Args:
            inputs: arrays by input name, shaped as the signature says.
            engine: ``auto``, ``native`` or ``reference``; all give the same bits.
            poison: the byte, 0..255, that writable memory holds at the start; no result depends on it.
            threads: how many threads of the processor share an instruction; no result depends on it.
            report: is called now and then, with the fraction of the run that is done, or None where it is not known.

        Raises:
            TypeError: the inputs are no mapping.
            ValueError: unknown or missing engine, poison or threads out of range, or unsuitable inputs.
            ProgramError: the program deadlocks, breaks a rule, or leaves a number range during the run.
        """
        name = _checked(engine, poison, threads)
        encoded = self.encode_inputs(inputs)
        self.check()
        return self._result(self._raw(name, encoded, poison, threads, report))

    def stepper(self, inputs: Mapping[str, NDArray[Any]], engine: str = "auto", poison: int = POISON) -> Stepper:
        """
        Starts a run that stops between any two instructions, and goes back; the parameters are those of ``run``.

        Raises:
            TypeError, ValueError: as ``run``.
        """
        return self._engines.stepper(_checked(engine, poison, 1), self.encode_inputs(inputs), poison)

    def run_batch(
        self,
        batch: Sequence[Mapping[str, NDArray[Any]]],
        engine: str = "auto",
        poison: int = POISON,
        threads: int = 1,
        report: Callable[[int], None] | None = None,
    ) -> list[Result]:
        """
        Runs the program on several inputs, ``threads`` of them at a time; see ``run``.

        Args:
            batch: the inputs of each run.
            engine: as for ``run``.
            poison: as for ``run``.
            threads: how many runs go on at a time.
            report: is called with the number of runs done, now and then, on the calling thread.

        Returns:
            The results, in the order of the batch.

        Raises:
            TypeError, ValueError, ProgramError: as ``run``, for the first run that fails; says which one, from 1.
            OSError: the system does not give that many threads.
        """
        name = _checked(engine, poison, threads)
        encoded: list[dict[str, NDArray[Any]]] = []
        for number, inputs in enumerate(batch, 1):
            with _of_run(number):
                encoded.append(self.encode_inputs(inputs))
        self.check()
        results: list[Result] = []
        with ThreadPoolExecutor(threads) as executor:
            try:
                runs = [_submitted(executor, partial(self._raw, name, inputs, poison, 1)) for inputs in encoded]
                for number, run in enumerate(runs, 1):
                    with _of_run(number):
                        results.append(self._result(run.result()))
                    if report is not None:
                        report(number)
            finally:
                executor.shutdown(cancel_futures=True)
        return results

    def run_both(
        self,
        inputs: Mapping[str, NDArray[Any]],
        poison: int = POISON,
        threads: int = 1,
        report: RunProgress | None = None,
    ) -> Result:
        """
        Runs the program on the native and on the reference engine, and compares their whole state.

        The parameters are those of ``run``.

        Raises:
            ValueError, ProgramError: as ``run``.
            EnginesDifferError: outputs or memories differ.
        """
        name = _checked("native", poison, threads)
        encoded = self.encode_inputs(inputs)
        self.check()
        reference, native = self._engines.take("reference", 1), self._engines.take(name, threads)
        reference.run(encoded, poison, report)
        raw = native.run(encoded, poison)
        check_same(reference, native, ("the reference engine", "the native one"))
        return self._result(raw)

    def _raw(
        self,
        engine: str,
        inputs: Mapping[str, NDArray[Any]],
        poison: int,
        threads: int,
        report: RunProgress | None = None,
    ) -> dict[str, Any]:
        """Returns the device's integers of the outputs."""
        machine = self._engines.take(engine, threads)
        raw = machine.run(inputs, poison, report)
        self._engines.give_back(engine, threads, machine)
        return raw

    def _result(self, raw: dict[str, NDArray[Any]]) -> Result:
        return Result(
            outputs={signature.name: signature.decode(raw[signature.name]) for signature in self.outputs},
            raw=raw,
            timing=self.timing,
            seconds=self.seconds,
            mac_efficiency=self.mac_efficiency,
            macs=self.macs,
        )


def _submitted(executor: ThreadPoolExecutor, run: Callable[[], dict[str, Any]]) -> Future[dict[str, Any]]:
    """Hands a run to a pool, which may start a thread for it; raises OSError if the system gives it none."""
    try:
        return executor.submit(run)
    except RuntimeError as error:
        raise OSError("the system gives no more threads to run a batch with: choose fewer") from error


@contextmanager
def _of_run(number: int) -> Generator[None]:
    """Adds the number of the run in a batch to errors raised inside."""
    try:
        yield
    except ProgramError as error:
        raise ProgramError(f"run {number}: {error}", error.pc) from None
    except ValueError as error:
        raise ValueError(f"run {number}: {error}") from None


def _checked(engine: str, poison: int, threads: int) -> str:
    """Returns the chosen engine; raises ValueError for an argument of ``Program.run`` that is out of range."""
    if not 0 <= poison <= 255:
        raise ValueError(f"poison is {poison}, outside 0..255")
    if not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads is {threads}, outside 1..{MOST_THREADS}")
    return chosen(engine)


def _check_names(given: Mapping[str, Any], expected: Sequence[str]) -> None:
    wanted = f"the program takes {', '.join(map(repr, expected)) or 'no inputs'}"
    for name in given:
        if name not in expected:
            raise ValueError(f"unexpected input {name!r}{suggestion(str(name), expected)}; {wanted}")
    missing = [name for name in expected if name not in given]
    if missing:
        raise ValueError(f"missing input {', '.join(map(repr, missing))}; {wanted}")


def _check_is_one_sample(signature: TensorSignature, array: NDArray[Any]) -> None:
    """Raises ValueError for several samples along a first axis."""
    given: tuple[int, ...] = getattr(array, "shape", ())
    shape = signature.shape
    if not given:
        return
    stacked = given[1:] == shape
    grown = bool(shape) and shape[0] == 1 and given[1:] == shape[1:] and given[0] != 1
    if not stacked and not grown:
        return
    one = "a" if stacked else "a[np.newaxis]"
    raise ValueError(
        f"input {signature.name!r}: expected shape {shape}, got {given}: a run takes one sample; for {given[0]} of "
        f"them program.run_batch([{{{signature.name!r}: {one}, …}} for a in …])"
    )
