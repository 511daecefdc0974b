"""Program and Result: loading, running, inputs and their errors, and what importing the room needs."""

import copy
import io
import json
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sta.runtime
from sta.backend.container import ContainerError, container_bytes, write_container
from sta.runtime import Program, ProgramError
from sta.spec.parameters import MapParameters
from sta.spec.signature import TensorSignature


@pytest.fixture
def copier(bench: Any) -> Any:
    """Returns a bench whose program copies its two inputs to two outputs."""
    scale = {"scale": 0.5, "zero_point": 3}
    values = bench.port("inputs", "values", (2, 3), "int8", **scale)
    identifiers = bench.port("inputs", "identifiers", (4,), "int32", kind="index", limit=10, host_dtype="int64")
    outputs = [bench.port("outputs", "y", (2, 3), "int8", **scale), bench.port("outputs", "z", (4,), "int32")]
    for source, destination, size in ((values, outputs[0], 6), (identifiers, outputs[1], 16)):
        bench.emit("ld", dram=bench.writable(source), sram=bench.register(64), rows=1, row_bytes=size)
        bench.emit("st", dram=bench.writable(destination), sram=bench.register(64), rows=1, row_bytes=size)
    return bench


VALUES = np.array([[0.5, -1, 100], [-100, 0.25, 0.75]], np.float32)
IDENTIFIERS = np.array([9, 0, 1, 2])


def test_a_run(copier: Any) -> None:
    result = copier.run(values=VALUES, identifiers=IDENTIFIERS)
    assert result.raw["y"].tolist() == [[4, 1, 127], [-128, 3, 5]]
    assert result.raw["z"].tolist() == [9, 0, 1, 2]
    assert result.outputs["y"].dtype == np.float32
    assert result.outputs["y"].tolist() == [[0.5, -1, 62], [-65.5, 0, 1]]


def test_costs_are_known_without_a_run(copier: Any) -> None:
    program = copier.program()
    result = program.run({"values": VALUES, "identifiers": IDENTIFIERS})
    assert (program.dram_bytes, program.macs, program.dense_macs) == (44, 64, 128)
    # After 5 lea and 4 copies the last store starts at 9.
    assert program.cycles == 9 + 1 + 20
    assert program.seconds == program.cycles / 100e6
    assert program.mac_efficiency == 64 / (program.cycles * 16)
    for name in ("cycles", "seconds", "mac_efficiency", "dram_bytes", "macs"):
        assert getattr(result, name) == getattr(program, name)
        assert json.loads(json.dumps(result.to_json()))[name] == getattr(program, name)
    assert result.to_json()["busy"] == {"ld": 2, "st": 2, "mm": 0, "sm": 0, "vp": 0}


def test_signatures(copier: Any) -> None:
    program = copier.program()
    assert [signature.name for signature in program.inputs] == ["values", "identifiers"]
    assert program.outputs[0] == TensorSignature("y", (2, 3), "float32", "int8", "quantized", 0.5, 3)
    assert program.target.name == "bench"


def test_saving_and_loading(copier: Any, tmp_path: Path) -> None:
    program = copier.program()
    program.save(tmp_path / "a.sta")
    loaded = sta.runtime.load(tmp_path / "a.sta")
    assert container_bytes(loaded.container) == container_bytes(program.container)
    inputs = {"values": VALUES, "identifiers": IDENTIFIERS}
    first, second = program.run(inputs), loaded.run(inputs)
    assert all(np.array_equal(first.raw[name], second.raw[name]) for name in ("y", "z"))
    loaded.save(tmp_path / "a.sta")
    assert loaded.run(inputs).to_json() == first.to_json()
    with pytest.raises(ContainerError):
        Program.load(__file__)
    with pytest.raises(ProgramError, match="the limit is 3"):
        Program.load(tmp_path / "a.sta", instruction_limit=3)
    with pytest.raises(ProgramError, match="the limit is 100"):
        Program.load(tmp_path / "a.sta", memory_limit=100)


def test_loading_what_a_file_holds(copier: Any, tmp_path: Path) -> None:
    program = copier.program()
    program.save(tmp_path / "a.sta")
    content = (tmp_path / "a.sta").read_bytes()
    changed = bytearray(content)
    loaded = [Program.load(content), Program.load(memoryview(content)), Program.load(changed)]
    with open(tmp_path / "a.sta", "rb") as file:
        loaded.append(sta.runtime.load(file))
    loaded.append(sta.runtime.load(io.BytesIO(content)))
    # What has been checked is no longer the caller's to change.
    changed[:] = bytes(len(changed))
    for one in loaded:
        assert container_bytes(one.container) == content
        assert one.run({"values": VALUES, "identifiers": IDENTIFIERS}).raw["y"].tolist() == [[4, 1, 127], [-128, 3, 5]]


