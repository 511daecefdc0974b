"""The native engine against the reference engine: the same bits, all of them, and the same errors."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sta.runtime._native", reason="the native engine is not built")

from sta.backend.container import Container
from sta.runtime import Program, ProgramError
from sta.runtime.analysis import native_reports
from sta.runtime.analysis.native_reports import NativeReports
from sta.runtime.analysis.taint import check_taint
from sta.runtime.engines import EnginesDifferError, check_same
from sta.runtime.native_engine import NativeEngine, NativeProgram, families
from sta.runtime.reference import ReferenceEngine
from sta.runtime.timing import simulate
from sta.runtime.validate import ValidProgram, validate
from sta.spec.instructions.instruction import Instruction
from sta.spec.instructions.table import DEFINITIONS
from tests.support.random_programs import TALL, RandomProgram

Array = np.ndarray[Any, Any]
SAMPLE = 500
ALL = 10_000
CHUNK = 50
"""Random programs in one test: few enough that a failure is soon found, many enough to spread over workers."""
NAMES = ("the reference engine", "the native one")


def outcome(engine: ReferenceEngine | NativeEngine, inputs: dict[str, Array], poison: int) -> dict[str, Any] | str:
    """Returns the outputs of a run as lists, or the message of the error that it ends in."""
    try:
        return {name: values.tolist() for name, values in engine.run(inputs, poison).items()}
    except ProgramError as error:
        return str(error)


def check_program(program: ValidProgram, inputs: dict[str, Array], poison: int, threads: int, family: str) -> bool:
    """Runs a program on both engines and compares everything; returns whether it ended well."""
    reference, native = ReferenceEngine(program), NativeEngine(NativeProgram(program, family), threads)
    expected = outcome(reference, inputs, poison)
    for _ in range(2):
        # What the first run keeps for the second must not change it.
        assert outcome(native, inputs, poison) == expected
        if not isinstance(expected, str):
            check_same(reference, native, NAMES)
    return not isinstance(expected, str)


def check_seeds(first: int, last: int) -> int:
    """Checks the random programs of some seeds with every family; returns how many ended well."""
    ended = 0
    for seed in range(first, last):
        random = RandomProgram(seed)
        program, inputs = validate(random.container()), random.inputs()
        for family in families():
            ended += check_program(program, inputs, seed % 256, (1, 2, 4)[seed % 3], family)
    return ended


@pytest.mark.parametrize("first", range(0, SAMPLE, CHUNK))
def test_random_programs(first: int) -> None:
    ended = check_seeds(first, first + CHUNK)
    # The generator is no good if most programs stop at an error, or none does.
    assert 0.5 < ended / (CHUNK * len(families())) < 1


class Overtaking(RandomProgram):
    """Random programs of tall tiles, in which hardly anything makes threads wait for each other but what they touch."""

    def _instruction(self) -> None:
        kinds = {"ld_weights": 1, "mm": 3, "mm_weights": 5, "softmax": 3, "map": 6, "norm": 3, "statistics": 2}
        weights = np.array(list(kinds.values()))
        getattr(self, f"_{self.random.choice(list(kinds), p=weights / weights.sum())}")()

    def emit(self, name: str, **fields: Any) -> None:
        """Appends an instruction; few add to what is there, or go on where others have stopped."""
        if name == "mm" and self.chance(0.8):
            fields["accumulate"] = 0
        if name == "softmax" and self.chance(0.8):
            fields["mode"] = "row"
        super().emit(name, **fields)


@pytest.mark.parametrize("family", families())
def test_threads_that_go_ahead_of_each_other(family: str) -> None:
    ended = 0
    for seed in range(20):
        random = Overtaking(seed, instructions=25, sizes=TALL)
        program, inputs = validate(random.container()), random.inputs()
        native = NativeProgram(program, family)
        alone = NativeEngine(native)
        expected = outcome(alone, inputs, seed)
        ended += not isinstance(expected, str)
        for threads in (2, 3, 8):
            engine = NativeEngine(native, threads)
            for _ in range(3):
                assert outcome(engine, inputs, seed) == expected
                if not isinstance(expected, str):
                    check_same(alone, engine, ("one thread", f"{threads} threads"))
    assert 5 < ended < 20


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SAMPLE, ALL, CHUNK * 10))
def test_many_random_programs(first: int) -> None:
    check_seeds(first, first + CHUNK * 10)


def refusal(check: Callable[[], None]) -> str:
    """Returns the message of the error that a check ends in, or nothing."""
    try:
        check()
    except ProgramError as error:
        return str(error)
    return ""


def test_times_and_taint_of_random_programs() -> None:
    refused = 0
    for seed in range(100):
        program = validate(RandomProgram(seed, instructions=40).container())
        native = NativeProgram(program)
        assert NativeReports(native).timing() == simulate(program)
        message = refusal(lambda: check_taint(program))  # noqa: B023 - is called at once
        assert refusal(native.check_taint) == message
        refused += bool(message)
    assert 10 < refused < 90


def test_times_beyond_what_is_counted_natively(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.target = dataclasses.replace(bench.target, dma_latency=1 << 20)
    bench.emit("loop", counter=1, count=(1 << 24) - 1)
    bench.emit("loop", counter=2, count=(1 << 24) - 1)
    bench.emit("loop", counter=3, count=(1 << 24) - 1)
    bench.emit("loop", counter=4, count=0)
    bench.emit("ld", dram=0, sram=0, rows=1, row_bytes=1)
    for _ in range(4):
        bench.emit("end")
    program = validate(bench.container(), instruction_limit=1 << 80)
    # Nobody waits for this; it must not be counted in 64 bits.
    assert program.instructions * (1 << 20) > 1 << 63
    monkeypatch.setattr(native_reports, "simulate", not_natively)
    native = NativeProgram(program)
    with pytest.raises(CountedInPythonError):
        NativeReports(native).timing()


class CountedInPythonError(Exception):
    """Raised by the stand-in for the timing in Python's integers when it is called."""


