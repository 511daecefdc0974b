"""The text of whole containers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sta.backend.assembler import AssemblyError, assemble, disassemble
from sta.backend.container import Container, ContainerError, container_bytes
from sta.spec.instructions.instruction import Instruction


def make_container(**changes: Any) -> Container:
    """Returns a container with two nested loops and something in every section."""
    code = [
        Instruction.make("loop", counter=1, count=3),
        Instruction.make("loop", counter=2, count=4),
        Instruction.make("lea", rd=3, imm=-5, c1=1, s1=64),
        Instruction.make("sync", unit="mm", wait=[1], post=[2, 15]),
        Instruction.make("end"),
        Instruction.make("end"),
        Instruction.make("halt"),
    ]
    fields: dict[str, Any] = {
        "code": code,
        "constants": np.arange(200, dtype=np.uint8),
        "program": {"spad": 64, "wbuf": 0, "acc": 128, "dram": 256, "macs": 5, "dense_macs": 10},
        "signature": {"inputs": [{"name": "x", "scale": 0.1, "shape": [1, 4]}, {"name": "\ny"}], "outputs": []},
        "debug": {
            "instructions": [[0, "layer.0", "nm.linear"], [2, 'odd "path" # here', "nm.norm"]],
            "buffers": [{"name": "b"}],
            "constants": [{"name": "w", "class": "weights", "offset": 64, "bytes": 100}],
        },
        "ir": "module {\n}\n",
        "target": {"name": "t", "rows": 3},
    }
    return Container(**{**fields, **changes})


def test_the_text_reads_well() -> None:
    lines = disassemble(make_container()).split("\n")
    start = lines.index(".code")
    assert [line.rstrip() for line in lines[start + 1 : start + 10]] == [
        '.location "layer.0" "nm.linear"',
        f"{'loop counter=r1, count=3':<100}  # 0",
        f"{'  loop counter=r2, count=4':<100}  # 1",
        '.location "odd \\"path\\" # here" "nm.norm"',
        f"{'    lea rd=r3, imm=-5, c1=r1, s1=64':<100}  # 2",
        f"{'    sync unit=mm, wait={1}, post={2,15}':<100}  # 3",
        f"{'  end':<100}  # 4",
        f"{'end':<100}  # 5",
        f"{'halt':<100}  # 6",
    ]
    # What the program is, and its code, are what one sees first.
    assert lines[:start] == [
        ".version 2.0",
        "",
        '# for "t": 7 instructions',
        '# input "x": shape [1, 4]',
        '# input "\\ny": ',
        "# bytes: spad 64, wbuf 0, acc 128, dram 256, of these constants 200",
        "",
    ]
    assert '# weights "w"' in lines
    assert "|module {" in lines


def test_assembling_inverts_disassembling() -> None:
    container = make_container()
    text = disassemble(container)
    assert container_bytes(assemble(text)) == container_bytes(container)
    assert disassemble(assemble(text)) == text
    assert container_bytes(assemble(text.replace("\n", "\r\n"))) == container_bytes(container)


@given(
    constants=st.binary(max_size=400),
    ir=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    offsets=st.lists(st.integers(-5, 500), max_size=4),
    path=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    extra=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text("a#.|\n"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a."#\n', max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_contents_survive(constants: bytes, ir: str, offsets: list[int], path: str, extra: Any) -> None:
    container = make_container(constants=np.frombuffer(constants, np.uint8), ir=ir)
    container.debug["constants"] = [{"name": path, "class": "other", "offset": offset} for offset in offsets]
    container.debug["instructions"] = [[1, path, path[::-1]]]
    container.debug["extra"] = extra
    container.target["extra"] = extra
    assert container_bytes(assemble(disassemble(container))) == container_bytes(container)


def test_ir_with_carriage_returns_survives_text_mode() -> None:
    container = make_container(ir="a\r\nb\r\n\tc")
    assert "\r" not in disassemble(container)
    assert assemble(disassemble(container)).ir == container.ir


def test_an_added_instruction_keeps_the_debug_map_right() -> None:
    text = disassemble(make_container()).replace(".location", "fence\n.location").replace("fence\n", "", 1)
    container = assemble(text)
    assert [instruction.name for instruction in container.code[:4]] == ["loop", "loop", "fence", "lea"]
    assert container.debug["instructions"] == [[0, "layer.0", "nm.linear"], [3, 'odd "path" # here', "nm.norm"]]


def test_what_may_be_left_out() -> None:
    program = '{"spad":1,"wbuf":1,"acc":1,"dram":1,"macs":1,"dense_macs":1}'
    text = f'# by hand\n.target\n{{}}\n.program\n{program}\n.signature\n{{"inputs":[],"outputs":[]}}\n.code\nhalt\n.end'
    container = assemble(text)
    assert container.code == [Instruction.make("halt")]
    assert (len(container.constants), container.ir) == (0, "")
    assert container.debug == {"buffers": [], "constants": [], "instructions": []}
    with pytest.raises(AssemblyError, match=r"the text breaks off: its last line must be '.end'"):
        assemble(text.removesuffix(".end"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("loop counter=r1", "lopo counter=r1", "unknown instruction 'lopo'; did you mean 'loop'?"),
        ("count=4", "cout=4", "'loop' has no field 'cout'; did you mean 'count'?"),
        ("count=4", "count=99999999", "loop: field 'count' is 99999999, outside 0..16777215"),
        (".code", ".cdoe", "unknown section '.cdoe'; did you mean 'code'?"),
        (".ir", ".code", "section '.code' is given twice"),
        ("|module", "module", "a line of the IR begins with '|'"),
        ("|module {", '"module', "not a JSON string"),
        ('"rows": 3', '"rows" 3', "not JSON: Expecting ':' delimiter"),
        ("AAEC", "A*EC", "not base64"),
        ("AAEC", "AAE", "not base64"),
        ('.location "layer.0" "nm.linear"', ".location layer.0", "expected .location"),
        ('.location "layer.0" "nm.linear"', '.location "layer.0"', "expected .location"),
        ('.location "layer.0" "nm.linear"', '.location "layer.0" 3', "expected .location"),
        (".version 2.0", ".version 3.0", "the version is 3.0, expected 2.0 or 2.1"),
        (".version 2.0", "version 2.0", "expected a section"),
    ],
)
def test_errors_name_the_line(old: str, new: str, message: str) -> None:
    text = disassemble(make_container())
    line = text[: text.index(old)].count("\n") + 1
    with pytest.raises(AssemblyError) as error:
        assemble(text.replace(old, new, 1))
    assert str(error.value).startswith(f"line {line}: {message}")
    assert error.value.line == line


@pytest.mark.parametrize("section", ["target", "program", "signature", "code"])
def test_missing_sections_are_named(section: str) -> None:
    text = disassemble(make_container())
    start = text.index(f".{section}\n")
    end = text.index("\n.", start + text[start:].index("\n\n"))
    with pytest.raises(AssemblyError, match=rf"section '\.{section}' is missing"):
        assemble(text[:start] + text[end + 1 :])


def test_json_of_the_wrong_form() -> None:
    text = disassemble(make_container())
    with pytest.raises(ContainerError, match="section 'program': 'spad' is missing"):
        assemble(text.replace('"spad"', '"sapd"'))
    start, end = text.index(".debug") + 7, text.index(".constants")
    with pytest.raises(AssemblyError, match="not a JSON object"):
        assemble(f"{text[:start]}[]\n{text[end:]}")
    with pytest.raises(AssemblyError, match="not JSON"):
        assemble(f"{text[:start]}{'[' * 100000}\n{text[end:]}")
