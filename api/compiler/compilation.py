"""
The compiler from end to end: a model in, a program out.
"""

from __future__ import annotations

import gc
import os
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import DiagnosticException

from sta.api.compiler.arguments import calibration_of, globs_of, least_sqnr_of, methods_of, pruning_of, target_of
from sta.api.compiler.bit_check import BitCheck
from sta.api.compiler.pass_errors import explain_failures
from sta.api.compiler.resume import STEPS, Resumed, input_types, read_dump_file
from sta.api.dump.dump_writer import IrDump
from sta.api.files.npz import read_arrays
from sta.backend.container import ContainerError
from sta.backend.emit import OperationError, emit, operation_of
from sta.dialect.interpreters.any_level import main_function
from sta.dialect.interpreters.torch import input_names as argument_names
from sta.dialect.interpreters.torch import output_names as result_names
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.reader import IrError, IrText, verify
from sta.frontend.model import ImportedModel, import_model
from sta.frontend.samples import InputType, check_finite, split_samples
from sta.passes.lowering.useful_macs import recorded_macs
from sta.passes.memory.memory_plan import CapacityError
from sta.passes.pipeline import pass_registry
from sta.passes.quantization.bound_ranges import bound_ranges, place_of
from sta.passes.quantization.calibrate import calibrate
from sta.passes.quantization.choice import METHODS, Choice, QuantizationChoice
from sta.passes.torch.check_supported import check_supported
from sta.passes.torch.choose_softmax import TorchChooseSoftmaxPass
from sta.passes.torch.fold_quantization import is_quantized
from sta.passes.torch.prune import TorchPrunePass
from sta.passes.torch.quantize import TorchQuantizePass, check_int16_inputs, values_without_format
from sta.runtime import Program, ProgramError
from sta.spec.target import Target

Array = NDArray[Any]

Report = Callable[[str, float | None], None]
"""
Told what is going on: the stage, and how much of it is done (None where that is not known).
"""


class CompileError(ValueError):
    """
    A model that cannot be compiled as asked; the message names the layer, the cause and the way out.
    """


def _silent(stage: str, done: float | None) -> None:
    return None


@dataclass(frozen=True)
class Options:
    """
    What a compile is asked for, besides the model and the target.
    """

    pruning: TorchPrunePass | None
    formats: TorchQuantizePass
    softmax: TorchChooseSoftmaxPass
    calibration: Mapping[str, Any] | Path | None
    check: bool
    min_sqnr: float | None = None
    """
    Decibels that the output must reach; None: the default is aimed at.
    """
    methods: tuple[str, ...] = METHODS


