"""The bodies that ONNX gives operators of its own: nodes of simpler operators."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, NodeProto

Kind = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and dtype."""


def has_body(node: NodeProto, opset: int) -> bool:
    """True if ONNX may define the operator of `node` with others."""
    from onnx import defs

    if node.domain or not defs.has(node.op_type):
        return False
    schema: Any = defs.get_schema(node.op_type, opset)
    return schema.has_function or schema.has_context_dependent_function


def body_of(
    node: NodeProto, opset: int, kinds: Sequence[Kind | None], used: Collection[str]
) -> tuple[list[NodeProto], int] | None:
    """
    Nodes that compute the outputs of `node` of which the names are in `used`, and the version of their operators.

    `kinds` are those of its operands, None where one is absent. None if ONNX has no body for such a node, or one with
    control flow.
    """
    if not has_body(node, opset):
        return None
    function = _function(node, opset, kinds)
    if function is None:
        return None
    version = next((entry.version for entry in function.opset_import if not entry.domain), opset)
    nodes = _needed(_renamed(node, function, opset), {name for name in node.output if name in used})
    if any(entry.HasField("g") for one in nodes for entry in one.attribute):
        return None
    return nodes, version


def _function(node: NodeProto, opset: int, kinds: Sequence[Kind | None]) -> FunctionProto | None:
    """The newest function that ONNX has for operators of the version `opset`."""
    from onnx import FunctionProto, TypeProto, defs, helper

    schema: Any = defs.get_schema(node.op_type, opset)
    versions = [version for version in schema.function_opset_versions if version <= opset]
    if versions:
        text = schema.get_function_with_opset_version(max(versions))
        return FunctionProto.FromString(text) if text else None
    versions = [version for version in schema.context_dependent_function_opset_versions if version <= opset]
    if not versions:
        return None
    types = [
        TypeProto()
        if kind is None
        else helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(kind[1]), kind[0])
        for kind in kinds
    ]
    whole = type(node)()
    whole.CopyFrom(node)
    whole.attribute.extend(_defaults(node, opset).values())
    text = schema.get_context_dependent_function_with_opset_version(
        max(versions), whole.SerializeToString(), [one.SerializeToString() for one in types]
    )
    return FunctionProto.FromString(text) if text else None


def _defaults(node: NodeProto, opset: int) -> Mapping[str, AttributeProto]:
    """The attributes of the operator that `node` does not have, where there is a default."""
    from onnx import defs

    given = {entry.name for entry in node.attribute}
    attributes = defs.get_schema(node.op_type, opset).attributes
    return {
        name: entry.default_value
        for name, entry in attributes.items()
        if name not in given and entry.default_value.name
    }


def _renamed(node: NodeProto, function: FunctionProto, opset: int) -> list[NodeProto]:
    """The nodes of `function` with the names and the attributes of `node`; inner names begin with its first output."""
    outputs = [*node.output, *("" for _ in function.output[len(node.output) :])]
    inputs = [*node.input, *("" for _ in function.input[len(node.input) :])]
    names = dict(zip(function.input, inputs, strict=True))
    names.update((inner, name) for inner, name in zip(function.output, outputs, strict=True) if name)
    given = {**_defaults(node, opset), **{entry.name: entry for entry in node.attribute}}
    return [_renamed_node(one, names, given, f"{node.output[0]}/{node.op_type}/") for one in function.node]


def _renamed_node(
    one: NodeProto, names: Mapping[str, str], given: Mapping[str, AttributeProto], prefix: str
) -> NodeProto:
    made = type(one)()
    made.CopyFrom(one)
    for part in (made.input, made.output):
        part[:] = [names.get(name, prefix + name) if name else "" for name in part]
    del made.attribute[:]
    for entry in one.attribute:
        if entry.ref_attr_name and entry.ref_attr_name not in given:
            continue
        copy = made.attribute.add()
        copy.CopyFrom(given[entry.ref_attr_name] if entry.ref_attr_name else entry)
        copy.name = entry.name
    return made


def _needed(nodes: Sequence[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """The nodes among `nodes` on which `outputs` depend."""
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if not outputs.isdisjoint(node.output):
            outputs.update(node.input)
            kept.append(node)
    return kept[::-1]
