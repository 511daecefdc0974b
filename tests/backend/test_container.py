"""The container file: round trips, determinism, and every fault of a file."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sta.backend.container import (
    LARGEST_SECTIONS,
    SECTIONS,
    VERSION,
    Container,
    ContainerError,
    canonical_json,
    container_bytes,
    parse_container,
    read_container,
    write_container,
)
from sta.spec.alignment import ALIGNMENT
from sta.spec.instructions.instruction import Instruction
from tests.fuzz.mutations import file_of, sections_of

HEADER_BYTES, ENTRY_BYTES = 32, 40


def make_container() -> Container:
    """Returns a small container with something in every section."""
    code = [
        Instruction.make("loop", counter=1, count=3),
        Instruction.make("sync", unit="mm"),
        Instruction.make("end"),
        Instruction.make("halt"),
    ]
    return Container(
        code,
        np.arange(100, dtype=np.uint8),
        {"spad": 64, "wbuf": 0, "acc": 128, "dram": 256, "macs": 5, "dense_macs": 10},
        {"inputs": [{"name": "x", "scale": 0.1}], "outputs": []},
        {"instructions": [[0, "layer.0", "nm.linear"], [2, "layer.1", "nm.norm"]], "buffers": [], "constants": []},
        'module {\n  "é"\n}\n',
        {"name": "t"},
        {
            "inputs": [{"name": "ids", "shape": [2], "dtype": "int64", "holds_mask": False}],
            "steps": [{"operation": "not", "operands": [0], "path": "layer.0", "source": "aten.bitwise_not"}],
            "results": [{"name": "x", "value": 1}],
        },
        np.arange(8, dtype=np.uint8),
    )


def parse(data: bytes) -> Container:
    """Reads a container from bytes."""
    return parse_container(np.frombuffer(data, np.uint8))


def layout(data: bytes) -> dict[str, tuple[int, int]]:
    """Returns offset and size of each section, read from the table."""
    entries = [struct.unpack_from("<16sQQI4s", data, HEADER_BYTES + ENTRY_BYTES * i) for i in range(len(SECTIONS))]
    return {entry[0].rstrip(b"\0").decode(): (entry[1], entry[2]) for entry in entries}


def with_section(data: bytes, name: str, payload: bytes) -> bytes:
    """Returns the file with a section's bytes replaced by as many others, checksums made right."""
    offset, size = layout(data)[name]
    assert len(payload) == size
    changed = bytearray(data)
    changed[offset : offset + size] = payload
    entry = HEADER_BYTES + ENTRY_BYTES * SECTIONS.index(name)
    struct.pack_into("<I", changed, entry + 32, zlib.crc32(payload))
    return with_table_checksum(bytes(changed))


def with_table_checksum(data: bytes) -> bytes:
    """Returns the file with the right checksum of its table."""
    changed = bytearray(data)
    table = changed[HEADER_BYTES : HEADER_BYTES + ENTRY_BYTES * len(SECTIONS)]
    struct.pack_into("<I", changed, 12, zlib.crc32(table))
    return bytes(changed)


