"""
Half-precision and double-precision programs in float32: weights, inputs, and conversions on the way.

The machine computes with integers whose formats calibration chooses; float32 is the precision of what they are chosen
from.
"""
# pyright: basic
# Nodes of torch.fx have arguments of any type.

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.nn import Module


def other_floats() -> frozenset[Any]:
    """The dtypes of PyTorch that become float32."""
    import torch

    return frozenset((torch.float16, torch.bfloat16, torch.float64))


def in_float32(program: ExportedProgram) -> ExportedProgram:
    """
    `program` with float32 in place of every other float: itself if it has none, else a copy.

    Conversions between floats become conversions to float32, and numbers that float32 does not have its largest. Warns
    if weights or inputs are converted, which changes what a model computes by the rounding that it no longer does.
    """
    from torch.export import ExportedProgram

    kinds = _kinds(program)
    if not kinds:
        return program
    with warnings.catch_warnings():
        # PyTorch uses what it calls deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        graph_module = copy.deepcopy(program.graph_module)
        calls = copy.deepcopy(program.module_call_graph)
    for node, before in zip(graph_module.graph.nodes, program.graph.nodes, strict=True):
        # A copy calls `input`, which is a name of Python, `input_1`.
        node.name = before.name
    for part in graph_module.modules():
        if hasattr(part, "graph"):
            _convert_graph(part)
    if stored := kinds & _stored_kinds(program):
        names = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in stored))
        warnings.warn(f"the model is in {names}: its weights and inputs are converted to float32", stacklevel=9)
    examples = program.example_inputs
    return ExportedProgram(
        root=graph_module,
        graph=graph_module.graph,
        graph_signature=copy.deepcopy(program.graph_signature),
        state_dict=_converted_tensors(program.state_dict),
        range_constraints=copy.deepcopy(program.range_constraints),
        module_call_graph=calls,
        example_inputs=None if examples is None else _converted(examples),
        constants=_converted_tensors(program.constants),
        verifiers=program.verifiers,
    )


def array_in_float32(value: Any) -> Any:
    """An array or tensor of other floats in float32; anything else as it is."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float32) if value.dtype in (np.float16, np.float64) else value
    return _number_in_float32(value)


def float_kind(module: Module) -> Any:
    """The dtype of a module's floats: that of its first parameter or buffer of floats; float32 without any."""
    import torch

    tensors = (one for part in (module.parameters(), module.buffers()) for one in part)
    return next((one.dtype for one in tensors if one.is_floating_point()), torch.float32)


def _kinds(program: ExportedProgram) -> set[Any]:
    import torch
    from torch.utils import _pytree

    found = _stored_kinds(program)
    graphs: list[Any] = [part for part in program.graph_module.modules() if hasattr(part, "graph")]
    for part in graphs:
        for node in part.graph.nodes:
            leaves = _pytree.tree_leaves((node.meta.get("val"), node.args, node.kwargs))
            found |= {leaf.dtype for leaf in leaves if isinstance(leaf, torch.Tensor)}
            found |= {leaf for leaf in leaves if isinstance(leaf, torch.dtype)}
    return found & other_floats()


def _stored_kinds(program: ExportedProgram) -> set[Any]:
    """The dtypes of weights, constants and inputs."""
    import torch

    inputs = set(program.graph_signature.user_inputs)
    values = [*program.state_dict.values(), *program.constants.values()]
    values += [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    return {value.dtype for value in values if isinstance(value, torch.Tensor)}


def _convert_graph(part: Any) -> None:
    """Converts the dtypes and numbers in the arguments of a graph, and the values that its metadata describes."""
    for node in part.graph.nodes:
        node.args, node.kwargs = _converted_arguments(node.args), _converted_arguments(node.kwargs)
        if "val" in node.meta:
            node.meta["val"] = _converted(node.meta["val"])
    for name, buffer in list(part.named_buffers(recurse=False)):
        part.register_buffer(name, _number_in_float32(buffer))
    part.recompile()


def _converted_arguments(arguments: Any) -> Any:
    from torch.fx.node import map_aggregate

    return map_aggregate(arguments, _converted_argument)


def _converted_argument(argument: Any) -> Any:
    import torch

    if isinstance(argument, torch.dtype) and argument in other_floats():
        return torch.float32
    largest = float(np.finfo(np.float32).max)
    if isinstance(argument, float) and math.isfinite(argument) and abs(argument) > largest:
        return math.copysign(largest, argument)
    return argument


def _converted(tree: Any) -> Any:
    from torch.utils import _pytree

    return _pytree.tree_map(_number_in_float32, tree)


def _converted_tensors(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors in float32; one that has several names stays one."""
    known: dict[int, Any] = {}
    return {name: known.setdefault(id(tensor), _number_in_float32(tensor)) for name, tensor in tensors.items()}


def _number_in_float32(value: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor) or value.dtype not in other_floats():
        return value
    converted = value.detach().to(torch.float32)
    return torch.nn.Parameter(converted, requires_grad=False) if isinstance(value, torch.nn.Parameter) else converted
