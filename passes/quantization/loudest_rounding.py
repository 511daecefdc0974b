"""The rounding that costs a quantized module's output most, found by leaving roundings out."""

from __future__ import annotations

from collections.abc import Callable, Set

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument, Operation, SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import input_names
from sta.dialect.ir.location import describe
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.tensor_names import origin
from sta.passes.rewriting.torch_operations import operations_of, replace

LEAST_GAIN = 3.0
"""Decibels that the output must gain without a rounding, for it to be the one that costs most: half of the noise."""
WEIGHTS = "the weights of linear layers to 8 bits"


def loudest_rounding(quantized: ModuleOp, judge: Callable[[ModuleOp], float]) -> str | None:
    """
    The place whose rounding makes half of the noise of a quantized module, or more; None if there is no such place.

    `judge` gives the SQNR of a module's output in decibels. Noise of different places nearly adds up: of two halves of
    the places, the one without which the output is better is halved again. So it runs twice for each doubling of their
    number.
    """
    before = judge(quantized)
    places = list(dict.fromkeys(_place(rounding.input) for rounding in _roundings(quantized)))
    if judge(_without(quantized, set(places))) < before + LEAST_GAIN:
        return WEIGHTS
    while len(places) > 1:
        halves = places[: len(places) // 2], places[len(places) // 2 :]
        first, second = (judge(_without(quantized, set(half))) for half in halves)
        places = halves[0] if first >= second else halves[1]
    return places[0] if judge(_without(quantized, set(places))) >= before + LEAST_GAIN else None


def _roundings(module: ModuleOp) -> list[torch.FakeQuantizeOp]:
    return [operation for operation in operations_of(module) if isinstance(operation, torch.FakeQuantizeOp)]


def _place(value: SSAValue) -> str:
    """A rounded value in messages: an input by its name, another one by the layer that computes it."""
    value = origin(value)
    if isinstance(value, BlockArgument):
        function = value.block.parent_op()
        module = None if function is None else function.parent_op()
        assert isinstance(module, ModuleOp)
        return f"input {input_names(main_function(module))[value.index]!r}"
    assert isinstance(value.owner, Operation)
    return f"the result of {describe(value.owner)}"


def _without(quantized: ModuleOp, places: Set[str]) -> ModuleOp:
    """A copy of the module in which values of these places are not rounded."""
    copy = quantized.clone()
    left_out = [rounding for rounding in _roundings(copy) if _place(rounding.input) in places]
    for rounding in left_out:
        replace(rounding, [rounding.input])
    return copy
