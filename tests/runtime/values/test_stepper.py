"""Stepping through a compiled Transformer, forwards and backwards."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from xdsl.dialects import func
from xdsl.interpreter import Interpreter, PythonValues
from xdsl.ir import Operation

from sta.api.compiler.compilation import Compilation, compile_model
from sta.dialect.interpreters.func import FuncFunctions
from sta.dialect.interpreters.nm import NmFunctions
from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.quantized_value import meaning_of
from sta.runtime import ProgramError
from sta.runtime.engines import native_is_built
from sta.runtime.native_engine import NativeProgram
from sta.runtime.validate import validate
from sta.runtime.values import stepper
from sta.runtime.values.model_values import Value, values_of
from sta.runtime.values.native_stepper import NativeStepper
from sta.runtime.values.stepper import ReferenceStepper, Stepper
from sta.runtime.values.walk import total_positions
from tests.support.random_programs import RandomProgram

Array = NDArray[Any]
POISON = 0x5A
ENGINES = ("reference", *(["native"] if native_is_built() else []))


@pytest.fixture(scope="module")
def compilation() -> Compilation:
    """Returns a compiled encoder layer whose sizes are no multiples of a tile's."""
    torch.manual_seed(3)  # pyright: ignore[reportUnknownMemberType]
    layer = nn.TransformerEncoderLayer(60, 3, 150, 0.0, "gelu", batch_first=True).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile_model(layer, {"src": torch.randn(2, 37, 60)}, target="sta-small")


@pytest.fixture
def inputs() -> dict[str, Array]:
    """Returns host inputs."""
    return {"src": np.random.default_rng(5).standard_normal((2, 37, 60)).astype(np.float32)}


def start(compilation: Compilation, inputs: dict[str, Array], engine: str = "reference") -> Stepper:
    program = compilation.program
    assert program is not None
    return program.stepper(inputs, engine, POISON)


def interpreted(compilation: Compilation, inputs: dict[str, Array]) -> list[tuple[Operation, PythonValues]]:
    """Returns every operation of the last `nm` module with its results, as the interpreter of `nm` has them."""

    class Results(Interpreter.Listener):
        def __init__(self) -> None:
            self.seen: list[tuple[Operation, PythonValues]] = []

        def did_interpret_op(self, op: Operation, results: PythonValues) -> None:
            self.seen.append((op, results))

    module, program = compilation.integer_module, compilation.program
    assert module is not None
    assert program is not None
    listener = Results()
    interpreter = Interpreter(module, listeners=(listener,))
    interpreter.register_implementations(FuncFunctions())
    interpreter.register_implementations(NmFunctions(compilation.context.weights))
    function: func.FuncOp = main_function(module)
    interpreter.call_op(function, tuple(program.encode_inputs(inputs).values()))
    return listener.seen


def is_undisturbed(value: Value, values: list[Value]) -> bool:
    """True if nothing else is written to a value's buffer while it is."""
    others = [other for other in values if other is not value and other.offset == value.offset]
    return not any(other.first <= value.last and value.first <= other.last for other in others)


def test_values_are_those_of_the_interpreter(compilation: Compilation, inputs: dict[str, Array]) -> None:
    program = compilation.program
    assert program is not None
    values = values_of(program.container)
    run = start(compilation, inputs)
    found: dict[int, Array] = {}
    whole = {value.last: value for value in values if is_undisturbed(value, values)}
    assert len(whole) >= 6
    while not run.walk.is_at_end:
        pc = run.walk.step.pc
        run.advance()
        if pc in whole:
            # The last execution of the instruction overwrites what earlier ones have left.
            found[pc] = whole[pc].read(run.memories)
    results = interpreted(compilation, inputs)
    for pc, array in found.items():
        value = whole[pc]
        same = [
            meaning_of(result)
            for op, arrays in results
            if (module_path(op), op.name) == (value.name, value.operation)
            for result, expected in zip(op.results, arrays, strict=True)
            if expected.dtype == array.dtype and np.array_equal(expected, array)
        ]
        assert len(same) == 1, value.name
        assert same[0] is not None
        assert (same[0].scale, same[0].zero_point) == (value.scale, value.zero_point)


