"""`--dump-ir`: writes a dump of the IR, step by step."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any

from xdsl.dialects.builtin import ModuleOp

from sta.api.dump.array_summary import ArraySummary
from sta.api.dump.dump_index import html_index, text_index
from sta.api.dump.ir_diff import difference
from sta.api.dump.ir_dump import ARRAYS, INDEX, Dump, Step
from sta.api.dump.ir_excerpt import excerpt, module_paths
from sta.api.files.output_file import write_text
from sta.backend.container import Container, container_digest
from sta.dialect.ir.array_store import ArrayFolder
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.text import AttributeTexts, print_with_arrays
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.suggestion import suggestion
from sta.spec.target import Target


class IrDump:
    """
    Writer of a dump. An earlier dump in the directory is removed when the first file is written, and nothing else ever
    is.

    A context manager: a thread writes, in order, while the compile goes on, and everything is written when the context
    ends.
    """

    def __init__(self, directory: Path, only: str | None = None) -> None:
        """
        Creates a writer for the directory, which is made when the first file is written, and for a pattern of the shell
        that limits the module paths.

        Raises:
            ValueError: there is a file of this name.
        """
        if directory.exists() and not directory.is_dir():
            raise ValueError(f"cannot write the IR to {directory}: it is no directory")
        self.directory = directory
        self.printed: str | None = None
        """The whole text of the last module, without comments on arrays; None if the dump is limited."""
        self._only = only
        self._folder = ArrayFolder(directory / ARRAYS)
        self._texts = AttributeTexts()
        self._begun = False
        self._lock: int | None = None
        """The directory, opened and locked, while files are written to it."""
        self._writer = ThreadPoolExecutor(1)
        # The fields below are the thread's, once there is one.
        self._steps: list[Step] = []
        self._last: tuple[str, str] | None = None
        """Name and text of the last file."""
        self._arrays: dict[str, str] = {}
        self._summary = ArraySummary()
        self._old_arrays: set[str] = set()
        self._target: Target | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> IrDump:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """
        Writes the rest and the index for people; removes arrays that no module of the directory names any more.

        Raises OSError, unless the compile has failed itself.
        """
        self._writer.shutdown()
        if self._lock is not None:
            os.close(self._lock)
        if self._failure is None:
            self._finish()
        elif kind is None:
            raise self._failure

    def write(self, name: str, module: ModuleOp, context: CompileContext, seconds: float) -> None:
        """
        Notes the module after a step, to be written unless the step left it unchanged.

        Raises OSError for earlier failures of the thread, and ValueError if no operation of the first module belongs to
        the dump's limit.
        """
        if self._failure is not None:
            raise self._failure
        if not self._begun:
            self._begin(module)
            self._begun = True
        if self._only is not None:
            module = excerpt(module, self._only)
        text, named = print_with_arrays(module, self._texts)
        self.printed = text if self._only is None else None
        for _, array in named:
            # Read here, if it has not been: a store that is read by two threads would read it twice.
            context.weights.get(array)
        operations = dict(sorted(Counter(operation.name for operation in module.walk()).items()))
        step = Step(name, seconds, operations)
        self._writer.submit(self._take, step, text, named, context.weights.copy(), context.target)

    def finish(self, container: Container) -> None:
        """Notes the program that the compile has made, and waits until all is written."""
        digest = container_digest(container)
        self._writer.submit(self._write_index, container.options, digest).result()
        if self._failure is not None:
            raise self._failure

    def _take(self, step: Step, text: str, named: list[tuple[int, str]], weights: WeightStore, target: Target) -> None:
        if self._failure is not None:
            return
        try:
            text = self._described(text, named, weights, target)
            if self._last is None or text != self._last[1]:
                step = self._write(step, text)
            self._steps.append(step)
            self._target = target
            self._write_index({}, None)
        except Exception as error:
            self._failure = error

    def _write_index(self, options: dict[str, Any], program: str | None) -> None:
        if self._target is None or self._failure is not None:
            return
        target, steps = self._target.to_json(), tuple(self._steps)
        try:
            Dump(self.directory, target, self._only, steps, self._arrays, options, program).write()
        except Exception as error:
            self._failure = error

    def _finish(self) -> None:
        if not self._steps:
            return
        dump = Dump.read(self.directory)
        write_text(self.directory / "index.txt", text_index(dump))
        write_text(self.directory / "index.html", html_index(dump))
        for digest in sorted(self._old_arrays - set(self._arrays.values())):
            self._folder.path(digest).unlink(missing_ok=True)

    def _begin(self, module: ModuleOp) -> None:
        if self._only is not None and not any(fnmatchcase(path, self._only) for path in module_paths(module)):
            paths = module_paths(module)
            examples = f"; there are {', '.join(paths[:3])}, …" if paths else ""
            raise ValueError(f"--only {self._only}: no module path matches{suggestion(self._only, paths) or examples}")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"cannot write the IR to {self.directory}: another compile is writing to it") from None
        if not (self.directory / INDEX).is_file():
            return
        try:
            old = Dump.read(self.directory)
        except ValueError as error:
            raise ValueError(
                f"cannot write the IR to {self.directory}: its {INDEX} is none of a dump; give another directory"
            ) from error
        for step in old.steps:
            for file in (step.file, step.diff_file):
                if file is not None:
                    (self.directory / file).unlink(missing_ok=True)
        self._old_arrays = set(old.arrays.values())

    def _described(self, text: str, named: list[tuple[int, str]], weights: WeightStore, target: Target) -> str:
        """The text with a comment on each line that names an array; the arrays are kept."""
        lines = text.split("\n")
        for line, name in named:
            if name not in self._arrays:
                self._arrays[name] = self._folder.add(weights.get(name))
            facts = self._summary.describe(name, weights, target)
            if facts:
                lines[line] += f"  // {facts}"
        return "\n".join(lines)

    def _write(self, step: Step, text: str) -> Step:
        number = sum(1 for earlier in self._steps if earlier.file is not None)
        file = f"{number:02d}-{step.name}.mlir"
        diff_file, added, removed = None, len(text.splitlines()), 0
        if self._last is not None:
            before, old = self._last
            changes = difference(old, text, (before, file))
            diff_file, added, removed = f"{number:02d}-{step.name}.diff", changes.added, changes.removed
            write_text(self.directory / diff_file, changes.text)
        write_text(self.directory / file, text)
        self._last = (file, text)
        return replace(step, file=file, diff_file=diff_file, added=added, removed=removed)
