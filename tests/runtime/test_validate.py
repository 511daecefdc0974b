"""Every rule that a program is checked against before it runs, broken once."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from sta.backend.container import Container
from sta.runtime import Program, ProgramError
from sta.runtime.validate import validate
from sta.spec.instructions.instruction import Instruction
from sta.spec.nm_format import Pattern, packed_size

MM = {"acc": 0, "a": 0, "b": 0, "rows": 2, "columns": 3, "depth": 8}
SOFTMAX = {"scores": 0, "destination": 0, "sums": 0, "parameters": 0, "rows": 1, "keys": 5}
TYPES = {"source_type": "s16", "destination_type": "s8"}
MAP = {"source": 0, "destination": 0, "parameters": 0, "rows": 1, "columns": 4, **TYPES}
NORM = {"source": 0, "destination": 0, "parameters": 0, "rows": 1, "columns": 4, "outputs": "destination"}
ROTATE = {
    "source": 0,
    "destination": 0,
    "cosines": 0,
    "sines": 0,
    "parameters": 0,
    "rows": 1,
    "columns": 4,
    "source_type": "s8",
    "destination_type": "s8",
}
SHIFT = {"acc": 0, "shifts": 0, "rows": 2, "columns": 3}
COPY = {"dram": 0, "sram": 0, "rows": 1, "row_bytes": 64}
GATHER = {"table": 0, "indices": 0, "destination": 0, "limit": 0, "rows": 2, "row_bytes": 8}


def check(bench: Any, name: str, base: dict[str, Any], values: dict[str, int], **fields: Any) -> None:
    """Validates a program of one instruction; ``values`` gives register fields by value."""
    registers = {field: bench.register(value) for field, value in values.items()}
    bench.emit(name, **{**base, **registers, **fields})
    bench.program()


def refused(bench: Any, name: str, base: dict[str, Any], values: dict[str, int], **fields: Any) -> str:
    """Returns the message with which a program of one instruction is refused."""
    with pytest.raises(ProgramError) as error:
        check(bench, name, base, values, **fields)
    pc = len(bench.code) - 1
    prefix = f"instruction {pc} ({name}): "
    assert str(error.value).startswith(prefix)
    return str(error.value).removeprefix(prefix)


STRIDES = {"acc_stride": 12, "a_stride": 8}


@pytest.mark.parametrize(
    ("name", "base", "values", "fields", "limit", "space"),
    [
        # An operand at the largest address that fits, by name; one step more must be refused.
        ("ld", COPY, {"dram": 32768 - 64}, {}, "dram", "dram"),
        ("ld", COPY, {"dram": 32768 + 256 - 64}, {}, "dram", "dram"),
        ("ld", COPY, {"sram": 8192 - 64}, {}, "sram", "spad"),
        ("ld", COPY, {"sram": 8192 - 64}, {"space": "wbuf"}, "sram", "wbuf"),
        ("ld", {**COPY, "rows": 3}, {"dram": 32768 - 264, "dram_stride": 100, "sram_stride": 64}, {}, "dram", "dram"),
        ("ld", {**COPY, "rows": 3}, {"dram_stride": 64, "sram": 8192 - 264, "sram_stride": 100}, {}, "sram", "spad"),
        ("st", COPY, {"dram": 32768 + 192}, {}, "dram", "dram"),
        ("st", COPY, {"dram": 32768, "sram": 8192 - 64}, {}, "sram", "spad"),
        ("gather", GATHER, {"table": 32768 - 80, "limit": 10, "destination_stride": 8}, {}, "table", "dram"),
        ("gather", GATHER, {"limit": 4096, "destination_stride": 8}, {}, "limit", "dram"),
        ("gather", GATHER, {"limit": 1, "destination_stride": 8, "indices": 8192 - 8}, {}, "indices", "spad"),
        ("gather", GATHER, {"limit": 1, "destination_stride": 20, "destination": 8164}, {}, "destination", "spad"),
        ("mm", MM, {**STRIDES, "a": 8192 - 16}, {}, "a", "spad"),
        ("mm", MM, {**STRIDES, "b": 8192 - 24}, {}, "b", "wbuf"),
        ("mm", MM, {**STRIDES, "b": 8192 - 15}, {"n": 2, "m": 4, "encoding": "bitmap"}, "b", "wbuf"),
        ("mm", MM, {**STRIDES, "b": 8192 - 15}, {"n": 2, "m": 4, "encoding": "index"}, "b", "wbuf"),
        ("mm", MM, {**STRIDES, "b": 8192 - 24, "b_stride": 8}, {"b_space": "spad"}, "b", "spad"),
        (
            "mm",
            MM,
            {**STRIDES, "b": 8192 - 38, "b_stride": 5},
            {"b_space": "spad", "b_transposed": 1},
            "b",
            "spad",
        ),
        ("mm", MM, {**STRIDES, "acc": 8192 - 24}, {}, "acc", "acc"),
        ("mm", MM, {**STRIDES, "a_stride": 16, "a": 8192 - 31 - 1}, {"a_wide": 1}, "a", "spad"),
        ("softmax", SOFTMAX, {"scores": 8192 - 20}, {}, "scores", "acc"),
        ("softmax", SOFTMAX, {"sums": 8192 - 12}, {"mode": "online"}, "sums", "spad"),
        ("softmax", SOFTMAX, {"sums": 8192 - 12}, {"mode": "online_first"}, "sums", "spad"),
        ("softmax", SOFTMAX, {"destination": 8192 - 10}, {"probability_bits": "16"}, "destination", "spad"),
        ("softmax", SOFTMAX, {"destination": 8192 - 5}, {}, "destination", "spad"),
        ("softmax", SOFTMAX, {"sums": 8192 - 4}, {}, "sums", "spad"),
        ("softmax", SOFTMAX, {"parameters": 8192 - 16}, {}, "parameters", "wbuf"),
        ("softmax", SOFTMAX, {"mask": 8192 - 5}, {"has_mask": 1}, "mask", "spad"),
        ("map", MAP, {"source": 8192 - 8}, {}, "source", "spad"),
        ("map", MAP, {"source": 8192 - 16}, {"source_type": "acc"}, "source", "acc"),
        ("map", MAP, {"source": 8192 - 32}, {"source_type": "acc_wide"}, "source", "acc"),
        ("map", MAP, {"destination": 8192 - 4}, {}, "destination", "spad"),
        ("map", MAP, {"parameters": 8192 - 44}, {}, "parameters", "wbuf"),
        ("map", MAP, {"parameters": 8192 - 68}, {"per_channel": 1}, "parameters", "wbuf"),
        ("map", MAP, {"residual": 8192 - 16}, {"residual_type": "s32"}, "residual", "spad"),
        ("map", MAP, {"residual": 8192 - 4}, {"normalize": 1}, "residual", "spad"),
        ("map", MAP, {"table": 8192 - 1026}, {"has_table": 1}, "table", "wbuf"),
        ("norm", NORM, {"source": 8192 - 8}, {}, "source", "spad"),
        ("norm", NORM, {"destination": 8192 - 8}, {}, "destination", "spad"),
        ("norm", NORM, {"copy": 8192 - 4}, {"outputs": "both"}, "copy", "spad"),
        ("norm", NORM, {"parameters": 8192 - 64}, {}, "parameters", "wbuf"),
        ("shift", SHIFT, {"acc": 8192 - 28, "acc_stride": 16}, {}, "acc", "acc"),
        ("shift", SHIFT, {"shifts": 8192 - 8, "acc_stride": 12}, {}, "shifts", "spad"),
    ],
)
def test_address_ranges_are_exact(
    make_bench: Any,
    name: str,
    base: dict[str, Any],
    values: dict[str, int],
    fields: dict[str, Any],
    limit: str,
    space: str,
) -> None:
    bench = make_bench()
    bench.scratch = 256
    check(bench, name, base, values, **fields)
    bench = make_bench()
    bench.scratch = 256
    # The smallest step that keeps the alignment.
    message = refused(bench, name, base, {**values, limit: values[limit] + 4}, **fields)
    operand = {"residual": "sums" if fields.get("normalize") else "residual", "limit": "table"}.get(limit, limit)
    verb = r"writes" if f"'{operand}' writes" in message else "reads"
    assert message.startswith(f"'{operand}' {verb} {space} bytes ")


def test_packed_sizes_in_the_table_above() -> None:
    assert packed_size(3, 8, Pattern(2, 4), "bitmap") == packed_size(3, 8, Pattern(2, 4), "index") == 15


def test_copies_write_to_writable_dram_only(bench: Any) -> None:
    bench.scratch = 256
    message = refused(bench, "st", COPY, {"dram": 32768 - 64})
    assert message == "'dram' writes dram bytes 32704..32767, outside 32768..33023"


def test_a_copy_stays_in_one_part_of_dram(bench: Any) -> None:
    bench.scratch = 256
    message = refused(bench, "ld", COPY, {"dram": 32768 - 32})
    assert message == "'dram' reads dram bytes 32736..32799, outside 0..32767 or 32768..33023"


def test_a_memory_of_no_bytes(bench: Any) -> None:
    bench.sizes["wbuf"] = 0
    assert refused(bench, "ld", COPY, {}, space="wbuf").endswith("wbuf bytes 0..63, outside an empty memory")


def test_addresses_over_a_whole_loop_are_checked(bench: Any) -> None:
    bench.emit("loop", counter=1, count=5)
    bench.emit("lea", rd=2, imm=8192 - 64, c1=1, s1=-8)
    bench.emit("ld", **{**COPY, "sram": 2})
    bench.emit("end")
    bench.program()
    bench.code[1] = Instruction.make("lea", rd=2, imm=8192 - 64 - 24, c1=1, s1=8)
    with pytest.raises(ProgramError, match=r"'sram' writes spad bytes 8104\.\.8199, outside 0\.\.8191"):
        bench.program()


@pytest.mark.parametrize(
    ("name", "base", "values", "fields", "message"),
    [
        ("mm", MM, {**STRIDES, "acc": 2}, {}, "'acc' is not always a multiple of 4 bytes"),
        ("mm", MM, {**STRIDES, "acc_stride": 14}, {}, "'acc_stride' is not always a multiple of 4 bytes"),
        (
            "gather",
            GATHER,
            {"indices": 2, "limit": 1, "destination_stride": 8},
            {},
            "'indices' is not always a multiple",
        ),
        ("softmax", SOFTMAX, {"sums": 2}, {}, "'sums' is not always a multiple of 4 bytes"),
        ("softmax", SOFTMAX, {"parameters": 2}, {}, "'parameters' is not always a multiple of 4 bytes"),
        (
            "softmax",
            SOFTMAX,
            {"destination": 1},
            {"probability_bits": "16"},
            "'destination' is not always a multiple of 2 bytes",
        ),
        ("shift", SHIFT, {"acc_stride": 8}, {}, "'acc_stride' is 8, rows of 12 bytes would overlap"),
        ("shift", SHIFT, {"shifts": 2, "acc_stride": 12}, {}, "'shifts' is not always a multiple of 4 bytes"),
        ("map", MAP, {"source": 1}, {}, "'source' is not always a multiple of 2 bytes"),
        ("map", MAP, {"table": 1}, {"has_table": 1}, "'table' is not always a multiple of 2 bytes"),
        ("map", MAP, {"residual": 2}, {"normalize": 1}, "'residual' is not always a multiple of 4 bytes"),
        ("norm", NORM, {"destination": 3}, {}, "'destination' is not always a multiple of 2 bytes"),
        ("mm", MM, {**STRIDES, "acc_stride": 8}, {}, "'acc_stride' is 8, rows of 12 bytes would overlap"),
        ("ld", {**COPY, "rows": 2}, {}, {}, "'sram_stride' is 0, rows of 64 bytes would overlap"),
        ("mm", {**MM, "rows": 65}, STRIDES, {}, "'rows' must not exceed the target's tile_rows."),
        ("mm", {**MM, "columns": 33}, STRIDES, {}, "'columns' must not exceed the target's tile_columns."),
        ("mm", MM, STRIDES, {"n": 4, "m": 2, "encoding": "bitmap"}, "pattern 4:2 is not supported"),
        ("mm", MM, STRIDES, {"n": 2, "m": 4}, "pattern 2:4 cannot be stored as dense"),
        ("mm", MM, STRIDES, {"encoding": "index"}, "pattern 1:1 cannot be stored as index"),
        ("mm", MM, STRIDES, {"b_space": "spad", "n": 2, "m": 4}, "A b in spad is a dense matrix"),
        ("mm", MM, STRIDES, {"b_transposed": 1}, "A packed b in wbuf must not be transposed."),
        ("mm", MM, {**STRIDES, "b_stride": 8}, {}, "field 'b_stride' is r62, but the instruction does not use it"),
        ("mm", MM, STRIDES, {"predicate": 1}, "field 'predicate' is 1, which is reserved"),
        ("softmax", SOFTMAX, {"mask": 8}, {}, "field 'mask' is r63, but the instruction does not use it; must be r0"),
        ("map", MAP, {"residual": 8}, {}, "field 'residual' is r63, but the instruction does not use it"),
        ("map", MAP, {"table": 8}, {}, "field 'table' is r63, but the instruction does not use it"),
        ("map", MAP, {}, {"normalize": 1, "residual_type": "s8"}, "A map that normalizes must not have a residual."),
        ("map", MAP, {}, {"normalize": 1, "per_channel": 1}, "A map that normalizes must have scalar parameters."),
        ("map", MAP, {}, {"combine": "maximum"}, "A map that does not add, or has a residual of one column, must"),
        ("map", MAP, {}, {"residual_column": 1}, "A map that does not add, or has a residual of one column, must"),
        ("norm", NORM, {"copy": 8}, {}, "field 'copy' is r63, but the instruction does not use it"),
        ("rotate", {**ROTATE, "width": 3}, {}, {}, "'width' must be even and must not exceed 'columns'."),
        ("rotate", {**ROTATE, "width": 6}, {}, {}, "'width' must be even and must not exceed 'columns'."),
        ("norm", {**NORM, "columns": 8193}, {}, {}, "'columns' must not exceed 8192"),
    ],
)
def test_rules_of_single_instructions(
    bench: Any, name: str, base: dict[str, Any], values: dict[str, int], fields: dict[str, Any], message: str
) -> None:
    assert refused(bench, name, base, values, **fields).startswith(message)


@pytest.mark.parametrize("causal", [0, 1])
def test_rows_may_have_an_offset(bench: Any, causal: int) -> None:
    check(bench, "softmax", SOFTMAX, {"row_offset": 3}, causal=causal)


def test_instruction_limit(bench: Any) -> None:
    for counter in range(1, 6):
        bench.emit("loop", counter=counter, count=1000)
    for _ in range(5):
        bench.emit("end")
    with pytest.raises(ProgramError) as error:
        bench.program()
    assert str(error.value) == "section 'code': a run takes 1002002002002002 instructions, the limit is 1000000000"
    bench.code.clear()
    bench.emit("fence")
    with pytest.raises(ProgramError, match="section 'code': a run takes 2 instructions, the limit is 1"):
        validate(bench.container(), instruction_limit=1)
    assert validate(bench.container(), instruction_limit=2).instructions == 2


def changed(bench: Any, section: str, **changes: Any) -> Container:
    """Returns the bench's container with changes in a JSON section."""
    container = bench.container()
    setattr(container, section, {**getattr(container, section), **changes})
    return container


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("program", {"spad": 1 << 16}, "spad 65536, wbuf 8192, acc 8192 are 81920 bytes, target bench has 65536"),
        ("program", {"dram": 1 << 31}, "a run needs 2147475456 bytes of memory, the limit is 1073741824"),
        ("program", {"dram": 32767}, "DRAM is 32767 bytes, the constants are 32768"),
        ("target", {"windwo": 3}, "unknown target key 'windwo'; did you mean 'window'?"),
        ("target", {"window": 0}, "target key 'window' must be a positive integer, got 0"),
        (
            "target",
            {"dma_latency": 1 << 63},
            "target key 'dma_latency' must be at most 1048576, got 9223372036854775808",
        ),
    ],
)
def test_sizes_and_target(bench: Any, section: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProgramError) as error:
        Program(changed(bench, section, **changes))
    assert str(error.value) == f"section '{section}': {message}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host_dtype": "flaot32"}, "host_dtype is 'flaot32', not one of"),
        ({"device_dtype": "int64"}, "tensor 'x': 'int64' is not one of"),
        ({"shape": [2, "a"]}, "a tensor's signature has a bad value for 'shape'"),
        ({"shape": [2, 3]}, "'bytes' is 16, shape and type make 24"),
        ({"scale": 0}, "tensor 'x': scale must be finite and positive"),
        ({"address": 32770}, "address 32770 is not a multiple of 4"),
        ({"address": 32764}, "bytes 32764..32779 are outside DRAM 32768..32799"),
        ({"address": 32792}, "bytes 32792..32807 are outside DRAM 32768..32799"),
        ({"address": None}, "'address' or 'bytes' is missing or not an integer"),
        ({"bytes": True}, "'address' or 'bytes' is missing or not an integer"),
        ({"kind": "index", "limit": 0}, "tensor 'x': limit 0 does not fit int32"),
        ({"shape": [1] * 33}, "too many axes, or a size or an address of more than 63 bits"),
        ({"shape": [0, 1 << 62]}, "too many axes, or a size or an address of more than 63 bits"),
        ({"shape": [10**4299, 10**4299]}, "too many axes, or a size or an address of more than 63 bits"),
        ({"address": 10**4300 - 4}, "too many axes, or a size or an address of more than 63 bits"),
    ],
)
def test_ports(bench: Any, changes: dict[str, Any], message: str) -> None:
    bench.port("inputs", "x", (2, 2), "int32")
    bench.scratch = 32
    bench.program()
    container = bench.container()
    container.signature["inputs"][0] |= changes
    with pytest.raises(ProgramError) as error:
        Program(container)
    assert str(error.value).startswith(f"section 'signature', inputs 'x': {message}")


def test_ports_have_names_of_their_own_and_inputs_do_not_overlap(bench: Any) -> None:
    first = bench.port("inputs", "x", (4,), "int32")
    bench.port("outputs", "x", (4,), "int32", address=first)
    bench.program()
    bench.port("inputs", "z", (4,), "int32", address=first + 12)
    with pytest.raises(ProgramError, match="section 'signature': inputs 'x' and 'z' overlap"):
        bench.program()
    bench.inputs[1]["name"] = "x"
    with pytest.raises(ProgramError, match="section 'signature': two inputs are named 'x'"):
        bench.program()


def test_an_empty_target_of_a_container(bench: Any) -> None:
    container = dataclasses.replace(bench.container(), target={})
    with pytest.raises(ProgramError, match="section 'target': target keys missing"):
        Program(container)


def test_constants_of_any_length(bench: Any) -> None:
    container = bench.container()
    container.constants = np.zeros(100, np.uint8)
    container.program["dram"] = 100
    Program(container)
    bench.emit("ld", dram=0, sram=0, rows=1, row_bytes=101)
    container.code = bench.container().code
    with pytest.raises(ProgramError, match=r"outside 0\.\.99"):
        Program(container)
