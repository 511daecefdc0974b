"""The interpreter of the torch dialect: PyTorch's numbers, and ours where PyTorch has none."""
# ruff: noqa: E501 - a line of IR is an operation

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.ir import SSAValue

from sta.dialect.interpreters.torch import TorchInterpretationError, is_random, run_torch
from sta.dialect.ir.context import CompileContext
from tests.support.torch_modules import parse

FAKE_QUANTIZE = """
func.func @main(%x: !torch.vtensor<[64],f32> {{sta.name = "x"}}) -> (!torch.vtensor<[64],f32> {{sta.name = "y"}}) {{
  %y = torch.fake_quantize %x to {storage} scale {scale:.17e} zero_point {zero_point} : !torch.vtensor<[64],f32>
  func.return %y : !torch.vtensor<[64],f32>
}}
"""

ATTENTION = """
func.func @main(%q: !torch.vtensor<[2,1,3,4],f32> {sta.name = "q"}, %mask: !torch.vtensor<[2,1,1,3],i1> {sta.name = "mask"}) -> (!torch.vtensor<[2,1,3,4],f32> {sta.name = "y"}) {
  %zero = torch.constant.float 0.0
  %half = torch.constant.float 0.5
  %true = torch.constant.bool true
  %false = torch.constant.bool false
  %y = torch.aten.scaled_dot_product_attention %q, %q, %q, %mask, %zero, %true, %half, %false : !torch.vtensor<[2,1,3,4],f32>, !torch.vtensor<[2,1,3,4],f32>, !torch.vtensor<[2,1,3,4],f32>, !torch.vtensor<[2,1,1,3],i1>, !torch.float, !torch.bool, !torch.float, !torch.bool -> !torch.vtensor<[2,1,3,4],f32>
  func.return %y : !torch.vtensor<[2,1,3,4],f32>
}
"""

DROPOUT = """
func.func @main(%x: !torch.vtensor<[3],f32> {sta.name = "x"}) -> (!torch.vtensor<[3],f32> {sta.name = "y"}) {
  %half = torch.constant.float 0.5
  %false = torch.constant.bool false
  %y = torch.aten.dropout %x, %half, %false : !torch.vtensor<[3],f32>, !torch.float, !torch.bool -> !torch.vtensor<[3],f32>
  func.return %y : !torch.vtensor<[3],f32>
}
"""


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["si8", "si16"]), st.floats(1e-4, 10.0), st.integers(-128, 127), st.integers(0, 2**32 - 1))
def test_fake_quantize_is_pytorchs(storage: str, scale: float, zero_point: int, seed: int) -> None:
    zero_point = zero_point if storage == "si8" else 0
    low, high = (-128, 127) if storage == "si8" else (-32768, 32767)
    x = (np.random.default_rng(seed).normal(size=64) * scale * high).astype(np.float32)
    module = parse(FAKE_QUANTIZE.format(storage=storage, scale=scale, zero_point=zero_point))
    expected = torch.fake_quantize_per_tensor_affine(torch.tensor(x), scale, zero_point, low, high).numpy()
    np.testing.assert_array_equal(run_torch(module, CompileContext(), {"x": x})["y"], expected)


def test_a_mask_and_is_causal_admit_what_both_admit() -> None:
    q = np.random.default_rng(0).normal(size=(2, 1, 3, 4)).astype(np.float32)
    mask = np.array([[True, True, False], [False, True, True]]).reshape(2, 1, 1, 3)
    result = run_torch(parse(ATTENTION), CompileContext(), {"q": q, "mask": mask})["y"]
    scores = q @ q.transpose(0, 1, 3, 2) * 0.5
    admissible = mask & np.tril(np.ones((3, 3), bool))
    weights = np.where(admissible, np.exp(scores), 0)
    sums = weights.sum(-1, keepdims=True)
    expected = np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0) @ q
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert np.all(result[1, 0, 0] == 0), "a row without admissible key is 0"


def test_observe_sees_every_computed_tensor() -> None:
    seen: dict[SSAValue, torch.Tensor] = {}
    module = parse(DROPOUT)
    x = np.ones(3, np.float32)
    result = run_torch(module, CompileContext(), {"x": x}, lambda value, tensor, _: seen.update({value: tensor}))
    assert [tensor.numpy().sum() for tensor in seen.values()] == [3]
    assert result["y"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"missing: \['x'\]"),
        ({"x": np.ones(3, np.float32), "z": np.ones(1)}, r"unknown: \['z'\]"),
        ({"x": np.ones(4, np.float32)}, r"'x' is float32\[3\], not float32\[4\]"),
        ({"x": np.ones(3)}, "not float64"),
    ],
)
def test_inputs_are_checked(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_torch(parse(DROPOUT), CompileContext(), inputs)


def test_errors_name_the_operation_and_its_module() -> None:
    text = DROPOUT.replace("%half = torch.constant.float 0.5", "%half = torch.constant.float 1.5")
    text = text.replace("f32>\n  func.return", 'f32> loc("layer.3"("m.py":7:0))\n  func.return')
    with pytest.raises(TorchInterpretationError, match=r"torch.aten.dropout of layer.3 \(m.py:7\)") as caught:
        run_torch(parse(text), CompileContext(), {"x": np.ones(3, np.float32)})
    assert not getattr(caught.value, "__notes__", []), "the module's text is no part of the message"


def test_random_operators_are_known() -> None:
    operations = {operation.name: is_random(operation) for operation in parse(DROPOUT).walk()}
    assert operations["torch.aten.dropout"]
    assert not operations["torch.constant.float"]