@dataclass
class Compilation:
    """
    One run of the compiler; `module` is the IR as the last pass left it.

    `integer_module` is the last module of the `nm` dialect: its interpreter gives the bits of the program. It is None
    where the compile was taken up from a later module.
    """

    context: CompileContext
    module: ModuleOp
    dump: IrDump | None = None
    check: BitCheck | None = None
    """
    Compares bits after every pass, if asked to.
    """
    kept: list[tuple[str, ModuleOp]] | None = None
    """
    Steps and their modules, to be compared when there is a sample; None if they are not kept.
    """
    report: Report = _silent
    seconds: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """
    Every step, in order, with the time that it took; the time for which --dump-ir and --check kept it waiting is last.
    """
    quantization: Choice | None = None
    """
    How number formats were chosen; None if the model, or the dump it was taken up from, came with them.
    """
    integer_module: ModuleOp | None = None
    operations_after_tiling: int = 0
    program: Program | None = None
    running: str = ""
    """
    The step that is being taken.
    """
    _samples: list[dict[str, Array]] = field(default_factory=list[dict[str, Array]])
    _dumping: float = 0.0
    _checking: float = 0.0

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """
        Times a step, and then dumps the module if the step changed it, and verifies it and compares its bits if asked
        to.
        """
        self.report(name, None)
        self.running = name
        start = time.perf_counter()
        yield
        self.after(name, time.perf_counter() - start)

    def apply(self, name: str, pass_: ModulePass) -> None:
        """
        Runs one pass.
        """
        with self.step(name):
            pass_.apply(self.context, self.module)

    def after(self, name: str, seconds: float) -> None:
        """
        What follows every step: dump and check.
        """
        self.seconds.append((name, seconds))
        start = time.perf_counter()
        if self.dump is not None:
            self.dump.write(name, self.module, self.context, seconds)
        dumped = time.perf_counter()
        if self.check is not None or self.kept is not None:
            self.module.verify()
        if self.check is not None:
            self.check.compare(name, self.module, self.context)
        if self.kept is not None:
            self.kept.append((name, self.module.clone()))
        self._dumping += dumped - start
        self._checking += time.perf_counter() - dumped

    def start_check(self, sample: dict[str, Array]) -> None:
        """
        Compares the steps so far on a sample, and from here on every step.
        """
        self.check = BitCheck(sample)
        for name, module in self.kept or []:
            self.check.compare(name, module, self.context)
        self.kept = None

    def check_again(self, name: str) -> None:
        """
        Compares the module, as the step of this name left it.
        """
        assert self.check is not None
        self.check.compare(name, self.module, self.context)

    def run(self, steps: Sequence[str], model: ImportedModel | None, options: Options) -> None:
        """
        Takes the steps, and verifies what they made: once, as verifying costs as much time as a pass. The model is
        needed as long as the module is one of floats.
        """
        for name in steps:
            self._take(name, model, options)
        self.module.verify()

    def _take(self, name: str, model: ImportedModel | None, options: Options) -> None:
        match name:
            case "torch-check-supported":
                check_supported(self.module)
                check_int16_inputs(self.module, options.formats.int16_inputs)
                if is_quantized(self.module):
                    _check_quantized(options)
                self._read_samples(model, options)
            case "torch-prune":
                if options.pruning is not None:
                    self.apply(name, options.pruning)
            case "torch-calibrate":
                self._read_samples(model, options)
                self._calibrate(options)
            case "torch-quantize":
                self.apply(name, options.formats)
            case "torch-choose-softmax":
                self.apply(name, options.softmax)
            case _:
                self._apply_registered(name)

    def _read_samples(self, model: ImportedModel | None, options: Options) -> None:
        if self._samples:
            return
        assert model is not None
        needed = not is_quantized(self.module) or bool(self._values_to_see(model, options))
        self._samples = _samples(model, options.calibration, needed, options.check)
        if options.check and self.check is None:
            self.start_check(self._samples[0])

    def _values_to_see(self, model: ImportedModel, options: Options) -> list[SSAValue]:
        """
        The values of a quantized model whose formats only samples can tell.
        """
        if options.calibration is not None:
            return values_without_format(self.module, self.context.weights)
        values = self._bound()
        if values and not model.example_inputs:
            places = ", ".join(dict.fromkeys(place_of(value) for value in values))
            raise CompileError(f"the model does not say how to quantize {places}: give calibration data")
        return values

    def _bound(self) -> list[SSAValue]:
        """
        Gives the values of a quantized model that have no format the ranges that follow from those that have one;
        returns the others.
        """
        weights = self.context.weights
        return bound_ranges(self.module, weights, values_without_format(self.module, weights))

    def _calibrate(self, options: Options) -> None:
        with self.step("torch-calibrate"):
            if not is_quantized(self.module):
                self._choose_formats(options)
                return
            if self._samples:
                count = len(self._samples)
                calibrate(self.module, self.context, self._samples, lambda done: self.report("calibrate", done / count))
            if options.calibration is None:
                # Safer than what a single example shows.
                self._bound()

    def _choose_formats(self, options: Options) -> None:
        chooser = QuantizationChoice(self.module, self.context, self._samples, options.methods, self.report)
        choice = chooser.choose(options.min_sqnr, options.formats.int16_inputs)
        if options.min_sqnr is not None and choice.decibels < options.min_sqnr:
            raise CompileError(
                f"the output reaches {choice.decibels:.1f} dB against the model on calibration samples, with 16 bits "
                f"for the input of every linear layer, and not the {options.min_sqnr:g} dB that were asked for: ask "
                "for less"
            )
        chooser.apply(choice.plan)
        self.quantization = choice

    def _apply_registered(self, name: str) -> None:
        if name == "convert-nm-to-sta":
            self.integer_module = self.module.clone()
        self.apply(name, pass_registry()[name]()())
        if name == "convert-nm-to-sta":
            self.operations_after_tiling = sum(1 for _ in self.module.walk())

    def emit(self) -> None:
        """
        Makes the program of the last module.
        """
        self.report("emit", None)
        self.running = "emit"
        start = time.perf_counter()
        macs = recorded_macs(self.module)
        # Every step ends with a dump, so what it printed last is this module.
        printed = None if self.dump is None else self.dump.printed
        container = emit(self.module, self.context.weights, self.context.target, macs.kept, macs.dense, printed)
        self.program = Program(container)
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
            self.dump.wait()
            self.seconds.append(("--dump-ir", self._dumping + time.perf_counter() - start))
        if self.check is not None:
            self.seconds.append(("--check", self._checking))