def test_what_is_no_program_is_refused_wherever_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "a.sta").write_bytes(b"")
    for nothing in (b"", bytearray(), io.BytesIO(), tmp_path / "a.sta"):
        with pytest.raises(ContainerError, match="the file is empty"):
            Program.load(nothing)
    with pytest.raises(ContainerError, match="not an STA container"):
        Program.load(b"something else")
    text: Any = io.StringIO("text")
    with pytest.raises(ValueError, match="gives str, not bytes: open the file with mode 'rb'"):
        Program.load(text)


def test_what_things_are_in_one_line(copier: Any) -> None:
    program = copier.program()
    assert repr(program) == (
        "<Program for bench: values (2, 3), identifiers (4,) -> y (2, 3), z (4,); 10 instructions>"
    )
    result = program.run({"values": VALUES, "identifiers": IDENTIFIERS})
    assert repr(result) == "<Result: y (2, 3) float32, z (4,) float32; 30 cycles, 0.3 µs>"
    assert repr(program.profile()) == "<Profile for bench: 1 modules, 30 cycles>"
    assert repr(program.schedule) == "<Schedule: 5 rows, 30 cycles>"
    assert repr(program.container) == "<Container: 10 instructions, 32,768 bytes of constants>"
    for one in (program.valid, program.timing, *program.profile().rows, *program.inputs):
        assert len(repr(one)) < 800


def pickled(program: Program) -> Program:
    return pickle.loads(pickle.dumps(program))


@pytest.mark.parametrize("copied", [pickled, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_a_program_is_pickled_and_copied_after_its_first_run(copier: Any, copied: Any, engine: str) -> None:
    program = copier.program()
    inputs = {"values": VALUES, "identifiers": IDENTIFIERS}
    expected = program.run(inputs, engine=engine)
    program.profile()
    other = copied(program)
    assert container_bytes(other.container) == container_bytes(program.container)
    result = other.run(inputs, engine=engine)
    assert {name: one.tolist() for name, one in result.raw.items()} == {
        name: one.tolist() for name, one in expected.raw.items()
    }
    assert result.to_json() == expected.to_json()
    assert other.profile() == program.profile()


def test_runs_in_other_processes(copier: Any) -> None:
    program = copier.program()
    inputs = {"values": VALUES, "identifiers": IDENTIFIERS}
    expected = program.run(inputs).raw["y"]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert np.array_equal(executor.submit(Program.run, program, inputs).result().raw["y"], expected)


def test_runs_do_not_influence_each_other(copier: Any) -> None:
    program = copier.program()
    first = program.run({"values": VALUES, "identifiers": IDENTIFIERS})
    kept = first.raw["y"].copy()
    program.run({"values": -VALUES, "identifiers": IDENTIFIERS})
    assert np.array_equal(first.raw["y"], kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vaules": VALUES},
            "unexpected input 'vaules'; did you mean 'values'?; the program takes 'values', 'identifiers'",
        ),
        ({3: VALUES}, "unexpected input 3; the program takes 'values', 'identifiers'"),
        ({"identifiers": None}, "missing input 'identifiers'; the program takes 'values', 'identifiers'"),
        ({"values": VALUES.T}, "input 'values': expected shape (2, 3), got (3, 2)"),
        (
            {"values": np.stack([VALUES] * 4)},
            "input 'values': expected shape (2, 3), got (4, 2, 3): a run takes one sample; for 4 of them "
            "program.run_batch([{'values': a, …} for a in …])",
        ),
        ({"values": VALUES.astype(int)}, "input 'values': expected float32, got int64"),
        ({"values": VALUES * np.nan}, "input 'values': expected finite values, got nan at [0, 0]"),
        ({"identifiers": IDENTIFIERS + 1}, "input 'identifiers': expected indices in 0..9, got 10 at [0]"),
        ({"identifiers": IDENTIFIERS * 1.0}, "input 'identifiers': expected int64, got float64"),
    ],
)
def test_unsuitable_inputs(copier: Any, changes: dict[Any, Any], message: str) -> None:
    inputs: dict[Any, Any] = {"values": VALUES, "identifiers": IDENTIFIERS, **changes}
    given = {name: value for name, value in inputs.items() if value is not None}
    with pytest.raises(ValueError) as error:  # noqa: PT011
        copier.program().run(given)
    assert str(error.value) == message


