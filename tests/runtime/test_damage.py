"""Damaged containers: refused with one error that names the place, or run to the same bits on both engines."""

import itertools
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest

from sta.backend.container import canonical_json, container_bytes
from tests.fuzz.containers import attempt, repaired
from tests.fuzz.mutations import file_of, mutate, mutated_json, sections_of
from tests.support.random_programs import SMALL, RandomProgram
from tests.support.random_prologues import with_prologue

SAMPLE = 300
ALL = 10_000
CHUNK = 1000


def program_file(seed: int) -> bytes:
    """Returns a small random program as a file."""
    return container_bytes(RandomProgram(seed, 3, SMALL).container())


def flipped(data: bytes, random: np.random.Generator) -> bytes:
    """Returns bytes of which a few are others."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4) if data else 0):
        changed[random.integers(len(data))] ^= int(random.integers(1, 256))
    return bytes(changed)


def test_damaged_files_never_surprise() -> None:
    data = program_file(0)
    assert attempt(data).stage == "halted"
    random = np.random.default_rng(0)
    for _ in range(200):
        assert attempt(flipped(data, random)).stage == "loader"
    for size in random.integers(0, len(data), 50):
        assert attempt(data[:size]).stage == "loader"


def endings(first: int, last: int) -> Counter[str]:
    """Damages programs behind right checksums, which keep accidents out but not malice; returns how they ended."""
    stages: Counter[str] = Counter()
    for seed in range(first, last):
        random = np.random.default_rng(seed)
        data = mutate(program_file(seed % 50), seed, lambda part: flipped(part, random))  # noqa: B023 - is called at once
        stages[attempt(data).stage] += 1
    return stages


def test_damage_behind_right_checksums_never_surprises() -> None:
    stages = endings(0, SAMPLE)
    assert min(stages[stage] for stage in ("loader", "validator", "failed", "halted")) >= 5, stages


def test_damaged_prologues_never_surprise() -> None:
    stages: Counter[str] = Counter()
    for seed in range(SAMPLE):
        random = np.random.default_rng(seed)
        container = with_prologue(RandomProgram(seed % 20, 3, SMALL).container(), seed % 20)
        assert container.prologue is not None
        section = mutated_json(container.prologue, seed)
        sections = sections_of(container_bytes(container))
        assert sections is not None
        sections["prologue"] = bytearray(section)
        if seed % 4 == 0:
            sections["tables"] = bytearray(flipped(bytes(sections["tables"]), random))
        stages[attempt(file_of(sections)).stage] += 1
    assert min(stages[stage] for stage in ("loader", "validator", "halted")) >= 5, stages


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SAMPLE, ALL, CHUNK))
def test_much_damage_behind_right_checksums(first: int) -> None:
    endings(first, first + CHUNK)


HUGE = (1 << 40, 1 << 62, 1 << 63, 10**4299)


def declarations() -> list[Any]:
    """Returns where a container says how large something is: sections and keys of their JSON."""
    program = [("program", key) for key in ("spad", "wbuf", "acc", "dram")]
    ports = [("signature", key) for key in ("shape", "address", "bytes")]
    sizes = ("sram_bytes", "tile_rows", "tile_columns", "queue_depth", "dma_latency", "vector_lanes")
    return [*program, *ports, *[("target", key) for key in sizes]]


@pytest.mark.parametrize(("section", "key"), declarations())
def test_declared_sizes_are_checked_before_anything_is_allocated(section: str, key: str) -> None:
    container = RandomProgram(1, 3, SMALL).container()
    for size in HUGE:
        values: Any = {**getattr(container, section)}
        if section == "signature":
            port = {**values["inputs"][0], key: [size, 2] if key == "shape" else size}
            values["inputs"] = [port]
        else:
            values[key] = size
        sections = sections_of(container_bytes(container))
        assert sections is not None
        data = file_of({**sections, section: bytearray(canonical_json(values, section))})
        tracemalloc.start()
        try:
            stage = attempt(data).stage
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert stage in ("loader", "validator")
        assert peak < 4 << 20


def test_declared_sections_are_checked_before_they_are_read() -> None:
    data = program_file(1)
    # The size of the file, and the offset and size of each section.
    positions = [16, *range(32 + 16, 32 + 280, 40), *range(32 + 24, 32 + 280, 40)]
    for position, size in itertools.product(positions, (1 << 40, (1 << 64) - 1)):
        changed = data[:position] + size.to_bytes(8, "little") + data[position + 8 :]
        tracemalloc.start()
        try:
            assert attempt(repaired(changed)).stage == "loader"
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
