"""Targets: the sizes and speeds of a machine, read from YAML by the compiler and carried by containers as JSON."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sta.spec import outside
from sta.spec.alignment import ALIGNMENT
from sta.spec.suggestion import suggestion

LARGEST_TILE = (1 << 8) - 1
"""Rows and columns of the largest product tile: instructions have 8 bits for them."""
_PRESETS = Path(__file__).parent / "targets"
# A run may need 1 GiB of memory, and with the others far above
# any machine the cycles of 10^9 instructions, the most that a run may issue, fit int64.
_LARGEST = {
    "array_rows": 1024,
    "array_columns": 1024,
    "multipliers": 1024,
    "window": 1 << 16,
    "vector_lanes": 1 << 16,
    "softmax_lanes": 1 << 16,
    "clock_mhz": 1_000_000,
    "sram_bytes": 1 << 30,
    "dma_bytes_per_cycle": 1 << 16,
    "dma_latency": 1 << 20,
    "drain_latency": 1 << 20,
    "tile_rows": LARGEST_TILE,
    "tile_columns": LARGEST_TILE,
    "queue_depth": 1 << 16,
}


@dataclass(frozen=True)
class Target:
    """
    One machine. All values are positive integers, the clock may have a fraction.

    Raises `ValueError` naming the key for values of a wrong type or out of range: sizes, rates and latencies have upper
    bounds as well, far above any machine.
    """

    name: str
    array_rows: int
    """R: rows of processing elements, each working on one row of activations."""
    array_columns: int
    """C: columns of processing elements, each working on one output channel."""
    multipliers: int
    """L: int8 multipliers of one processing element."""
    window: int
    """Activations along the reduction axis that a row of the array can feed its selectors in a cycle."""
    vector_lanes: int
    """Elements the vector unit handles in a cycle and pass."""
    softmax_lanes: int
    """Elements the softmax unit handles in a cycle and pass."""
    clock_mhz: float
    """Clock in MHz."""
    sram_bytes: int
    """Bytes shared by the scratchpad, the weight buffer and the accumulators; a multiple of 64."""
    dma_bytes_per_cycle: int
    """Bytes moved by each of load and store in a cycle."""
    dma_latency: int
    """Cycles from the last transfer of a DMA to its completion."""
    drain_latency: int
    """Cycles from the last step of a product to results that can be drained."""
    tile_rows: int = 128
    """Most rows of a product tile (an instruction field of 8 bits)."""
    tile_columns: int = 64
    """Most columns of a product tile (an instruction field of 8 bits)."""
    queue_depth: int = 16
    """Instructions that wait in front of a unit before the sequencer stalls."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or not self.name.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"target key 'name' must be a text of one line, got {self.name!r}")
        for field in dataclasses.fields(self):
            if field.name != "name":
                _check_number(field.name, getattr(self, field.name))
        if self.sram_bytes % ALIGNMENT:
            raise ValueError(f"target key 'sram_bytes' must be a multiple of {ALIGNMENT}, got {self.sram_bytes}")

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulate operations of the whole array in a cycle: R * C * L."""
        return self.array_rows * self.array_columns * self.multipliers

    def to_json(self) -> dict[str, Any]:
        """Returns the target as a dictionary that JSON can hold, keys in the order of the fields."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Target":
        """Returns the target that `to_json` described; raises `ValueError` like `from_mapping`."""
        return Target.from_mapping(values)

    @staticmethod
    def from_mapping(values: Mapping[str, Any]) -> "Target":
        """
        Returns the target described by a mapping from field names to values.

        Raises `ValueError` for an unknown key (with a suggestion), a missing key, or a bad value.
        """
        fields = {field.name: field for field in dataclasses.fields(Target)}
        for key in values:
            if key not in fields:
                raise ValueError(f"unknown target key {key!r}{suggestion(str(key), fields)}")
        required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
        missing = [name for name in required if name not in values]
        if missing:
            raise ValueError(f"target keys missing: {', '.join(missing)}")
        return Target(**values)


def preset_names() -> list[str]:
    """Returns the names of the targets that come with the toolchain, sorted."""
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


def target_names() -> list[str]:
    """Returns the names of all presets, sorted: the toolchain's own and those of other packages."""
    ours = preset_names()
    return sorted([*ours, *outside.load_all(outside.TARGETS, ours, _accept)])


def load_target(name_or_path: str | Path) -> Target:
    """
    Returns a preset by its name, or the target in a YAML file (needs PyYAML; a file's name is its default name).

    Raises `ValueError` for an unknown name (listing the names, with a suggestion), an unreadable file, bad contents, or
    a preset of another package that cannot be used.
    """
    text = str(name_or_path)
    if text in preset_names():
        return _read_target(_PRESETS / f"{text}.yaml")
    path = Path(name_or_path)
    if path.is_file():
        return _read_target(path)
    if path.suffix in (".yaml", ".yml"):
        raise ValueError(f"target file {text!r} does not exist")
    added = outside.load_one(outside.TARGETS, text, _accept)
    if added is not None:
        return added
    names = target_names()
    known = f"known targets: {', '.join(names)}, or the path of a YAML file"
    raise ValueError(f"unknown target {text!r}{suggestion(text, names)}; {known}")


def _accept(name: str, added: object) -> Target:
    """Returns a preset of another package; raises `ValueError` for anything else."""
    if not isinstance(added, Target):
        raise ValueError(f"a Target is expected, not {type(added).__name__}")
    if added.name != name:
        raise ValueError(f"the target's name is {added.name!r}: it must be that of the entry point")
    return added


def _read_target(path: Path) -> Target:
    """Returns the target in a YAML file; raises `ValueError` naming the file."""
    # Only the compiler reads YAML: running a binary must not need the package.
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        values: Any = yaml.safe_load(text)
        repeated = _repeated_key(yaml.compose(text, yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType]
    except RecursionError:
        raise ValueError(f"cannot read target file {path}: it is nested too deeply") from None
    # A number or a date that Python does not accept is a ValueError.
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read target file {path}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"target file {path} does not hold a mapping of keys to values")
    if repeated is not None:
        raise ValueError(f"target file {path}: key {repeated!r} is there twice")
    try:
        return Target.from_mapping({"name": path.stem, **values})
    except ValueError as error:
        raise ValueError(f"target file {path}: {error}") from error


def _repeated_key(mapping: Any) -> str | None:
    """Returns the first key that is twice in the node of a YAML mapping: its values would silently be the last ones."""
    keys: list[Any] = [key.value for key, _ in mapping.value] if mapping is not None and mapping.id == "mapping" else []
    return next((key for position, key in enumerate(keys) if key in keys[:position]), None)


def _check_number(key: str, value: Any) -> None:
    """Raises `ValueError` unless a target key's value is a positive number of the key's kind, and not too large."""
    if key == "clock_mhz":
        valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
        kind = "number"
    else:
        valid = isinstance(value, int) and not isinstance(value, bool) and value > 0
        kind = "integer"
    if not valid:
        raise ValueError(f"target key '{key}' must be a positive {kind}, got {value!r}")
    if value > _LARGEST[key]:
        raise ValueError(f"target key '{key}' must be at most {_LARGEST[key]}, got {value!r}")
