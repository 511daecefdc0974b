"""
The kept corpus, in one archive: ``python -m tests.fuzz.corpus unpack FOLDER`` and ``pack FOLDER``.

A folder has ``containers/`` and ``native/``, the inputs of either fuzzer; a file's name is the hash of what is in it.
The archive stores them as they are, in the order of their names: equal corpora are equal files, and version control
compresses them.

Beside the inputs of the native engine lies the layout of their records, which follows from the instruction table. Where
the table has changed since, they are translated when they are read.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tests.fuzz.native_inputs import layout, translated

ARCHIVE = Path(__file__).parent / "corpus.zip"
KINDS = ("containers", "native")
LAYOUT = "native_layout.json"


def kept(kind: str) -> list[bytes]:
    """Returns the inputs of one of the fuzzers, ``containers`` or ``native``, in the order of their names."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        inputs = [archive.read(name) for name in sorted(archive.namelist()) if name.startswith(f"{kind}/")]
        recorded = json.loads(archive.read(LAYOUT))
    return [translated(data, recorded) for data in inputs] if kind == "native" else inputs


def write(folder: Path, inputs: Iterable[bytes]) -> None:
    """Makes a folder of inputs, in place of what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for data in inputs:
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def unpack(folder: Path) -> None:
    """Writes the corpus into a folder."""
    for kind in KINDS:
        write(folder / kind, kept(kind))


def pack(folder: Path) -> None:
    """Makes the corpus of what is in a folder."""
    paths = sorted(path for kind in KINDS for path in (folder / kind).iterdir())
    entries = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    entries[LAYOUT] = json.dumps(layout()).encode()
    with zipfile.ZipFile(ARCHIVE, "w") as archive:
        for name, data in sorted(entries.items()):
            # Without a date: that of the format's beginning.
            archive.writestr(zipfile.ZipInfo(name), data)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("unpack", "pack"):
        sys.exit("usage: python -m tests.fuzz.corpus unpack|pack FOLDER")
    {"unpack": unpack, "pack": pack}[sys.argv[1]](Path(sys.argv[2]))
