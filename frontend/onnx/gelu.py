"""GELU as exporters write it for ONNX before version 20: x * 0.5 * (1 + erf(x / sqrt(2))), its factors in any order."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

Array = NDArray[Any]


@dataclass(frozen=True)
class SpelledGelu:
    """One GELU: the GELU of the value `input`."""

    input: str
    inner: frozenset[str]
    """Outputs of the nodes that serve this GELU only."""


def find_gelu(graph: GraphProto, constants: Mapping[str, Array]) -> dict[str, SpelledGelu]:
    """Every GELU in `graph`, by the name of its result."""
    search = _Search(graph, constants)
    found = [search.gelu(node) for node in graph.node if node.op_type == "Erf"]
    return dict(entry for entry in found if entry is not None)


class _Search:
    def __init__(self, graph: GraphProto, constants: Mapping[str, Array]) -> None:
        self._constants = constants
        self._makers = {output: node for node in graph.node for output in node.output}
        self._outputs = {value.name for value in graph.output}
        self._users: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def gelu(self, erf: NodeProto) -> tuple[str, SpelledGelu] | None:
        """The result and the parts of the GELU around `erf`; None if there is none."""
        argument = self._makers.get(erf.input[0])
        scaled = None if argument is None else self._divided(argument)
        plus_one = self._only_user(erf.output[0])
        if argument is None or scaled is None or plus_one is None or self._other(plus_one, "Add", 1.0) != erf.output[0]:
            return None
        if self._only_user(argument.output[0]) is not erf:
            return None
        inner = [argument.output[0], erf.output[0], plus_one.output[0]]
        return self._product(plus_one.output[0], scaled, inner)

    def _product(self, current: str, x: str, inner: list[str]) -> tuple[str, SpelledGelu] | None:
        """Follows the product of `current` until both x and a half are in it."""
        missing = {"x", "half"}
        while missing:
            user = self._only_user(current)
            if user is None or user.op_type != "Mul" or len(set(user.input)) != 2:
                return None
            other = next(name for name in user.input if name != current)
            halved = self._makers.get(other)
            if missing == {"x", "half"} and halved is not None and self._other(halved, "Mul", 0.5) == x:
                return (user.output[0], SpelledGelu(x, frozenset([*inner, other]))) if self._only_user(other) else None
            factor = "x" if other == x else "half" if self._is(other, 0.5) else ""
            if factor not in missing:
                return None
            missing.remove(factor)
            current = user.output[0]
            inner.append(current)
        return current, SpelledGelu(x, frozenset(inner[:-1]))

    def _divided(self, node: NodeProto) -> str | None:
        """Value that `node` divides by the root of two."""
        if node.op_type == "Div" and self._is(node.input[1], math.sqrt(2)):
            return node.input[0]
        return self._other(node, "Mul", 1 / math.sqrt(2))

    def _other(self, node: NodeProto, operator: str, number: float) -> str | None:
        """The operand of the binary `operator` beside the constant `number`; None for any other `node`."""
        if node.op_type != operator:
            return None
        first, second = node.input
        return first if self._is(second, number) else second if self._is(first, number) else None

    def _is(self, name: str, number: float) -> bool:
        array = self._constants.get(name)
        return array is not None and array.size == 1 and bool(np.isclose(array.reshape(-1)[0], number, rtol=1e-5))

    def _only_user(self, name: str) -> NodeProto | None:
        users = self._users.get(name, [])
        return users[0] if len(users) == 1 and name not in self._outputs else None
