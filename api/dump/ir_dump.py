"""
A dump: the IR after every pass that changed it, in a directory from which a compile can resume.

The directory holds `NN-pass.mlir` and the pass's changes `NN-pass.diff`; `index.html` and `index.txt` for people,
`index.json` for programs; and in `weights` every array that a module names, by its contents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sta.api.files.output_file import write_text
from sta.backend.container import Container, container_digest
from sta.dialect.ir.array_store import ArrayFolder
from sta.dialect.ir.weight_store import WeightStore

INDEX = "index.json"
ARRAYS = "weights"
_FILE = re.compile(r"[0-9]{2,}-[a-z0-9-]+\.(mlir|diff)")


@dataclass(frozen=True)
class Step:
    """One step of a compile, and its result."""

    name: str
    """The pass."""
    seconds: float
    operations: dict[str, int]
    """Number of operations by name."""
    file: str | None = None
    """The module's file; None if the step changed nothing."""
    diff_file: str | None = None
    """Difference that the step made; None for the first file and where nothing changed."""
    added: int = 0
    removed: int = 0
    """Numbers of new and of removed lines of the module."""

    @property
    def operation_count(self) -> int:
        """Number of operations."""
        return sum(self.operations.values())


@dataclass(frozen=True)
class Dump:
    """A directory written by `--dump-ir`."""

    directory: Path
    target: dict[str, Any]
    """The machine compiled for; `Target.from_json` makes it one."""
    only: str | None
    """The pattern of module paths that limits the dump."""
    steps: tuple[Step, ...]
    arrays: dict[str, str] = field(repr=False)
    """The digest of every array by its name."""
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    """The options that the program of the compile was made with."""
    program: str | None = None
    """The digest of the program that the compile made; None if it has not come to its end."""

    @staticmethod
    def read(directory: Path) -> Dump:
        """
        Reads the index of a directory.

        Raises FileNotFoundError if there is none, ValueError if it is malformed.
        """
        path = directory / INDEX
        if not path.is_file():
            raise FileNotFoundError(f"{directory} holds no dump of IR: there is no {INDEX}")
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            steps = tuple(Step(**step) for step in index["steps"])
            files = [file for step in steps for file in (step.file, step.diff_file) if file is not None]
            arrays = {str(name): str(digest) for name, digest in index["arrays"].items()}
            options, program = dict(index.get("options", {})), index.get("program")
            dump = Dump(directory, dict(index["target"]), index["only"], steps, arrays, options, program)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no index of a dump: make the dump again ({error})") from error
        if not all(_FILE.fullmatch(str(file)) for file in files):
            raise ValueError(f"{path} is no index of a dump: make the dump again (a file has another name)")
        return dump

    def check_is_of(self, container: Container) -> None:
        """Raises ValueError unless the compile that wrote the dump has made this program."""
        if self.program is None:
            raise ValueError(f"{self.directory}: the compile that wrote this dump has not come to its end: repeat it")
        if self.program != container_digest(container):
            raise ValueError(
                f"{self.directory} is the dump of another program: compile this one with --dump-ir to get its own"
            )

    def text(self, step: Step) -> str:
        """The module after a step, or "" if the step changed nothing; raises OSError."""
        return "" if step.file is None else (self.directory / step.file).read_text(encoding="utf-8")

    def diff(self, step: Step) -> str:
        """The unified diff to the step before, or "" if there is none; raises OSError."""
        return "" if step.diff_file is None else (self.directory / step.diff_file).read_text(encoding="utf-8")

    def write(self) -> None:
        """Writes the index, completely or not at all; raises OSError."""
        index = {
            "only": self.only,
            "target": self.target,
            "steps": [asdict(step) for step in self.steps],
            "arrays": self.arrays,
            "options": self.options,
            "program": self.program,
        }
        write_text(self.directory / INDEX, json.dumps(index, indent=1) + "\n")

    def add(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """
        Adds arrays to the directory, and then to its index; existing arrays of these names stay.

        Raises OSError.
        """
        folder = ArrayFolder(self.directory / ARRAYS)
        added = {name: folder.add(array) for name, array in arrays.items()}
        replace(self, arrays={**added, **self.arrays}).write()

    def weights(self) -> WeightStore:
        """The arrays that the modules name, read on request."""
        folder = ArrayFolder(self.directory / ARRAYS)
        return WeightStore.lazy(self.arrays, lambda name: folder.read(self.arrays[name]))
