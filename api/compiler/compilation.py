"""The compiler from end to end: from a model to a program."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack, cast

from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.utils.exceptions import DiagnosticException

from sta.api.cli.progress import Progress
from sta.api.compiler.bit_check import BitCheck
from sta.api.compiler.decisive_options import decisive_options
from sta.api.compiler.keywords import describe_keywords
from sta.api.compiler.package_versions import versions
from sta.api.compiler.pass_errors import explain_failures
from sta.api.compiler.progress_log import LOG, both, logged
from sta.api.compiler.resume import Resumed, check_undecided, input_types, read_dump_file
from sta.api.dump.dump_writer import IrDump
from sta.api.files.sample_files import read_samples
from sta.backend.container import PROVENANCE, ContainerError
from sta.backend.emit import OperationError, emit, operation_of
from sta.dialect.interpreters.any_level import level_of
from sta.dialect.interpreters.torch import input_names as argument_names
from sta.dialect.interpreters.torch import output_names as result_names
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.reader import IrError, IrText, verify
from sta.dialect.ir.samples import Sample, Samples
from sta.frontend.errors import ModelError
from sta.frontend.hugging_face.directory import Request
from sta.frontend.model import ImportedModel, import_model
from sta.frontend.original import Original
from sta.frontend.samples import InputType, check_finite, random_sample
from sta.passes.errors import CompileError
from sta.passes.lowering.useful_macs import recorded_macs
from sta.passes.options import Keywords, Options, StageProgress, silent
from sta.passes.pipeline import IMPORT, SUPPORTED, dialect_made_by, dialect_taken_by, pass_of, pipeline
from sta.passes.quantization.padding_rows import padding_mask
from sta.passes.quantization.plan import Choice
from sta.passes.step import Kind, Step
from sta.passes.tiling.capacity import CapacityError
from sta.passes.torch.calibrate import TorchCalibratePass
from sta.runtime import Program, ProgramError
from sta.runtime.losses import StepLoss
from sta.runtime.quantization import Quantization
from sta.spec.target import Target

Array = NDArray[Any]


@dataclass
class Compilation:
    """
    One run of the compiler; `module` is the IR after the last pass.

    `integer_module` is the last module of the `nm` dialect: its interpreter gives the bits of the program. It is None
    if the compile was resumed from a later module.
    """

    context: CompileContext
    module: ModuleOp
    dump: IrDump | None = None
    sample: Callable[[], Sample] | None = None
    """Reads the sample whose bits are compared after every pass; None without a check."""
    check: BitCheck | None = None
    """Compares them, from `start_check` on."""
    original: Original | None = None
    """The model as it was given, which the imported one is compared with; None for a dump."""
    report: StageProgress = silent
    options: Callable[[], dict[str, Any]] = dict[str, Any]
    """Returns the options that the program keeps."""
    seconds: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """Every step, in order, with its time; the time spent in --dump-ir and --check is last."""
    integer_module: ModuleOp | None = None
    operations_after_tiling: int = 0
    program: Program | None = None
    running: str = ""
    """The present step."""
    _kept: list[tuple[Step, ModuleOp]] = field(default_factory=list[tuple[Step, ModuleOp]])
    """Steps and their modules before there was a sample."""
    _dumping: float = 0.0
    _checking: float = 0.0

    @property
    def quantization(self) -> Choice | None:
        """Choice of number formats; None if the model, or the resumed dump, came with them."""
        return self.context.notes.get(TorchCalibratePass.name)

    @property
    def _quantization(self) -> Quantization | None:
        choice = self.quantization
        if choice is None:
            return None
        return Quantization(choice.decibels, choice.held_out, tuple(choice.trials), choice.plan.int16_inputs)

    @property
    def losses(self) -> tuple[StepLoss, ...]:
        """Cost of each lossy step on the check's sample; empty without a check."""
        if self.check is None:
            return ()
        lossy = [fidelity for fidelity in self.check.fidelity if fidelity.step.kind == Kind.LOSSY]
        return tuple(StepLoss(one.step.name, self._kept_for(one.step), one.before, one.model) for one in lossy)

    def _kept_for(self, step: Step) -> str:
        return str(self.context.notes.get(step.name) or step.purpose)

    def run(self, steps: Sequence[Step]) -> None:
        """Runs the steps, and verifies the result: once, as verifying costs as much time as a pass."""
        for step in steps:
            if step.enabled:
                self.take(step)
        self.module.verify()

    def take(self, step: Step) -> None:
        """Runs the pass of a step, and times it."""
        self.report(step.name, None)
        self.running = step.name
        tiles = (dialect_taken_by(step.name), dialect_made_by(step.name)) == ("nm", "sta")
        if tiles:
            self.integer_module = self.module.clone()
        start = time.perf_counter()
        pass_of(step).apply(self.context, self.module)
        self.after(step, time.perf_counter() - start)
        if tiles:
            self.operations_after_tiling = sum(1 for _ in self.module.walk())

    def after(self, step: Step, seconds: float) -> None:
        """Dumps and checks the module after a step."""
        self.seconds.append((step.name, seconds))
        start = time.perf_counter()
        if self.dump is not None:
            self.dump.write(step.name, self.module, self.context, seconds)
        dumped = time.perf_counter()
        if self.sample is not None:
            self._compare(step)
        self._dumping += dumped - start
        self._checking += time.perf_counter() - dumped

    def _compare(self, step: Step) -> None:
        self.module.verify()
        if self.check is not None:
            self.check.compare(step, self.module, self.context)
            return
        self._kept.append((step, self.module.clone()))
        if step.name == SUPPORTED:
            self.start_check()

    def start_check(self) -> None:
        """Reads the sample, if there is a check, and compares the steps so far; from here on every step is compared."""
        if self.sample is None:
            return
        sample = self.sample()
        self.check = BitCheck(sample, self._run_original(sample), self._counted(sample))
        for step, module in self._kept:
            self.check.compare(step, module, self.context)
        self._kept.clear()

    def _run_original(self, sample: Sample) -> tuple[str, dict[str, Array]] | None:
        """The outputs of the model as it was given; warns where they cannot be had."""
        if self.original is None:
            return None
        try:
            return self.original.name, self.original.run(sample)
        except ModelError as error:
            warnings.warn(f"the import is not checked: {error}", stacklevel=9)
            return None

    def _counted(self, sample: Sample) -> Array | None:
        """The positions of the sample that are no padding; None where no mask tells."""
        mask = padding_mask(self.module, self.context.weights) if level_of(self.module) == "torch" else None
        return None if mask is None else mask.counted(sample)

    def emit(self) -> None:
        """Produces the program of the last module."""
        self.report("emit", None)
        self.running = "emit"
        start = time.perf_counter()
        macs = recorded_macs(self.module)
        # Every step ends with a dump, so its last text is this module.
        printed = None if self.dump is None else self.dump.printed
        container = emit(self.module, self.context.weights, self.context.target, macs.kept, macs.dense, printed)
        container.program[PROVENANCE] = {"options": self.options(), "versions": versions()}
        self.program = Program(container)
        self.program.losses = self.losses
        self.program.quantization = self._quantization
        # Reports a deadlock.
        _ = self.program.timing
        self.seconds.append(("emit", time.perf_counter() - start))
        if self.check is not None:
            self.report("check the program", None)
            start = time.perf_counter()
            self.check.compare_program(self.program)
            self._checking += time.perf_counter() - start
        if self.dump is not None:
            start = time.perf_counter()
            self.dump.finish(container)
            self.seconds.append(("--dump-ir", self._dumping + time.perf_counter() - start))
        if self.check is not None:
            self.seconds.append(("--check", self._checking))
        spent = sum(seconds for _, seconds in self.seconds)
        LOG.info("compiled for %s in %.1f s: %d cycles", self.program.target.name, spent, self.program.cycles)


