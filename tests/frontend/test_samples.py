"""Reading calibration samples."""

from typing import Any

import numpy as np
import pytest
import torch

from sta.frontend.errors import ModelError
from sta.frontend.samples import InputType, split_samples

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


def test_samples_get_the_models_shapes_and_dtypes() -> None:
    tensors = {name: torch.tensor(array) for name, array in arrays().items()}
    lists = {name: array.tolist() for name, array in arrays().items()}
    for source in (arrays(), tensors, lists):
        samples = split_samples(source, INPUTS)
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
        ({"x": np.full((4, 2, 3), -1e39)}, r"'x' hold -1e\+39 at \[0, 0, 0\], which is no float32"),
        ({"x": [[1.0], [2.0, 3.0]]}, "samples of 'x' cannot be read as an array of numbers"),
        ({"x": torch.ones(4, 2, 3, dtype=torch.bfloat16)}, "samples of 'x' cannot be read as an array of numbers"),
        ({"x": None}, "'x' must be float32, not object"),
        ({"x": np.ones((4, 2, 3), complex)}, "'x' must be float32, not complex128"),
        ({"ids": np.full((4, 3), 2**63, np.uint64)}, "'ids' hold 9223372036854775808 at .*, which is no int64"),
        ({"keep": np.full((4, 3), 2)}, r"'keep' hold 2 at \[0, 0, 0\], which is no bool"),
        ({"ids": np.zeros((3, 3), int)}, "different numbers of samples: {'ids': 3, 'x': 4, 'keep': 4}"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        split_samples(arrays() | change, INPUTS)


def test_missing_inputs_and_samples() -> None:
    incomplete = arrays()
    del incomplete["keep"]
    with pytest.raises(ModelError, match="lack 'keep'"):
        split_samples(incomplete, INPUTS)
    with pytest.raises(ModelError, match="not a single sample"):
        split_samples(arrays(0), INPUTS)
