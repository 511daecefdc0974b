"""Host prologues: runs, round trips through JSON, and every refusal of a damaged one."""

import json
from typing import Any

import numpy as np
import pytest

from sta.spec.host_prologue import HostInput, HostPrologue, HostStep
from sta.spec.signature import TensorSignature
from tests.support.random_prologues import RandomPrologue

POSITIONS: dict[str, Any] = {
    "inputs": [
        {"name": "ids", "shape": [2, 4], "dtype": "int64", "holds_mask": False},
        {"name": "x", "shape": [3], "dtype": "float32", "holds_mask": False},
    ],
    "steps": [
        {"operation": "number", "operands": [], "value": 1, "dtype": "int64", "path": "", "source": ""},
        {"operation": "equal", "operands": [0, 2], "path": "embeddings", "source": "aten.ne.Scalar"},
        {"operation": "not", "operands": [3], "path": "embeddings", "source": "aten.ne.Scalar"},
        {"operation": "convert", "operands": [4], "dtype": "int64", "path": "embeddings", "source": "aten.to.dtype"},
        {"operation": "cumsum", "operands": [5], "axis": 1, "path": "embeddings", "source": "aten.cumsum"},
        {"operation": "table", "operands": [], "offset": 8, "shape": [4], "dtype": "int64", "path": "", "source": ""},
        {"operation": "take", "operands": [7, 6], "axis": 0, "path": "embeddings", "source": "aten.index_select"},
    ],
    "results": [{"name": "positions", "value": 8}],
}
"""The table at the positions of ids that are not 1."""
TABLES = np.array([0, 5, 6, 7, 8], np.int64).view(np.uint8)
IDS = np.array([[3, 4, 1, 1], [1, 3, 1, 1]])
PORTS = [
    TensorSignature("positions", (2, 4), "int64", "int32", "index", limit=8),
    TensorSignature("x", (3,), "float32", "int16", "quantized", scale=0.5),
]


def positions() -> HostPrologue:
    return HostPrologue.from_json(json.loads(json.dumps(POSITIONS)), TABLES)


def test_a_prologue_computes_its_results() -> None:
    assert positions().run({"ids": IDS})["positions"].tolist() == [[6, 7, 7, 7], [5, 6, 6, 6]]


def test_inputs_are_encoded_for_the_machine() -> None:
    encoded = positions().encode(PORTS, {"ids": IDS.astype(np.int32), "x": np.array([0.5, 1.0, -2.0], np.float32)})
    assert encoded["positions"].dtype == np.int32
    assert encoded["x"].tolist() == [1, 2, -4]


def test_an_index_outside_names_input_and_layer() -> None:
    with pytest.raises(ValueError, match=r"^input 'ids': aten.index_select in embeddings: 4 at \[1, 3\] is no index"):
        positions().run({"ids": np.array([[3, 4, 1, 1], [3, 3, 3, 3]])})


def test_an_index_outside_of_a_table_of_the_machine_names_the_input() -> None:
    ports = [TensorSignature("positions", (2, 4), "int64", "int32", "index", limit=7)]
    with pytest.raises(
        ValueError, match=r"^input 'ids', of which 'positions' is made: expected indices in 0..6, got 7"
    ):
        positions().encode(ports, {"ids": IDS, "x": np.zeros(3, np.float32)})


def test_floats_that_hold_a_mask_are_read_as_bools() -> None:
    inputs = (HostInput("mask", (3,), "float32", holds_mask=True), HostInput("x", (3,), "float32"))
    prologue = HostPrologue(inputs, (HostStep("not", (0,), {}),), (("left_out", 2),), np.zeros(0, np.uint8))
    ports = [TensorSignature("left_out", (3,), "bool", "uint8", "mask")]
    given = np.array([1.0, 0.0, 1.0], np.float32)
    assert prologue.encode(ports, {"mask": given, "x": given})["left_out"].tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match=r"input 'mask': a mask holds 0 and 1, got 0\.5 at position \(2,\)"):
        prologue.encode(ports, {"mask": given * 0.5 + [0.5, 0.0, 0.0], "x": given})
    with pytest.raises(ValueError, match="no values of integers or bools"):
        HostPrologue(inputs, (HostStep("not", (1,), {}),), (), np.zeros(0, np.uint8))


