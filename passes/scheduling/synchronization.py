"""
Synchronization of work on in-order units by counting semaphores: plain Python, no IR.

A program is a tree of work items and loops. Each unit runs its own items in program order; a unit must wait before it
reads or writes bytes that another has touched. For every ordered pair of units there is one channel, a counting
semaphore: an item of the first unit posts when it is complete, an item of the second waits. A channel is first in,
first out, so correctness is a matter of counting: the k-th wait must not be met by a post older than the item it needs.

In a straight line, an item waits for the latest conflicting item of each other unit, unless an earlier wait implies it.
In a loop the same holds for the steady state: posts made before the loop meet the loop-carried waits of its first
iteration, and equally many posts are left over at its end. Where it is safe they are carried to the next loop that
needs such credit, so that units do not drain between the layers of a model.
"""

from __future__ import annotations

from collections.abc import Sequence

from sta.passes.scheduling.loop_body import synchronize_loop_body
from sta.passes.scheduling.straight_line import StraightLine
from sta.passes.scheduling.synchronized_block import SynchronizedBlock
from sta.passes.scheduling.work import Loop, Node


def synchronize(program: Sequence[Node]) -> list[Node]:
    """
    The program with waits and posts, so that every two conflicting items of different units keep program order.

    Work items are changed in place; synchronization items (without reads and writes) are new.
    """
    block = SynchronizedBlock(program, _inner_blocks(program, ()))
    StraightLine(block).run()
    return block.result()


def _inner_blocks(nodes: Sequence[Node], loops: tuple[Loop, ...]) -> dict[int, SynchronizedBlock]:
    """Synchronized bodies of the loops among the nodes of a block, by the positions of the loops."""
    blocks: dict[int, SynchronizedBlock] = {}
    for index, node in enumerate(nodes):
        if not isinstance(node, Loop):
            continue
        around = (*loops, node)
        block = blocks[index] = SynchronizedBlock(node.body, _inner_blocks(node.body, around))
        synchronize_loop_body(block, around)
    return blocks
