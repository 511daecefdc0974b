"""One program in several threads at once."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sta.runtime.native_engine
from sta.runtime import Program
from sta.runtime.engines import native_is_built

THREADS = 8
SHAPE = (4, 64)


@pytest.fixture
def program(bench: Any) -> Program:
    """Returns a program that has done nothing yet: it copies its input by way of the scratchpad, again and again."""
    port = {"scale": 1.0, "zero_point": 0}
    source, destination = (
        bench.port(way, name, SHAPE, "int8", **port) for way, name in (("inputs", "x"), ("outputs", "y"))
    )
    size = SHAPE[0] * SHAPE[1]
    for number in range(50):
        bench.emit(
            "ld",
            dram=bench.writable(source),
            sram=bench.register(64),
            rows=1,
            row_bytes=size,
            wait=2 * (number > 0),
            post=1,
        )
        bench.emit(
            "st", dram=bench.writable(destination), sram=bench.register(64), rows=1, row_bytes=size, wait=1, post=2
        )
    return bench.program()


def at_once(work: Callable[[int], object]) -> list[Any]:
    """Returns the results of a function in several threads that begin together; raises what one of them raises."""
    together = threading.Barrier(THREADS)
    results: list[Any] = [None] * THREADS
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            together.wait()
            results[number] = work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_each_run_gets_its_own_result(program: Program, engine: str) -> None:
    inputs = [np.full(SHAPE, number, np.float32) for number in range(THREADS)]
    for result, expected in zip(
        at_once(lambda number: [program.run({"x": inputs[number]}, engine=engine).outputs["y"] for _ in range(5)]),
        inputs,
        strict=True,
    ):
        assert all(np.array_equal(one, expected) for one in result)


@pytest.mark.skipif(not native_is_built(), reason="the native engine is not built")
def test_a_program_is_decoded_once(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    original = sta.runtime.native_engine.NativeProgram

    class Counted(original):
        """A program that counts how often there is one."""

        def __init__(self, *arguments: Any) -> None:
            decoded.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(sta.runtime.native_engine, "NativeProgram", Counted)
    at_once(lambda _: program.run({"x": np.zeros(SHAPE, np.float32)}))
    assert len(decoded) == 1


def test_reports_agree(program: Program, tmp_path: Path) -> None:
    def report(number: int) -> tuple[object, ...]:
        path = tmp_path / f"{number}.json"
        program.write_trace(path)
        return program.timing, program.profile(), program.check_races(), path.read_bytes()

    first, *others = at_once(report)
    assert all(other == first for other in others)
