"""
Removing operations nobody uses.
"""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp, UnregisteredOp
from xdsl.dialects.func import FuncOp
from xdsl.traits import is_side_effect_free


def erase_dead(module: ModuleOp) -> None:
    """
    Erases the operations of functions whose results nobody uses, operands after their users.

    Unlike xDSL's, also what stands for an operator that the dialect does not know: it would be refused otherwise,
    though nothing depends on it.
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
