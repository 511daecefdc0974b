"""Microcode from the `sta` dialect: valid registers, loops and addresses, and the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.ir import SSAValue

from sta.backend.container import Container
from sta.backend.emit import emit
from sta.backend.isa import encode_program
from sta.dialect import nm, sta
from sta.passes.pipeline import INTEGER_PIPELINE
from sta.runtime import Program
from sta.spec.instructions.instruction import Instruction
from sta.spec.nm_format import DENSE, Pattern
from tests.support.nm_builder import PLAIN_TARGET, Case, NmBuilder
from tests.support.pipeline_check import POISONS, apply, assert_same_integers, integers, operations
from tests.support.sta_builder import StaBuilder
from tests.support.transformers import Transformer

ROW = (1, 16)


def container_of(case: Case) -> Container:
    """Returns the container of a synchronized case."""
    return emit(case.module, case.context.weights, case.context.target, 1, 1)


def check(builder: StaBuilder) -> list[Instruction]:
    """Returns the microcode of a program, which the validator takes and the emulator runs to the interpreter's bits."""
    case = builder.case()
    apply(case.module, case.context, "sta-synchronize")
    container = container_of(case)
    program = Program(container)
    for poison in POISONS:
        assert_same_integers(integers(case, poison), program.run(case.inputs, poison=poison).raw, "the emulator")
    return container.code


def named(code: Sequence[Instruction], *names: str) -> list[Instruction]:
    """Returns the instructions of some names."""
    return [instruction for instruction in code if instruction.name in names]


def row(builder: StaBuilder, buffer: SSAValue, number: int, terms: Sequence[tuple[SSAValue, int]] = ()) -> SSAValue:
    """A row of 16 bytes of a buffer."""
    return builder.view(buffer, ROW, 16 * number, terms, (16, 1))


def ports(builder: StaBuilder, rows: int) -> tuple[SSAValue, SSAValue, SSAValue]:
    """An input and an output of some rows, and a tile of one row."""
    source, target = (builder.argument(name, name, (rows, 16), nm.si8) for name in ("input", "output"))
    return source, target, builder.buffer("spad", ROW, nm.si8)


def move(builder: StaBuilder, source: SSAValue, tile: SSAValue, target: SSAValue) -> None:
    """Copies a row by way of the scratchpad."""
    builder.add(sta.LoadOp(source, tile))
    builder.add(sta.StoreOp(tile, target))


def test_an_address_is_loaded_once() -> None:
    builder = StaBuilder()
    source, target, tile = ports(builder, 2)
    for _ in range(5):
        move(builder, row(builder, source, 1), tile, row(builder, target, 0))
    move(builder, row(builder, source, 0), tile, row(builder, target, 1))
    # Row 1 of the input, both rows of the output; the input's first row and the tile are at 0.
    assert len(named(check(builder), "lea")) == 3


def test_more_addresses_than_registers() -> None:
    builder = StaBuilder()
    count = 90
    source, target, tile = ports(builder, count)
    for number in [*range(count), *range(count)]:
        move(builder, row(builder, source, count - 1 - number), tile, row(builder, target, number))
    code = check(builder)
    assert {instruction["rd"] for instruction in named(code, "lea")} == set(range(1, 56))


def test_the_register_used_longest_ago_goes_first() -> None:
    builder = StaBuilder()
    count = 70
    source, target, tile = ports(builder, count)
    for number in range(1, count):
        move(builder, row(builder, source, number), tile, row(builder, target, number))
        move(builder, row(builder, source, 1), tile, row(builder, target, 0))
    code = check(builder)
    # Two new addresses a turn, and one each for what is used in every turn.
    assert len(named(code, "lea")) == 2 * (count - 1) + 1


def test_registers_do_not_outlive_a_loop() -> None:
    builder = StaBuilder()
    source, target, tile = ports(builder, 4)
    move(builder, row(builder, source, 3), tile, row(builder, target, 0))
    with builder.loop(2):
        move(builder, row(builder, source, 3), tile, row(builder, target, 1))
        with builder.loop(2):
            move(builder, row(builder, source, 3), tile, row(builder, target, 2))
        move(builder, row(builder, source, 3), tile, row(builder, target, 1))
    move(builder, row(builder, source, 3), tile, row(builder, target, 3))
    check(builder)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 8])
