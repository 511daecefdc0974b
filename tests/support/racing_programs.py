"""Programs whose units compete for a few bytes, with semaphores that may or may not keep them in order."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from sta.runtime import Program, ProgramError
from sta.spec.instructions.definition import UNITS
from sta.spec.instructions.table import definition_of

Fields = dict[str, Any]
Make = Callable[[], Any]

PLACES = st.sampled_from([0, 4, 8, 32, 64, 96])


Owners = Sequence[tuple[set[str], set[str]]]
"""For each semaphore the units that may post to it and those that may wait for it."""

UNIT_OF = {kind: definition_of(name).unit for kind, name in {"wbuf": "ld", "map": "map", "acc": "map"}.items()}
KINDS = ["ld", "wbuf", "st", "mm", "mm", "map", "map", "acc", *UNITS, "fence"]
FEW = st.sampled_from([0, 0, 0, 1])


@st.composite
def instructions(draw: st.DrawFn, owners: Owners) -> Fields:
    """Draws an instruction on a few bytes at the start of the memories, now and then with semaphores."""
    kind = draw(st.sampled_from(KINDS))
    unit = UNIT_OF.get(kind, kind)
    waiting = [s for s, (_, waits) in enumerate(owners) if unit in waits]
    posting = [s for s, (posts, _) in enumerate(owners) if unit in posts]
    masks = {"wait": draw(st.permutations(waiting))[: draw(FEW)], "post": draw(st.permutations(posting))[: draw(FEW)]}
    shape = {"rows": draw(st.integers(1, 3)), "stride": draw(st.sampled_from([4, 8, 12]))}
    return {"kind": kind, "unit": unit, "first": draw(PLACES), "second": draw(PLACES), **shape, **masks}


@st.composite
def parts(draw: st.DrawFn, owners: Owners) -> list[Fields]:
    """Draws instructions, many of which wait for one before them."""
    part = draw(st.lists(instructions(owners), min_size=1, max_size=5))
    for later, earlier in itertools.combinations(range(len(part) - 1, -1, -1), 2):
        pair = (part[earlier]["unit"], part[later]["unit"])
        semaphores = [s for s, (posts, waits) in enumerate(owners) if pair[0] in posts and pair[1] in waits]
        if pair[0] == pair[1] or not semaphores or draw(st.integers(0, 3)) == 0:
            continue
        semaphore = draw(st.sampled_from(semaphores))
        if semaphore not in part[earlier]["post"] and semaphore not in part[later]["wait"]:
            part[earlier]["post"].append(semaphore)
            part[later]["wait"].append(semaphore)
    return part


def emit(bench: Any, drawn: Fields) -> None:
    """Appends a drawn instruction to a bench; inside a loop with counter r1, tiles move with it."""
    kind, rows = drawn["kind"], drawn["rows"]
    masks = {"wait": drawn["wait"], "post": drawn["post"]}
    bench.emit("lea", rd=2, imm=drawn["first"], c1=drawn.get("counter", 0), s1=4)
    bench.emit("lea", rd=3, imm=drawn["second"])
    bench.emit("lea", rd=4, imm=drawn["stride"])
    bench.emit("lea", rd=5, imm=bench.base + drawn["first"])
    sizes = {"rows": rows, "row_bytes": 4}
    match kind:
        case "fence":
            bench.emit("fence")
        case "ld" | "wbuf":
            space = "wbuf" if kind == "wbuf" else "spad"
            bench.emit("ld", dram=5, sram=2, dram_stride=4, sram_stride=4, space=space, **sizes, **masks)
        case "st":
            bench.emit("st", dram=5, sram=2, dram_stride=4, sram_stride=4, **sizes, **masks)
        case "mm":
            bench.emit("mm", acc=3, a=2, b=2, acc_stride=4, a_stride=4, rows=rows, columns=1, depth=4, **masks)
        case "map" | "acc":
            shape = {"source_type": "s8", "columns": 4} if kind == "map" else {"source_type": "acc", "columns": 1}
            places = {"source": 2, "destination": 3, "source_stride": 4, "destination_stride": 4, "parameters": 0}
            bench.emit("map", rows=rows, destination_type="s8", **shape, **places, **masks)
        case _:
            bench.emit("sync", unit=kind, **masks)


PAIRS = [({a}, {b}) for a, b in [("ld", "mm"), ("mm", "ld"), ("mm", "vp"), ("vp", "mm"), ("ld", "vp"), ("vp", "st")]]
SEVERAL_POST = [({"ld", "vp"}, {"mm"}), ({"mm"}, {"ld"}), ({"mm", "ld"}, {"vp"}), ({"mm"}, {"mm"})]
SEVERAL_WAIT = [({"ld", "vp"}, {"mm", "vp"}), ({"mm"}, {"ld", "vp"}), ({"ld"}, {"mm", "vp"})]


def programs(owners: Owners) -> st.SearchStrategy[Any]:
    """Returns lists of instructions before, in and after a loop, and the iterations of this."""
    return st.tuples(parts(owners), parts(owners), parts(owners), st.integers(1, 3))


def built(make_bench: Make, drawn: Any) -> Program:
    """Returns a program; one that deadlocks is rejected."""
    bench = make_bench()
    bench.target = dataclasses.replace(bench.target, queue_depth=64)
    bench.scratch = 4096
    before, inside, after, count = drawn
    for part in before:
        emit(bench, part)
    bench.emit("loop", counter=1, count=count)
    for part in inside:
        emit(bench, {**part, "counter": 1})
    bench.emit("end")
    for part in after:
        emit(bench, part)
    program = bench.program()
    try:
        _ = program.cycles
    except ProgramError:
        assume(False)
    return program
