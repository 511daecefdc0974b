"""The functions of a module: the model, and what the host computes before it."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

PROLOGUE = "prologue"
"""The name of the function that the host runs."""


def main_function(module: ModuleOp) -> FuncOp:
    """
    The function called `main`, or the first one if none is called so.

    Raises ValueError for a module without functions.
    """
    functions = machine_functions(module)
    if not functions:
        raise ValueError("the module holds no function")
    return next((function for function in functions if function.sym_name.data == "main"), functions[0])


def machine_functions(module: ModuleOp) -> list[FuncOp]:
    """The functions that the machine runs: all but the host's."""
    return [op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data != PROLOGUE]


def prologue_function(module: ModuleOp) -> FuncOp | None:
    """The function called `prologue`, the host's part of the model; None if there is none."""
    return next((op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == PROLOGUE), None)
