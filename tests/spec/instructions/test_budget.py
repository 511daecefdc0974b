"""Room in the word for planned fields: the table of `docs/dynamic-control.md` beside the present instructions."""

import re
from collections import Counter
from pathlib import Path

import pytest

from sta.spec.instructions.definition import OPCODE_BITS, UNIT_FIELDS, UNITS, WORD_BITS
from sta.spec.instructions.table import DEFINITIONS

PAGE = Path(__file__).parents[3] / "docs" / "dynamic-control.md"
ROW = re.compile(
    r"^\| `(?P<name>\w+)`(?: \((?P<kind>sequencer|unit)\))? \| (?P<field>[^|]+) \| (?P<bits>\d+) \| [^|]+ \|$"
)
COMMON = {"sequencer": OPCODE_BITS, "unit": OPCODE_BITS + sum(field.bits for field in UNIT_FIELDS)}


def planned() -> dict[str, int]:
    """Bits by instruction: those of its fields, and those that are planned; of a new one those that its kind has."""
    bits: Counter[str] = Counter()
    used = {name: definition.used_bits for name, definition in DEFINITIONS.items()}
    budget = PAGE.read_text(encoding="utf-8").split("### Bit budget")[1].split("\n## ")[0]
    rows = [line for line in budget.splitlines() if line.startswith("| `")]
    for line in rows:
        row = ROW.match(line)
        assert row is not None, line
        assert (row["kind"] is None) == (row["name"] in DEFINITIONS), line
        bits[row["name"]] += int(row["bits"])
        used.setdefault(row["name"], COMMON.get(row["kind"] or "", 0))
    assert len(rows) > 30
    return {name: used[name] + bits[name] for name in used}


@pytest.mark.parametrize(("name", "bits"), planned().items())
def test_what_is_planned_fits_the_word(name: str, bits: int) -> None:
    assert bits <= WORD_BITS, f"{name} takes {bits} bits"


def test_no_planned_field_exists_already() -> None:
    budget = PAGE.read_text(encoding="utf-8").split("### Bit budget")[1].split("\n## ")[0]
    for line in budget.splitlines():
        row = ROW.match(line)
        if row is None or row["name"] not in DEFINITIONS:
            continue
        names = set(re.findall(r"`(\w+)`", row["field"].split(":")[0]))
        assert names.isdisjoint(DEFINITIONS[row["name"]].index), f"{line} exists: take it out of the budget"


def test_six_units_have_a_semaphore_for_every_ordered_pair() -> None:
    units = len(UNITS) + 1
    masks = [field.bits for field in UNIT_FIELDS if field.kind == "mask"]
    assert all(bits >= units * (units - 1) for bits in masks)
