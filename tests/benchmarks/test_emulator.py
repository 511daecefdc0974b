"""Evaluation of the emulator benchmark's measurements; the measuring itself is not for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import emulator
from benchmarks.latency import Latency, ratios
from benchmarks.loading import measure
from benchmarks.sentences import Sentences


def latencies(ours: list[float], theirs: list[float], threads: int = 1) -> list[Latency]:
    """Returns the times of the emulator and of one peer."""
    return [
        Latency("MiniLM", threads, "ONNX Runtime int8", theirs, [2 * time for time in theirs]),
        Latency("MiniLM", threads, "emulator", ours, ours),
    ]


def loaded(processor: float, resident: int) -> dict[str, dict[str, Any]]:
    """Returns the figures of a program that was loaded."""
    figures = {"container_bytes": 100, "seconds": 1.0, "processor_seconds": processor}
    memory = {f"resident_bytes_{when}": resident for when in ("before", "loaded", "run")}
    return {"BERT-base": {**figures, **memory}}


def test_ratios_are_those_of_the_same_turn() -> None:
    # A turn in which everything is slow says as much as the others.
    ((peer, wall, processor),) = ratios(latencies([1.0, 50.0, 3.0], [2.0, 100.0, 4.0]))
    assert (peer.contender, wall, processor) == ("ONNX Runtime int8", 0.5, 0.25)


@pytest.mark.parametrize(("threads", "figure"), [(1, 0.375), (2, 0.75)])
def test_processor_time_counts_where_one_thread_works(threads: int, figure: float) -> None:
    required = emulator.requirements([latencies([3.0] * 7, [4.0] * 7, threads)], {})
    assert [(one.figure, one.holds) for one in required] == [(figure, True)]


def test_what_is_missed_is_said() -> None:
    measured = [latencies([5.0] * 7, [2.0] * 7)]
    text = emulator.report(measured, loaded(0.3, 200), [Sentences(3000, 2, 90.0, 60.0, 0.88)])
    assert "Required figures, 1 of 3 reached" in text
    assert text.count("missed") == 2
    assert "All 3,000 sentences" in text
    assert "1.5 minutes (1.0 of processor time)" in text


def test_a_page_shows_a_whole_run(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--docs", "--models", "MiniLM"], ["--docs", "--pairs", "9"], ["--runs", "6"]):
        with pytest.raises(SystemExit):
            emulator.main(arguments)
    assert "--runs is at least 7" in capsys.readouterr().err


def test_the_page_has_the_section() -> None:
    page = emulator.EMULATOR_PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- begin emulator -->") == page.count("<!-- end emulator -->") == 1


def test_loading_is_measured_in_a_process_of_its_own(bench_program: Path) -> None:
    figures = measure(bench_program)
    assert figures["container_bytes"] == bench_program.stat().st_size
    assert 0 < figures["resident_bytes_before"] < figures["resident_bytes_run"] < 1 << 30


@pytest.fixture
def bench_program(tmp_path: Path) -> Path:
    """Returns the file of a program that copies its input."""
    from tests.runtime.conftest import Bench

    bench = Bench()
    offset = bench.port("inputs", "x", (4, 8), "int8")
    address = bench.allocate("spad", 32)
    bench.emit(
        "ld",
        dram=bench.writable(offset),
        sram=bench.register(address),
        dram_stride=bench.register(8),
        sram_stride=bench.register(8),
        rows=4,
        row_bytes=8,
    )
    bench.result(address, (4, 8), "int8")
    program = bench.program()
    assert np.array_equal(program.run({"x": np.ones((4, 8), np.float32)}).raw["y"], np.ones((4, 8)))
    path = tmp_path / "copy.sta"
    program.save(path)
    return path
