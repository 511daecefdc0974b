"""
Softmax guarded against rows without a key: where(isnan(softmax), 0, softmax), as PyTorch's exporter writes attention.

The machine gives zero for such rows by itself.
"""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto

Array = NDArray[Any]


def find_guards(graph: GraphProto, constants: Mapping[str, Array]) -> dict[str, tuple[str, str]]:
    """The names of the softmax and of the test of every guarded softmax in `graph`, by the name of its result."""
    makers = {node.output[0]: node for node in graph.node}
    found: dict[str, tuple[str, str]] = {}
    for node in graph.node:
        if node.op_type != "Where":
            continue
        condition, zero, value = node.input
        test, softmax = makers.get(condition), makers.get(value)
        if test is None or test.op_type != "IsNaN" or test.input[0] != value:
            continue
        filler = constants.get(zero)
        if softmax is None or softmax.op_type != "Softmax" or filler is None or filler.any() or filler.size != 1:
            continue
        found[node.output[0]] = (value, condition)
    return found
