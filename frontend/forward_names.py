"""The names of a program's inputs and outputs, as the model's `forward` has them."""
# pyright: basic
# The tree specifications of torch.utils._pytree have no public types.

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from sta.frontend.errors import ModelError

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def input_names(program: ExportedProgram) -> list[str]:
    """
    The name of every input leaf, in `forward`'s order: a parameter's name, with the path inside a nested one behind it.

    Raises ModelError if two inputs would have the same name.
    """
    positional, keywords = cast(Any, program.call_spec.in_spec).children()
    names = _parameter_names(program)
    names = [*names, *(f"input_{index}" for index in range(len(names), positional.num_children))]
    leaves = [
        _join(name, path)
        for name, child in zip(names, positional.children(), strict=False)
        for path in leaf_paths(child)
    ]
    leaves += [_join("", path) for path in leaf_paths(keywords)]
    return _unique(leaves, "input")


def output_names(program: ExportedProgram) -> list[str]:
    """
    The name of every output leaf.

    Keys of a dictionary or of a Hugging Face output, "output" for a single tensor, "output_0" … for a sequence.
    """
    spec = cast(Any, program.call_spec.out_spec)
    if spec.is_leaf():
        return ["output"]
    return _unique([_join("output" if path[0].isdecimal() else "", path) for path in leaf_paths(spec)], "output")


def leaf_paths(spec: Any) -> list[tuple[str, ...]]:
    """The path to every leaf of a tree specification: dictionary keys, field names, or positions."""
    if spec.is_leaf():
        return [()]
    keys = _keys(spec)
    return [(key, *path) for key, child in zip(keys, spec.children(), strict=True) for path in leaf_paths(child)]


def _keys(spec: Any) -> list[str]:
    count = spec.num_children
    context = spec.context
    if isinstance(context, type) and hasattr(context, "_fields"):
        context = context._fields
    # A defaultdict is described by its factory and its keys.
    if isinstance(context, list | tuple) and len(context) == 2 and isinstance(context[1], list | tuple):
        context = context[1]
    if isinstance(context, list | tuple) and len(context) == count and all(isinstance(key, str) for key in context):
        return [str(key) for key in context]
    return [str(index) for index in range(count)]


def _parameter_names(program: ExportedProgram) -> list[str]:
    """The names of `forward`'s parameters, as far as the program knows them."""
    for entry in program.module_call_graph:
        if entry.fqn == "" and entry.signature is not None:
            return list(entry.signature.forward_arg_names or ())
    return []


def _join(name: str, path: Sequence[str]) -> str:
    return "_".join([name, *path] if name else path)


def _unique(names: list[str], kind: str) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"two {kind}s of the model are called {name!r}")
    return names