def test_reading_inverts_writing(tmp_path: Path) -> None:
    container = make_container()
    path = tmp_path / "a.sta"
    write_container(container, path)
    read = read_container(path)
    assert path.read_bytes() == container_bytes(container) == container_bytes(read)
    assert read.code == container.code
    assert np.array_equal(read.constants, container.constants)
    assert (read.program, read.signature, read.debug) == (container.program, container.signature, container.debug)
    assert (read.ir, read.target) == (container.ir, container.target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.sta"]


def test_constants_are_mapped_and_read_only(tmp_path: Path) -> None:
    path = tmp_path / "a.sta"
    write_container(make_container(), path)
    constants = read_container(path).constants
    assert not constants.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        constants[0] = 1
    # Writing over the file that is in use replaces it and leaves the mapping as it was.
    other = make_container()
    other.constants = np.zeros(100, np.uint8)
    write_container(other, path)
    assert constants[99] == 99


def test_sections_are_aligned_and_gaps_zero() -> None:
    data = container_bytes(make_container())
    position = HEADER_BYTES + ENTRY_BYTES * len(SECTIONS)
    for offset, size in layout(data).values():
        assert offset % ALIGNMENT == 0
        assert not any(data[position:offset])
        position = offset + size
    assert position == len(data)


def test_equal_contents_are_equal_bytes() -> None:
    first, second = make_container(), make_container()
    second.program = dict(reversed(second.program.items()))
    assert container_bytes(first) == container_bytes(second)
    second.program["macs"] = 6
    assert container_bytes(first) != container_bytes(second)


def test_empty_sections(tmp_path: Path) -> None:
    container = Container([], np.zeros(0, np.uint8), make_container().program, {"inputs": [], "outputs": []})
    write_container(container, tmp_path / "a.sta")
    read = read_container(tmp_path / "a.sta")
    assert (read.code, len(read.constants), read.ir, read.writable_base) == ([], 0, "", 0)


def test_locations_and_addresses() -> None:
    container = make_container()
    assert [container.module_path(pc) for pc in range(4)] == ["layer.0", "layer.0", "layer.1", "layer.1"]
    assert container.operation(3) == "nm.norm"
    container.debug["instructions"] = [[1, "a", "b"]]
    assert (container.module_path(0), container.operation(0)) == ("", "")
    assert container.writable_base == 128


def test_every_flipped_bit_is_noticed() -> None:
    data = container_bytes(make_container())
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        with pytest.raises(ContainerError, match="section '"):
            parse(bytes(changed))


def test_every_truncation_is_noticed() -> None:
    data = container_bytes(make_container())
    for size in range(len(data)):
        with pytest.raises(ContainerError, match="section 'header'"):
            parse(data[:size])
    with pytest.raises(ContainerError, match=f"has {len(data) + 1} bytes, should have {len(data)}"):
        parse(data + b"\0")


@pytest.mark.parametrize("version", [(VERSION[0] + 1, 0), (VERSION[0], VERSION[1] + 1), (0, 9)])
def test_other_versions_are_refused(version: tuple[int, int]) -> None:
    data = bytearray(container_bytes(make_container()))
    struct.pack_into("<HH", data, 4, *version)
    with pytest.raises(ContainerError, match=rf"has version {version[0]}\.{version[1]}, this toolchain reads version"):
        parse(bytes(data))


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.sta"
    path.write_bytes(b"")
    with pytest.raises(ContainerError, match="the file is empty"):
        read_container(path)
    path.write_bytes(b"PK\x03\x04 something else altogether")
    with pytest.raises(ContainerError, match="not an STA container"):
        read_container(path)
    with pytest.raises(FileNotFoundError):
        read_container(tmp_path / "missing.sta")


@pytest.mark.parametrize(
    ("entry_offset", "message"),
    [(0, "entry of section 'code' is malformed"), (16, "starts at byte"), (24, "starts at byte"), (36, "malformed")],
)
def test_a_wrong_table_is_refused(entry_offset: int, message: str) -> None:
    data = bytearray(container_bytes(make_container()))
    data[HEADER_BYTES + entry_offset + 1] ^= 1
    with pytest.raises(ContainerError, match=message):
        parse(with_table_checksum(bytes(data)))


def test_a_last_section_that_ends_early_is_refused() -> None:
    data = bytearray(container_bytes(make_container()))
    data[HEADER_BYTES + ENTRY_BYTES * (len(SECTIONS) - 1) + 24] -= 1
    with pytest.raises(ContainerError, match="the sections end at byte"):
        parse(with_table_checksum(bytes(data)))


@pytest.mark.parametrize(
    ("section", "old", "new", "message"),
    [
        ("code", b"\x04", b"\x3f", "section 'code': instruction 2: unknown opcode 63"),
        ("ir", "é".encode(), b"\xff\xff", "section 'ir': not UTF-8"),
        ("program", b'"macs":5', b'"macs":X', "section 'program': not JSON"),
        ("program", b'"acc":128,', b'"acc": 28,', "section 'program': the JSON is not in canonical form"),
        ("program", b'"macs":5', b'"mcas":5', "section 'program': 'macs' is missing"),
        (
            "program",
            b'"dram":256',
            b'"dram":1.5',
            "section 'program': 'dram' is missing or not an integer from 0 to 2^63-1",
        ),
        ("program", b'"dram":256', b'"dram":-56', "section 'program': 'dram' is missing or not an integer from 0"),
        ("program", b'"dram":256', b'"dram":NaN', "section 'program': cannot be written as JSON"),
        ("signature", b'"outputs"', b'"outptus"', "section 'signature': 'outputs' is missing"),
        ("debug", b'[2,"layer', b'[9,"layer', "section 'debug': instruction 9 is out of order or beyond the code"),
        ("debug", b'[2,"layer', b'[0,"layer', "section 'debug': instruction 0 is out of order"),
        ("debug", b'"nm.norm"', b"123456789", "section 'debug': an instruction entry is not"),
        ("debug", b'"buffers":[]', b'"buffers":{}', "section 'debug': 'buffers' is missing or not a list"),
        ("target", b'{"name":"t"}', b'["name","t"]', "section 'target': not a JSON object"),
    ],
)
def test_sections_of_the_wrong_form_are_named(section: str, old: bytes, new: bytes, message: str) -> None:
    data = container_bytes(make_container())
    offset, size = layout(data)[section]
    payload = data[offset : offset + size]
    assert old in payload
    with pytest.raises(ContainerError) as error:
        parse(with_section(data, section, payload.replace(old, new, 1)))
    assert str(error.value).startswith(message)


FIDELITY = "section 'program': 'fidelity' is not decibels for 'given' and 'pruned'"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"fidelity": {"given": 17.2}}, FIDELITY),
        ({"fidelity": {"given": 17.2, "pruned": 53.0, "more": 1.0}}, FIDELITY),
        ({"fidelity": {"given": 17.2, "pruned": "53.0"}}, FIDELITY),
        ({"fidelity": {"given": 17.2, "pruned": None}}, FIDELITY),
        ({"fidelity": {"given": True, "pruned": 53.0}}, FIDELITY),
        ({"fidelity": {"given": float("inf"), "pruned": 53.0}}, FIDELITY),
        ({"fidelity": [17.2, 53.0]}, FIDELITY),
        ({"pruned": ["layer"]}, "section 'program': 'pruned' is not module paths with patterns"),
        ({"pruned": {"layer": 24}}, "section 'program': the pruned layer 'layer': "),
        ({"pruned": {"layer": "5:4"}}, "section 'program': the pruned layer 'layer': pattern 5:4 is not supported"),
    ],
)
def test_figures_about_accuracy_of_the_wrong_form_are_named(entry: dict[str, object], message: str) -> None:
    container = make_container()
    container.program |= entry
    with pytest.raises(ContainerError) as error:
        container.check()
    assert str(error.value).startswith(message)
    payload = json.dumps(container.program, sort_keys=True, separators=(",", ":")).encode()
    if b"Infinity" not in payload:
        with pytest.raises(ContainerError) as error:
            parse(resized("program", payload))
        assert str(error.value).startswith(message)