def not_natively(program: ValidProgram) -> None:
    """Stands for the timing in Python's integers."""
    raise CountedInPythonError


def test_the_random_programs_contain_every_instruction() -> None:
    names = {instruction.name for seed in range(200) for instruction in RandomProgram(seed).code}
    assert names == set(DEFINITIONS)


def test_the_comparison_sees_a_single_bit() -> None:
    random = RandomProgram(next(seed for seed in range(100) if check_seeds(seed, seed + 1)))
    program, inputs = validate(random.container()), random.inputs()
    reference, native = ReferenceEngine(program), NativeEngine(NativeProgram(program))
    for engine in (reference, native):
        engine.run(inputs, 0)
    for memory in ("spad", "wbuf", "acc", "writable"):
        bytes_of = getattr(native.memories, memory)
        bytes_of[7] ^= 1
        with pytest.raises(EnginesDifferError, match=f"1 elements of {memory}, first at 7"):
            check_same(reference, native, NAMES)
        bytes_of[7] ^= 1
    native.statistics[1][0] += 1
    with pytest.raises(EnginesDifferError, match="the row sums of squares, first at 0"):
        check_same(reference, native, NAMES)


def test_a_family_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no kernels 'sse' on this processor"):
        NativeProgram(validate(RandomProgram(0).container()), "sse")


def accumulation(bench: Any, activations: Array, weights: Array, times: int) -> Container:
    """Returns a program that adds one product to itself."""
    rows, depth = activations.shape
    columns = len(weights)
    a, b = bench.place(activations), bench.place(weights, "wbuf")
    stride, zero = bench.register(4 * columns), bench.register(depth)
    fields = {"a": a, "b": b, "acc_stride": stride, "a_stride": zero, "rows": rows, "columns": columns, "depth": depth}
    bench.emit("mm", acc=0, **fields)
    bench.emit("loop", counter=9, count=times - 1)
    bench.emit("mm", acc=0, **fields, accumulate=1)
    bench.emit("end")
    return bench.container()


