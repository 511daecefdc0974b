"""The sizes of published models, held against numbers that are published, and against the models' own parameters."""

from __future__ import annotations

import pytest
from torch import nn
from transformers.pytorch_utils import Conv1D

from benchmarks.real_models import build
from benchmarks.real_shapes import CLIP_VISION, DEIT, GPT2, LLAMA, REAL_SHAPES, SWIN, T5, VIT, WHISPER
from benchmarks.shapes import Shape
from sta.spec.nm_format import DENSE


@pytest.mark.parametrize(
    ("shape", "published"),
    [(VIT, 17.58), (DEIT, 4.61), (SWIN, 4.51), (CLIP_VISION, 4.41)],
    ids=lambda value: value.name if isinstance(value, Shape) else "",
)
def test_giga_macs_are_the_published_ones(shape: Shape, published: float) -> None:
    """Papers count no attention or count it in part, and the classifier: within 4 % of theirs."""
    assert float(shape.macs()) / 1e9 == pytest.approx(published, rel=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("shape", REAL_SHAPES, ids=lambda shape: shape.name)
def test_weights_of_products_are_those_of_the_model(shape: Shape) -> None:
    model, _ = build(shape)
    products = sum(one.count * one.n * one.k for one in shape.products() if one.weights)
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, Conv1D)
    layers = [module.weight.numel() for module in model.modules() if isinstance(module, kinds)]
    assert products == sum(layers)


def test_least_traffic_counts_what_layers_share_once() -> None:
    for shape, bytes_shared in ((T5, 2 * 12 * 255), (LLAMA, 2 * 128 * 64), (GPT2, 0), (WHISPER, 0)):
        assert shape.least_dram_bytes(DENSE)["constants"] == bytes_shared
    assert SWIN.least_dram_bytes(DENSE)["constants"] == 2 * 169 * (2 * 3 + 2 * 6 + 6 * 12 + 2 * 24)


def test_names_are_different() -> None:
    assert len({shape.name for shape in REAL_SHAPES}) == len(REAL_SHAPES)
