"""
The record of programs: what the compiler and the engines give, held against what they gave.

    python -m tests.record make FILE                     compile and run all programs, and write a record
    python -m tests.record check [FILE] [--only GLOB…]   compile and run them again, and compare

`check` prints a line for each program and the first lines that differ of each disassembly; it ends with exit code 1 if
anything differs. FILE is the record that the repository keeps, unless another one is named; that of an older commit is
made by this package, copied into a checkout of it.

A record holds for processors of the kind that it was made on: calibration takes floats, and other processors add them
up in another order. `check` says so where floats of this machine are not those of the record.

The toolchain may change names: `renamings.py` says which. It may encode instructions otherwise: where the container's
version is not the recorded one, the disassembly is compared, and not the hash of the code.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# One thread of each library in every process, read when they are loaded; nothing may ask a hub for anything.
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1")

from tests.record.comparison import Difference, compare
from tests.record.entry import Entry, machine, native_is_built
from tests.record.measuring import measured
from tests.record.programs import PROGRAMS
from tests.record.record_file import COMMITTED, Record, RecordFileError, read_record, write_record

_OTHER_MACHINE = (
    "The floats of this machine are not those of the record: constants, scales and outputs may differ without a fault. "
    "Make a record with the commit before on this machine (`make FILE` there), and check that."
)
_OTHER_CONSTANTS = "Constants alone differ, with what follows from them: as floats of another processor would do."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parsed = _parser().parse_args(arguments)
    if not native_is_built():
        print("error: the native engine is not built: install the project again", file=sys.stderr)
        return 2
    try:
        return _make(parsed.file) if parsed.command == "make" else _check(parsed.file, parsed.only)
    except (OSError, RecordFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").strip().partition("\n\n")
    parser = argparse.ArgumentParser(
        "python -m tests.record",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write a record")
    make.add_argument("file", type=Path, metavar="FILE")
    check = commands.add_parser("check", help="compare with a record")
    check.add_argument("file", type=Path, metavar="FILE", nargs="?", default=COMMITTED)
    check.add_argument("--only", nargs="+", metavar="GLOB", default=["*"], help="names of programs, as in a shell")
    return parser


def _make(path: Path) -> int:
    entries: dict[str, Entry] = {}
    failed = False
    for name, found in measured(list(PROGRAMS)):
        if isinstance(found, Entry):
            entries[name] = found
            continue
        failed = True
        print(f"{name}: {found}", file=sys.stderr)
    if failed:
        print(f"error: {path} is not written: not every program compiles and runs", file=sys.stderr)
        return 1
    write_record(Record(machine(), entries), path)
    print(f"{len(entries)} programs, {path.stat().st_size:,} bytes: {path}")
    return 0


def _check(path: Path, globs: Sequence[str]) -> int:
    record = read_record(path)
    names = [name for name in PROGRAMS if any(fnmatch.fnmatchcase(name, glob) for glob in globs)]
    names += [name for name in record.programs if name not in PROGRAMS and globs == ["*"]]
    if not names:
        print(f"error: no program is called {' or '.join(globs)}; there are {', '.join(PROGRAMS)}", file=sys.stderr)
        return 2
    found = dict(measured([name for name in names if name in PROGRAMS and name in record.programs]))
    differences = {name: _difference(name, record, found.get(name)) for name in names}
    _print_table(differences)
    return _print_summary(record, differences)


def _difference(name: str, record: Record, found: Entry | str | None) -> Difference:
    recorded = record.programs.get(name)
    if recorded is None:
        return Difference(("not in the record",))
    if found is None:
        return Difference(("in the record alone",))
    return Difference((found,)) if isinstance(found, str) else compare(recorded, found)


def _print_table(differences: dict[str, Difference]) -> None:
    width = max(map(len, differences))
    for name, difference in differences.items():
        print(f"{name:<{width}}  {', '.join(difference.parts) or 'equal'}")
        for line in difference.lines:
            print(f"    {line}")


def _print_summary(record: Record, differences: dict[str, Difference]) -> int:
    different = [difference for difference in differences.values() if difference]
    if not different:
        print(f"\nall {len(differences)} programs are equal")
        return 0
    print(f"\n{len(different)} of {len(differences)} programs differ")
    of_floats = sum(difference.of_floats for difference in different)
    if of_floats:
        print(f"{of_floats} of them: {_OTHER_CONSTANTS}")
    here = machine()
    if here != record.machine:
        was, now = (", ".join(f"{key} {value}" for key, value in sorted(one.items())) for one in (record.machine, here))
        print(f"recorded on: {was}\nthis is:     {now}")
    if here["floats"] != record.machine["floats"]:
        print(_OTHER_MACHINE)
    elif of_floats:
        print("The floats of this machine are those of the record, as far as a few operators show.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
