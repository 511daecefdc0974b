"""Knowledge of the units about each other's progress, and a rehearsal of a program that tracks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sta.passes.scheduling.conflicts import Iterations, conflict, lag_between
from sta.passes.scheduling.work import Channel, Loop, Node, Work


def learn(known: dict[Channel, int], knew: dict[Channel, int], posting: str, waiting: str) -> None:
    """Extends `known` by what the posting unit had waited for: whoever waits for one of its items knows that, too."""
    for (other, knower), position in knew.items():
        if knower == posting and other != waiting and known.get((other, waiting), -1) < position:
            known[other, waiting] = position


@dataclass
class Knowledge:
    """Executed items, and each unit's knowledge of them, at one point of a rehearsal of the program."""

    count: int = 0
    known: dict[Channel, int] = field(default_factory=dict[Channel, int])
    """For (posting, waiting): the posting unit's last item that the waiting unit knows to be complete."""
    outstanding: dict[Channel, list[int]] = field(default_factory=dict[Channel, list[int]])
    """Posts not waited for yet, oldest first, by their items."""
    history: dict[str, list[tuple[int, Work, Iterations]]] = field(
        default_factory=dict[str, list[tuple[int, Work, Iterations]]]
    )
    knew: list[dict[Channel, int]] = field(default_factory=list[dict[Channel, int]])

    def copy(self) -> Knowledge:
        """An independent copy."""
        return Knowledge(
            self.count,
            dict(self.known),
            {channel: list(posts) for channel, posts in self.outstanding.items()},
            {unit: list(items) for unit, items in self.history.items()},
            list(self.knew),
        )

    def wait(self, channel: Channel) -> int:
        """The waiting unit of a channel consumes the oldest post; returns its item."""
        item = self.outstanding[channel].pop(0)
        if item > self.known.get(channel, -1):
            self.known[channel] = item
            learn(self.known, self.knew[item], *channel)
        return item

    def unordered(self, work: Work, iterations: Iterations = ()) -> dict[str, int]:
        """Last item of each other unit that conflicts with `work` and is not known to be complete."""
        needs: dict[str, int] = {}
        for unit, items in self.history.items():
            horizon = self.known.get((unit, work.unit), -1)
            for item, earlier, before in reversed(items) if unit != work.unit else ():
                if item <= horizon:
                    break
                if conflict(earlier, work, lag_between(before, iterations)):
                    needs[unit] = item
                    break
        return needs

    def perform(self, work: Work, iterations: Iterations = ()) -> int:
        """Adds an item, and its posts; its waits have been met. Returns its number."""
        item = self.count
        self.count += 1
        self.knew.append(dict(self.known))
        if work.reads or work.writes:
            self.history.setdefault(work.unit, []).append((item, work, iterations))
        for channel in work.posts:
            self.outstanding.setdefault(channel, []).append(item)
        return item


REHEARSED = 3
"""
Iterations of a loop that a rehearsal runs: its first, its steady state and its end. Loops with more iterations only add
ordering, so simulating `REHEARSED` is safe; loops with fewer are simulated exactly.
"""


def rehearse(knowledge: Knowledge, nodes: Sequence[Node], iterations: Iterations) -> set[Channel]:
    """Runs synchronized nodes from `knowledge` on; returns channels on which a wait is missing."""
    missing: set[Channel] = set()
    for node in nodes:
        if isinstance(node, Loop):
            missing |= rehearse_loop(knowledge, node, node.body, iterations)
            continue
        for channel in node.waits:
            knowledge.wait(channel)
        missing |= {(unit, node.unit) for unit in knowledge.unordered(node, iterations)}
        knowledge.perform(node, iterations)
    return missing


def rehearse_loop(knowledge: Knowledge, loop: Loop, body: Sequence[Node], iterations: Iterations) -> set[Channel]:
    """Runs the decisive iterations of a loop with a synchronized body."""
    missing: set[Channel] = set()
    for iteration in range(min(REHEARSED, loop.count)):
        missing |= rehearse(knowledge, body, (*iterations, (loop, iteration)))
    return missing
