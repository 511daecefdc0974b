"""
The module path of every node of an ONNX graph.

Exporters keep it in different places: in the node's metadata (PyTorch's present exporter), in its name
(`/encoder/layer.0/query/MatMul`, PyTorch's former one), or, after optimizers have renamed the nodes, only in the names
of parameters. If it is in none of them, a node's own name stands for it.
"""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

SCOPES = "pkg.torch.onnx.name_scopes"
"""The metadata in which PyTorch's exporter lists the modules around a node, outermost first, and the node itself."""

ROUNDING = ("QuantizeLinear", "DequantizeLinear")


def node_paths(graph: GraphProto, constants: Mapping[str, Any]) -> dict[str, str]:
    """The module path of every node, by the name of its first output."""
    paths: dict[str, str] = {}
    finder = _Finder(graph, constants)
    for node in graph.node:
        source = paths.get(node.input[0]) if node.op_type in ROUNDING else None
        paths[node.output[0]] = source or finder.path(node)
    return paths


class _Finder:
    def __init__(self, graph: GraphProto, constants: Mapping[str, Any]) -> None:
        self._constants = constants
        self._makers = {output: node for node in graph.node for output in node.output}
        self._users: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def path(self, node: NodeProto) -> str:
        """The module path of `node`, or its name."""
        found = _scope(node) or _from_name(node.name) or self._from_parameters(node)
        if not found and node.op_type == "MatMul":
            found = self._from_bias(node.output[0])
        return found or node.name or node.output[0]

    def _from_parameters(self, node: NodeProto) -> str:
        """`encoder.layer.0.query` from the parameter `encoder.layer.0.query.weight`."""
        for name in node.input:
            maker = self._makers.get(name)
            if maker is not None and maker.op_type == "DequantizeLinear":
                name = maker.input[0]
            if name in self._constants and self._constants[name].size > 1 and "." in name:
                return name.rpartition(".")[0]
        return ""

    def _from_bias(self, name: str) -> str:
        """The path of the bias that is added to the product `name`, past its rounding."""
        users = self._users.get(name, [])
        while len(users) == 1 and users[0].op_type in ROUNDING:
            users = self._users.get(users[0].output[0], [])
        return self._from_parameters(users[0]) if len(users) == 1 and users[0].op_type == "Add" else ""


def _scope(node: NodeProto) -> str:
    text = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    try:
        scopes = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        return ""
    return next((scope for scope in reversed(scopes[:-1]) if scope), "")


def _from_name(name: str) -> str:
    return ".".join(part for part in name.split("/")[:-1] if part)
