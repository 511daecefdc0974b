"""Progress of a compile: in the log, on standard error, and to a callback; compiles in several threads."""

import logging
import threading

import numpy as np
import pytest
import torch
from torch import nn

import sta
from sta.api.cli import progress
from sta.api.compiler.compilation import compile_model
from sta.backend.container import container_bytes

X = np.random.default_rng(3).standard_normal((8, 4, 16)).astype(np.float32)
DATA = {"input": X}


def model(width: int) -> nn.Module:
    torch.manual_seed(width)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    return nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 8)).eval()


def test_the_log_has_each_stage_and_the_program(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, float | None]] = []

    def report(stage: str, done: float | None) -> None:
        told.append((stage, done))

    with caplog.at_level(logging.DEBUG, "sta.compile"):
        compilation = compile_model(model(12), (X[:1],), calibration=DATA, report=report)
    assert compilation.program is not None
    info = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    debug = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    steps = [stage for number, (stage, _) in enumerate(told) if not number or told[number - 1][0] != stage]
    assert info[:-1] == steps
    assert steps[0] == "import"
    assert steps[-1] == "emit"
    assert info[-1].startswith("compiled for sta-base in ")
    assert info[-1].endswith(f" s: {compilation.program.cycles} cycles")
    assert debug == [f"{stage} {100 * done:.0f}%" for stage, done in told if done is not None]
    assert {record.name for record in caplog.records} == {"sta.compile"}


def test_progress_is_shown_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(progress, "_LINE_INTERVAL", 0.0)
    told: list[str] = []
    sta.compile(model(12), (X[:1],), calibration=DATA, report=lambda stage, _: told.append(stage))
    assert capsys.readouterr() == ("", "")
    sta.compile(model(12), (X[:1],), calibration=DATA, progress=True, report=lambda stage, _: told.append(stage))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sta: import\n")
    *_, last, done = captured.err.splitlines()
    assert last == "sta: emit"
    assert done.startswith("sta: done after ")
    # The callback is called as well.
    assert told[: len(told) // 2] == told[len(told) // 2 :]


def test_threads_compile_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    models = [model(16 + number) for number in range(4)]
    expected = [container_bytes(sta.compile(one, (X[:1],), calibration=DATA).container) for one in models]
    found: list[bytes | BaseException] = [b""] * len(models)

    def work(number: int) -> None:
        try:
            found[number] = container_bytes(sta.compile(models[number], (X[:1],), calibration=DATA).container)
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
    # The export silences standard output; it is back.
    print("heard")
    assert capsys.readouterr().out == "heard\n"
