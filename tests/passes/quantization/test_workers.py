"""Work shared between threads: results in order, errors as in a loop, PyTorch's threads as before."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from sta.passes.quantization.workers import in_parallel


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_and_each_thread_has_one_of_pytorchs(threads: int) -> None:
    names: set[str] = set()

    def work(item: int) -> tuple[int, int]:
        names.add(threading.current_thread().name)
        time.sleep(0.002 * (item % 3))
        return item, torch.get_num_threads()

    found: list[tuple[int, int]] = []
    in_parallel(work, range(20), found.append)
    assert found == [(item, 1) for item in range(20)]
    assert len(names) == threads
    assert torch.get_num_threads() == threads


def test_few_results_wait_for_the_consumer(threads: int) -> None:
    begun: list[int] = []
    ahead: list[int] = []
    in_parallel(begun.append, range(12), lambda _: ahead.append(len(begun) - len(ahead)))
    assert max(ahead) <= threads + 1


def test_the_first_error_is_raised_and_threads_are_given_back(threads: int) -> None:
    def work(item: int) -> int:
        if item in (3, 4):
            raise ValueError(f"item {item}")
        return item

    found: list[int] = []
    with pytest.raises(ValueError, match="item 3"):
        in_parallel(work, range(9), found.append)
    assert found == [0, 1, 2]
    assert torch.get_num_threads() == threads
