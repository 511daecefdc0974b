"""
The compiler from end to end: a model in, a program out.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from sta.arguments import calibration_of, globs_of, pruning_of, target_of
from sta.backend.emit import emit
from sta.bit_check import BitCheck
from sta.dialect.context import CompileContext
from sta.frontend.model import ImportedModel, import_model
from sta.frontend.samples import check_finite, split_samples
from sta.ir_dump import IrDump
from sta.npz import read_arrays
from sta.passes.memory_plan import CapacityError
from sta.passes.pipeline import FLOAT_PIPELINE, INTEGER_PIPELINE, pass_registry
from sta.passes.torch_calibrate import calibrate
from sta.passes.torch_check_supported import check_supported
from sta.passes.torch_choose_softmax import TorchChooseSoftmaxPass
from sta.passes.torch_quantize import TorchQuantizePass, check_int16_inputs
from sta.passes.useful_macs import useful_macs
from sta.runtime import Program
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


@dataclass
class Compilation:
    """
    One run of the compiler; `module` is the IR as the last pass left it.

    `integer_module` is the last module of the `nm` dialect: its interpreter gives the bits of the program.
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
    integer_module: ModuleOp | None = None
    operations_after_tiling: int = 0
    program: Program | None = None

    def apply(self, name: str, pass_: ModulePass) -> None:
        """
        Runs one pass, dumps the module if it changed, and verifies it and compares its bits if asked to.
        """
        self.report(name, None)
        pass_.apply(self.context, self.module)
        if self.check is not None or self.kept is not None:
            self.module.verify()
        self.after(name)

    def after(self, name: str) -> None:
        """
        What follows every step: dump and check.
        """
        if self.dump is not None:
            self.dump.write(name, self.module)
        if self.check is not None:
            self.check.compare(name, self.module, self.context)
        if self.kept is not None:
            self.kept.append((name, self.module.clone()))

    def start_check(self, sample: dict[str, Array]) -> None:
        """
        Compares the steps so far on a sample, and from here on every step.
        """
        self.check = BitCheck(sample)
        for name, module in self.kept or []:
            self.check.compare(name, module, self.context)
        self.kept = None

    def apply_all(self, names: Sequence[str]) -> None:
        """
        Runs passes by name, and verifies what they made: once, as verifying costs as much time as a pass.
        """
        registry = pass_registry()
        for name in names:
            if name == "convert-nm-to-sta":
                self.integer_module = self.module.clone()
            self.apply(name, registry[name]()())
            if name == "convert-nm-to-sta":
                self.operations_after_tiling = sum(1 for _ in self.module.walk())
        self.module.verify()


def _samples(model: ImportedModel, calibration: Mapping[str, Any] | Path | None) -> list[dict[str, Array]]:
    """
    The samples activation ranges are taken from: calibration data, or else the example inputs.
    """
    if calibration is not None:
        arrays = read_arrays(calibration) if isinstance(calibration, Path) else calibration
        return split_samples(arrays, model.input_types)
    if not model.example_inputs:
        raise CompileError("the model came without example inputs: give calibration data")
    for name, array in model.example_inputs.items():
        check_finite(f"example inputs {name!r}, which stand in for calibration data,", array)
    warnings.warn(
        "no calibration data: activation ranges are taken from the example inputs alone, which costs accuracy",
        stacklevel=5,
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
    target: str | os.PathLike[str] | Target = "sta-base",
    sparsity: str | Mapping[str, str] | None = None,
    calibration: Mapping[str, Array] | str | os.PathLike[str] | None = None,
    softmax: str = "auto",
    probability_bits: int | str = "auto",
    int16_inputs: Sequence[str] = (),
    check: bool = False,
    dump_ir: str | os.PathLike[str] | None = None,
    report: Report = _silent,
) -> Compilation:
    """
    Like `compile`, but returns the whole compilation: the program and the modules it was made from.
    """
    machine, pruning, data = target_of(target), pruning_of(sparsity), calibration_of(calibration)
    formats = TorchQuantizePass(globs_of(int16_inputs))
    choice = TorchChooseSoftmaxPass(softmax, str(probability_bits))
    dump = None if dump_ir is None else IrDump(Path(dump_ir))
    report("import", None)
    imported = import_model(model, example_inputs)
    context = CompileContext(imported.weights, machine)
    compilation = Compilation(context, imported.module, dump=dump, kept=[] if check else None, report=report)
    compilation.after("import")
    compilation.apply_all(FLOAT_PIPELINE)
    check_supported(compilation.module)
    check_int16_inputs(compilation.module, formats.int16_inputs)
    samples = _samples(imported, data)
    if check:
        compilation.start_check(samples[0])
    if pruning is not None:
        compilation.apply("torch-prune", pruning)
    try:
        _quantize(compilation, samples, formats, choice)
        compilation.apply_all(INTEGER_PIPELINE)
    except CapacityError as error:
        raise CompileError(f"target {machine.name}: {error}") from error
    assert compilation.integer_module is not None
    macs = useful_macs(compilation.integer_module)
    report("emit", None)
    container = emit(compilation.module, context.weights, machine, macs.kept, macs.dense)
    compilation.program = Program(container)
    if compilation.check is not None:
        report("check the program", None)
        compilation.check.compare_program(compilation.program)
    return compilation


def _quantize(
    compilation: Compilation,
    samples: list[dict[str, Array]],
    formats: TorchQuantizePass,
    choice: TorchChooseSoftmaxPass,
) -> None:
    def progress(done: int) -> None:
        compilation.report("calibrate", done / len(samples))

    calibrate(compilation.module, compilation.context, samples, progress)
    compilation.after("torch-calibrate")
    compilation.apply(formats.name, formats)
    compilation.apply(choice.name, choice)
    compilation.apply_all(("convert-torch-to-nm",))


def compile(
    model: Any,
    example_inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    target: str | os.PathLike[str] | Target = "sta-base",
    sparsity: str | Mapping[str, str] | None = None,
    calibration: Mapping[str, Array] | str | os.PathLike[str] | None = None,
    softmax: str = "auto",
    probability_bits: int | str = "auto",
    int16_inputs: Sequence[str] = (),
    check: bool = False,
    dump_ir: str | os.PathLike[str] | None = None,
    report: Report = _silent,
) -> Program:
    """
    Compiles a Transformer to STA microcode.

    Args:
        model: an `nn.Module`, an `ExportedProgram`, or the path of a `.pt2` file.
        example_inputs: arrays or tensors by name or in `forward`'s order; required for an `nn.Module`.
        target: a preset's name, the path of a YAML file, or a `Target`.
        sparsity: `"N:M"` for every linear layer, or a mapping from module-path glob to pattern: pruned one-shot by
            magnitude. N:M zeros that the weights already have are found without it.
        calibration: arrays by input name, first axis the samples, or the path of an `.npz` file of such.
        softmax: `row`, over whole rows, `online`, chunk by chunk, or `auto`: rows where they fit the target.
        probability_bits: 8, 16 or `auto`: 16 for attention that loses with 8 bits on the calibration samples.
        int16_inputs: module-path globs of linear layers whose input has 16 bits instead of 8, in twice the cycles.
        check: run a sample through the IR after every pass and stop at the first pass whose bits differ.
        dump_ir: a directory for the IR after every pass that changed it; dumps of an earlier run in it are replaced.
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
        check=check,
        dump_ir=dump_ir,
        report=report,
    ).program
    assert program is not None
    return program
