"""xDSL's window for trying out passes on a module: with our dialects and passes, weights and target of a dump."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xdsl.interactive.app import InputApp
from xdsl.passes import ModulePass
from xdsl.universe import Universe

from sta.api.dump.ir_dump import INDEX, Dump
from sta.dialect.ir.context import DEFAULT_TARGET, CompileInterface, dialect_factories
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.outside import OutsideError, warn_once
from sta.spec.target import Target, load_target


def application(file: Path | None) -> InputApp:
    """
    The application, with a module if a file is given; weights and target come from the file's dump.

    `xdsl-gui` itself lists xDSL's own passes only: it ignores the `xdsl.universe` of others.

    Raises:
        OSError: the file, or the dump, cannot be read.
        ValueError: the file is no text, or the dump malformed.
    """
    try:
        text = None if file is None else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text: {error}") from error
    dump = None if file is None or not (file.parent / INDEX).is_file() else Dump.read(file.parent)
    interface = (
        CompileInterface(WeightStore(), load_target(DEFAULT_TARGET))
        if dump is None
        else CompileInterface(dump.weights(), Target.from_json(dump.target))
    )
    universe = Universe.get_multiverse()
    dialects = {**universe.all_dialects, **dialect_factories(interface)}
    passes = tuple(_usable_passes(universe))
    return InputApp(tuple(dialects.items()), passes, None if file is None else str(file), text)


def _usable_passes(universe: Universe) -> Iterator[tuple[str, type[ModulePass]]]:
    """All passes by name; an unusable pass of another package is skipped, with a warning."""
    for name in sorted(universe.all_passes):
        try:
            yield name, universe.all_passes[name]()
        except OutsideError as error:
            warn_once(f"{error}; it is left out")
