"""Accuracy of a compile as attributes of its function, which all levels keep up to the program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute

from sta.dialect.torch import DecibelsAttr
from sta.spec.accuracy import Fidelity
from sta.spec.pattern import Pattern

FIDELITY = "sta.fidelity"
"""SQNR against the model given and against the pruned one: `{given = #torch.decibels<17.2>, pruned = …}`."""
PRUNED = "sta.pruned"
"""The layers with weights that were pruned, by module path: `["layer.linear1=2:4"]`."""


def set_fidelity(function: FuncOp, fidelity: Fidelity) -> None:
    """Keeps the accuracy of the output with a function."""
    function.attributes[FIDELITY] = DictionaryAttr(
        {name: DecibelsAttr(decibels) for name, decibels in fidelity.to_json().items()}
    )


def fidelity_of(function: FuncOp) -> Fidelity | None:
    """The accuracy of the output; None if it was not measured. Raises ValueError for a malformed attribute."""
    given = function.attributes.get(FIDELITY)
    if given is None:
        return None
    entries: Mapping[str, Attribute] = given.data if isinstance(given, DictionaryAttr) else {}
    figures = {name: entry.number.value.data for name, entry in entries.items() if isinstance(entry, DecibelsAttr)}
    if figures.keys() != {"given", "pruned"} or len(entries) != len(figures):
        raise ValueError(f"{FIDELITY} has decibels for given and pruned, and not {given}")
    return Fidelity(**figures)


def set_pruned_layers(function: FuncOp, layers: Mapping[str, Pattern]) -> None:
    """Adds to the pruned layers that a function keeps, with their patterns, by module path."""
    known = {**pruned_layers(function), **layers}
    if known:
        function.attributes[PRUNED] = ArrayAttr([StringAttr(f"{path}={known[path]}") for path in known])


def pruned_layers(function: FuncOp) -> dict[str, Pattern]:
    """The pruned layers with their patterns, by module path. Raises ValueError for a malformed attribute."""
    given = function.attributes.get(PRUNED)
    if given is None:
        return {}
    entries = cast("ArrayAttr[Attribute]", given).data if isinstance(given, ArrayAttr) else (given,)
    layers: dict[str, Pattern] = {}
    for entry in entries:
        path, equals, pattern = entry.data.rpartition("=") if isinstance(entry, StringAttr) else ("", "", "")
        if not equals:
            raise ValueError(f"{PRUNED} is a list of strings of the form module-path=N:M, and not {given}")
        layers[path] = Pattern.parse(pattern)
    return layers


def keep_accuracy(before: FuncOp, after: FuncOp) -> None:
    """Takes the attributes over to the function of another level."""
    for name in (FIDELITY, PRUNED):
        if name in before.attributes:
            after.attributes[name] = before.attributes[name]