@pytest.mark.parametrize("family", families())
def test_a_sum_outside_int32_stops_the_run_and_leaves_the_accumulators(bench: Any, family: str) -> None:
    weights = np.full((3, 2000), -128, np.int8)
    weights[2] = 1
    activations = np.full((1, 2000), -128, np.int8)
    enough = (1 << 31) // (128 * 128 * 2000)
    program = validate(accumulation(bench, activations, weights, enough + 1))
    assert not check_program(program, {}, 0, 1, family)
    reference, native = ReferenceEngine(program), NativeEngine(NativeProgram(program, family))
    assert "does not fit int32" in str(outcome(native, {}, 0))
    outcome(reference, {}, 0)
    check_same(reference, native, NAMES)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_that_come_late_take_no_part_of_the_next_instruction(bench: Any, threads: int) -> None:
    # Products of many parts follow products of few: a thread that is held up between the two must not mistake them.
    random = np.random.default_rng(threads)
    rows, few, columns, depth, stride, times = 64, 17, 32, 252, 48, 10_000
    memory = random.integers(-1, 2, (rows - 1) * stride + depth, np.int8)
    weights = random.integers(-128, 128, (columns, depth), np.int8)
    a, b = bench.place(memory), bench.place(weights, "wbuf")
    fields = {"a": a, "b": b, "acc_stride": bench.register(4 * columns), "a_stride": bench.register(stride)}
    fields |= {"acc": 0, "columns": columns, "depth": depth}
    bench.emit("mm", rows=rows, **fields)
    bench.emit("loop", counter=9, count=times)
    bench.emit("mm", rows=few, accumulate=1, **fields)
    bench.emit("mm", rows=rows, accumulate=1, **fields)
    bench.emit("end")
    engine = NativeEngine(NativeProgram(validate(bench.container())), threads)
    engine.run({}, 0)
    activations = np.lib.stride_tricks.sliding_window_view(memory, depth)[::stride]
    expected = (1 + times) * (activations.astype(np.int32) @ weights.T.astype(np.int32))
    expected[:few] += times * (expected[:few] // (1 + times))
    assert np.array_equal(engine.memories.acc.view(np.int32).reshape(rows, columns), expected)


@pytest.mark.parametrize("family", families())
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("shape", [(1, 1, 1), (13, 17, 3), (7, 32, 131), (60, 31, 66), (24, 16, 8)])
def test_products_at_the_limits_of_their_types(
    make_bench: Callable[[], Any], family: str, dtype: type[Any], shape: tuple[int, int, int]
) -> None:
    rows, columns, depth = shape
    random = np.random.default_rng(sum(shape))
    limits = np.iinfo(dtype)
    bench = make_bench()
    a = bench.place(random.choice([limits.min, limits.max], (rows, depth)).astype(dtype))
    b = bench.place(random.choice([-128, 127], (columns, depth)).astype(np.int8), "wbuf")
    fields = {"acc_stride": bench.register(4 * columns), "a_stride": bench.register(depth)}
    kind = "s8" if dtype == np.int8 else "u8"
    bench.emit("mm", acc=0, a=a, b=b, **fields, rows=rows, columns=columns, depth=depth, a_type=kind)
    assert check_program(validate(bench.container()), {}, 0x5A, 2, family)


def counting_program(bench: Any, counts: tuple[int, ...]) -> Container:
    """Returns a program whose nest of loops copies one byte of a table at a time to where its counters say."""
    table = np.arange(256, dtype=np.uint8)
    source = bench.constant(table)
    bench.port("outputs", "y", (64,), "uint8")
    for depth, count in enumerate(counts):
        bench.emit("loop", counter=50 + depth, count=count)
    last = 50 + len(counts) - 1
    bench.emit("lea", rd=1, imm=source, c1=last, s1=3, c2=50, s2=5)
    bench.emit("lea", rd=2, c1=last, s1=1)
    bench.emit("ld", dram=1, sram=2, rows=1, row_bytes=1)
    for _ in counts:
        bench.emit("end")
    bench.emit("lea", rd=3, imm=bench.base)
    bench.emit("st", dram=3, sram=0, rows=1, row_bytes=64)
    return bench.container()


@pytest.mark.parametrize(
    "counts", [(3, 7), (1, 1, 1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 2, 2, 2, 3), (0, 5), (5, 0), (2, 3, 0, 2), (0,)]
)
def test_deep_loops_and_loops_that_never_run(make_bench: Callable[[], Any], counts: tuple[int, ...]) -> None:
    program = validate(counting_program(make_bench(), counts))
    for family in families():
        assert check_program(program, {}, 0xEE, 1, family)


def test_a_million_instructions(bench: Any) -> None:
    program = validate(counting_program(bench, (1000, 20, 17)))
    assert program.instructions > 10**6
    native = NativeEngine(NativeProgram(program))
    table = np.arange(256, dtype=np.uint8)
    expected = np.full(64, 0x11, np.uint8)
    # The last iteration of the outermost loop goes beyond the table, to the zeros that fill the constants up.
    constants = np.zeros(bench.base, np.uint8)
    constants[:256] = table
    expected[:17] = constants[999 * 5 + 3 * np.arange(17)]
    assert np.array_equal(native.run({}, 0x11)["y"], expected)


@pytest.fixture(scope="module")
def program() -> Program:
    """Returns a random program that ends."""
    return next(programs())


def programs() -> Iterator[Program]:
    """Iterates over random programs that keep all rules and end."""
    for seed in range(10_000):
        random = RandomProgram(seed)
        program = Program(random.container())
        try:
            program.run({"x": np.zeros(3000, np.float32)}, engine="reference")
        except ProgramError:
            continue
        yield program


def batch(count: int) -> list[dict[str, Array]]:
    """Returns the inputs of several runs."""
    random = np.random.default_rng(5)
    return [{"x": random.integers(0, 256, 3000).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("engine", ["auto", "native", "reference"])
def test_a_batch_is_its_runs(program: Program, threads: int, engine: str) -> None:
    inputs = batch(5)
    expected = [program.run(each, engine="reference") for each in inputs]
    seen: list[int] = []
    results = program.run_batch(inputs, engine=engine, threads=threads, report=seen.append)
    assert seen == [1, 2, 3, 4, 5]
    for result, other in zip(results, expected, strict=True):
        assert np.array_equal(result.raw["y"], other.raw["y"])
        assert np.array_equal(result.outputs["y"], other.outputs["y"])
        assert result.timing == other.timing


def test_an_empty_batch(program: Program) -> None:
    assert program.run_batch([]) == []


def test_both_engines(program: Program) -> None:
    inputs = batch(1)[0]
    result = program.run_both(inputs, threads=2)
    assert np.array_equal(result.raw["y"], program.run(inputs).raw["y"])


def test_threads_out_of_range(program: Program) -> None:
    for threads in (0, 257):
        with pytest.raises(ValueError, match=rf"threads is {threads}, outside 1\.\.256"):
            program.run(batch(1)[0], threads=threads)


def test_it_lets_go_of_the_interpreter(bench: Any) -> None:
    engine = NativeEngine(NativeProgram(validate(counting_program(bench, (1000, 300, 17)))))
    turns = 0
    done = threading.Event()

    def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1

    other = threading.Thread(target=count)
    other.start()
    engine.run({}, 0)
    during = turns
    done.set()
    other.join()
    # A thread that had to wait for the run would not have come to its second turn.
    assert during > 1000


@pytest.mark.parametrize(("row_bytes", "loops"), [(8, 31), (1 << 19, 0)])
def test_it_looks_up_sooner_from_instructions_that_take_long(bench: Any, row_bytes: int, loops: int) -> None:
    rows = 64
    bench.target = dataclasses.replace(bench.target, sram_bytes=1 << 27)
    bench.sizes["spad"] = rows * row_bytes
    bench.scratch = row_bytes
    stride = bench.register(row_bytes)
    source, zero = bench.register(bench.base), bench.register(0)
    bench.emit("loop", counter=1, count=1000)
    fields = {"dram": source, "sram": zero, "dram_stride": zero, "sram_stride": stride}
    bench.emit("ld", **fields, rows=rows, row_bytes=row_bytes)
    bench.emit("end")
    machine = NativeProgram(validate(bench.container())).code.machine(1)
    machine.reset(0, False)
    # No time at all: until the first look at the clock, after 64 small instructions; loop and end are such, too.
    assert machine.advance(0.0, 1 << 60) is None
    assert machine.counters[0] == loops


def test_memories_outlive_their_engine(program: Program) -> None:
    memories = NativeEngine(NativeProgram(program.valid)).memories
    assert [memories.spad.sum(), memories.wbuf.sum(), memories.acc.sum(), memories.writable.sum()] == [0, 0, 0, 0]


def test_a_halt_alone(bench: Any) -> None:
    bench.code = [Instruction.make("halt")]
    assert bench.program().run({}, engine="native").raw == {}