@pytest.mark.parametrize("inputs", [None, VALUES, [VALUES, IDENTIFIERS]])
def test_inputs_without_names(copier: Any, inputs: Any) -> None:
    with pytest.raises(TypeError, match=f"a mapping from an input's name to its array, not {type(inputs).__name__}"):
        copier.program().run(inputs)


def test_a_path_is_a_text_or_a_path(copier: Any) -> None:
    wrong: list[Any] = [None, 3.5, copier.program()]
    for path in wrong:
        with pytest.raises(TypeError, match=f"str.* or os.PathLike.*{type(path).__name__}"):
            Program.load(path)
        with pytest.raises(TypeError, match=f"str.* or os.PathLike.*{type(path).__name__}"):
            copier.program().save(path)


def test_a_program_that_cannot_be_saved_names_the_given_path(copier: Any, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "p.sta"
    with pytest.raises(FileNotFoundError) as refused:
        copier.program().save(path)
    assert refused.value.filename == str(path)


def test_engines_and_poison(bench: Any) -> None:
    program = bench.program()
    assert program.run({}, engine="auto").raw == program.run({}, engine="reference").raw == {}
    with pytest.raises(
        ValueError, match=r"unknown engine 'referense'; did you mean 'reference'\?; known: auto, native, reference"
    ):
        program.run({}, engine="referense")
    with pytest.raises(ValueError, match=r"poison is 256, outside 0\.\.255"):
        program.run({}, poison=256)


@pytest.mark.parametrize("space", ["spad", "wbuf", "acc", "writable"])
def test_all_writable_memory_is_poisoned(bench: Any, space: str) -> None:
    destination = bench.register(1024)
    if space == "writable":
        bench.scratch = 64
        bench.emit("ld", dram=bench.writable(0), sram=destination, rows=1, row_bytes=4)
    elif space in ("wbuf", "acc"):
        scale = np.array([1 << 30], np.int32), np.array([32], np.int8)
        parameters = bench.place(MapParameters(np.zeros(1, np.int32), *scale).to_bytes(), "wbuf")
        fields = {"parameters": parameters, "source_type": "acc", "destination_type": "s32", "rows": 1, "columns": 1}
        a = bench.place(np.ones((1, 1), np.int8))
        if space == "wbuf":
            bench.emit("mm", acc=0, a=a, b=bench.register(4096), rows=1, columns=1, depth=1)
        bench.emit("map", source=0, destination=destination, **fields)
    bench.result(1024, (1, 4), "uint8")
    program = bench.program()
    first, second = (program.run({}, poison=poison).raw["y"].tolist() for poison in (0x11, 0x22))
    # A quarter of the accumulator, or of the weight.
    quarter = [[0x44, 0x44, 0x44, 0x04], [0x88 + 1, 0x88, 0x88, 0x08]]
    expected = {"acc": quarter, "wbuf": [[4, 0, 0, 0], [9, 0, 0, 0]]}.get(space, [[0x11] * 4, [0x22] * 4])
    assert [first[0], second[0]] == expected
    with pytest.raises(AssertionError, match="depends on uninitialized memory"):
        bench.run()


def test_dram_constants_are_read_only(bench: Any) -> None:
    container = bench.container()
    constants = container.constants
    assert not constants.flags.writeable
    bench.scratch = 64
    bench.emit("st", dram=0, sram=0, rows=1, row_bytes=4)
    with pytest.raises(ProgramError, match=r"'dram' writes dram bytes 0\.\.3, outside 32768"):
        bench.program()


def test_importing_needs_numpy_only() -> None:
    code = (
        "import sys, sta.runtime\n"
        "heavy = {'torch', 'torch_mlir', 'xdsl', 'yaml', 'safetensors', 'transformers', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_program_refuses_what_a_file_could_not_hold(bench: Any, tmp_path: Path) -> None:
    container = bench.container()
    container.program["macs"] = "many"
    with pytest.raises(ContainerError, match="section 'program': 'macs'"):
        Program(container)
    with pytest.raises(ContainerError, match="section 'program': 'macs'"):
        write_container(container, tmp_path / "a.sta")
