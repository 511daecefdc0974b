"""Taking a compile up again from a dump of its IR: what has been done, and what is left to do."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.exceptions import DiagnosticException, VerifyException

from sta.dialect import nm, sta, torch
from sta.dialect.context import CompileContext
from sta.dialect.ir_reader import read_ir
from sta.dialect.run_module import level_of, main_function
from sta.dialect.signature import signature_of
from sta.frontend.samples import InputType
from sta.ir_dump import Dump
from sta.passes.pipeline import FLOAT_PIPELINE, INTEGER_PIPELINE
from sta.spec.target import Target

STEPS = (
    *FLOAT_PIPELINE,
    "torch-check-supported",
    "torch-prune",
    "torch-calibrate",
    "torch-quantize",
    "torch-choose-softmax",
    "convert-torch-to-nm",
    *INTEGER_PIPELINE,
)
"""Everything between the imported model and the last module."""

_LEVELS = {"torch": "torch", "nm": "nm", "sta": "sta", "convert-torch": "nm", "convert-nm": "sta", "import": "torch"}


@dataclass(frozen=True)
class Resumed:
    """A dump that has been read."""

    path: Path
    context: CompileContext
    module: ModuleOp
    steps: tuple[str, ...]
    """What is left to do."""

    @property
    def level(self) -> str:
        """The dialect that the module is in."""
        return level_of(self.module)


def read_dump_file(path: Path, target: Target | None) -> Resumed:
    """
    Reads one module of a dump; the arrays and, unless another is given, the target are those of its directory.

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
    if level == "sta" and target is not None and target != own:
        raise ValueError(
            f"{path} is tiled for {own.name}, not for {target.name}: compile a dump from before convert-nm-to-sta"
        )
    return Resumed(path, context, read.module, _steps_left(path.name, read.module))


def _steps_left(file: str, module: ModuleOp) -> tuple[str, ...]:
    """What follows the pass that the file is named after; of another file, all that its module may need."""
    named = re.match(r"[0-9]+-([a-z-]+)\.(?:.*\.)?mlir$", file)
    level = level_of(module)
    if named is not None and _level_after(named[1]) == level:
        return STEPS if named[1] == "import" else STEPS[STEPS.index(named[1]) + 1 :]
    if level == "torch":
        quantized = any(isinstance(op, torch.FakeQuantizeOp) for op in module.walk())
        return STEPS[STEPS.index("torch-choose-softmax") :] if quantized else STEPS
    if level == "nm":
        return INTEGER_PIPELINE
    if "sta.memory" not in main_function(module).attributes:
        return INTEGER_PIPELINE[INTEGER_PIPELINE.index("sta-allocate") :]
    ordered = any(isinstance(op, sta.UnitOp) and (op.wait or op.post) for op in module.walk())
    return () if ordered else ("sta-synchronize",)


def _level_after(step: str) -> str:
    """The dialect that a step leaves; "" for what is none."""
    if step != "import" and step not in STEPS:
        return ""
    return next(level for prefix, level in _LEVELS.items() if step.startswith(prefix))


def input_types(module: ModuleOp) -> dict[str, InputType]:
    """Shape and NumPy dtype of every input of an `nm` or `sta` module, by name."""
    function = main_function(module)
    types: dict[str, InputType] = {}
    for entry, value in zip(function.arg_attrs or (), function.body.block.args, strict=True):
        shape = sta.memref_of(value).get_shape() if level_of(module) == "sta" else nm.tensor_of(value).get_shape()
        direction = entry.data.get("sta.direction")
        if direction is None or str(direction) == '"input"':
            signature = signature_of(entry, tuple(shape))
            types[signature.name] = InputType(signature.shape, np.dtype(signature.host_dtype))
    return types


FAILURES = (
    AssertionError, AttributeError, LookupError, TypeError, ArithmeticError, NotImplementedError, VerifyException,
    DiagnosticException,
)  # fmt: skip
"""What a pass may raise for a module that no pass before it would have left."""


@contextmanager
def explain_failures(step: str) -> Generator[None]:
    """Raises ValueError, naming the step, for what is no message of its own."""
    try:
        yield
    except FAILURES as error:
        detail = f": {lines[-1].strip()}" if (lines := str(error).strip().splitlines()) else ""
        raise ValueError(
            f"{step} failed ({type(error).__name__}{detail}): it takes what the passes before it leave; see "
            "docs/dialects.md for their order"
        ) from error
