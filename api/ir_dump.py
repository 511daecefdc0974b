"""`--dump-ir`: the IR after every pass that changed it."""

from __future__ import annotations

import re
from pathlib import Path

from xdsl.dialects.builtin import ModuleOp

from sta.backend.emit import print_with_locations
from sta.passes.pipeline import pass_registry


class IrDump:
    """
    A directory with files ``NN-step.mlir``, in the order of the steps, one for each step that changed the IR.

    What an earlier run left there is removed when the first file is written, and nothing else ever is.
    """

    def __init__(self, directory: Path) -> None:
        """
        Takes the directory, which is made when the first file is written.

        Raises:
            ValueError: there is a file of this name.
        """
        if directory.exists() and not directory.is_dir():
            raise ValueError(f"cannot write the IR to {directory}: it is no directory")
        self._directory = directory
        self._count = 0
        self._text = ""

    def write(self, step: str, module: ModuleOp) -> None:
        """Writes the module as it is after a step, unless the step before left it the same; raises OSError."""
        text = print_with_locations(module)
        if text == self._text:
            return
        if self._count == 0:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._remove_old()
        (self._directory / f"{self._count:02d}-{step}.mlir").write_text(text, encoding="utf-8")
        self._count += 1
        self._text = text

    def _remove_old(self) -> None:
        steps = {"import", "torch-calibrate", *pass_registry()}
        for path in sorted(self._directory.glob("*.mlir")):
            name = re.fullmatch(r"[0-9]{2,}-([a-z-]+)\.mlir", path.name)
            if name is not None and name[1] in steps and path.is_file():
                path.unlink()
