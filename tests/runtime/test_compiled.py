"""Race check, profile and trace of a compiled Transformer."""

import dataclasses
import itertools
import json
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sta
from sta.runtime import Program, ProgramError
from sta.runtime.analysis.races import Race, RaceError
from sta.runtime.analysis.schedule import handovers
from sta.spec.instructions.instruction import Instruction
from tests.support.report_comparison import check_reports


class Encoder(nn.Module):
    """Two encoder layers on embedded ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 64)
        layers = [nn.TransformerEncoderLayer(64, 2, 160, 0.0, "gelu", batch_first=True) for _ in range(2)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the hidden states of ids."""
        hidden = self.embedding(x)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


IDS = np.arange(48, dtype=np.int64)[np.newaxis]


@pytest.fixture(scope="module")
def program() -> Program:
    """Returns the compiled model; its tests must not change it."""
    torch.manual_seed(7)  # pyright: ignore[reportUnknownMemberType]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sta.compile(Encoder().eval(), {"x": torch.arange(48)[None]}, target="sta-small")


def without(instruction: Instruction, field: str, semaphore: int) -> Instruction:
    """Returns an instruction that does not wait for, or post to, a semaphore."""
    fields = {other.name: value for other, value in instruction}
    return Instruction.make(instruction.name, **{**fields, field: fields[field] & ~(1 << semaphore)})


def removals(program: Program) -> Iterator[tuple[int, int, Program]]:
    """
    Iterates over the program without one post and its wait: the pcs of both, and the program.

    Only those whose two instructions move or compute something, and meet as often as either is executed.
    """
    schedule = program.schedule
    met = handovers(program.valid, schedule)
    pairs = zip(schedule.pc[met.post].tolist(), schedule.pc[met.wait].tolist(), met.semaphore.tolist(), strict=True)
    times: dict[tuple[int, int, int], int] = Counter(pairs)
    for (post, wait, semaphore), count in times.items():
        ends = [program.valid.steps[pc] for pc in (post, wait)]
        if any(step.instruction.name == "sync" or step.executions != count for step in ends):
            continue
        code = list(program.container.code)
        code[post] = without(code[post], "post", semaphore)
        code[wait] = without(code[wait], "wait", semaphore)
        yield post, wait, Program(dataclasses.replace(program.container, code=code))


def test_it_has_no_races(program: Program) -> None:
    check = program.check_races()
    assert check.instructions == len(program.schedule.order) > 100
    assert check.bytes > check.accesses > check.instructions


def races_of(program: Program) -> tuple[Race, ...]:
    """Returns the races that the check reports; none for a program in order, or in deadlock."""
    try:
        program.check_races()
    except RaceError as error:
        return error.races
    except ProgramError:
        return ()
    return ()


def test_without_one_semaphore_the_check_names_both_instructions(program: Program) -> None:
    units: Counter[tuple[str, str]] = Counter()
    for post, wait, other in removals(program):
        races = {(race.earlier.pc, race.later.pc): race for race in races_of(other)}
        if not races:
            # Another semaphore orders them as well, or nothing goes on.
            continue
        race = races[post, wait]
        paths = (race.earlier.module_path, race.later.module_path)
        assert paths == (program.container.module_path(post), program.container.module_path(wait))
        assert f"instruction {post} ({race.earlier.name}" in str(race)
        assert f"instruction {wait} ({race.later.name}" in str(race)
        units[race.earlier.unit, race.later.unit] += 1
    # What nothing else orders: weights for the array, accumulators for the drain, the attention's pipeline.
    assert {("ld", "mm"), ("mm", "vp"), ("mm", "sm"), ("sm", "mm")} <= set(units)


def test_compiled_reports_are_those_of_the_definitions(program: Program, tmp_path: Path) -> None:
    assert check_reports(program.valid, tmp_path) == ("ordered", False)


def test_compiled_reports_name_the_same_races(program: Program, tmp_path: Path) -> None:
    ended = {check_reports(other.valid, tmp_path)[0] for _, _, other in itertools.islice(removals(program), 0, None, 9)}
    assert "race" in ended


