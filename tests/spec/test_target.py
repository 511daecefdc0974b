"""Targets: presets, files and their mistakes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from sta.spec.target import Target, load_target, preset_names

BASE = load_target("sta-base").to_json()


def test_presets() -> None:
    rates = {name: load_target(name).macs_per_cycle for name in preset_names()}
    assert rates.items() >= {"sta-small": 256, "sta-base": 1024, "sta-large": 4096}.items()
    assert all(load_target(name).name == name for name in preset_names())


def test_the_base_target_is_the_one_results_are_reported_on() -> None:
    assert BASE == {
        "name": "sta-base",
        "array_rows": 16,
        "array_columns": 16,
        "multipliers": 4,
        "window": 64,
        "vector_lanes": 32,
        "softmax_lanes": 32,
        "clock_mhz": 200,
        "sram_bytes": 1 << 20,
        "dma_bytes_per_cycle": 64,
        "dma_latency": 100,
        "drain_latency": 40,
        "tile_rows": 128,
        "tile_columns": 64,
        "queue_depth": 16,
    }


@pytest.mark.parametrize("name", preset_names())
def test_targets_survive_json(name: str) -> None:
    target = load_target(name)
    assert Target.from_json(json.loads(json.dumps(target.to_json()))) == target


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    lines = [f"{key}: {value}" for key, value in BASE.items() if key not in ("name", "tile_rows", "clock_mhz")]
    path.write_text("\n".join([*lines, "clock_mhz: 187.5"]))
    expected = dataclasses.replace(load_target("sta-base"), name="mine", clock_mhz=187.5)
    assert load_target(path) == load_target(str(path)) == expected


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown target 'sta-bass'; did you mean 'sta-base'.*sta-base, sta-large"):
        load_target("sta-bass")
    with pytest.raises(ValueError, match=r"target file 'no\.yaml' does not exist"):
        load_target("no.yaml")
    with pytest.raises(ValueError, match="unknown target"):
        load_target("")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "does not hold a mapping"),
        ("", "does not hold a mapping"),
        ("a: [", "cannot read"),
        ("widow: 64\n", "did you mean 'window'"),
        ("window: 64\nmultipliers: 4\nwindow: 32\n", "key 'window' is there twice"),
        ("window: " + "9" * 5000, "cannot read"),
        ("window: 2026-13-45\n", "cannot read"),
        ("[" * 3000, "nested too deeply"),
        ("name: t\n---\nname: u\n", "cannot read"),
        ("1: 2\n", "unknown target key 1"),
    ],
)
def test_bad_files_name_themselves(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"bad.yaml.*{message}|{message}.*bad.yaml"):
        load_target(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windw": 64}, "unknown target key 'windw'; did you mean 'window'"),
        ({"window": 0}, "'window' must be a positive integer, got 0"),
        ({"window": -4}, "'window'"),
        ({"window": 6.0}, "'window' must be a positive integer, got 6.0"),
        ({"window": "64"}, "'window'"),
        ({"window": True}, "'window'"),
        ({"clock_mhz": "fast"}, "'clock_mhz' must be a positive number"),
        ({"clock_mhz": float("inf")}, "'clock_mhz'"),
        ({"clock_mhz": float("nan")}, "'clock_mhz'"),
        ({"sram_bytes": 1000}, "'sram_bytes' must be a multiple of 64, got 1000"),
        ({"clock_mhz": True}, "'clock_mhz' must be a positive number, got True"),
        ({"clock_mhz": 1e7}, "'clock_mhz' must be at most 1000000, got 10000000.0"),
        ({"array_rows": float("nan")}, "'array_rows' must be a positive integer, got nan"),
        ({"array_rows": 1025}, "'array_rows' must be at most 1024"),
        ({"softmax_lanes": 1 << 80}, "'softmax_lanes' must be at most 65536"),
        ({"sram_bytes": 1 << 40}, "'sram_bytes' must be at most 1073741824"),
        ({"dma_latency": 10**9}, "'dma_latency' must be at most 1048576"),
        ({"tile_rows": 256}, "'tile_rows' must be at most 255"),
        ({"name": 3}, "'name' must be a text"),
        ({"name": "a\nb"}, "'name' must be a text of one line"),
    ],
)
def test_bad_values_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Target.from_mapping({**BASE, **change})


def test_missing_keys_are_listed() -> None:
    left = {key: value for key, value in BASE.items() if key not in ("window", "dma_latency", "queue_depth")}
    with pytest.raises(ValueError, match=r"missing: window, dma_latency$"):
        Target.from_mapping(left)


def test_a_file_has_bounds_too(tmp_path: Path) -> None:
    for key, text in (("clock_mhz", ".inf"), ("clock_mhz", ".nan"), ("window", "yes"), ("queue_depth", "1.0e+3")):
        path = tmp_path / "mine.yaml"
        path.write_text("\n".join(f"{name}: {text if name == key else value}" for name, value in BASE.items()))
        with pytest.raises(ValueError, match=rf"mine\.yaml: target key '{key}' must be a positive"):
            load_target(path)


def test_the_largest_machine_is_one() -> None:
    largest = {key: value for key, value in BASE.items() if key == "name"}
    for key in BASE.keys() - {"name"}:
        with pytest.raises(ValueError, match=f"'{key}' must be at most [0-9]+, got") as refused:
            Target.from_mapping({**BASE, key: 1 << 70})
        largest[key] = int(str(refused.value).split("at most ")[1].split(",")[0])
    assert Target.from_mapping(largest).macs_per_cycle == 1 << 30
