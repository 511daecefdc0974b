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
    rank: int
    """The most axes of a constant in it: the result has no fewer."""


@dataclass(frozen=True)
class _Way:
    """The way of a value to its user."""

    user: NodeProto
    names: list[str]
    """The value, and those of pairs behind it."""

    @property
    def end(self) -> str:
        """The value as its user takes it."""
        return self.names[-1]


def find_gelu(graph: GraphProto, constants: Mapping[str, Array]) -> dict[str, SpelledGelu]:
    """Every GELU in `graph`, by the name of its result."""
    search = _Search(graph, constants)
    found = [search.gelu(node) for node in graph.node if node.op_type == "Erf"]
    return dict(entry for entry in found if entry is not None)


_PAIR = ("QuantizeLinear", "DequantizeLinear")


class _Search:
    """The search among the nodes of a graph; quantize-dequantize pairs between the parts of a GELU do not count."""

    def __init__(self, graph: GraphProto, constants: Mapping[str, Array]) -> None:
        self._constants = constants
        self._makers = {output: node for node in graph.node for output in node.output}
        self._outputs = {value.name for value in graph.output}
        self._users: dict[str, list[NodeProto]] = {}
        self._rank = 0
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def gelu(self, erf: NodeProto) -> tuple[str, SpelledGelu] | None:
        """The result and the parts of the GELU around `erf`; None if there is none."""
        self._rank = 0
        argument = self._makers.get(self._source(erf.input[0]))
        scaled = None if argument is None else self._divided(argument)
        if argument is None or scaled is None:
            return None
        before, after = self._way(argument.output[0]), self._way(erf.output[0])
        if before is None or after is None or before.user is not erf:
            return None
        if self._other(after.user, "Add", 1.0) != after.end:
            return None
        inner = [*before.names, *after.names, after.user.output[0]]
        return self._product(after.user.output[0], scaled, inner)

    def _product(self, current: str, x: str, inner: list[str]) -> tuple[str, SpelledGelu] | None:
        """Follows the product of `current` until both x and a half are in it."""
        missing = {"x", "half"}
        while missing:
            way = self._way(current)
            if way is None or way.user.op_type != "Mul" or len(set(way.user.input)) != 2:
                return None
            inner += way.names
            other = next(name for name in way.user.input if name != way.end)
            halved = self._makers.get(self._source(other))
            if missing == {"x", "half"} and halved is not None and self._is_x(self._other(halved, "Mul", 0.5), x):
                half = self._way(halved.output[0])
                gelu = SpelledGelu(x, frozenset([*inner, *(half.names if half is not None else [])]), self._rank)
                return (way.user.output[0], gelu) if half is not None and half.user is way.user else None
            factor = "x" if self._is_x(other, x) else "half" if self._is(other, 0.5) else ""
            if factor not in missing:
                return None
            missing.remove(factor)
            current = way.user.output[0]
            inner.append(current)
        return current, SpelledGelu(x, frozenset(inner[:-1]), self._rank)

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
        """True if `name` is the constant `number`, or its rounding to 8 bits."""
        maker = self._makers.get(name)
        array, tolerance = self._constants.get(name), 1e-5
        if maker is not None and maker.op_type == "DequantizeLinear":
            array, tolerance = self._dequantized(maker), 1e-2
        found = array is not None and array.size == 1 and bool(np.isclose(array.reshape(-1)[0], number, rtol=tolerance))
        if found and array is not None:
            self._rank = max(self._rank, array.ndim)
        return found

    def _dequantized(self, node: NodeProto) -> Array | None:
        """The constant that `node` dequantizes; None if that is none."""
        integers, scale = (self._constants.get(name) for name in node.input[:2])
        zero_point = self._constants.get(node.input[2]) if len(node.input) > 2 else np.zeros((), np.int8)
        if integers is None or scale is None or zero_point is None or integers.size != 1 or scale.size != 1:
            return None
        return (integers.astype(np.int64) - zero_point.astype(np.int64)) * scale.astype(np.float64)

    def _is_x(self, name: str | None, x: str) -> bool:
        return name is not None and self._source(name) == self._source(x)

    def _source(self, name: str) -> str:
        """The value that `name` is, before any pairs."""
        while (maker := self._makers.get(name)) is not None and maker.op_type in _PAIR:
            name = maker.input[0]
        return name

    def _way(self, name: str) -> _Way | None:
        """The way of `name` through pairs to its one user; None if it has more, or an output is on the way."""
        names = [name]
        while len(users := self._users.get(names[-1], [])) == 1 and names[-1] not in self._outputs:
            if users[0].op_type not in _PAIR or users[0].input[0] != names[-1]:
                return _Way(users[0], names)
            names.append(users[0].output[0])
        return None
