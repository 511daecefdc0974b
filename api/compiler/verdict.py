"""`sta.check`: whether a model compiles, what is missing, and what its program would cost, in seconds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

from sta.api.compiler.compilation import compile_model
from sta.frontend.errors import ModelError, UnsupportedOperation, UnsupportedOperationsError
from sta.passes.errors import CompileError
from sta.passes.options import Keywords
from sta.runtime import Program


@dataclass(frozen=True)
class Verdict:
    """
    The answer of `sta.check`; true if the model compiles.

    `program` is what it compiles to with ranges from one input, for its cycles, bytes and memory: a real compile has
    calibration data, and may choose 16-bit inputs where this one has 8 bits.
    """

    program: Program | None
    missing: tuple[UnsupportedOperation, ...] = ()
    """Every operation that cannot be compiled."""
    reason: str = ""
    """The other reason why the model does not compile; empty where operations are missing."""
    notes: tuple[str, ...] = ()
    """Warnings of a compile, without what follows from the missing calibration data."""

    def __bool__(self) -> bool:
        return self.program is not None

    def to_json(self) -> dict[str, Any]:
        """The verdict for JSON; `cost` is None if the model does not compile."""
        return {
            "compiles": bool(self),
            "missing": [
                {"operation": one.name, "place": one.module_path, "remedy": one.note or None} for one in self.missing
            ],
            "reason": self.reason or None,
            "notes": list(self.notes),
            "cost": None if self.program is None else _cost(self.program),
        }


def _cost(program: Program) -> dict[str, Any]:
    return {
        "target": program.target.name,
        "instructions": len(program.container.code),
        "cycles": program.cycles,
        "seconds": program.seconds,
        "mac_efficiency": program.mac_efficiency,
        "macs": program.macs,
        "dense_macs": program.dense_macs,
        "dram_bytes": program.dram_bytes,
        "memory": {space: program.container.program[space] for space in ("spad", "wbuf", "acc", "dram")},
    }


def check(
    model: Any, example_inputs: Mapping[str, Any] | Sequence[Any] | None = None, **keywords: Unpack[Keywords]
) -> Verdict:
    """
    Checks whether a model compiles, without calibration data.

    Args:
        model: everything that `sta.compile` takes.
        example_inputs: as for `sta.compile`; where there are none, random ones take their place.
        **keywords: the options of `sta.compile`; calibration is `fast`.

    Returns:
        A `Verdict` with everything that is missing, or with the cost.

    Raises:
        ValueError: an option that is not accepted.
        TypeError: an argument of a wrong type.
        OSError: a file cannot be read or written.
    """
    if not (isinstance(model, str | os.PathLike) and Path(cast("os.PathLike[str]", model)).suffix == ".mlir"):
        # A dump may be from behind the calibration.
        keywords["fast"] = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        try:
            program = compile_model(model, example_inputs, random_inputs=True, **keywords).program
        except UnsupportedOperationsError as error:
            return Verdict(None, missing=error.operations, notes=_notes(caught))
        except (ModelError, CompileError) as error:
            return Verdict(None, reason=str(error), notes=_notes(caught))
    return Verdict(program, notes=_notes(caught))


def _notes(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    texts = dict.fromkeys(str(one.message) for one in caught)
    return tuple(text for text in texts if not text.startswith("no calibration data"))
