"""The file of a record: JSON, compressed as a whole, since programs resemble each other."""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.record.entry import Entry

COMMITTED = Path(__file__).with_name("programs.json.xz")
"""The record that the repository keeps."""
_FORMAT = 1


class RecordFileError(ValueError):
    """A file that is no record."""


@dataclass(frozen=True)
class Record:
    """Programs by name, and the machine whose floats calibrated them."""

    machine: Mapping[str, str]
    programs: Mapping[str, Entry]


def write_record(record: Record, path: Path) -> None:
    """Writes a record, completely or not at all; the same record gives the same bytes."""
    programs = {name: asdict(entry) for name, entry in sorted(record.programs.items())}
    content = {"format": _FORMAT, "machine": dict(record.machine), "programs": programs}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_record(path: Path) -> Record:
    """
    Reads a record.

    Raises:
        OSError: the file cannot be read.
        RecordFileError: it is no record.
    """
    try:
        content = json.loads(lzma.decompress(path.read_bytes()))
        if content["format"] != _FORMAT:
            raise RecordFileError(f"{path}: a record of format {content['format']}, and not {_FORMAT}")
        return Record(content["machine"], {name: Entry(**entry) for name, entry in content["programs"].items()})
    except (lzma.LZMAError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise RecordFileError(f"{path}: not a record: {error}") from error
