"""The weight store: immutable, and the same after a trip through a file."""

from pathlib import Path

import numpy as np
import pytest

from sta.dialect.ir.weight_store import WeightStore


def test_put_refuses_another_value_under_the_same_name() -> None:
    store = WeightStore()
    store.put("w", np.ones(3, np.float32))
    store.put("w", np.ones(3, np.float32))
    with pytest.raises(ValueError, match="already holds another array called 'w'"):
        store.put("w", np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="another array"):
        store.put("w", np.ones(3, np.float64))


def test_arrays_are_read_only_and_not_copied() -> None:
    store = WeightStore()
    array = np.arange(4)
    store.put("w", array)
    assert np.shares_memory(store.get("w"), array)
    with pytest.raises(ValueError, match="read-only"):
        store.get("w")[0] = 1


def test_put_unique_reuses_equal_arrays_and_numbers_others() -> None:
    store = WeightStore()
    assert store.put_unique("w", np.ones(2)) == "w"
    assert store.put_unique("w", np.zeros(2)) == "w.2"
    assert store.put_unique("w", np.ones(2)) == "w"
    assert store.put_unique("w", np.zeros(2)) == "w.2"


def test_unknown_names_are_named() -> None:
    with pytest.raises(KeyError, match="'missing'"):
        WeightStore().get("missing")


def test_a_copy_shares_arrays_but_not_names() -> None:
    store = WeightStore()
    store.put("w", np.ones(2))
    copy = store.copy()
    copy.put("v", np.ones(2))
    assert np.shares_memory(copy.get("w"), store.get("w"))
    assert "v" not in store


def test_save_and_open_keep_every_array(tmp_path: Path) -> None:
    store = WeightStore()
    arrays = {"scalar": np.array(2.5, np.float32), "m": np.eye(3, dtype=np.int8).T, "empty": np.zeros((0, 2), np.int64)}
    for name, array in arrays.items():
        store.put(name, array)
    store.save(tmp_path / "w.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    opened = WeightStore.open(tmp_path / "w.safetensors")
    assert opened.names() == sorted(arrays)
    assert len(opened) == 3
    for name, array in arrays.items():
        assert opened.get(name).dtype == array.dtype
        np.testing.assert_array_equal(opened.get(name), array)
    with pytest.raises(ValueError, match="another array"):
        opened.put("m", np.zeros((3, 3), np.int8))


def test_open_refuses_what_is_no_weight_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WeightStore.open(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="not a safetensors file"):
        WeightStore.open(tmp_path / "text")
