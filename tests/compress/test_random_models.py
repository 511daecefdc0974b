"""STAQuantizer on models nobody tuned it to: no value lacks a format."""

import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from sta.api.compiler.compilation import compile_model
from sta.compress.quantize_program import quantize_program
from sta.dialect import nm
from sta.frontend.forward_names import input_names
from tests.support.random_models import SHAPES, RandomTransformer, Shape

SLOW = [HealthCheck.too_slow]

ANNOTATED = SHAPES.map(lambda shape: replace(shape, stem="none", multiplied=False))
"""The quantizer annotates no convolutions, which it would see before they become linear layers."""


def is_quantized_whole(shape: Shape) -> None:
    """Compiles without calibration and without a warning, and products take operands of 8 bits."""
    model = RandomTransformer(shape).eval()
    inputs = model.example_inputs()
    program = torch.export.export(model, (), inputs, strict=False)
    sample = {name: value.numpy() for name, value in inputs.items()}
    quantized = quantize_program(program, input_names(program), [sample])
    with warnings.catch_warnings():
        # A value whose format calibration would have to find out warns.
        warnings.simplefilter("error")
        compilation = compile_model(quantized)
    assert compilation.quantization is None
    assert compilation.integer_module is not None
    operations = list(compilation.integer_module.walk())
    products = [op for op in operations if isinstance(op, nm.LinearOp)]
    assert len(products) == shape.layers * (7 if shape.gated else 6) + 1
    operands = [op.x for op in products]
    operands += [value for op in operations if isinstance(op, nm.AttentionOp) for value in op.operands[:3]]
    assert {nm.element_of(value) for value in operands} == {nm.si8}


@settings(max_examples=2, deadline=None, suppress_health_check=SLOW)
@given(ANNOTATED)
def test_random_models_are_quantized_whole(shape: Shape) -> None:
    is_quantized_whole(shape)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(ANNOTATED)
def test_many_random_models_are_quantized_whole(shape: Shape) -> None:
    is_quantized_whole(shape)
