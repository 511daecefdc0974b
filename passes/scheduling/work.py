"""Work on in-order units: items, the bytes that they touch, and loops of them. Plain Python, no IR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sta.spec.affine import Affine

Channel = tuple[str, str]
"""The posting and the waiting unit."""


@dataclass(eq=False)
class Loop:
    """A repeated body, with at least one iteration."""

    body: list[Node]
    count: int
    source: object = None


@dataclass(frozen=True)
class Range:
    """Bytes of a memory: `size` of them, from a `start` that is affine in the iterations of loops."""

    space: str
    start: Affine[Loop]
    size: int


@dataclass(eq=False)
class Work:
    """One item of a unit: the bytes it may read and write, the channels it waits on and posts to."""

    unit: str
    reads: tuple[Range, ...] = ()
    writes: tuple[Range, ...] = ()
    waits: list[Channel] = field(default_factory=list[Channel])
    posts: list[Channel] = field(default_factory=list[Channel])


Node = Work | Loop
"""A node of a program. A work item without reads and writes is a synchronization item: it only waits and posts."""


def works_of(node: Node) -> Iterator[Work]:
    """The work items of a node, in program order."""
    if isinstance(node, Work):
        yield node
        return
    for inner in node.body:
        yield from works_of(inner)
