"""The float passes in a row: the module computes what PyTorch computes, after each of them."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sta.dialect import torch as dialect
from sta.passes.torch.check_supported import check_supported
from tests.support.torch_modules import encoder, overloads, through_float_passes

SUPPORTED = {"linear", "layer_norm", "scaled_dot_product_attention", "add.Tensor", "view", "permute", "gelu", "relu"}


def normal(*sizes: int) -> Any:
    return np.random.default_rng(0).normal(size=sizes).astype(np.float32)


@settings(max_examples=6, deadline=None)
@given(
    st.booleans(),
    st.integers(1, 3),
    st.integers(1, 9),
    st.sampled_from([(26, 1), (26, 2), (15, 3), (28, 4)]),
    st.sampled_from(["gelu", "relu"]),
)
def test_encoders(norm_first: bool, batch: int, length: int, shape: tuple[int, int], activation: str) -> None:
    model = encoder(norm_first, width=shape[0], heads=shape[1], activation=activation)
    imported, _ = through_float_passes(model, {"src": normal(batch, length, shape[0])})
    check_supported(imported.module)
    found = overloads(imported.module)
    assert set(found) <= SUPPORTED
    # The packed projection of query, key and value was taken apart.
    assert found.count("linear") == 6


class Padded(nn.Module):
    """An encoder with a causal mask and a padding mask that is true where a key counts."""

    triangle: torch.Tensor

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.encoder = encoder(norm_first=True)
        self.causal = causal
        self.register_buffer("triangle", torch.ones(5, 5).triu(1).bool())

    def forward(self, src: torch.Tensor, keep: torch.Tensor) -> Any:
        mask = self.triangle if self.causal else None
        return self.encoder(src, mask=mask, src_key_padding_mask=keep == 0, is_causal=False)


@pytest.mark.parametrize("causal", [True, False])
def test_masks_of_an_encoder(causal: bool) -> None:
    inputs = {"src": normal(2, 5, 24), "keep": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])}
    imported, _ = through_float_passes(Padded(causal).eval(), inputs)
    check_supported(imported.module)
    (attention,) = (one for one in imported.module.walk() if isinstance(one, dialect.ScaledDotProductAttentionOp))
    assert dialect.sizes_of(attention.attn_mask) == (2, 1, 1, 5)
    assert dialect.constant_of(attention.is_causal) is causal


class Decoder(nn.Module):
    """A layer in the manner of GPT-2: addmm with weights [k, n], one packed projection, a causal mask that is added."""

    mask: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 12), nn.Embedding(8, 12)
        self.norm = nn.LayerNorm(12)
        self.packed, self.packed_bias = nn.Parameter(torch.randn(12, 36) / 4), nn.Parameter(torch.randn(36))
        self.out = nn.Linear(12, 12)
        self.register_buffer("mask", torch.full((6, 6), -1e9).triu(1), persistent=False)

    def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        batch, length = ids.shape
        x = self.words(ids) + self.places(torch.arange(length))
        packed = torch.addmm(self.packed_bias, self.norm(x).view(-1, 12), self.packed).view(batch, length, 36)
        q, k, v = (part.view(batch, length, 3, 4).transpose(1, 2) for part in packed.chunk(3, dim=2))
        weights = torch.softmax(q @ k.transpose(-1, -2) / 4**0.5 + self.mask[:length, :length], dim=-1)
        heads = (weights @ v).transpose(1, 2).flatten(2)
        return {"hidden": x + self.out(heads)}


def test_a_decoder() -> None:
    imported, _ = through_float_passes(Decoder().eval(), {"ids": np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])})
    check_supported(imported.module)
    (attention,) = (one for one in imported.module.walk() if isinstance(one, dialect.ScaledDotProductAttentionOp))
    assert isinstance(attention.attn_mask.type, dialect.NoneType)
    assert dialect.constant_of(attention.is_causal) is True
    assert dialect.number_of(attention.scale) == pytest.approx(0.5)
    assert overloads(imported.module).count("linear") == 4