def test_figures_about_accuracy_survive() -> None:
    container = make_container()
    container.program |= {"fidelity": {"given": 17.2, "pruned": -200.0}, "pruned": {"layer.é": "2:4"}}
    assert parse(container_bytes(container)).program == container.program


def resized(name: str, payload: bytes) -> bytes:
    """Returns a file one of whose sections has been replaced, laid out anew."""
    sections = sections_of(container_bytes(make_container()))
    assert sections is not None
    return file_of({**sections, name: bytearray(payload)})


@pytest.mark.parametrize("section", LARGEST_SECTIONS)
def test_sections_that_take_much_memory_are_refused_before_they_are_decoded(section: str) -> None:
    size = LARGEST_SECTIONS[section] + 16
    with pytest.raises(ContainerError) as error:
        parse(resized(section, bytes(size)))
    assert str(error.value) == f"section '{section}': {size} bytes, at most {size - 16} are allowed"


# Sums of numbers of as many digits as Python reads have more than it writes.
@pytest.mark.parametrize("number", [1 << 63, 10**4300 - 1])
def test_large_integers_are_refused(number: int) -> None:
    program = canonical_json({**make_container().program, "dram": number}, "program")
    with pytest.raises(ContainerError, match="section 'program': 'dram' is missing or not an integer from 0 to 2"):
        parse(resized("program", program))