@pytest.mark.parametrize("seed", range(30))
def test_json_keeps_everything(seed: int) -> None:
    drawn = RandomPrologue(seed, 12)
    prologue = drawn.prologue((("result", len(drawn.types) - 1),))
    read = HostPrologue.from_json(json.loads(json.dumps(prologue.to_json())), drawn.tables)
    assert read.to_json() == prologue.to_json()
    assert read.types == prologue.types
    numbers = drawn.numbers()
    assert outcome(read, numbers) == outcome(prologue, numbers)


def outcome(prologue: HostPrologue, numbers: dict[str, Any]) -> Any:
    """The result of a run, or its error."""
    try:
        return prologue.run(numbers)["result"].tolist()
    except ValueError as error:
        return str(error)


GONE = object()
"""In place of a value: none."""


def changed(place: tuple[Any, ...], value: object) -> dict[str, Any]:
    """The prologue's JSON with another value at a place."""
    section = json.loads(json.dumps(POSITIONS))
    parent: Any = section
    *path, key = place
    for part in path:
        parent = parent[part]
    if value is GONE:
        del parent[key]
    else:
        parent[key] = value
    return section


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("steps",), GONE, "not an object of"),
        (("steps",), {}, "'steps' is not a list"),
        (("inputs",), [3], "'inputs' is not a list"),
        (("inputs", 0, "name"), GONE, "an input has a name"),
        (("inputs", 0, "extra"), 1, "an input has a name"),
        (("inputs", 0, "shape"), [0, 1], "axes with elements"),
        (("inputs", 1, "name"), "ids", "the same name"),
        (("steps", 1, "operands"), [0, 9], "step 1: its operands .* are no values"),
        (("steps", 1, "operands"), [0, -1], "step 1: its operands .* are no values"),
        (("steps", 1, "operands"), [0, 1], "step 1: its operands .* are no values"),
        (("steps", 1, "operands"), "ab", "step 1: an operation"),
        (("steps", 1, "operation"), "exec", "step 1: unknown operation 'exec'"),
        (("steps", 1, "path"), None, "step 1: an operation"),
        (("steps", 4, "axis"), 2, "step 4: cumsum of int64"),
        (("steps", 5, "offset"), 16, "no table of 40 bytes"),
        (("steps", 5, "offset"), 4, "no table of 40 bytes"),
        (("steps", 5, "offset"), -8, "no table of 40 bytes"),
        (("steps", 5, "shape"), [1 << 62], "no table of 40 bytes"),
        (("steps", 5, "dtype"), "object", "dtype is 'object'"),
        (("steps", 5, "offset"), GONE, "a table has no operands"),
        (("results", 0, "value"), 1, "no value of integers"),
        (("results", 0, "value"), 9, "no value of integers"),
        (("results", 0, "value"), "8", "a result has a name"),
        (("results", 0, "name"), "ids", "has the name of an input"),
        (("steps",), POSITIONS["steps"] * 3000, "21000 steps, at most"),
    ],
)
def test_a_damaged_prologue_is_refused(place: tuple[Any, ...], value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HostPrologue.from_json(changed(place, value), TABLES)


def test_memory_is_known_before_anything_is_computed() -> None:
    expand = {"operation": "expand", "operands": [2], "shape": [1 << 40], "path": "", "source": ""}
    section = {**POSITIONS, "steps": [POSITIONS["steps"][0], expand], "results": [{"name": "large", "value": 3}]}
    assert HostPrologue.from_json(section, TABLES).nbytes > 1 << 43
