"""The function of a module that is the model."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp


def main_function(module: ModuleOp) -> FuncOp:
    """
    The function called `main`, or the first one if none is called so.

    Raises ValueError for a module without functions.
    """
    functions = [op for op in module.ops if isinstance(op, FuncOp)]
    if not functions:
        raise ValueError("the module holds no function")
    return next((function for function in functions if function.sym_name.data == "main"), functions[0])
