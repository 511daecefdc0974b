"""Resumption of a compile from a dump of its IR: finished steps, and steps left."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.dialects.builtin import DictionaryAttr, ModuleOp, StringAttr
from xdsl.ir import SSAValue

from sta.api.dump.ir_dump import Dump
from sta.dialect import nm, sta
from sta.dialect.host import model_inputs, prologue_of
from sta.dialect.interpreters.any_level import level_of, machine_input_names
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.main_function import main_function, prologue_function
from sta.dialect.ir.port_attribute import PORT, port_of
from sta.dialect.ir.reader import IrText, read_ir
from sta.frontend.samples import InputType
from sta.passes.options import Options
from sta.passes.options import options as all_options
from sta.passes.pipeline import FIRST_INTEGER_STEP, IMPORT, SUPPORTED, dialect_made_by
from sta.passes.step import Step
from sta.passes.torch.fold_quantization import is_quantized
from sta.passes.torch.quantize import check_int16_inputs
from sta.spec.target import Target


@dataclass(frozen=True)
class Resumed:
    """A dump that has been read."""

    path: Path
    context: CompileContext
    read: IrText
    steps: tuple[Step, ...]
    """Steps left to do."""
    decided: dict[str, Any]
    """The options of the dump, as the program keeps them."""

    @property
    def names(self) -> list[str]:
        """The names of the steps that are left."""
        return [step.name for step in self.steps]

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of the program: those of the dump, and those given that steps which are left carry out."""
        late = {name for name, option in all_options().items() if option.decided and option.decided.step in self.names}
        return {**self.decided, **{name: value for name, value in given.items() if name in late or name == "passes"}}

    @property
    def module(self) -> ModuleOp:
        """The module, which passes change."""
        return self.read.module

    @property
    def level(self) -> str:
        """The dialect that the module is in."""
        return level_of(self.module)


def read_dump_file(path: Path, target: Target | None, steps: Sequence[Step]) -> Resumed:
    """
    Reads one module of a dump, and finds the steps of a compile that are left. Arrays and, unless another is given,
    target come from its directory.

    Raises:
        OSError: there is no such file, or no dump in its directory.
        IrError: the text is no module; shows the place.
        ValueError: it is tiled for another target, or is but an excerpt.
    """
    with open(path, "rb") as file:
        data = file.read()
    dump = Dump.read(path.parent)
    if dump.only is not None:
        raise ValueError(f"{path} holds {dump.only} only: make the dump without --only to compile it on")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error}") from error
    own = Target.from_json(dump.target)
    context = CompileContext(dump.weights(), target or own)
    read = read_ir(text, str(path), context, context.weights)
    try:
        level = level_of(read.module)
    except ValueError as error:
        raise read.error(read.module, f"{error}: a function `main` is expected") from error
    _check_signatures(read, level)
    _check_prologue(read, context)
    if level == "sta" and target is not None and target != own:
        raise ValueError(
            f"{path} is tiled for {own.name}, not for {target.name}: compile a dump from before convert-nm-to-sta"
        )
    resumed = Resumed(path, context, read, _steps_left(path.name, read.module, steps), dump.options)
    if level == "sta" and "sta-allocate" not in resumed.names:
        _check_allocated(read)
    return resumed


def check_undecided(resumed: Resumed, options: Options) -> None:
    """Raises ValueError for an option about a finished step."""
    default = Options()
    for name, option in all_options().items():
        decided = option.decided
        if decided is None or decided.step in resumed.names or getattr(options, name) == getattr(default, name):
            continue
        # A check runs on calibration data, on any module.
        if not (name == "calibration" and options.check):
            raise ValueError(
                f"{decided.done} in {resumed.path}: compile a dump from before {decided.step}, or leave the option out"
            )
    left_out = [name for name in options.passes if name not in resumed.names]
    if left_out:
        raise ValueError(
            f"pass {left_out[0]} is asked for, and its place in the pipeline is before {resumed.path}: compile an "
            "earlier dump, or leave the option out"
        )
    if "torch-quantize" in resumed.names and SUPPORTED not in resumed.names:
        check_int16_inputs(resumed.module, options.int16_inputs)


def _check_allocated(read: IrText) -> None:
    """Raises IrError for the first buffer without a place."""
    for operation in read.module.walk():
        if isinstance(operation, sta.AllocOp | sta.ConstantOp) and operation.offset is None:
            raise read.error(operation, f"{operation.name}: an offset is expected, as sta-allocate gives it")


