"""Taking a case through the integer pipeline, and comparing its bits after every pass and on the emulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from sta.backend.emit import emit
from sta.dialect.interpreters.any_level import level_of, run_integers
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.main_function import main_function
from sta.passes.lowering.useful_macs import UsefulMacs, useful_macs
from sta.passes.pipeline import INTEGER_PIPELINE, pass_registry
from sta.runtime import Program
from tests.support.nm_builder import Case

Array = NDArray[Any]
AnyOperation = TypeVar("AnyOperation", bound=Operation)

POISONS = (0xA5, 0x5A)
LOWERING = INTEGER_PIPELINE[INTEGER_PIPELINE.index("convert-nm-to-sta") :]


def apply(module: ModuleOp, context: CompileContext, *names: str) -> ModuleOp:
    """Runs passes by name, verifying after each; returns the module, which they change in place."""
    registry = pass_registry()
    for name in names:
        registry[name]()().apply(context, module)
        module.verify()
    return module


def integers(case: Case, poison: int = POISONS[0]) -> dict[str, Array]:
    """Returns the integers of every output of a case's module, at whatever level it is."""
    return run_integers(case.module, case.context.weights, case.inputs, poison)[0]


def assert_same_integers(expected: dict[str, Array], found: dict[str, Array], step: str) -> None:
    """Fails, naming the step and the first difference, unless two runs gave the same integers."""
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert values.dtype == found[name].dtype, f"{step}: output {name} became {found[name].dtype}"
        assert values.shape == found[name].shape, f"{step}: output {name} has shape {found[name].shape}"
        differs = np.argwhere(values != found[name])
        assert not len(differs), (
            f"{step}: {len(differs)} of {values.size} integers of output {name} differ, first at {tuple(differs[0])}"
        )


def check_passes(case: Case, names: Sequence[str] = INTEGER_PIPELINE) -> Iterator[str]:
    """Runs passes one by one on a case; after each, the integers are those of the start. Yields each pass's name."""
    expected = integers(case)
    for name in names:
        apply(case.module, case.context, name)
        for poison in POISONS if level_of(case.module) == "sta" else POISONS[:1]:
            assert_same_integers(expected, integers(case, poison), name)
        yield name


def program_of(case: Case, macs: UsefulMacs) -> Program:
    """Returns the program of a case that has been through the pipeline."""
    return Program(emit(case.module, case.context.weights, case.context.target, macs.kept, macs.dense))


def check_pipeline(case: Case) -> Program:
    """
    Takes a case through the whole pipeline and through the emulator with two poison values.

    Fails where integers differ or a rule of the machine is broken (capacities, semaphores, scores leaving the chip).
    """
    expected, macs = integers(case), useful_macs(case.module)
    for _ in check_passes(case):
        pass
    program = program_of(case, macs)
    for poison in POISONS:
        assert_same_integers(expected, program.run(case.inputs, poison=poison).raw, "the emulator")
    return program


def function_of(case: Case) -> func.FuncOp:
    """Returns the function of a case's module."""
    return main_function(case.module)


def operations(case: Case, *kinds: type[AnyOperation]) -> list[AnyOperation]:
    """Returns the operations of some kinds in a case's function, in order."""
    return [op for op in function_of(case).body.walk() if isinstance(op, kinds)]