def _readers(options: Options, types: Mapping[str, InputType]) -> dict[str, Callable[[], list[Sample]]]:
    """Readers of the samples of each option that gives some."""
    return {option: partial(read_samples, option, data, types) for option, data in options.samples.items()}


def _samples(model: ImportedModel, options: Options, random_inputs: bool) -> Samples:
    """The samples of a float module: samples of the options, and the example inputs, or random ones in their place."""
    examples = model.example_inputs
    if random_inputs and not examples:
        examples = random_sample(model.input_types)

    def example() -> Sample:
        for name, array in examples.items():
            check_finite(f"example inputs {name!r}, which stand in for calibration data,", array)
        return examples

    return Samples(_readers(options, model.input_types), example if examples else None)


@contextmanager
def _collector_paused() -> Generator[None]:
    """Pauses the search for garbage cycles: IR consists of live cycles, and searching them costs time for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _shown(options: Options) -> Generator[Options]:
    """Gives options whose callback writes progress into the log, and shows it where that is asked for."""
    with Progress() if options.progress else nullcontext() as progress:
        report = options.report if progress is None else both(progress.report, options.report)
        yield replace(options, report=logged(report))


_ONE_AT_A_TIME = threading.RLock()
"""Lock of the thread that compiles: PyTorch's export has one state for all threads, and silences standard output."""


