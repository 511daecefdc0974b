"""
Synchronization of work on in-order units by counting semaphores: plain Python, no IR.

A program is a tree of work items and loops. Each unit runs its own items in program order; what one unit reads or
writes after another has touched it must wait. For every ordered pair of units there is one channel, a counting
semaphore: an item of the first unit posts when it is complete, an item of the second waits. A channel is first in,
first out, so that correctness is a matter of counting: the k-th wait must not be met by a post older than the item it
needs.

In a straight line, an item waits for the latest conflicting item of each other unit, unless a wait before it already
implies that. In a loop the same holds for the steady state: in the first iteration, waits for the iteration before are
met by posts made before the loop, and as many posts are left over at its end. Those are carried to the next loop that
needs such credit, where that is safe, so that units do not drain between the layers of a model.
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
    """The bodies of the loops among the nodes of a block, synchronized, by the positions of the loops."""
    blocks: dict[int, SynchronizedBlock] = {}
    for index, node in enumerate(nodes):
        if not isinstance(node, Loop):
            continue
        around = (*loops, node)
        block = blocks[index] = SynchronizedBlock(node.body, _inner_blocks(node.body, around))
        synchronize_loop_body(block, around)
    return blocks
