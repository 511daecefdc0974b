"""The compiled reports on a run against their definitions in Python."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.backend.container import Container
from sta.runtime.validate import validate
from sta.spec.instructions.definition import UNITS
from sta.spec.instructions.instruction import Instruction
from tests.support.racing_programs import PAIRS, SEVERAL_POST, SEVERAL_WAIT, built, programs
from tests.support.random_programs import RandomProgram
from tests.support.report_comparison import check_reports

SAMPLE = 60
ALL = 3000
CHUNK = 20
DENSITIES = (0.05, 0.3, 1.0)
"""Share of the instruction pairs of one loop body that are put in order."""
SEMAPHORE_OF = dict(zip(list(itertools.permutations(UNITS, 2)), range(16), strict=False))
"""For most pairs of a posting and a waiting unit a semaphore of their own."""


def synchronized(container: Container, random: np.random.Generator, density: float) -> Container:
    """Adds handovers between instructions of one loop body: never a deadlock, whether or not they prevent a race."""
    code = container.code
    loops: list[int] = []
    body: list[tuple[int, ...]] = []
    for pc, instruction in enumerate(code):
        if instruction.name == "end":
            loops.pop()
        body.append(tuple(loops))
        if instruction.name == "loop":
            loops.append(pc)
    units = [pc for pc, instruction in enumerate(code) if instruction.unit in UNITS]
    for first, second in itertools.combinations(units, 2):
        semaphore = SEMAPHORE_OF.get((code[first].unit, code[second].unit))
        if semaphore is None or body[first] != body[second] or random.random() > density:
            continue
        if code[first]["post"] >> semaphore & 1 or code[second]["wait"] >> semaphore & 1:
            continue
        code[first] = with_mask(code[first], "post", semaphore)
        code[second] = with_mask(code[second], "wait", semaphore)
    container.debug["instructions"] = [[pc, f"layer.{pc // 3 % 4}" * (pc % 2), "op"] for pc in range(0, len(code), 2)]
    return container


def with_mask(instruction: Instruction, field: str, semaphore: int) -> Instruction:
    """Returns an instruction that waits for, or posts to, one semaphore more."""
    fields = {other.name: value for other, value in instruction}
    return Instruction.make(instruction.name, **{**fields, field: fields[field] | 1 << semaphore})


def check_seeds(first: int, last: int, folder: Path) -> Counter[tuple[str, bool]]:
    """Checks the random programs of some seeds; returns how their race checks ended."""
    ended: Counter[tuple[str, bool]] = Counter()
    for seed in range(first, last):
        random = np.random.default_rng(seed)
        container = synchronized(RandomProgram(seed, 1 + seed % 20).container(), random, DENSITIES[seed % 3])
        ended[check_reports(validate(container), folder, limit=1 + seed % 300)] += 1
    return ended


@pytest.mark.parametrize("first", range(0, SAMPLE, CHUNK))
def test_random_programs(first: int, tmp_path: Path) -> None:
    assert check_seeds(first, first + CHUNK, tmp_path)["deadlock", False] == 0


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SAMPLE, ALL, 20 * CHUNK))
def test_many_random_programs(first: int, tmp_path: Path) -> None:
    ended = check_seeds(first, first + 20 * CHUNK, tmp_path)
    assert min(ended["race", False], ended["ordered", False]) > 10


@settings(max_examples=60, deadline=None)
@given(drawn=st.one_of(programs(PAIRS), programs(SEVERAL_POST), programs(SEVERAL_WAIT)))
def test_programs_on_few_bytes(
    make_bench: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory, drawn: Any
) -> None:
    check_reports(built(make_bench, drawn).valid, tmp_path_factory.getbasetemp())


def test_a_deadlock(bench: Any, tmp_path: Path) -> None:
    bench.emit("sync", unit="mm", wait=[3])
    assert check_reports(bench.program().valid, tmp_path) == ("deadlock", False)
