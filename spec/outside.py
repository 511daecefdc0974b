"""
Operators, passes and targets of other packages, found by their entry points.

An unusable addition is skipped with one warning that names its package: its name is taken, it cannot be loaded, or it
has the wrong type for its group. Requested by name, it is an error with the same words.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class EntryPointGroup:
    """A group of entry points."""

    name: str
    """The name in the metadata of packages."""
    kind: str
    """The word for one addition."""


OPERATORS = EntryPointGroup("sta.operators", "operator")
PASSES = EntryPointGroup("sta.passes", "pass")
TARGETS = EntryPointGroup("sta.targets", "target")


class OutsideError(ValueError):
    """An addition that cannot be used; names its package."""


@dataclass(frozen=True)
class Addition:
    """One entry point of another package."""

    group: EntryPointGroup
    name: str
    entry: EntryPoint

    @property
    def package(self) -> str:
        """The name of the installed distribution."""
        return "" if self.entry.dist is None else self.entry.dist.name

    def load(self, accept: Callable[[str, object], T]) -> T:
        """
        The object that the entry point refers to, as `accept` returns it for the name and the object.

        Raises:
            OutsideError: importing it raises anything at all, or `accept` raises ValueError.
        """
        try:
            loaded: object = self.entry.load()
        # SystemExit: a script would end the compiler without a word.
        except (Exception, SystemExit) as error:
            lines = str(error).strip().splitlines()
            detail = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            raise self.refusal(f"loading {self.entry.value} failed ({detail})") from error
        try:
            return accept(self.name, loaded)
        except ValueError as error:
            raise self.refusal(f"{self.entry.value}: {error}") from error

    def refusal(self, reason: str) -> OutsideError:
        """The error for an addition that cannot be used."""
        return OutsideError(f"{self.group.kind} {self.name!r} of package {self.package}: {reason}")


def additions(group: EntryPointGroup) -> list[Addition]:
    """All entry points of a group, sorted by name and package."""
    found = [Addition(group, entry.name, entry) for entry in entry_points(group=group.name)]
    return sorted(found, key=lambda addition: (addition.name, addition.package, addition.entry.value))


def find_addition(group: EntryPointGroup, name: str) -> Addition:
    """The addition of this name, which is one that is used. Raises KeyError if there is none."""
    return {addition.name: addition for addition in additions(group)}[name]


def load_all(group: EntryPointGroup, ours: Collection[str], accept: Callable[[str, object], T]) -> dict[str, T]:
    """
    The usable additions of a group, by name, as `accept` returns them; a warning for each of the others.

    `ours` are the toolchain's own names. If two packages add one name, both are skipped: neither may win by chance.
    """
    loaded: dict[str, T] = {}
    for addition in _without_clashes(group, ours):
        try:
            loaded[addition.name] = addition.load(accept)
        except OutsideError as error:
            warn_once(f"{error}; it is left out")
    return loaded


def load_one(group: EntryPointGroup, name: str, accept: Callable[[str, object], T]) -> T | None:
    """
    The addition of this name, which is not one of the toolchain's own, as `accept` returns it; None if there is none.

    Raises:
        OutsideError: several packages add it, or it cannot be used.
    """
    named = [addition for addition in additions(group) if addition.name == name]
    if not named:
        return None
    if len(named) > 1:
        raise named[0].refusal(_clash(named[1]))
    return named[0].load(accept)


def names(group: EntryPointGroup, ours: Collection[str]) -> list[str]:
    """The names that a group adds, sorted; nothing is loaded. A warning for each clash."""
    return [addition.name for addition in _without_clashes(group, ours)]


def _without_clashes(group: EntryPointGroup, ours: Collection[str]) -> list[Addition]:
    by_name: dict[str, list[Addition]] = {}
    for addition in additions(group):
        by_name.setdefault(addition.name, []).append(addition)
    kept: list[Addition] = []
    for name, (first, *others) in by_name.items():
        if name in ours:
            for addition in (first, *others):
                warn_once(f"{addition.refusal('the toolchain has one of this name')}; it is left out")
        elif others:
            warn_once(f"{first.refusal(_clash(others[0]))}; both are left out")
        else:
            kept.append(first)
    return kept


def _clash(other: Addition) -> str:
    return f"package {other.package} adds one of this name too: uninstall one of them"


@cache
def warn_once(message: str) -> None:
    """Gives a warning, once in a process."""
    warnings.warn(message, stacklevel=2)
