"""Matching a program's values with the float model's tensors, for models of many shapes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings

from sta.api.compiler.compilation import compile_model
from sta.api.inspect.float_comparison import compare, model_of
from sta.compress.quantize_program import quantize_program
from sta.frontend.forward_names import input_names
from tests.support.random_models import SHAPES, RandomTransformer, Shape

LEAST_DECIBELS = 20
"""Least SQNR of the worst operation on its calibration samples; a wrong match has about 0 dB."""
SLOW = [HealthCheck.too_slow]


WITHOUT_STEM = SHAPES.map(lambda shape: replace(shape, stem="none"))
"""Parts of a padded sequence share its buffer: a comparison says so, and leaves them out."""


def every_operation_is_matched(shape: Shape, by_pytorch: bool = False) -> None:
    """
    Compiles without pruning, which is no error of an operation, and compares all that the program computes with the
    float model, from which it was compiled, or quantized `by_pytorch` and then compiled.
    """
    model = RandomTransformer(replace(shape, pattern=None)).eval()
    examples = model.example_inputs()
    with torch.no_grad():
        exported = torch.export.export(model, (), examples, strict=False)
    inputs = {name: value.numpy() for name, value in examples.items()}
    target = ("sta-base", "sta-small", "sta-large")[shape.seed % 3]
    if by_pytorch:
        quantized = quantize_program(exported, input_names(exported), [inputs])
        program = compile_model(quantized, target=target).program
    else:
        program = compile_model(
            exported,
            target=target,
            calibration={name: array[None] for name, array in inputs.items()},
            int16_inputs=shape.int16_inputs,
        ).program
    assert program is not None
    float_model = model_of(program, exported, ("program", "model"), lambda stage, done: None)
    samples = [(inputs, program.encode_inputs(inputs))]
    comparison = compare(program, float_model, samples, ("program", "model"), lambda stage, done: None)
    # A slice that is rounded once more is none that has a name.
    assert all(by_pytorch and value.operation == "nm.map" and not value.source for value, _ in comparison.unseen)
    for one in comparison.compared:
        assert one.isolated.decibels >= LEAST_DECIBELS, (one.path, one.value)


PADDED = Shape(
    batch=1,
    sequence=29,
    heads=1,
    head_size=1,
    feed_forward=1,
    layers=1,
    activation="gelu",
    gated=True,
    norm="layer",
    pre_norm=False,
    decomposed=False,
    causal=False,
    masked=True,
    embedded=False,
    pattern=None,
    seed=80194,
    int16_inputs=(),
)
"""Its largest number is at a position that the mask leaves out, and saturates."""


@settings(max_examples=2, deadline=None, suppress_health_check=SLOW)
@given(WITHOUT_STEM)
@example(PADDED)
def test_every_operation_of_random_transformers_is_matched(shape: Shape) -> None:
    every_operation_is_matched(shape)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(WITHOUT_STEM)
def test_every_operation_of_many_random_transformers_is_matched(shape: Shape) -> None:
    every_operation_is_matched(shape)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(SHAPES.filter(lambda shape: shape.width > 4 and shape.feed_forward > 16))
def test_every_operation_of_quantized_random_transformers_is_matched(shape: Shape) -> None:
    every_operation_is_matched(shape, by_pytorch=True)
