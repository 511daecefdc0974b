"""Activations of 8-bit values, as in models that were quantized before."""

import numpy as np
import pytest

from sta.dialect.interpreters.any_level import run_integers
from sta.dialect.ir.context import CompileContext
from sta.spec.operators.registry import activation
from sta.spec.tables import build_table_8, table_8
from tests.support.nm_builder import PLAIN_TARGET, Case
from tests.support.pipeline_check import apply, check_passes
from tests.support.torch_modules import parse

EVERY_INT8 = np.arange(-128, 128).astype(np.int8).reshape(8, 32)
TENSOR = "!torch.vtensor<[8,32],f32>"


def case(name: str, result: str) -> Case:
    """A module that takes 8-bit values of scale 1/16 and zero point 11 through an activation."""
    context = CompileContext(target=PLAIN_TARGET)
    text = f"""
        func.func @main(%x: {TENSOR} {{sta.name = "x"}}) -> ({TENSOR} {{sta.name = "output"}}) {{
          %x8 = torch.fake_quantize %x to si8 scale 6.250000e-02 zero_point 11 : {TENSOR}
          %y = torch.aten.{name} %x8 : {TENSOR} -> {TENSOR}
          %y8 = torch.fake_quantize %y to {result} : {TENSOR}
          func.return %y8 : {TENSOR}
        }}"""
    module = apply(parse(text, context), context, "convert-torch-to-nm")
    return Case(module, context, {"x": ((EVERY_INT8.astype(np.float32) - 11) / 16)})


@pytest.mark.parametrize("name", ["silu", "tanh", "sigmoid", "relu"])
def test_8_bits_to_8_bits_is_correctly_rounded(name: str) -> None:
    given = case(name, "si8 scale 3.125000e-02 zero_point -60")
    expected = table_8(EVERY_INT8, build_table_8(activation(name), 1 / 16, 1 / 32, 11, -60))
    found = run_integers(given.module, given.context.weights, given.inputs)[0]["output"]
    np.testing.assert_array_equal(found, expected)
    assert list(check_passes(given))[-1] == "sta-synchronize"


@pytest.mark.parametrize("name", ["silu", "tanh"])
def test_8_bits_to_16_bits_is_looked_up_at_entries(name: str) -> None:
    given = case(name, "si16 scale 2.441406e-04 zero_point 0")
    exact = activation(name)((EVERY_INT8.astype(np.float64) - 11) / 16) / 2.441406e-04
    found = run_integers(given.module, given.context.weights, given.inputs)[0]["output"]
    # Rounded in the table, which reaches for any 8-bit input minus any zero point, and once more in the result.
    table_scale = activation(name)(np.array([16.0])).item() / 32767
    assert np.abs(found - exact).max() <= 0.5 + 0.5 * table_scale / 2.441406e-04 + 1e-3