def test_a_wait_too_early_is_found(program: Program) -> None:
    code = program.container.code
    wait = next(pc for pc, i in enumerate(code) if i.name == "mm" and i["wait"])
    semaphore = code[wait].semaphores("wait")[0]
    # One post more at the start, and every wait gets the post before its own.
    unit = next(i.unit for i in code if not i.definition.is_sequencer and i["post"] >> semaphore & 1)
    container = dataclasses.replace(
        program.container,
        code=[Instruction.make("sync", unit=unit, post=[semaphore]), *code],
        debug={**program.container.debug, "instructions": []},
    )
    with pytest.raises(RaceError, match=f"of unit {unit}"):
        Program(container).check_races()


def test_it_can_be_cheated_out_of_no_deadlock(program: Program) -> None:
    code = list(program.container.code)
    post = next(pc for pc, i in enumerate(code) if i.name == "ld" and i["post"])
    code[post] = without(code[post], "post", code[post].semaphores("post")[0])
    with pytest.raises(ProgramError):
        Program(dataclasses.replace(program.container, code=code)).check_races()


def test_its_profile(program: Program) -> None:
    profile = program.profile()
    total = profile.total
    assert total.cycles == program.cycles == sum(row.cycles for row in profile.rows)
    assert total.busy == program.timing.busy
    assert (total.macs, total.dense_macs) == (program.macs, program.dense_macs)
    assert total.mac_efficiency == profile.mac_efficiency == program.mac_efficiency
    # Weights, parameters and tables once; the rows of the embedding that the ids name; ids in, hidden states out.
    sizes: Counter[str] = Counter()
    for entry in program.container.debug["constants"]:
        sizes[entry["class"]] += entry["bytes"]
    assert total.dram["weights"] == sizes["weights"] >= 2 * (4 * 64 * 64 + 2 * 64 * 160)
    assert total.dram["tables"] == sizes["tables"] == 2 * 1026
    assert total.dram["embedding"] == 48 * 64 * 2
    assert total.dram["inputs"] == 48 * 4
    assert total.dram["outputs"] == 48 * 64 * 2
    assert total.dram["attention"] == 0
    assert total.dram_bytes == program.dram_bytes
    # Both layers do the same work.
    layers = {row.module_path: row for row in profile.grouped(2).rows}
    first, second = layers["layers.0"], layers["layers.1"]
    assert (first.macs, first.dram["weights"], first.busy["mm"]) == (
        second.macs,
        second.dram["weights"],
        second.busy["mm"],
    )
    assert first.share + second.share > 0.9


def test_it_takes_no_less_than_its_work(program: Program) -> None:
    target, timing = program.target, program.timing
    assert program.cycles >= program.macs / target.macs_per_cycle
    assert program.cycles >= max(timing.dram_bytes_read, timing.dram_bytes_written) / target.dma_bytes_per_cycle
    assert program.cycles >= max(timing.busy.values())


def test_looking_at_a_run_does_not_change_it(program: Program, tmp_path: Path) -> None:
    fresh = Program(program.container)
    before = fresh.run({"x": IDS})
    fresh.check_races()
    profile = fresh.profile().to_json()
    fresh.write_trace(tmp_path / "trace.json")
    after = fresh.run({"x": IDS})
    assert after.timing == before.timing == program.timing
    assert all(np.array_equal(after.raw[name], before.raw[name]) for name in before.raw)
    # Nor does a run change what there is to see.
    program.write_trace(tmp_path / "other.json")
    assert (tmp_path / "trace.json").read_bytes() == (tmp_path / "other.json").read_bytes()
    assert program.profile().to_json() == profile
    assert fresh.schedule.cycles == before.cycles


def test_its_trace_shows_every_instruction(program: Program, tmp_path: Path) -> None:
    count = program.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = Counter(
        event["cat"] for event in events if event["ph"] == "X" and event["cat"] not in ("sequencer", "module")
    )
    assert sum(names.values()) == count
    assert names["gather"] == 1
    assert any(event["name"] == "layers.0.self_attn softmax" for event in events)
    assert (tmp_path / "trace.json").stat().st_size < 600 * count