@pytest.mark.parametrize("engine", ENGINES)
def test_it_ends_where_a_run_ends(compilation: Compilation, inputs: dict[str, Array], engine: str) -> None:
    program = compilation.program
    assert program is not None
    run = start(compilation, inputs, engine)
    run.go_to(1 << 60)
    assert run.walk.is_at_end
    assert run.walk.position == total_positions(program.valid)
    expected = program.run(inputs, poison=POISON).raw["output"]
    assert np.array_equal(run.memories.port(program.valid.outputs[0]), expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_going_back_is_exact(compilation: Compilation, inputs: dict[str, Array], engine: str) -> None:
    program = compilation.program
    assert program is not None
    run = start(compilation, inputs, engine)
    last = total_positions(program.valid)
    random = np.random.default_rng(0)
    places = [0, 1, last, *random.integers(0, last, 12).tolist()]
    fresh = start(compilation, inputs)
    states: dict[int, tuple[Any, ...]] = {}
    for position in sorted(set(places)):
        fresh.go_to(position)
        states[position] = state_of(fresh)
    for position in places:
        run.go_to(position)
        for found, expected in zip(state_of(run), states[position], strict=True):
            assert np.array_equal(found, expected), position


def state_of(run: Stepper) -> tuple[Any, ...]:
    memories = run.memories
    arrays = (memories.spad.copy(), memories.wbuf.copy(), memories.acc.copy(), memories.writable.copy())
    return (run.walk.position, run.walk.step.pc, run.walk.counters, *arrays)


def test_checkpoints_are_bounded(
    compilation: Compilation, inputs: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepper, "CHECKPOINTS", 4)
    monkeypatch.setattr(stepper, "FIRST_INTERVAL", 8)
    run = start(compilation, inputs)
    run.go_to(1 << 60)
    end = state_of(run)
    run.go_to(3)
    assert run.walk.position == 3
    run.go_to(1 << 60)
    assert all(np.array_equal(a, b) for a, b in zip(state_of(run), end, strict=True))


def test_what_is_written_is_announced(compilation: Compilation, inputs: dict[str, Array]) -> None:
    run = start(compilation, inputs)
    while not run.walk.is_at_end:
        announced = run.walk.written()
        before = {space: getattr(run.memories, space).copy() for space in ("spad", "wbuf", "acc")}
        run.advance()
        for space, memory in before.items():
            changed = np.flatnonzero(memory != getattr(run.memories, space))
            for address in changed[:1].tolist() + changed[-1:].tolist():
                assert any(written.overlaps(space, address, address + 1) for written in announced)


@pytest.mark.skipif(not native_is_built(), reason="the native engine is not built")
@pytest.mark.parametrize("seed", range(40))
def test_both_engines_stop_in_the_same_state(seed: int) -> None:
    """Goes to random positions of a random program, some of which fail, on both engines."""
    random = RandomProgram(seed)
    program, inputs = validate(random.container()), random.inputs()
    reference = ReferenceStepper(program, inputs, POISON)
    native = NativeStepper(NativeProgram(program), inputs, POISON)
    generator = np.random.default_rng(seed)
    last = total_positions(program)
    for position in (*generator.integers(0, last + 1, 6).tolist(), last):
        errors = [gone_to(run, position) for run in (reference, native)]
        assert errors[0] == errors[1]
        assert state_of(native)[:3] == state_of(reference)[:3]
        # A failed instruction may leave a part of its result behind.
        pairs = zip(state_of(native)[3:], state_of(reference)[3:], strict=True)
        assert errors[0] or all(np.array_equal(found, expected) for found, expected in pairs)


def gone_to(run: Stepper, position: int) -> str:
    """Goes to a position; returns the message if an instruction fails on the way."""
    try:
        run.go_to(position)
    except ProgramError as error:
        return str(error)
    return ""