def compile_model(
    model: Any,
    example_inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    random_inputs: bool = False,
    **keywords: Unpack[Keywords],
) -> Compilation:
    """
    Like `compile`, but returns the whole compilation: the program and its modules.

    With `random_inputs` a model without example inputs gets random ones.
    """
    with _ONE_AT_A_TIME, _collector_paused(), _shown(Options.of(**keywords)) as options:
        return _compile_model(model, example_inputs, options, random_inputs)


def _compile_model(model: Any, example_inputs: Any, options: Options, random_inputs: bool) -> Compilation:
    steps = pipeline(options)
    dump = None if options.dump_ir is None else IrDump(options.dump_ir, options.only)
    is_dump = isinstance(model, str | os.PathLike) and Path(cast("os.PathLike[str]", model)).suffix == ".mlir"
    with dump or nullcontext():
        if is_dump:
            return _compile_dump(Path(cast("os.PathLike[str]", model)), options, steps, dump, random_inputs)
        return _compile_imported(model, example_inputs, options, steps, dump, random_inputs)


def _compile_imported(
    model: Any,
    example_inputs: Any,
    options: Options,
    steps: Sequence[Step],
    dump: IrDump | None,
    random_inputs: bool,
) -> Compilation:
    options.report("import", None)
    start = time.perf_counter()
    imported = import_model(model, example_inputs, Request(options.task, options.seq, options.batch))
    samples = _samples(imported, options, random_inputs)
    context = CompileContext(imported.weights, options.target)
    context.samples = samples
    if imported.original is not None:
        context.original = imported.original.run
    compilation = _compilation(context, imported.module, options, dump)
    if options.check:
        compilation.sample = lambda: _first(samples)
        compilation.original = imported.original
    compilation.after(IMPORT, time.perf_counter() - start)
    with _named_target(context.target):
        compilation.run(steps)
    compilation.emit()
    return compilation


def _compilation(context: CompileContext, module: ModuleOp, options: Options, dump: IrDump | None) -> Compilation:
    context.report = options.report
    return Compilation(
        context,
        module,
        dump=dump,
        report=options.report,
        options=lambda: decisive_options(options, context.samples),
    )


def _first(samples: Samples) -> Sample:
    """The sample of a check."""
    found = samples.of("calibration") or samples.examples
    if not found:
        raise CompileError("the model came without example inputs: give calibration data")
    return found[0]


