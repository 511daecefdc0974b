"""
The list of lowerings: the integers of each operation of the `torch` dialect, and its supported forms.

A module of this folder adds an operation by its `LOWERINGS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from xdsl.ir import Operation, SSAValue

from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage


def every_form(operation: Operation) -> None:
    """Supported in every form."""


@dataclass(frozen=True)
class Lowering:
    """Lowering of one kind of operation."""

    operation: type[Operation]
    refusal: Callable[[Any], str | None] = every_form
    """The reason why an operation cannot be compiled, with the remedy; None if it can."""
    round: Callable[[Conversion, Any, Storage], Quantized] | None = None
    """The integers of the operation's result in the format of the `torch.fake_quantize` that follows it."""
    follow: Callable[[Conversion, Any], None] | None = None
    """Converts in place an operation that computes nothing to be rounded."""
    accumulate: Callable[[Conversion, Any, float, bool], SSAValue] | None = None
    """Of a product: its accumulators in units of a scale; also whether they are a term of a sum, or rounded alone."""


@cache
def _lowerings() -> tuple[Lowering, ...]:
    found: list[Lowering] = []
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        if path.stem not in ("conversion", Path(__file__).stem):
            found += import_module(f"{__package__}.{path.stem}").LOWERINGS
    return tuple(found)


@cache
def lowering_of_class(kind: type[Operation]) -> Lowering | None:
    """The lowering of a class of operations; None if it has no integer form."""
    return next((lowering for lowering in _lowerings() if issubclass(kind, lowering.operation)), None)


def lowering_of(operation: Operation) -> Lowering | None:
    """The lowering of `operation`; None if it has no integer form."""
    return lowering_of_class(type(operation))