def test_what_could_not_be_read_is_not_written() -> None:
    container = make_container()
    container.ir = "x" * (LARGEST_SECTIONS["ir"] + 1)
    with pytest.raises(ContainerError, match="section 'ir': 67108865 bytes, at most 67108864 are allowed"):
        container_bytes(container)


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    container = make_container()
    container.target = {"x": "[" * 100000}
    data = container_bytes(container)
    offset, size = layout(data)["target"]
    payload = data[offset : offset + size].replace(b'"[', b"[[", 1)
    with pytest.raises(ContainerError, match="section 'target': not JSON"):
        parse(with_section(data, "target", payload))


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("constants", np.zeros((2, 2), np.uint8), "section 'constants'"),
        ("constants", np.zeros(2, np.int8), "section 'constants'"),
        ("program", [], "section 'program': not a JSON object"),
        ("signature", [], "section 'signature': not a JSON object"),
        ("debug", [], "section 'debug': not a JSON object"),
        ("debug", {"buffers": [], "constants": []}, "section 'debug': 'instructions' is missing"),
        ("debug", {"buffers": [], "constants": [], "instructions": [3]}, "section 'debug': an instruction entry"),
        ("target", {"x": np.int64(3)}, "section 'target': cannot be written as JSON"),
        ("target", {"x": float("inf")}, "section 'target': cannot be written as JSON"),
        ("target", {"x": "\ud800"}, "section 'target': cannot be written as JSON"),
        ("ir", "\ud800", "section 'ir': cannot be written as UTF-8"),
        ("ir", None, "section 'ir': not text"),
    ],
)
def test_what_cannot_be_written_is_named_and_nothing_is_written(
    tmp_path: Path, attribute: str, value: Any, message: str
) -> None:
    container = make_container()
    setattr(container, attribute, value)
    with pytest.raises(ContainerError) as error:
        write_container(container, tmp_path / "a.sta")
    assert str(error.value).startswith(message)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.sta"
    write_container(make_container(), path)
    before = path.read_bytes()

    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_container(
            Container([], np.zeros(0, np.uint8), make_container().program, {"inputs": [], "outputs": []}), path
        )
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.sta"]


@given(st.binary(max_size=300), st.text(max_size=50), st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False)))
def test_any_contents_survive(constants: bytes, ir: str, target: dict[str, float]) -> None:
    container = make_container()
    container.constants = np.frombuffer(constants, np.uint8)
    container.ir = ir
    container.target = target
    try:
        data = container_bytes(container)
    except ContainerError:
        # JSON has no infinity, UTF-8 no lone surrogates.
        texts = [ir, *target]
        assert not all(np.isfinite(list(target.values()))) or any("\ud800" <= c <= "\udfff" for t in texts for c in t)
        return
    read = parse(data)
    assert (read.constants.tobytes(), read.ir, read.target) == (constants, ir, target)
    assert json.loads(json.dumps(read.debug)) == container.debug