def _compile_dump(
    path: Path, options: Options, steps: Sequence[Step], dump: IrDump | None, random_inputs: bool
) -> Compilation:
    options.report(f"read {path.name}", None)
    if dump is not None and dump.directory.exists() and dump.directory.samefile(path.parent):
        raise ValueError(f"cannot write the IR to {dump.directory}: {path.name} is read from there")
    start = time.perf_counter()
    resumed = read_dump_file(path, options.target, steps)
    check_undecided(resumed, options)
    compilation = _compilation(resumed.context, resumed.module, options, dump)
    types = _types_of(resumed)
    example = partial(random_sample, types) if random_inputs else None
    resumed.context.samples = Samples(_readers(options, types), example)
    if options.check:
        compilation.sample = lambda: _check_sample(resumed.context.samples)
    compilation.options = lambda: resumed.options(decisive_options(options, resumed.context.samples))
    compilation.after(IMPORT, time.perf_counter() - start)
    if SUPPORTED not in resumed.names:
        compilation.start_check()
    with _placed(resumed, compilation):
        compilation.run(resumed.steps)
        compilation.emit()
    return compilation


def _types_of(resumed: Resumed) -> dict[str, InputType]:
    if resumed.level != "torch":
        return input_types(resumed.module)
    function = main_function(resumed.module)
    names = argument_names(function), result_names(function)
    return ImportedModel(resumed.module, resumed.context.weights, {}, *names).input_types


def _check_sample(samples: Samples) -> Sample:
    if not samples.given("calibration"):
        raise CompileError("a dump comes without example inputs: give calibration data, which the check runs on")
    return samples.of("calibration")[0]


@contextmanager
def _placed(resumed: Resumed, compilation: Compilation) -> Generator[None]:
    """Shows passes' refusals of a dump, which may have been edited, at their place in the text."""
    try:
        with _named_target(resumed.context.target), explain_failures(lambda: compilation.running):
            yield
    except IrError:
        raise
    except DiagnosticException as error:
        # Names the operation, if a single one is wrong.
        verify(IrText(compilation.module, resumed.read.places))
        raise ValueError(f"{resumed.path}: the module does not verify after {compilation.running}: {error}") from error
    except ValueError as error:
        message = "; ".join(line.strip() for line in str(error).splitlines())
        refused = _refused_operation(compilation, error)
        shown = resumed.read.placed(message) if refused is None else resumed.read.error(refused, message)
        raise shown or ValueError(f"{resumed.path}: {error}") from error


def _refused_operation(compilation: Compilation, error: ValueError) -> Operation | None:
    """The operation from which no program can be produced; None if the error is another one."""
    if isinstance(error, OperationError):
        return error.operation
    if not isinstance(error, ProgramError | ContainerError):
        return None
    pc = error.pc if isinstance(error, ProgramError) else None
    refused = None if pc is None else operation_of(compilation.module, pc)
    return refused or main_function(compilation.module)


@contextmanager
def _named_target(target: Target) -> Generator[None]:
    try:
        yield
    except CapacityError as error:
        raise CompileError(f"target {target.name}: {error}") from error


@describe_keywords
def compile(
    model: Any, example_inputs: Mapping[str, Any] | Sequence[Any] | None = None, **keywords: Unpack[Keywords]
) -> Program:
    """
    Compiles a Transformer to STA microcode. Of several threads that compile, one does while the others wait. The logger
    `sta.compile` has the progress.

    Args:
        model: an `nn.Module`, an `ExportedProgram`, or the path of a `.pt2` or `.onnx` file, of the directory of a
            Hugging Face model, or of an `.mlir` file that `dump_ir` wrote, from which the compile resumes.
        example_inputs: arrays or tensors by name or in `forward`'s order; required for an `nn.Module`, and for an ONNX
            model that leaves sizes open.
        **keywords: the options, each a keyword:

    Raises:
        ModelError: the model cannot be imported, or holds unsupported operations (all are listed).
        CompileError: a layer does not fit the target.
        CheckError: a pass that keeps the result changed it.
        ValueError: an unknown target, a malformed pattern, calibration data that does not match the model.
        TypeError: an argument of another type than listed here.
        OSError: a file cannot be read or written.
    """
    program = compile_model(model, example_inputs, **keywords).program
    assert program is not None
    return program
