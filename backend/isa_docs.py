"""
Writes ``docs/isa.md`` from the instruction table: ``python -m sta.backend.isa_docs > docs/isa.md``.

A test compares the file in the repository with this module's output.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from sta.spec.instructions.definition import (
    MAXIMUM_LOOP_DEPTH,
    OPCODE_BITS,
    REGISTER_BITS,
    REGISTER_COUNT,
    SEMAPHORE_COUNT,
    UNIT_FIELDS,
    UNITS,
    WORD_BITS,
    Field,
    InstructionDefinition,
)
from sta.spec.instructions.table import INSTRUCTIONS

_UNIT_ORDER = ", ".join(f"`{unit}`" for unit in UNITS)

_INTRODUCTION = f"""\
# The instruction set

<!-- Generated from spec/instructions by `python -m sta.backend.isa_docs > docs/isa.md`; do not edit. -->

## The machine

A sequencer reads the program and feeds five units, each of which executes its instructions in order:

| unit | does |
|---|---|
| `ld` | copies from DRAM to on-chip memory, and gathers table rows |
| `st` | copies from on-chip memory to DRAM |
| `mm` | products of a tile of int8 activations with dense or N:M-sparse int8 weights |
| `sm` | the exponentials and row sums of an attention softmax |
| `vp` | everything element by element, and LayerNorm and RMSNorm |

Memories, each with byte addresses from 0:

| space | holds | read by | written by |
|---|---|---|---|
| `dram` | constants at 0, then (from the next multiple of 64) writable scratch, inputs and outputs | `ld` | `st` |
| `spad` | activations, masks, indices, sums | `st`, `mm`, `sm`, `vp` | `ld`, `sm`, `vp` |
| `wbuf` | packed weights, parameter blocks, tables | `mm`, `sm`, `vp` | `ld` |
| `acc` | int32 accumulators | `mm`, `sm`, `vp` | `mm` |

Only `ld` and `st` touch DRAM. The program's header divides the target's SRAM among spad, wbuf and acc. All memory
except the constants holds arbitrary bytes at the start. Addresses and strides of int32 data are multiples of 4, of
int16 data multiples of 2, parameter blocks start at multiples of 4. An access lies wholly inside its memory, and in
DRAM wholly inside the constants or wholly inside the writable part. The rows of a result must not overlap.

An instruction reads all its sources before it writes. A program's result is defined by executing its instructions one
after the other, in program order; semaphores and fences must make the parallel units keep it.

The Python package `sta.spec` (`spec/` in the repository) defines integer arithmetic, the packed weight format and the
layout of parameter blocks; the descriptions below refer to it.

## Encoding

An instruction is {WORD_BITS} bits, little endian. Bits 0-{OPCODE_BITS - 1} are the opcode; fields follow from the
least significant bit on; the remaining bits are zero. Signed fields are two's complement. A program is a sequence of
instructions that ends with its only `halt`.

## Sequencer

The sequencer executes `lea`, `loop`, `end`, `fence` and `halt` itself and passes all others on to the queue of their
unit. It reads an instruction's registers when it issues the instruction.

There are {REGISTER_COUNT} address registers of {REGISTER_BITS} bits for non-negative integers; r0 always holds 0.
The other registers are undefined at the start. Registers are affine in the loop counters by construction:

- `lea` computes its result from a register, constants and up to two counters of loops around it. Results stay inside
  0..2^{REGISTER_BITS}-1.
- A register that is written inside a loop body may not be read in that body before it is written there, nor after the
  loop if it was last written inside it. No register is loop-carried.
- `loop` sets its counter register to 0, 1, .., count-1. The counter is readable inside the body only, and nothing
  else writes it there.
- Loops nest up to {MAXIMUM_LOOP_DEPTH} deep. A count of 0 skips the body.

So the range of every address is known before a program runs, and is checked then.

## Semaphores

There are {SEMAPHORE_COUNT} semaphores, counters that are 0 at the start. An instruction of a unit starts when each
semaphore in its `wait` field is at least 1, and decrements these; it increments the semaphores in its `post` field when
its result is complete. `sync` does nothing else. If no unit can start its next instruction and the sequencer cannot
issue one, the program is in deadlock. Deadlocks do not depend on data and are found before a run.

## Timing

- The sequencer takes one cycle for an instruction. A unit's instruction enters the unit's queue at the end of this
  cycle. While `queue_depth` instructions wait in the queue, the sequencer stalls.
- A unit starts the first instruction of its queue when it has finished the one before and all semaphores allow it. It
  is then busy for the cycles given below.
- The result is complete when the work is done and the latency has passed: `dma_latency` for `ld`, `st` and `gather`,
  `drain_latency` for `mm`, none for the others. Results of a unit complete in order, and
  a unit sees its own earlier results: only accesses of different units need semaphores.
- `fence` and `halt` take one cycle, and last until all queues are empty and all results complete.
- Within a cycle results complete and post first, then the sequencer's instruction enters its queue, then units start,
  in the order {_UNIT_ORDER}. Effects of a start in the same cycle (a post of a `sync`, room in a full queue) come
  before the next start. So the order matters only if two units wait for the same semaphore.

R, C and L are the target's `array_rows`, `array_columns` and `multipliers`; `kept` is ceil(depth / M) * N, or the
depth itself when M = N. No cycle count depends on data.

## Taint

Attention scores stay on the chip. Accumulators written with `scores` and the exponentials of `softmax` are tainted.
Products, maps, norms and `shift` pass the taint on to their results, until a `map` with `normalize` clears it or
other data overwrites it. `st` and `gather` must not read tainted bytes.

## Fields of every unit instruction
"""


def _range(field: Field) -> str:
    if field.kind == "register":
        return "register"
    if field.kind == "mask":
        return f"{field.bits} semaphores"
    text = ", ".join(f"`{name}`" for name in field.choices) if field.choices else f"{field.minimum}..{field.maximum}"
    return f"{text}, stored minus {field.bias}" if field.bias else text


def _default(field: Field) -> str:
    if field.default is None:
        return "required"
    if field.choices:
        return f"`{field.choices[field.default]}`"
    return {"register": "r0", "mask": "none"}.get(field.kind, str(field.default))


def _table(fields: tuple[Field, ...], position: int) -> Iterator[str]:
    yield "| bits | field | values | default | meaning |"
    yield "|---|---|---|---|---|"
    for field in fields:
        last = position + field.bits - 1
        bits = f"{position}" if field.bits == 1 else f"{position}-{last}"
        yield f"| {bits} | `{field.name}` | {_range(field)} | {_default(field)} | {field.description} |"
        position = last + 1


def _instruction(definition: InstructionDefinition) -> Iterator[str]:
    yield f"### `{definition.name}`"
    yield ""
    unit = "the unit in its field `unit`" if definition.unit == "any" else f"`{definition.unit}`"
    executed = "sequencer" if definition.is_sequencer else unit
    yield f"Opcode {definition.opcode}, executed by: {executed}. {definition.summary}"
    if definition.details:
        yield ""
        yield definition.details
    yield ""
    if definition.own_fields:
        common = 0 if definition.is_sequencer else sum(field.bits for field in UNIT_FIELDS)
        yield from _table(definition.own_fields, OPCODE_BITS + common)
        yield ""


def document() -> str:
    """Returns the text of ``docs/isa.md``."""
    lines = [_INTRODUCTION, *_table(UNIT_FIELDS, OPCODE_BITS), "", "## Instructions", ""]
    for definition in INSTRUCTIONS:
        lines += _instruction(definition)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
