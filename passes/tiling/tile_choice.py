"""
What the compiler chose for a layer and why, kept with the function: `sta.tiling`, one entry a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, IntAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute

ATTRIBUTE = "sta.tiling"


@dataclass(frozen=True)
class TileChoice:
    """
    One layer's tiling.
    """

    path: str
    """
    Module path of the layer.
    """
    kind: str
    tile: Mapping[str, int | str]
    """
    Sizes of a tile and the order of the loops, by name.
    """
    bound: str
    """
    The part of the machine that has most to do.
    """
    cycles: int
    """
    An estimate, by which tilings were compared.
    """
    chip_bytes: int
    """
    Bytes on the chip that the tiles take.
    """
    runner_up: Mapping[str, int | str] = field(default_factory=dict[str, "int | str"])
    """
    The tile of the next best choice, and its `cycles`; empty where there is no other.
    """

    def to_attribute(self) -> DictionaryAttr:
        """
        The choice as it stands in the IR.
        """
        return _dictionary(
            {
                "path": self.path,
                "kind": self.kind,
                "tile": self.tile,
                "bound": self.bound,
                "cycles": self.cycles,
                "chip_bytes": self.chip_bytes,
                "runner_up": self.runner_up,
            }
        )


def _dictionary(values: Mapping[str, Any]) -> DictionaryAttr:
    return DictionaryAttr({name: _attribute(value) for name, value in values.items()})


def _attribute(value: Any) -> Attribute:
    if isinstance(value, Mapping):
        return _dictionary(cast("Mapping[str, Any]", value))
    return StringAttr(value) if isinstance(value, str) else IntAttr(int(value))


def record(function: func.FuncOp, choices: Sequence[TileChoice]) -> None:
    """
    Keeps the choices with a lowered function.
    """
    function.attributes[ATTRIBUTE] = ArrayAttr([choice.to_attribute() for choice in choices])


def recorded(module: ModuleOp) -> list[dict[str, Any]]:
    """
    The choices of a lowered module, in the order of its layers, as JSON holds them: the fields of `TileChoice`.
    """
    lists = [op.attributes.get(ATTRIBUTE) for op in module.ops if isinstance(op, func.FuncOp)]
    return [entry for one in lists if one is not None for entry in _plain(one)]


def _plain(attribute: Attribute) -> Any:
    match attribute:
        case DictionaryAttr():
            return {name: _plain(value) for name, value in attribute.data.items()}
        case ArrayAttr():
            return [_plain(value) for value in attribute]
        case StringAttr() | IntAttr():
            return attribute.data
        case _:
            raise ValueError(f"{attribute} is no part of {ATTRIBUTE}")
