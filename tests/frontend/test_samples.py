"""Reading calibration samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sta.frontend.errors import ModelError
from sta.frontend.samples import InputType, read_samples

INPUTS = {
    "ids": InputType((1, 3), np.dtype(np.int64)),
    "x": InputType((2, 3), np.dtype(np.float32)),
    "keep": InputType((1, 3), np.dtype(np.bool_)),
}


def arrays(count: int = 4) -> dict[str, Any]:
    return {
        "ids": np.arange(count * 3, dtype=np.int32).reshape(count, 3),
        "x": np.ones((count, 2, 3)),
        "keep": np.ones((count, 1, 3), np.int64),
    }


def test_samples_get_the_models_shapes_and_dtypes(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", **arrays())
    for source in (arrays(), tmp_path / "c.npz", str(tmp_path / "c.npz")):
        samples = read_samples(source, INPUTS)
        assert len(samples) == 4
        for sample in samples:
            assert {name: (array.shape, array.dtype) for name, array in sample.items()} == {
                name: (kind.sizes, kind.dtype) for name, kind in INPUTS.items()
            }
        assert samples[1]["ids"].tolist() == [[3, 4, 5]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"idss": np.ones(1)}, "no input 'idss'; did you mean 'ids'"),
        ({"ids": np.zeros((4, 4), int)}, r"'ids' must have the shape \[samples, 1, 3\], not \[4, 4\]"),
        ({"x": np.ones((4, 3))}, r"'x' must have the shape"),
        ({"ids": np.zeros(())}, "'ids' must be int64, not float64"),
        ({"ids": np.array(1)}, r"shape \[samples, 1, 3\], not \[\]"),
        ({"x": np.zeros((4, 2, 3), int)}, "'x' must be float32, not int64"),
        ({"x": np.full((4, 2, 3), np.nan)}, r"'x' hold nan at \[0, 0, 0\]"),
        ({"keep": np.full((4, 3), 2)}, "do not fit into bool"),
        ({"ids": np.zeros((3, 3), int)}, "different numbers of samples: {'ids': 3, 'x': 4, 'keep': 4}"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_samples(arrays() | change, INPUTS)


def test_missing_inputs_and_samples() -> None:
    incomplete = arrays()
    del incomplete["keep"]
    with pytest.raises(ModelError, match="lack 'keep'"):
        read_samples(incomplete, INPUTS)
    with pytest.raises(ModelError, match="not a single sample"):
        read_samples(arrays(0), INPUTS)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no sample file at"):
        read_samples(tmp_path / "none.npz", INPUTS)
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(ModelError, match=r"not a \.npz file"):
        read_samples(tmp_path / "one.npy", INPUTS)
    np.savez(tmp_path / "objects.npz", ids=np.array([{}], dtype=object))
    with pytest.raises(ModelError, match="cannot read"):
        read_samples(tmp_path / "objects.npz", INPUTS)
