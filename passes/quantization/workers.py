"""
Threads that share independent work, each with a single thread of PyTorch.

Sums of floats depend on the number of threads that share them. Here each is one thread's, so that results are the same
on any number of processors; and threads of libraries do not wait for each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WORKERS = 8
"""Most threads: each may hold all values of a model."""


def worker_count() -> int:
    """Number of threads that share work: as many as PyTorch may use, at most MOST_WORKERS."""
    import torch

    return min(torch.get_num_threads(), MOST_WORKERS)


@contextmanager
def one_thread() -> Generator[None]:
    """Restricts PyTorch to one thread where it is called from this one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def in_parallel(function: Callable[[Item], Result], items: Sequence[Item], consume: Callable[[Result], None]) -> None:
    """
    Calls `consume` with the results of `function` for `items`, in order and from the calling thread.

    Results wait for `consume` where it is slower, at most as many as there are workers. Raises what `function` raises
    for the first item for which it does.
    """
    import torch

    workers = min(worker_count(), len(items))
    with one_thread():
        if workers < 2:
            for item in items:
                consume(function(item))
            return
        with ThreadPoolExecutor(workers, "calibration", torch.set_num_threads, (1,)) as pool:
            pending = deque(pool.submit(function, item) for item in items[:workers])
            rest = iter(items[workers:])
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in islice(rest, 1))
                consume(result)