def _check_signatures(read: IrText, level: str) -> None:
    """Raises IrError for an argument or result of the function without its meaning to the host."""
    function = main_function(read.module)
    block = function.body.block
    last = block.last_op
    results = () if last is None or level == "sta" else last.operands
    kinds = (("argument", block.args, function.arg_attrs), ("result", results, function.res_attrs))
    for kind, values, entries in kinds:
        found = () if entries is None else entries.data
        for number, value in enumerate(values):
            entry = found[number] if number < len(found) else DictionaryAttr({})
            problem = _problem(entry, value, level)
            if problem is not None:
                raise read.error(function, f"{kind} {number} of the function: {problem}")


def _check_prologue(read: IrText, context: CompileContext) -> None:
    """Raises IrError for a function `prologue` that the host cannot run, or that does not make the inputs of `main`."""
    function = prologue_function(read.module)
    if function is None:
        return
    try:
        prologue = prologue_of(read.module, context.weights)
    except ValueError as error:
        raise read.error(function, f"the host prologue: {error}") from error
    assert prologue is not None
    known = {*(one.name for one in prologue.inputs), *(name for name, _ in prologue.results)}
    unknown = [name for name in machine_input_names(read.module) if name not in known]
    if unknown:
        raise read.error(function, f"the host prologue neither takes nor makes the input {unknown[0]!r} of `main`")


def _problem(entry: DictionaryAttr, value: SSAValue, level: str) -> str | None:
    """Fault in the attributes of an argument or result; None if there is none."""
    try:
        if level == "torch":
            assert isinstance(entry.data["sta.name"], StringAttr)
            return None
        shape = sta.memref_of(value).get_shape() if level == "sta" else nm.tensor_of(value).get_shape()
        port = port_of(entry)
        port.signature(shape)
        if level == "sta" and not isinstance(port.direction, StringAttr):
            return f"its {PORT} is expected to begin with input or output"
    except KeyError as error:
        return f"the attribute {error.args[0]} is expected"
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        return f"its attributes are no signature of an input or output {error}".rstrip()
    return None


def _steps_left(file: str, module: ModuleOp, steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps after the pass that the file is named after; for other names, all steps that the module may need."""
    names = [step.name for step in steps]

    def starting_with(name: str) -> tuple[Step, ...]:
        return tuple(steps[names.index(name) :])

    named = re.match(r"[0-9]+-([a-z0-9-]+)\.(?:.*\.)?mlir$", file)
    level = level_of(module)
    if named is not None and _level_after(named[1], names) == level:
        return tuple(steps) if named[1] == IMPORT.name else tuple(steps[names.index(named[1]) + 1 :])
    if level == "torch":
        return starting_with("torch-choose-softmax") if is_quantized(module) else tuple(steps)
    if level == "nm":
        return tuple(steps[names.index(FIRST_INTEGER_STEP) + 1 :])
    if "sta.memory" not in main_function(module).attributes:
        return starting_with("sta-allocate")
    ordered = any(isinstance(op, sta.UnitOp) and (op.wait or op.post) for op in module.walk())
    return () if ordered else starting_with("sta-synchronize")


def _level_after(step: str, names: Sequence[str]) -> str:
    """The dialect of a step's result; "" if it has none."""
    if step == IMPORT.name:
        return "torch"
    made = [dialect_made_by(name) for name in names[: names.index(step) + 1]] if step in names else []
    # A pass of another package keeps the dialect.
    return next((dialect for dialect in reversed(made) if dialect is not None), "torch" if made else "")


def input_types(module: ModuleOp) -> dict[str, InputType]:
    """Shape and NumPy dtype of every input of the model, of an `nm` or `sta` module, by name."""
    known = model_inputs(module)
    if known is not None:
        return {one.name: InputType(one.shape, np.dtype(one.dtype)) for one in known}
    function = main_function(module)
    types: dict[str, InputType] = {}
    for entry, value in zip(function.arg_attrs or (), function.body.block.args, strict=True):
        shape = sta.memref_of(value).get_shape() if level_of(module) == "sta" else nm.tensor_of(value).get_shape()
        port = port_of(entry)
        if port.is_input or level_of(module) == "nm":
            signature = port.signature(shape)
            types[signature.name] = InputType(signature.shape, np.dtype(signature.host_dtype))
    return types
