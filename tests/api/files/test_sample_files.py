"""Samples in every form: the same samples, whichever form they come in."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sta.api.files.sample_files import read_samples
from sta.frontend.samples import InputType
from sta.passes.option_values import as_samples

TYPES = {
    "ids": InputType((1, 6), np.dtype(np.int64)),
    "mask": InputType((1, 6), np.dtype(np.bool_)),
}
ONE = {"src": InputType((1, 4, 3), np.dtype(np.float32))}
GENERATOR = np.random.default_rng(0)
ARRAYS: dict[str, Any] = {"ids": GENERATOR.integers(0, 9, (5, 1, 6)), "mask": GENERATOR.random((5, 1, 6)) < 0.5}
SOURCES = GENERATOR.standard_normal((5, 1, 4, 3), np.float32)


def read(data: Any, types: dict[str, InputType]) -> list[dict[str, Any]]:
    return read_samples("calibration", as_samples("calibration", data), types)


def items() -> list[dict[str, Any]]:
    return [{name: array[index] for name, array in ARRAYS.items()} for index in range(5)]


def loader(size: int) -> Iterable[Any]:
    rows: Any = [{name: torch.tensor(array[0]) for name, array in item.items()} for item in items()]
    return DataLoader(rows, batch_size=size)


FORMS: list[Callable[[], Any]] = [
    lambda: ARRAYS,
    lambda: {name: array[:, 0] for name, array in ARRAYS.items()},
    items,
    lambda: iter(items()),
    lambda: [{name: array[0] for name, array in item.items()} for item in items()],
    lambda: [tuple(item.values()) for item in items()],
    lambda: [{name: array[part, 0] for name, array in ARRAYS.items()} for part in (slice(0, 3), slice(3, 5))],
    lambda: loader(1),
    lambda: loader(2),
]
SINGLE_FORMS: list[Callable[[], Any]] = [
    lambda: SOURCES,
    lambda: list(SOURCES[:, 0]),
    lambda: [SOURCES[:3], SOURCES[3:]],
    lambda: torch.tensor(SOURCES),
]


@pytest.mark.parametrize("form", FORMS)
def test_samples_of_two_inputs(form: Callable[[], Any]) -> None:
    found = read(form(), TYPES)
    assert len(found) == 5
    for sample, wanted in zip(found, items(), strict=True):
        assert sample.keys() == wanted.keys()
        for name, array in wanted.items():
            assert sample[name].dtype == array.dtype
            np.testing.assert_array_equal(sample[name], array)


@pytest.mark.parametrize("form", SINGLE_FORMS)
def test_samples_of_the_only_input_need_no_name(form: Callable[[], Any]) -> None:
    np.testing.assert_array_equal([sample["src"] for sample in read(form(), ONE)], SOURCES)


def test_folders(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("archives", "inputs", "arrays")]
    for folder in folders:
        folder.mkdir()
    (folders[0] / "notes.txt").write_text("not a sample")
    for index, item in enumerate(items()):
        np.savez(folders[0] / f"{index:03}.npz", **item)
    for name, array in ARRAYS.items():
        np.save(folders[1] / f"{name}.npy", array)
    for index, array in enumerate(SOURCES):
        np.save(folders[2] / f"{index}.npy", array)
    for folder in folders[:2]:
        for sample, wanted in zip(read(str(folder), TYPES), items(), strict=True):
            np.testing.assert_array_equal(sample["ids"], wanted["ids"])
            np.testing.assert_array_equal(sample["mask"], wanted["mask"])
    np.testing.assert_array_equal([sample["src"] for sample in read(folders[2], ONE)], SOURCES)


def test_faults_are_named_with_their_element_or_file(tmp_path: Path) -> None:
    def fails(data: Any, words: str, types: dict[str, InputType] = TYPES) -> None:
        with pytest.raises(ValueError, match=words):
            read(data, types)

    fails([], "calibration: there is not a single sample")
    fails([*items(), {"ids": ARRAYS["ids"][0]}], "calibration: element 5: the samples lack 'mask'")
    fails([ARRAYS["ids"][0]], "element 0: the model has 2 inputs, ids, mask, and there are 1 arrays: give a mapping")
    fails([np.ones((3, 3), np.float32)], r"element 0: samples of 'src' must have the shape \[samples, 1, 4, 3\]", ONE)
    fails(tmp_path, "must hold .npz files or .npy files, and holds neither")
    np.save(tmp_path / "ids.npy", ARRAYS["ids"])
    fails(tmp_path, "must hold one .npy file for each input: ids.npy, mask.npy")
    (tmp_path / "mask.npy").write_bytes(b"no array")
    fails(tmp_path, "mask.npy is no .npy file of numbers")
    np.savez(tmp_path / "0.npz", **items()[0])
    fails(tmp_path, "holds both")
    with pytest.raises(TypeError, match="not int"):
        as_samples("calibration", 3)
    with pytest.raises(FileNotFoundError):
        as_samples("calibration", tmp_path / "missing")
