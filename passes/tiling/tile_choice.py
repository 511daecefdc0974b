"""Tiling of each layer and the reason for it, kept with the function: `sta.tiling`, one entry a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute

from sta.dialect.nm import integer, integer_value
from sta.dialect.sta import TilingAttr

ATTRIBUTE = "sta.tiling"


@dataclass(frozen=True)
class TileChoice:
    """One layer's tiling."""

    path: str
    """Module path of the layer."""
    kind: str
    tile: Mapping[str, int | str]
    """Sizes of a tile and the order of the loops, by name."""
    bound: str
    """The bottleneck."""
    cycles: int
    """Estimated cycles, by which tilings were compared."""
    chip_bytes: int
    """Bytes of the tiles on the chip."""
    runner_up: Mapping[str, int | str] = field(default_factory=dict[str, "int | str"])
    """The tile of the next best choice, and its `cycles`; empty if there is no other."""

    def to_attribute(self) -> TilingAttr:
        """The choice in the form of the IR."""
        return TilingAttr(
            StringAttr(self.path),
            StringAttr(self.kind),
            _dictionary(self.tile),
            StringAttr(self.bound),
            integer(int(self.cycles)),
            integer(int(self.chip_bytes)),
            _dictionary(self.runner_up),
        )


def _dictionary(values: Mapping[str, int | str]) -> DictionaryAttr:
    return DictionaryAttr(
        {name: StringAttr(value) if isinstance(value, str) else integer(int(value)) for name, value in values.items()}
    )


def record(function: func.FuncOp, choices: Sequence[TileChoice]) -> None:
    """Stores the choices on a lowered function."""
    function.attributes[ATTRIBUTE] = ArrayAttr([choice.to_attribute() for choice in choices])


def recorded(module: ModuleOp) -> list[dict[str, Any]]:
    """Choices of a lowered module, in the order of its layers, in the form of JSON: the fields of `TileChoice`."""
    lists = [op.attributes.get(ATTRIBUTE) for op in module.ops if isinstance(op, func.FuncOp)]
    entries = [entry for one in lists if isinstance(one, ArrayAttr) for entry in cast("ArrayAttr[Attribute]", one)]
    return [_plain(entry) for entry in entries if isinstance(entry, TilingAttr)]


def _plain(tiling: TilingAttr) -> dict[str, Any]:
    return {
        "path": tiling.path.data,
        "kind": tiling.kind.data,
        "tile": _values(tiling.tile),
        "bound": tiling.bound.data,
        "cycles": tiling.cycles.value.data,
        "chip_bytes": tiling.chip_bytes.value.data,
        "runner_up": _values(tiling.runner_up),
    }


def _values(attribute: DictionaryAttr) -> dict[str, int | str]:
    return {
        name: value.data if isinstance(value, StringAttr) else integer_value(value)
        for name, value in attribute.data.items()
    }