def test_an_address_of_many_counters(depth: int) -> None:
    builder = StaBuilder()
    source, target, tile = ports(builder, 2**depth)

    def nest(counters: list[SSAValue]) -> None:
        if len(counters) == depth:
            forward = [(counter, 16 << place) for place, counter in enumerate(counters)]
            backward = [(counter, 16 << (depth - 1 - place)) for place, counter in enumerate(counters)]
            move(builder, row(builder, source, 0, forward), tile, row(builder, target, 0, backward))
            return
        with builder.loop(2) as counter:
            nest([*counters, counter])

    nest([])
    code = check(builder)
    assert len(named(code, "loop")) == depth
    assert len(named(code, "lea")) == 2 * -(-depth // 2)


def test_one_counter_in_two_views_of_a_chain() -> None:
    builder = StaBuilder()
    source, target, tile = ports(builder, 9)
    with builder.loop(3) as i:
        half = builder.view(source, (3, 16), 0, [(i, 32)], (16, 1))
        move(builder, builder.view(half, ROW, 0, [(i, 16)], (16, 1)), tile, row(builder, target, 0, [(i, 48)]))
    with builder.loop(3) as i:
        for rest in (1, 2):
            move(builder, row(builder, source, rest, [(i, 48)]), tile, row(builder, target, rest, [(i, 48)]))
    check(builder)


def test_counters_that_count_backwards() -> None:
    builder = StaBuilder()
    source, target, _ = ports(builder, 5)
    tile = builder.buffer("spad", (5, 16), nm.si8)
    with builder.loop(5) as i:
        builder.add(sta.LoadOp(row(builder, source, 0, [(i, 16)]), row(builder, tile, 4, [(i, -16)])))
        builder.add(sta.StoreOp(row(builder, tile, 4, [(i, -16)]), row(builder, target, 4, [(i, -16)])))
    check(builder)


@pytest.mark.parametrize("width", [(1 << 23) - 16, 1 << 23, 9_000_000, (1 << 24) + 16, 30_000_000])
def test_steps_that_do_not_fit_their_field(width: int) -> None:
    builder = StaBuilder()
    source, target, tile = ports(builder, 3)
    scratch = builder.buffer("dram", (3, width), nm.si8)
    with builder.loop(3) as i:
        view = builder.view(scratch, ROW, 0, [(i, width)], (width, 1))
        move(builder, row(builder, source, 0, [(i, 16)]), tile, view)
    with builder.loop(3) as i:
        view = builder.view(scratch, ROW, 2 * width, [(i, -width)], (width, 1))
        move(builder, view, tile, row(builder, target, 0, [(i, 16)]))
    check(builder)


def test_loops_nest_as_deep_as_the_machine_allows() -> None:
    builder = StaBuilder(path="encoder.deep")
    source, target, tile = ports(builder, 1)

    def nest(depth: int) -> None:
        if depth == 0:
            move(builder, source, tile, target)
            return
        with builder.loop(1):
            nest(depth - 1)

    nest(9)
    case = builder.case()
    apply(case.module, case.context, "sta-synchronize")
    with pytest.raises(ValueError, match=r"encoder\.deep: loops nest deeper than the machine's 8"):
        container_of(case)


def test_a_loop_that_does_not_run() -> None:
    builder = StaBuilder()
    source, target, tile = ports(builder, 2)
    for number in (0, 1):
        move(builder, row(builder, source, number), tile, row(builder, target, number))
    with builder.loop(0) as i:
        move(builder, row(builder, source, 0, [(i, 16)]), tile, row(builder, target, 1))
    check(builder)


def test_waits_and_posts_are_those_of_the_operations() -> None:
    builder = StaBuilder()
    source, target, tile = ports(builder, 2)
    with builder.loop(2) as i:
        move(builder, row(builder, source, 0, [(i, 16)]), tile, row(builder, target, 0, [(i, 16)]))
    case = builder.case()
    apply(case.module, case.context, "sta-synchronize")
    code = named(container_of(case).code, "ld", "st", "sync")
    units = operations(case, sta.UnitOp)
    assert any(op.wait is not None for op in units)
    for op, instruction in zip(units, code, strict=True):
        for name, attribute in (("wait", op.wait), ("post", op.post)):
            assert instruction.semaphores(name) == (() if attribute is None else nm.integer_values(attribute))


def model(sequence: int, blocks: int) -> Transformer:
    """A Transformer whose tiles divide its shapes."""
    return Transformer(
        target=replace(PLAIN_TARGET, sram_bytes=1 << 19),
        batch=2,
        sequence=sequence,
        heads=2,
        depth=16,
        hidden=64,
        blocks=blocks,
        sequence_first=False,
        causal=False,
        mask="none",
        pre_norm=True,
        kind="layer",
        query_key_value="separate",
        embedding=False,
        activation=True,
        patterns=(DENSE,),
        pooled=False,
        seed=1,
    )


def compiled(transformer: Transformer) -> Container:
    """Returns the container of a model."""
    case = transformer.case()
    apply(case.module, case.context, *INTEGER_PIPELINE)
    return container_of(case)


def test_code_grows_with_layers_and_not_with_tiles() -> None:
    short, long, twice = compiled(model(256, 1)), compiled(model(512, 1)), compiled(model(256, 2))
    assert Program(long).valid.instructions > 1.5 * Program(short).valid.instructions
    assert len(long.code) <= 1.1 * len(short.code)
    assert 1.6 * len(short.code) < len(twice.code) < 2.4 * len(short.code)
    assert len(long.ir) <= 1.2 * len(short.ir)


def test_same_model_same_bytes() -> None:
    first, second = compiled(model(32, 1)), compiled(model(32, 1))
    assert encode_program(first.code) == encode_program(second.code)
    assert first.constants.tobytes() == second.constants.tobytes()
    assert (first.program, first.signature, first.debug, first.ir) == (
        second.program,
        second.signature,
        second.debug,
        second.ir,
    )


def paths(container: Container) -> list[tuple[str, str]]:
    """Returns module path and operation of every instruction, from the run-length encoded debug map."""
    entries: list[list[Any]] = container.debug["instructions"]
    ends = [entry[0] for entry in entries[1:]] + [len(container.code)]
    return [(path, name) for (start, path, name), end in zip(entries, ends, strict=True) for _ in range(start, end)]


def test_names_survive() -> None:
    container = compiled(model(20, 2))
    unit = {"ld", "st", "mm", "sm", "vp"}
    for instruction, (path, operation) in zip(container.code, paths(container), strict=True):
        if instruction.name in ("fence", "halt"):
            assert (path, operation) == ("", "")
        elif instruction.unit in unit and operation not in ("sta.load", "sta.store", "sta.sync"):
            assert path.startswith(("layer.0.", "layer.1."))
    assert {path.split(".")[1] for path, operation in paths(container) if operation == "sta.mm"} == {"0", "1"}


def test_the_directory_of_constants_points_at_their_bytes() -> None:
    builder = NmBuilder(path="layer.dense")
    table = builder.table(
        builder.clamp(builder.linear(builder.bytes("x", (5, 64)), 9, "w", Pattern(1, 4)), nm.si16), "t"
    )
    ids = builder.argument("ids", (3,), nm.si32, np.zeros(3), "index", 5)
    rows = builder.weight("rows", np.arange(20).reshape(5, 4), nm.si16)
    case = builder.case(
        builder.clamp(builder.rescale(table, 1 / 128), nm.si8), builder.add(nm.GatherOp(rows, ids)).result
    )
    apply(case.module, case.context, *INTEGER_PIPELINE)
    container = container_of(case)
    directory: list[dict[str, Any]] = container.debug["constants"]
    assert {entry["class"] for entry in directory} >= {"weights", "tables", "embedding"}
    for entry in directory:
        stored: NDArray[Any] = np.ascontiguousarray(case.context.weights.get(entry["name"]))
        start = entry["offset"]
        assert container.constants[start : start + entry["bytes"]].tobytes() == stored.tobytes()
    assert len(container.constants) % 64 == 0
    for entry in container.debug["buffers"]:
        assert entry["offset"] + entry["bytes"] <= container.program[entry["space"]]


def test_ports_are_those_of_the_function() -> None:
    container = compiled(model(5, 1))
    (entry,) = container.signature["inputs"]
    assert (entry["name"], entry["shape"], entry["device_dtype"]) == ("x", [2, 5, 32], "int16")
    assert entry["bytes"] == 2 * 5 * 32 * 2
    assert entry["address"] >= len(container.constants)
    (entry,) = container.signature["outputs"]
    assert (entry["name"], entry["shape"]) == ("out0", [2, 5, 32])


def test_what_is_no_instruction_is_refused() -> None:
    builder = NmBuilder()
    case = builder.case(builder.clamp(builder.rescale(builder.stream("x", (5, 8)), 0.5), nm.si8))
    with pytest.raises(ValueError, match="run sta-allocate first"):
        container_of(case)
    own = StaBuilder()
    ports(own, 1)
    own.add(nm.WeightOp("w", nm.TensorType(nm.si8, (3,))))
    with pytest.raises(ValueError, match=r"nm\.weight is no instruction"):
        container_of(own.case())


def test_an_unallocated_module_is_refused() -> None:
    case = model(5, 1).case()
    apply(case.module, case.context, *INTEGER_PIPELINE[: INTEGER_PIPELINE.index("sta-allocate")])
    with pytest.raises(ValueError, match="run sta-allocate first"):
        container_of(case)
