"""Removal of unused operations."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter
from xdsl.traits import is_side_effect_free


def erase_dead_code(module: ModuleOp) -> None:
    """Erases operations without side effects whose results are unused, operands after their users."""
    for op in reversed(list(module.walk())):
        if op.results and not any(result.uses for result in op.results) and is_side_effect_free(op):
            Rewriter.erase_op(op)
