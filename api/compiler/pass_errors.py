"""Conversion of exceptions of a pass on out-of-order or hand-edited IR into error messages."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

FAILURES = (AssertionError, AttributeError, LookupError, TypeError, ArithmeticError, NotImplementedError)


@contextmanager
def explain_failures(step: Callable[[], str]) -> Generator[None]:
    """Raises ValueError, naming the failed step, for an exception that has no message for users."""
    try:
        yield
    except FAILURES as error:
        if isinstance(error, KeyError) and "weight store" in str(error):
            raise ValueError(f"{error.args[0]}: give the arrays with --weights") from error
        lines = str(error).strip().splitlines()
        detail = f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__
        raise ValueError(
            f"{step()} failed ({detail}): it takes what the passes before it leave; see docs/dialects.md for their "
            "order"
        ) from error
