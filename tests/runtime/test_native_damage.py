"""Programs with flipped bits: refused, or run to the same bits or error on both engines, but never worse."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sta.runtime._native", reason="the native engine is not built")

from sta.backend.container import Container
from sta.backend.isa import decode_program, encode_program
from sta.runtime import ProgramError, native_engine
from sta.runtime._native import BadDescription, Builder
from sta.runtime.engines import check_same
from sta.runtime.native_engine import NativeEngine, NativeProgram
from sta.runtime.reference import ReferenceEngine
from sta.runtime.validate import validate
from sta.spec.instructions.definition import EncodingError
from tests.support.random_programs import RandomProgram

SAMPLE = 400
ALL = 20_000
CHUNK = 100
LOOPS_AND_TILES = 3
"""The seed of a program that has loops and a map."""
Affine = tuple[int, Sequence[tuple[int, int]]]
LONGEST = 2000
"""Instructions that a damaged program may run: a flipped bit of a loop's count makes millions of them."""


def damaged(seed: int) -> tuple[Container, RandomProgram]:
    """Returns a random program some of whose bits are flipped; raises EncodingError if the code is none any more."""
    random = RandomProgram(seed, instructions=8)
    container, generator = random.container(), random.random
    code, constants = bytearray(encode_program(container.code)), container.constants.copy()
    for _ in range(int(generator.integers(1, 4))):
        if generator.random() < 0.8:
            code[int(generator.integers(len(code)))] ^= 1 << int(generator.integers(8))
        else:
            constants[int(generator.integers(len(constants)))] ^= np.uint8(1 << int(generator.integers(8)))
    return dataclasses.replace(container, code=decode_program(bytes(code)), constants=constants), random


def survives(seed: int) -> bool:
    """Runs a damaged program on both engines and compares what they leave; returns whether it was run at all."""
    try:
        container, random = damaged(seed)
        program = validate(container, instruction_limit=LONGEST)
    except (EncodingError, ProgramError):
        return False
    reference, native = ReferenceEngine(program), NativeEngine(NativeProgram(program))
    inputs = random.inputs()
    messages: list[str] = []
    for engine in (reference, native):
        try:
            engine.run(inputs, seed % 256)
        except ProgramError as error:
            messages.append(str(error))
    assert len(messages) != 1
    assert len(set(messages)) <= 1
    if not messages:
        check_same(reference, native, ("the reference engine", "the native one"))
    return True


class Liar(Builder):
    """Tells the engine something else than the program, once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.told: set[str] = set()

    def lies(self, name: str) -> bool:
        """True if it is this that is told wrongly, for the first time."""
        first = name == self.lie and name not in self.told
        self.told.add(name)
        return first

    lie = ""


class LiarAboutOperands(Liar):
    """Tells a wrong size, place or stride of an operand."""

    def operand(
        self, name: str, space: str, address: Affine, stride: Affine, rows: int, row_bytes: int, writes: bool
    ) -> None:
        if self.lies("a row more"):
            rows += 1
        if self.lies("a byte less in a row"):
            row_bytes -= 1
        if self.lies("a negative address"):
            address = (-1, [])
        if self.lies("an address beyond the end"):
            address = (1 << 40, [])
        if self.lies("an address with a counter of no loop"):
            address = (address[0], [(7, 1)])
        if self.lies("another memory"):
            space = "acc" if space != "acc" else "spad"
        super().operand(name, space, address, stride, rows, row_bytes, writes)
        if self.lies("an operand more"):
            super().operand("another", space, address, stride, rows, row_bytes, writes)


class LiarAboutInstructions(Liar):
    """Tells wrong instructions, loops and fields."""

    def instruction(self, pc: int, name: str, counts: Sequence[int], partner: int) -> None:
        if self.lies("an order of its own"):
            pc = 1 << 25
        if self.lies("a loop that is not there"):
            counts = [*counts, 2]
        if name == "loop" and self.lies("the end of another loop"):
            partner += 1
        if name == "end" and self.lies("the start of another loop"):
            partner = 0
        if self.lies("no such instruction"):
            name = "ldd"
        super().instruction(pc, name, counts, partner)

    def number(self, name: str, value: int) -> None:
        if name == "count" and self.lies("a longer loop"):
            value += 1
        if name == "columns" and self.lies("a wider tile"):
            value += 1
        if name == "columns" and self.lies("a tile of no field's size"):
            value = 1 << 20
        super().number(name, value)


@pytest.mark.parametrize(
    ("liar", "lie"),
    [
        *((LiarAboutOperands, lie) for lie in ("a row more", "a byte less in a row", "a negative address")),
        *((LiarAboutOperands, lie) for lie in ("an address beyond the end", "an address with a counter of no loop")),
        *((LiarAboutOperands, lie) for lie in ("another memory", "an operand more")),
        *((LiarAboutInstructions, lie) for lie in ("an order of its own", "a loop that is not there")),
        *((LiarAboutInstructions, lie) for lie in ("the end of another loop", "the start of another loop")),
        *((LiarAboutInstructions, lie) for lie in ("no such instruction", "a longer loop", "a wider tile")),
        (LiarAboutInstructions, "a tile of no field's size"),
    ],
)
def test_the_engine_does_not_rely_on_what_it_is_told(
    liar: type[Liar], lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = validate(RandomProgram(LOOPS_AND_TILES).container())
    assert {"loop", "map"} <= {step.instruction.name for step in program.steps}
    monkeypatch.setattr(native_engine, "Builder", type("Lying", (liar,), {"lie": lie}))
    with pytest.raises(BadDescription):
        NativeProgram(program)
    monkeypatch.setattr(native_engine, "Builder", type("Honest", (liar,), {"lie": "nothing"}))
    NativeProgram(program)


@pytest.mark.parametrize("first", range(0, SAMPLE, CHUNK))
def test_damaged_programs(first: int) -> None:
    ran = sum(survives(seed) for seed in range(first, first + CHUNK))
    # Neither does the validator refuse everything, nor does it let everything pass.
    assert 10 < ran < 90


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SAMPLE, ALL, CHUNK * 20))
def test_many_damaged_programs(first: int) -> None:
    for seed in range(first, first + CHUNK * 20):
        survives(seed)
