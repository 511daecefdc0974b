"""The instruction table, its encoding, and the text of one instruction."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sta.backend.instruction_text import parse_instruction, print_instruction
from sta.backend.isa import decode, decode_program, encode, encode_program
from sta.spec.instructions.definition import OPCODE_BITS, WORD_BITS, WORD_BYTES, EncodingError, InstructionDefinition
from sta.spec.instructions.instruction import Instruction
from sta.spec.instructions.table import DEFINITIONS, INSTRUCTIONS


def _instructions_of(definition: InstructionDefinition) -> st.SearchStrategy[Instruction]:
    values = st.tuples(*(st.integers(field.minimum, field.maximum) for field in definition.fields))
    return values.map(lambda drawn: Instruction(definition, drawn))


instructions = st.sampled_from(INSTRUCTIONS).flatmap(_instructions_of)


@given(instructions)
def test_decoding_inverts_encoding(instruction: Instruction) -> None:
    assert decode(encode(instruction)) == instruction


@given(instructions)
def test_parsing_inverts_printing(instruction: Instruction) -> None:
    assert parse_instruction(print_instruction(instruction)) == instruction


@given(st.binary(min_size=WORD_BYTES, max_size=WORD_BYTES))
def test_any_word_decodes_to_itself_or_is_an_encoding_error(word: bytes) -> None:
    try:
        instruction = decode(word)
    except EncodingError:
        return
    assert encode(instruction) == word


@given(instructions, st.integers(0, WORD_BITS - 1))
def test_a_flipped_bit_never_decodes_to_the_same_instruction(instruction: Instruction, bit: int) -> None:
    word = (int.from_bytes(encode(instruction), "little") ^ (1 << bit)).to_bytes(WORD_BYTES, "little")
    try:
        decoded = decode(word)
    except EncodingError:
        return
    assert decoded != instruction


def test_fields_fit_the_word_and_are_described() -> None:
    assert len({definition.opcode for definition in INSTRUCTIONS}) == len(INSTRUCTIONS)
    for definition in INSTRUCTIONS:
        assert 0 < definition.opcode < 1 << OPCODE_BITS
        assert definition.used_bits <= WORD_BITS
        assert definition.summary.endswith(".")
        for field in definition.fields:
            assert field.description
            assert len(field.choices) <= 1 << field.bits
            assert field.default is None or field.minimum <= field.default <= field.maximum


def test_the_bits_of_a_product() -> None:
    instruction = Instruction.make(
        "mm",
        acc="r1",
        a=2,
        b=3,
        acc_stride=4,
        a_stride=5,
        rows=128,
        columns=64,
        depth=384,
        n=2,
        m=4,
        encoding="index",
        accumulate=1,
        a_type="u8",
        scores=True,
        wait=[0, 3],
        post={31},
    )
    fields = [(24, 8), (0, 8), (0b1001, 32), (1 << 31, 32), (1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (0, 6)]
    fields += [(128, 8), (64, 8), (384, 14), (1, 5), (3, 5), (2, 2), (0, 1), (0, 1), (1, 1), (1, 2), (1, 1)]
    word, position = 0, 0
    for value, bits in fields:
        word |= value << position
        position += bits
    assert encode(instruction) == word.to_bytes(WORD_BYTES, "little")
    assert print_instruction(instruction) == (
        "mm acc=r1, a=r2, b=r3, acc_stride=r4, a_stride=r5, rows=128, columns=64, depth=384, n=2, m=4, "
        "encoding=index, accumulate, a_type=u8, scores, wait={0,3}, post={31}"
    )


def test_negative_numbers_are_twos_complement() -> None:
    word = int.from_bytes(encode(Instruction.make("lea", rd=1, imm=-1, s1=-(1 << 23))), "little")
    assert word >> 20 & ((1 << 40) - 1) == (1 << 40) - 1
    assert word >> 66 & ((1 << 24) - 1) == 1 << 23


def test_reading_fields() -> None:
    instruction = Instruction.make("sync", unit="vp", wait=0b101, post=[2])
    assert (instruction.name, instruction.unit, instruction["post"]) == ("sync", "vp", 4)
    assert instruction.semaphores("wait") == (0, 2)
    assert instruction.choice("unit") == "vp"
    assert Instruction.make("halt").unit == "sequencer"
    assert Instruction.make("loop", counter="r3", count=np.int64(7))["count"] == 7
    with pytest.raises(EncodingError, match="'sync' has no field 'unti'; did you mean 'unit'"):
        instruction["unti"]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("mn", {}, "unknown instruction 'mn'; did you mean 'mm'?"),
        ("loop", {"counter": 1, "cuont": 2}, "'loop' has no field 'cuont'; did you mean 'count'?"),
        ("loop", {"counter": 1}, "loop: field 'count' is missing, expected an integer 0..16777215"),
        ("loop", {"counter": 64, "count": 1}, "loop: field 'counter' is 64, outside 0..63"),
        ("loop", {"counter": "x1", "count": 1}, "loop: field 'counter' is 'x1', expected a register r0..r63"),
        ("loop", {"counter": [1], "count": 1}, "loop: field 'counter' is a list, expected a register r0..r63"),
        ("lea", {"rd": 1, "imm": 1 << 39}, "lea: field 'imm' is 549755813888, outside"),
        ("lea", {"rd": 1, "s2": -(1 << 23) - 1}, "lea: field 's2' is -8388609, outside"),
        (
            "sync",
            {"unit": "vpp"},
            "sync: field 'unit' is 'vpp', expected one of ld, st, mm, sm, vp; did you mean 'vp'?",
        ),
        ("sync", {"unit": 5}, "sync: field 'unit' is 5, which is not defined"),
        ("sync", {"unit": 0, "wait": [32]}, "sync: field 'wait' names semaphore 32, outside 0..31"),
        ("norm", {"source": 1, "parameters": 1, "rows": 1, "columns": 1, "outputs": "none"}, "outputs"),
        ("norm", {"source": 1, "parameters": 1, "rows": 0, "columns": 1, "outputs": 1}, "'rows' is 0, outside 1..255"),
    ],
)
def test_make_explains_what_is_wrong(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodingError) as error:
        Instruction.make(name, **fields)
    assert message in str(error.value)


def test_numbers_with_a_fraction_are_refused() -> None:
    fields: dict[str, Any] = {"counter": 1, "count": 2.5}
    with pytest.raises(TypeError):
        Instruction.make("loop", **fields)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (0, "instruction 7: unknown opcode 0"),
        (63, "instruction 7: unknown opcode 63"),
        (1 | 1 << 8, "instruction 7: halt: reserved bits are not zero"),
        (8 | 5 << 80, "instruction 7: sync: field 'unit' is 5, which is not defined"),
        (16 | 1 << 118, "instruction 7: ld: field 'rows' is 0, outside 1..16383"),
    ],
)
def test_decoder_names_the_instruction(word: int, message: str) -> None:
    with pytest.raises(EncodingError) as error:
        decode(word.to_bytes(WORD_BYTES, "little"), 7)
    assert str(error.value).startswith(message)


def test_programs() -> None:
    code = [Instruction.make("fence"), Instruction.make("halt")]
    assert decode_program(encode_program(code)) == code
    with pytest.raises(EncodingError, match="33 bytes, not a multiple of 32"):
        decode_program(bytes(33))
    with pytest.raises(EncodingError, match="instruction 1: unknown opcode"):
        decode_program(encode_program(code[:1]) + bytes(32))
    with pytest.raises(EncodingError, match="16 bytes, expected 32"):
        decode(bytes(16))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lopo counter=r1, count=2", "unknown instruction 'lopo'; did you mean 'loop'?"),
        ("loop counter=r1, conut=2", "'loop' has no field 'conut'; did you mean 'count'?"),
        ("loop counter=r1, count=2, count=3", "loop: field 'count' is given twice"),
        ("loop counter=r1", "loop: field 'count' is missing"),
        ("loop counter=1, count=2", "loop: field 'counter' is '1', expected a register"),
        ("loop counter=r1, count=two", "loop: field 'count' is 'two', expected an integer"),
        ("loop counter=r1, count={2}", "loop: field 'count' is '{2}', expected an integer"),
        ("loop counter=r1, count", "loop: field 'count' has no value"),
        ("loop counter=r1 count=2", "loop: cannot read 'counter=r1 count=2'"),
        ("loop counter=r1, count=2,", "loop: cannot read ''"),
        ("loop counter=r1, count=" + "9" * 5000, "expected an integer"),
        ("sync unit=ld, wait=3", "sync: field 'wait' is '3', expected semaphores"),
        ("sync unit=ld, wait={3;4}", "sync: field 'wait' is '{3;4}', expected semaphores"),
        ("sync unit=2", "sync: field 'unit' is '2', expected one of ld"),
        ("halt now", "'halt' has no field 'now'"),
    ],
)
def test_parser_explains_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(EncodingError) as error:
        parse_instruction(text)
    assert message in str(error.value)


def test_parser_takes_spaces_and_hexadecimal() -> None:
    parsed = parse_instruction("  loop   counter = r1 ,count=0x10 ")
    assert parsed == Instruction.make("loop", counter=1, count=16)
    assert parse_instruction("sync unit=ld, wait={ 1, 0x2 }, post={}") == Instruction.make("sync", unit=0, wait=6)
    assert print_instruction(Instruction.make("halt")) == "halt"
    assert DEFINITIONS["halt"].own_fields == ()
