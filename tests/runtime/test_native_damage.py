"""Programs with flipped bits: refused, or run to the same bits or error on both engines, but never worse."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("sta.runtime._native", reason="the native engine is not built")

from sta.backend.container import Container
from sta.backend.isa import EncodingError, decode_program, encode_program
from sta.runtime import ProgramError
from sta.runtime.engines import check_same
from sta.runtime.native_engine import NativeEngine, NativeProgram
from sta.runtime.reference import ReferenceEngine
from sta.runtime.validate import validate
from tests.support.random_programs import RandomProgram

SAMPLE = 400
ALL = 20_000
CHUNK = 100
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