def _check_quantized(options: Options) -> None:
    """A model that came with its number formats keeps them."""
    if options.pruning is not None:
        raise CompileError("the model is quantized already, and cannot be pruned any more: prune it before")
    if options.formats.int16_inputs or options.min_sqnr is not None:
        raise CompileError(
            "the model is quantized already and keeps its number formats: leave out int16_inputs and min_sqnr"
        )


def _samples(
    model: ImportedModel, calibration: Mapping[str, Any] | Path | None, needed: bool, check: bool
) -> list[dict[str, Array]]:
    """
    The samples activation ranges are taken from: calibration data, or else the example inputs. There may be none where
    they are not `needed` for ranges, and nothing is to be checked with them.
    """
    if calibration is not None:
        arrays = read_arrays(calibration) if isinstance(calibration, Path) else calibration
        return split_samples(arrays, model.input_types)
    if not model.example_inputs and not (needed or check):
        return []
    if not model.example_inputs:
        raise CompileError("the model came without example inputs: give calibration data")
    for name, array in model.example_inputs.items():
        check_finite(f"example inputs {name!r}, which stand in for calibration data,", array)
    if not needed:
        return [model.example_inputs]
    warnings.warn(
        "no calibration data: activation ranges are taken from the example inputs alone, which costs "
        "accuracy; give some real inputs",
        stacklevel=9,
    )
    return [model.example_inputs]


