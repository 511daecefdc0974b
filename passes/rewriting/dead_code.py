"""Removal of unused operations."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp, UnregisteredOp
from xdsl.dialects.func import FuncOp
from xdsl.traits import is_side_effect_free


def erase_dead(module: ModuleOp) -> None:
    """
    Erases operations of functions whose results are unused, operands after their users.

    Unlike xDSL's, it also erases stand-ins for operators that the dialect does not know: they would be refused
    otherwise, though nothing depends on them.
    """
    for function in module.ops:
        if not isinstance(function, FuncOp):
            continue
        for op in reversed(list(function.walk())):
            if not op.results or any(result.first_use is not None for result in op.results):
                continue
            if isinstance(op, UnregisteredOp) or is_side_effect_free(op):
                op.detach()
                op.erase()
