"""GPTQ: less error at a layer's outputs, on the same grid, and zeros stay."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sta.passes.quantization import gptq
from sta.passes.quantization.candidate import rounded_weights
from sta.passes.quantization.gptq import rounded_by_inputs
from sta.passes.quantization.integer_weights import quantize_linear
from sta.spec.nm_format import Pattern, prune_by_magnitude


def correlated(rows: int, width: int, seed: int) -> NDArray[Any]:
    """Inputs that depend on each other, as activations do."""
    generator = np.random.default_rng(seed)
    basis = generator.standard_normal((max(1, width // 4), width))
    return (generator.standard_normal((rows, len(basis))) @ basis).astype(np.float32)


@settings(max_examples=40)
@given(
    st.integers(1, 9), st.integers(1, 75), st.integers(1, 40), st.integers(0, 999), st.sampled_from([0.0, 1e-30, 1e20])
)
def test_what_is_stored_is_what_the_conversion_rounds_it_to(
    outputs: int, width: int, rows: int, seed: int, size: float
) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((outputs, width)).astype(np.float32)
    weights[generator.random((outputs, width)) < 0.3] = 0.0
    rounded = rounded_by_inputs(weights, correlated(rows, width, seed) * np.float32(size))
    assert rounded.dtype == np.float32
    before, after = (quantize_linear(array, None, 0.1, 3) for array in (weights, rounded))
    # One definition of the scale: that of the largest weight, which is where it was.
    np.testing.assert_allclose(after.scales, before.scales, rtol=1e-6)
    np.testing.assert_allclose(after.weights * (after.scales / 0.1)[:, None], rounded, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(rounded_weights(rounded), rounded, rtol=1e-6)
    assert (rounded[weights == 0] == 0).all()
    assert np.abs(after.weights.astype(int)).max(initial=0) <= 127


# The fewer weights there are, the fewer can make up for one.
@pytest.mark.parametrize(("pattern", "part"), [(None, 0.5), ("2:4", 0.7), ("1:8", 0.9)])
def test_outputs_have_less_error_on_rows_never_seen(pattern: str | None, part: float) -> None:
    generator = np.random.default_rng(1)
    weights = generator.standard_normal((48, 96)).astype(np.float32)
    if pattern is not None:
        weights = prune_by_magnitude(weights, Pattern.parse(pattern))
    inputs = correlated(400, 96, 2)
    errors = [
        float(np.square(inputs[200:] @ (rounded - weights).T).mean())
        for rounded in (rounded_weights(weights), rounded_by_inputs(weights, inputs[:200]))
    ]
    assert errors[1] < part * errors[0]


def test_inputs_that_do_not_depend_on_each_other_leave_nothing_to_correct() -> None:
    weights = np.random.default_rng(3).standard_normal((7, 40)).astype(np.float32)
    np.testing.assert_allclose(
        rounded_by_inputs(weights, np.eye(40, dtype=np.float32)), rounded_weights(weights), rtol=1e-6
    )


@pytest.mark.parametrize(("block", "panel"), [(32, 192), (5, 7), (7, 5), (1, 1)])
def test_the_correction_is_that_of_gptq(block: int, panel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Algorithm 1 of the paper, column by column with the inverse, for the same damping and order."""
    monkeypatch.setattr(gptq, "BLOCK", block)
    monkeypatch.setattr(gptq, "PANEL", panel)
    generator = np.random.default_rng(4)
    weights = generator.standard_normal((5, 24)).astype(np.float32)
    inputs = correlated(60, 24, 5)
    energy = np.square(inputs, dtype=np.float64).sum(axis=0)
    order = np.argsort(-energy, kind="stable")
    hessian = (inputs.T @ inputs).astype(np.float64)[np.ix_(order, order)]
    hessian += energy.mean() * np.eye(24)
    linalg: Any = np.linalg
    upper: NDArray[Any] = linalg.cholesky(linalg.inv(hessian)).T
    largest = np.abs(weights).max(axis=1).astype(np.float64)
    scales = largest / 127
    rest = weights[:, order].astype(np.float64)
    rounded = np.empty_like(rest)
    for column in range(24):
        original = weights[:, order[column]]
        nearest = np.clip(np.rint(rest[:, column] / scales), -127, 127) * scales
        rounded[:, column] = np.where(np.abs(original) == largest, original, nearest)
        error: NDArray[Any] = (rest[:, column] - rounded[:, column]) / upper[column, column]
        rest[:, column:] -= np.outer(error, upper[column, column:])
    np.testing.assert_allclose(rounded_by_inputs(weights, inputs)[:, order], rounded, rtol=1e-5)
