"""Latency of one sentence on the emulator and its peers, in turn."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from benchmarks.peers import CONTENDERS, EMULATOR, prepare, samples

# Seconds of rest, and untimed runs of each turn.
REST = 0.1
WARM_UP = 3
FEWEST_RUNS = 7


@dataclass(frozen=True)
class Latency:
    """The times of one contender in milliseconds, a pair for each turn."""

    model: str
    threads: int
    contender: str
    wall: list[float]
    processor: list[float]
    """Processor time of the whole process: the relevant one on a machine with other load."""


def measure(model: str, threads: int, runs: int) -> list[Latency]:
    """
    Returns the times of all contenders; they run in turn, so that disturbances hit all of them.

    A turn begins with a rest: threads of the previous contender spin for a while on the same processors. Then the
    contender runs untimed, so that its own threads wake up and its weights are in the cache, as when it runs alone.
    """
    prepare(model)
    contenders = {name: make(model, threads) for name, make in CONTENDERS.items()}
    latencies = {name: Latency(model, threads, name, [], []) for name in contenders}
    inputs = next(samples(1))
    for _ in range(runs):
        for name, run in contenders.items():
            time.sleep(REST)
            for _ in range(WARM_UP):
                run(inputs)
            start, start_processor = time.perf_counter(), time.process_time()
            run(inputs)
            end, end_processor = time.perf_counter(), time.process_time()
            latencies[name].wall.append(1e3 * (end - start))
            latencies[name].processor.append(1e3 * (end_processor - start_processor))
    return list(latencies.values())


def ratios(latencies: list[Latency]) -> list[tuple[Latency, float, float]]:
    """Returns for each peer the emulator's time relative to the peer's: medians over the turns, wall and processor."""
    ours = next(latency for latency in latencies if latency.contender == EMULATOR)
    return [
        (peer, _ratio(ours.wall, peer.wall), _ratio(ours.processor, peer.processor))
        for peer in latencies
        if peer is not ours
    ]


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