@contextmanager
def _collector_paused() -> Generator[None]:
    """
    No search for garbage cycles: IR is made of cycles that live, and searching them costs time for nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_paused()
def compile_model(
    model: Any,
    example_inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    target: str | os.PathLike[str] | Target | None = None,
    sparsity: str | Mapping[str, str] | None = None,
    calibration: Mapping[str, Array] | str | os.PathLike[str] | None = None,
    softmax: str = "auto",
    probability_bits: int | str = "auto",
    int16_inputs: Sequence[str] = (),
    min_sqnr: float | None = None,
    methods: Sequence[str] = METHODS,
    check: bool = False,
    dump_ir: str | os.PathLike[str] | None = None,
    only: str | None = None,
    report: Report = _silent,
) -> Compilation:
    """
    Like `compile`, but returns the whole compilation: the program and the modules it was made from.
    """
    options = Options(
        pruning_of(sparsity),
        TorchQuantizePass(globs_of(int16_inputs)),
        TorchChooseSoftmaxPass(softmax, str(probability_bits)),
        calibration_of(calibration),
        check,
        least_sqnr_of(min_sqnr),
        methods_of(methods),
    )
    machine = None if target is None else target_of(target)
    dump = None if dump_ir is None else IrDump(Path(dump_ir), only)
    is_dump = isinstance(model, str | os.PathLike) and Path(cast("os.PathLike[str]", model)).suffix == ".mlir"
    compile_it = _compile_dump if is_dump else _compile_imported
    with dump or nullcontext():
        return compile_it(model, example_inputs, machine, options, dump, report)


def _compile_imported(
    model: Any, example_inputs: Any, target: Target | None, options: Options, dump: IrDump | None, report: Report
) -> Compilation:
    report("import", None)
    start = time.perf_counter()
    imported = import_model(model, example_inputs)
    context = CompileContext(imported.weights, target)
    kept: list[tuple[str, ModuleOp]] | None = [] if options.check else None
    compilation = Compilation(context, imported.module, dump=dump, kept=kept, report=report)
    compilation.after("import", time.perf_counter() - start)
    with _named_target(context.target):
        compilation.run(STEPS, imported, options)
    compilation.emit()
    return compilation


def _compile_dump(
    model: Any, example_inputs: Any, target: Target | None, options: Options, dump: IrDump | None, report: Report
) -> Compilation:
    path = Path(model)
    report(f"read {path.name}", None)
    if dump is not None and dump.directory.exists() and dump.directory.samefile(path.parent):
        raise ValueError(f"cannot write the IR to {dump.directory}: {path.name} is read from there")
    start = time.perf_counter()
    resumed = read_dump_file(path, target)
    _check_options(resumed, options)
    compilation = Compilation(resumed.context, resumed.module, dump=dump, report=report)
    compilation.after("import", time.perf_counter() - start)
    imported = None
    if resumed.level == "torch":
        function = main_function(resumed.module)
        names = argument_names(function), result_names(function)
        imported = ImportedModel(resumed.module, resumed.context.weights, {}, *names)
    if options.check and "torch-check-supported" not in resumed.steps:
        kinds = input_types(resumed.module) if imported is None else imported.input_types
        compilation.start_check(_check_sample(kinds, options.calibration))
        compilation.check_again("import")
    with _placed(resumed, compilation):
        compilation.run(resumed.steps, imported, options)
        compilation.emit()
    return compilation


@contextmanager
def _placed(resumed: Resumed, compilation: Compilation) -> Generator[None]:
    """
    Shows what passes refuse in a dump, which somebody may have edited, at its place in the text.
    """
    try:
        with _named_target(resumed.context.target), explain_failures(lambda: compilation.running):
            yield
    except IrError:
        raise
    except DiagnosticException as error:
        # Names the operation, where a single one is wrong.
        verify(IrText(compilation.module, resumed.read.places))
        raise ValueError(f"{resumed.path}: the module does not verify after {compilation.running}: {error}") from error
    except ValueError as error:
        message = "; ".join(line.strip() for line in str(error).splitlines())
        refused = _refused_operation(compilation, error)
        shown = resumed.read.placed(message) if refused is None else resumed.read.error(refused, message)
        raise shown or ValueError(f"{resumed.path}: {error}") from error


def _refused_operation(compilation: Compilation, error: ValueError) -> Operation | None:
    """
    The operation that no program can be made of; None if the error is another one.
    """
    if isinstance(error, OperationError):
        return error.operation
    if not isinstance(error, ProgramError | ContainerError):
        return None
    pc = error.pc if isinstance(error, ProgramError) else None
    refused = None if pc is None else operation_of(compilation.module, pc)
    return refused or main_function(compilation.module)


def _check_options(resumed: Resumed, options: Options) -> None:
    """
    Raises ValueError for an option about what has been done already.
    """
    asked = {
        "torch-calibrate": _calibration_asked(options),
        "torch-prune": options.pruning is not None and "sparsity is given, and weights have been pruned",
        "torch-quantize": options.formats != TorchQuantizePass() and "16-bit inputs are asked for, and chosen",
        "torch-choose-softmax": options.softmax != TorchChooseSoftmaxPass()
        and "the softmax is given, and has been chosen",
    }
    for step, reason in asked.items():
        if reason and step not in resumed.steps:
            raise ValueError(f"{reason} in {resumed.path}: compile a dump from before {step}, or leave the option out")
    if "torch-quantize" in resumed.steps and "torch-check-supported" not in resumed.steps:
        check_int16_inputs(resumed.module, options.formats.int16_inputs)


def _calibration_asked(options: Options) -> str | bool:
    """What is asked for that calibration decides; False if nothing is."""
    if options.min_sqnr is not None or options.methods != METHODS:
        return "number formats are asked for, and have been chosen"
    # A check runs on calibration data, whatever the module is.
    return options.calibration is not None and not options.check and "calibration data are given, and nothing uses them"


def _check_sample(kinds: dict[str, InputType], calibration: Mapping[str, Any] | Path | None) -> dict[str, Array]:
    if calibration is None:
        raise CompileError("a dump comes without example inputs: give calibration data, which the check runs on")
    arrays = read_arrays(calibration) if isinstance(calibration, Path) else calibration
    return split_samples(arrays, kinds)[0]


@contextmanager
def _named_target(target: Target) -> Generator[None]:
    try:
        yield
    except CapacityError as error:
        raise CompileError(f"target {target.name}: {error}") from error


def compile(
    model: Any,
    example_inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    target: str | os.PathLike[str] | Target | None = None,
    sparsity: str | Mapping[str, str] | None = None,
    calibration: Mapping[str, Array] | str | os.PathLike[str] | None = None,
    softmax: str = "auto",
    probability_bits: int | str = "auto",
    int16_inputs: Sequence[str] = (),
    min_sqnr: float | None = None,
    methods: Sequence[str] = METHODS,
    check: bool = False,
    dump_ir: str | os.PathLike[str] | None = None,
    only: str | None = None,
    report: Report = _silent,
) -> Program:
    """
    Compiles a Transformer to STA microcode.

    Args:
        model: an `nn.Module`, an `ExportedProgram`, or the path of a `.pt2` or `.onnx` file, or of an `.mlir` file that
            `dump_ir` wrote, from which the compile goes on.
        example_inputs: arrays or tensors by name or in `forward`'s order; required for an `nn.Module`, and for an ONNX
            model that leaves sizes open.
        target: a preset's name, the path of a YAML file, or a `Target`; `sta-base`, or that of the dump, if None.
        sparsity: `"N:M"` for every linear layer, or a mapping from module-path glob to pattern: pruned one-shot by
            magnitude. Of several globs that match, the first counts. N:M zeros that the weights already have are found
            without it.
        calibration: arrays by input name, first axis the samples, or the path of an `.npz` file of such.
        softmax: `row`, over whole rows, `online`, chunk by chunk, or `auto`: rows where they fit the target.
        probability_bits: 8, 16 or `auto`: 16 for attention that loses with 8 bits on the calibration samples.
        int16_inputs: module-path globs of linear layers whose input has 16 bits instead of 8, in twice the cycles.
        min_sqnr: decibels that the output must reach against the model on calibration samples held out; inputs get 16
            bits where that takes most noise from the output. If None, 20 are aimed at; 0 leaves all inputs at 8 bits.
        methods: what is tried beyond the extremes of each value, and kept where it makes the output better on samples
            held out: "smoothing" (outliers of normalizations go into weights), "ranges" (by rounding error), "weights"
            (rounded by what their inputs are).
        check: run a sample through the IR after every pass and stop at the first pass whose bits differ.
        dump_ir: a directory for the IR after every pass that changed it; a dump of an earlier run in it is replaced.
        only: a pattern of the shell for the module paths that the dump is limited to.
        report: told about progress.

    Raises:
        ModelError: the model cannot be imported, or holds operations that are not supported (all are listed).
        CompileError: a layer does not fit the target.
        CheckError: a pass changed the result.
        ValueError: an unknown target, a malformed pattern, calibration data that does not match the model.
        TypeError: an argument of another type than listed here.
        OSError: a file cannot be read or written.
    """
    program = compile_model(
        model,
        example_inputs,
        target=target,
        sparsity=sparsity,
        calibration=calibration,
        softmax=softmax,
        probability_bits=probability_bits,
        int16_inputs=int16_inputs,
        min_sqnr=min_sqnr,
        methods=methods,
        check=check,
        dump_ir=dump_ir,
        only=only,
        report=report,
    ).program
    assert program is not None
    return program
