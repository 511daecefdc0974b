"""Patterns applied once to each operation."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.pattern_rewriter import GreedyRewritePatternApplier, PatternRewriteWalker, RewritePattern


def sweep(module: ModuleOp, *patterns: RewritePattern, reverse: bool = False) -> None:
    """
    Tries `patterns` in their order on every operation of `module` until one of them rewrites it, operands before their
    users or, with `reverse`, users first. What they make is not visited again.

    A walk until nothing changes any more would take twice as long: none of the patterns makes work for another.
    """
    applier = GreedyRewritePatternApplier(list(patterns), dce_enabled=False)
    try:
        PatternRewriteWalker(applier, apply_recursively=False, walk_reverse=reverse).rewrite_module(module)
    except ValueError as error:
        # xDSL adds a note with the text of the whole module.
        error.__notes__.clear()
        raise
