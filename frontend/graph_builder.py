"""New nodes of an exported program's graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

PLACE = ("nn_module_stack", "stack_trace")
"""Entries about a node's place in the model."""

Argument: TypeAlias = Any
"""A node for its value, a constant of Python, or a list of both: as PyTorch has it, of no closer type."""


class NotRewritten(Exception):
    """An operation that has no counterpart in other terms, so that it stays."""


def tensor_of(node: Node) -> Tensor:
    """The fake tensor of a node that computes one."""
    return node.meta["val"]


def sizes_of(node: Node) -> list[int]:
    """The sizes of a node's tensor. Raises NotRewritten for those that depend on numbers."""
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    try:
        # An expression of symbols may be a number all the same.
        return [int(size) for size in tensor_of(node).shape]
    except GuardOnDataDependentSymNode as error:
        raise NotRewritten("sizes that depend on numbers") from error


def argument_of(node: Node, index: int, name: str, default: Argument = None) -> Argument:
    """An argument that is given by its place or by its name."""
    return node.args[index] if index < len(node.args) else node.kwargs.get(name, default)


def source_of(node: Node) -> Node:
    """The first argument of a node, where that is one."""
    from torch.fx import Node

    source = node.args[0]
    assert isinstance(source, Node)
    return source


def name_of(node: Node) -> str:
    """The operator that a node calls: `mul.Tensor` of ATen's, or `namespace.name.overload`."""
    return str(node.target).removeprefix("aten.")


class GraphBuilder:
    """Adds nodes before the one that is being rewritten, with its place in the model."""

    def __init__(self, program: ExportedProgram) -> None:
        self._module = program.graph_module
        values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"]
        self._mode: Any = next(mode for value in values if (mode := getattr(value, "fake_mode", None)) is not None)
        self.current: Node | None = None
        """The node that is being rewritten."""

    def call(self, operator: str, *arguments: Argument, **keywords: Argument) -> Node:
        """A call of an operator of ATen's, `mul.Tensor`."""
        import torch

        name, overload = operator.split(".")
        return self.call_target(getattr(getattr(torch.ops.aten, name), overload), *arguments, **keywords)

    def call_target(self, target: Argument, *arguments: Argument, **keywords: Argument) -> Node:
        """A call of what another node calls."""
        import torch
        from torch.fx.node import map_arg

        assert self.current is not None
        with self._module.graph.inserting_before(self.current):
            node = self._module.graph.call_function(target, arguments, keywords)
        fake: Any = map_arg((arguments, keywords), tensor_of)
        with self._mode, torch.no_grad():
            value = target(*fake[0], **fake[1])
        place = {key: self.current.meta[key] for key in PLACE if key in self.current.meta}
        node.meta = {**place, "val": value}
        return node

    def constant(self, tensor: Tensor) -> Node:
        """A tensor that does not depend on the inputs."""
        assert self.current is not None
        taken = {name for name, _ in self._module.named_buffers()}
        name = next(name for number in range(len(taken) + 1) if (name := f"made_constant_{number}") not in taken)
        self._module.register_buffer(name, tensor, persistent=False)
        with self._module.graph.inserting_before(self.current):
            node = self._module.graph.get_attr(name)
        node.meta = {"val": self._mode.from_tensor(tensor, static_shapes=True)}
        # torch-mlir takes an attribute once.
        return self.call("alias.default", node)

    def view(self, node: Node, sizes: Sequence[int]) -> Node:
        """The same elements under other sizes."""
        return node if sizes_of(node) == list(sizes) else self.call("reshape.default", node, list(sizes))

    def expand(self, node: Node, sizes: Sequence[int]) -> Node:
        """Axes of size 1 repeated."""
        return node if sizes_of(node) == list(sizes) else self.call("expand.default", node, list(sizes))

    def permute(self, node: Node, axes: Sequence[int]) -> Node:
        """The axes in another order."""
        same = list(axes) == list(range(len(axes)))
        return node if same else self.call("permute.default", node, list(axes))

    def total(self, node: Node, axes: Sequence[int]) -> Node:
        """The sum over axes, which are gone afterwards."""
        return self.call("sum.dim_IntList", node, list(axes))


def erase_dead(nodes: Iterable[Node]) -> None:
    """Erases, of nodes in their order, the calls and constants that nothing reads any more."""
    for node in reversed(list(nodes)):
        if node.op in ("call_function", "get_attr") and not node.users and node.meta.get("val") is not None:
            node.graph.erase_node(node)


def erase_assertions(program: ExportedProgram) -> None:
    """Erases the checks that a model makes of its numbers, and what only they use: no result depends on them."""
    graph = program.graph
    for check in [node for node in graph.nodes if _is_assertion(node)]:
        dead, erased = [check], set["Node"]()
        while dead:
            node = dead.pop()
            if node.users or node.op != "call_function" or node in erased:
                continue
            dead += node.all_input_nodes
            erased.add(node)
            graph.erase_node(node)


def _is_assertion(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.name.startswith("aten::_assert_")
