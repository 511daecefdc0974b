"""Module paths (`encoder.layer.0.attention.self.query`), kept as the location of operations."""

from __future__ import annotations

from collections.abc import Iterator

from xdsl.dialects.builtin import (
    ArrayAttr,
    CallSiteLoc,
    FileLineColLoc,
    FusedLoc,
    LocationAttr,
    ModuleOp,
    NameLoc,
    StringAttr,
    UnknownLoc,
)
from xdsl.ir import Attribute, Operation

ROOT = "forward"
"""The module path of what the model's own `forward` does, outside any of its submodules."""


def module_path(operation: Operation) -> str:
    """The module path of `operation` in the model; "" if unknown."""
    return _path(operation.location)


def source_line(operation: Operation) -> str:
    """The place of `operation` in the model's source, as "file:line"; "" if unknown."""
    return _line(operation.location)


def sources_of(location: Attribute) -> Iterator[FileLineColLoc]:
    """The lines of the model's source that a location names inside another location."""
    for part in _parts(location):
        if isinstance(part, FileLineColLoc):
            yield part
        yield from sources_of(part)


def source_operator(operation: Operation) -> str:
    """The operator of a model of another form than PyTorch's, which `operation` was made of; "" if there is none."""
    location = operation.location
    inner = location.location if isinstance(location, NameLoc) else None
    return inner.desc.data if isinstance(inner, NameLoc) else ""


def describe(operation: Operation) -> str:
    """The module path of `operation` and, in parentheses, its source line, for messages."""
    path, line = module_path(operation), source_line(operation)
    if not path:
        return line or "unknown place"
    return f"{path} ({line})" if line else path


def has_locations(module: ModuleOp) -> bool:
    """True if any operation of a module has a location."""
    return any(not isinstance(operation.location, UnknownLoc) for operation in module.walk())


def named(path: str, child: LocationAttr) -> NameLoc:
    """The location of module `path`, with `child`'s source line."""
    return NameLoc(StringAttr(path), child)


def _path(location: Attribute) -> str:
    if isinstance(location, NameLoc):
        return location.desc.data
    for part in _parts(location):
        if path := _path(part):
            return path
    return ""


def _line(location: Attribute) -> str:
    if isinstance(location, FileLineColLoc):
        return f"{location.filename.data}:{location.line.data}"
    for part in _parts(location):
        if line := _line(part):
            return line
    return ""


def _parts(location: Attribute) -> tuple[Attribute, ...]:
    if isinstance(location, NameLoc):
        return (location.location,)
    if isinstance(location, CallSiteLoc):
        return (location.callee, location.caller)
    if isinstance(location, FusedLoc) and ArrayAttr[Attribute].constr().verifies(location.locations):
        return location.locations.data
    return ()
