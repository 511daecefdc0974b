"""Rules: the translation of the nodes of one ONNX operator."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sta.frontend.onnx.graph import OnnxGraph

if TYPE_CHECKING:
    from onnx import NodeProto

Attributes = Mapping[str, Any]
"""Attributes of a node by name."""


@dataclass(frozen=True)
class Rule:
    """Translation of the nodes of one operator."""

    function: Callable[[OnnxGraph, NodeProto, Attributes], None]
    reads: tuple[str, ...] = ()
    """The attributes that `function` is given."""
    defaults: Attributes = field(default_factory=dict[str, Any])
    """Values of absent attributes, of operators that ONNX does not have."""
    title: str = ""
    """Title of the translation, where the function has none of its own."""
