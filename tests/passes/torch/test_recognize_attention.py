"""Attention in the forms that models spell it in."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.torch.canonicalize_views import canonicalize_views
from sta.passes.torch.fold_constants import fold_constants
from sta.passes.torch.recognize_attention import TorchRecognizeAttentionPass
from tests.support.torch_modules import largest_difference, outputs_of, overloads


class Attention(nn.Module):
    """Attention of an input to itself, spelled as `how` does, after a projection that makes scores differ."""

    def __init__(self, how: Any) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key = self.project(x), x
        return self.how(query, key, x)


ADDED = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -1e9)
EXCLUDED = torch.ones(5, 5).triu(1).bool()


def scaled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (q @ k.transpose(-1, -2) * 0.3).softmax(-1) @ v


def divided(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return torch.matmul(torch.softmax(torch.matmul(q, k.transpose(-2, -1)) / 2.5, dim=3), v)


def divided_by_a_tensor(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return ((q @ k.mT) / torch.tensor(2.5)).softmax(-1) @ v


def unscaled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (q @ k.mT).softmax(-1) @ v


def scaled_query(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return ((q * 0.3) @ k.mT).softmax(-1) @ v


def scaled_key_below_its_views(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return ((q * 0.5) @ (k * 0.5).mT).softmax(-1) @ v


def mask_added(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (q @ k.mT * 0.3 + ADDED).softmax(-1) @ v


def mask_added_first(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (ADDED + q @ k.mT).softmax(-1) @ v


def mask_filled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (q @ k.mT * 0.3).masked_fill(EXCLUDED, float("-inf")).softmax(-1) @ v


def mask_chosen(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return torch.where(~EXCLUDED, q @ k.mT, torch.tensor(-1e30)).softmax(-1) @ v


def by_heads(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    q, k, v = (one.reshape(6, 5, 8) for one in (q, k, v))  # pyright: ignore[reportUnknownMemberType]
    return torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v).view(2, 3, 5, 8)


def dropped(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return torch.dropout((q @ k.mT).softmax(-1), 0.5, False) @ v


def as_one(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


FORMS = [
    (scaled, 0.3, False),
    (divided, 0.4, False),
    (divided_by_a_tensor, 0.4, False),
    (unscaled, 1.0, False),
    (scaled_query, 0.3, False),
    (scaled_key_below_its_views, 0.25, False),
    (mask_added, 0.3, True),
    (mask_added_first, 1.0, True),
    (mask_filled, 0.3, True),
    (mask_chosen, 1.0, True),
    (by_heads, 1.0, False),
    (dropped, 1.0, False),
    (as_one, 8**-0.5, False),
]


def recognized(how: Any) -> tuple[Any, list[dialect.ScaledDotProductAttentionOp]]:
    model = Attention(how).eval()
    x = {"x": np.random.default_rng(0).normal(size=(2, 3, 5, 8)).astype(np.float32)}
    imported = import_model(model, dict(x))
    context = CompileContext(imported.weights)
    for rewrite in (fold_constants, canonicalize_views):
        rewrite(imported.module, context.weights)
    TorchRecognizeAttentionPass().apply(context, imported.module)
    canonicalize_views(imported.module, context.weights)
    imported.module.verify()
    assert largest_difference(run_torch(imported.module, context, x), outputs_of(model, x)) < 1e-5
    found = [one for one in imported.module.walk() if isinstance(one, dialect.ScaledDotProductAttentionOp)]
    return imported.module, found


@pytest.mark.parametrize(("how", "scale", "masked"), FORMS, ids=[form[0].__name__ for form in FORMS])
def test_forms(how: Any, scale: float, masked: bool) -> None:
    module, found = recognized(how)
    assert len(found) == 1
    assert dialect.number_of(found[0].scale) == pytest.approx(scale)
    assert isinstance(found[0].attn_mask.type, dialect.VTensorType) == masked
    assert found[0].result.type.rank == 4
    left = set(overloads(module)) - {"linear", "view", "permute", "scaled_dot_product_attention", "logical_not"}
    assert left == set()


def low_but_not_excluded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (q @ k.mT).masked_fill(EXCLUDED, -5.0).softmax(-1) @ v


def a_bool_is_added(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (q @ k.mT + ~EXCLUDED).softmax(-1) @ v


def capped(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (5 * torch.tanh(q @ k.mT / 5) + ADDED).softmax(-1) @ v


def the_mask_has_axes_of_its_own(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    scores = q[:1] @ k[:1].mT
    return torch.where(~EXCLUDED.expand(2, 1, 5, 5), scores, float("-inf")).softmax(-1) @ v[:1]


def scores_of_a_layer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return q[..., :5].softmax(-1) @ v


@pytest.mark.parametrize(
    "how", [low_but_not_excluded, a_bool_is_added, capped, the_mask_has_axes_of_its_own, scores_of_a_layer]
)
def test_other_scores_are_added_to_a_product_of_zeros(how: Any) -> None:
    _, found = recognized(how)
    assert len(found) == 1
    assert isinstance(found[0].key.owner, dialect.LiteralOp)
    assert dialect.sizes_of(found[0].attn_mask)[-2:] == (5, 5)


def weights_returned(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    weights = (q @ k.mT).softmax(-1)
    return weights @ v + weights.sum()


def weights_multiplied(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return ((q @ k.mT + ADDED).softmax(-1) * torch.arange(5)) @ v


def weights_on_the_right(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return v.mT @ (q @ k.mT).softmax(-1)


def scores_put_together(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    weights = (torch.cat((q @ k[..., :2, :].mT, q @ k[..., 2:, :].mT), -1) + ADDED).softmax(-1)
    return weights[..., :2] @ v[..., :2, :] + weights[..., 2:] @ v[..., 2:, :]


@pytest.mark.parametrize("how", [weights_returned, weights_multiplied, weights_on_the_right, scores_put_together])
def test_weights_with_other_uses_weigh_a_unit_matrix(how: Any) -> None:
    module, found = recognized(how)
    assert len(found) == 1
    assert isinstance(found[0].value.owner, dialect.LiteralOp)
    assert dialect.sizes_of(found[0].value)[-2:] == (5, 5)
    assert "softmax.int" not in overloads(module)


def sink(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    scores = torch.cat((q @ k.mT * 0.3 + ADDED, torch.arange(3).view(3, 1, 1).expand(2, 3, 5, 1)), -1)
    weights = (scores - scores.max(-1, keepdim=True).values).softmax(-1)
    return weights[..., :-1] @ v


def sink_alone(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return torch.cat((q @ k.mT, q[..., :1]), -1).softmax(-1)[..., :-1] @ v


def gate_of_a_sink(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    scores = q @ k.mT * 0.3 + ADDED
    gate = (scores.logsumexp(-1) - torch.arange(3).view(1, 3, 1)).sigmoid()
    return (scores.softmax(-1) @ v) * gate.unsqueeze(-1)


@pytest.mark.parametrize("how", [sink, sink_alone, gate_of_a_sink])
def test_a_sink_is_one_more_key(how: Any) -> None:
    module, found = recognized(how)
    assert len(found) == 1
    assert dialect.sizes_of(found[0].key)[-2] == 6
    assert found[0].bias is not None
    assert "softmax.int" not in overloads(module)


def plane(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    q, k, v = (one.view(1, 2, 3, 5, 8) for one in (q, k, v))
    return ((q @ k.mT + ADDED).softmax(-1) @ v)[0]


def masked_by_windows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    scores = q @ k.mT + torch.arange(5).view(1, 1, 1, 5)
    shifted = torch.stack((ADDED, ADDED.mT))[None, :, None]
    return (scores.view(1, 2, 3, 5, 5) + shifted).view(2, 3, 5, 5).softmax(-1) @ v


def negative_scale(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (q @ k.mT / -4).softmax(-1) @ v


def one_batch_of_keys(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (q @ k[:1].mT).softmax(-1) @ v


@pytest.mark.parametrize("how", [plane, masked_by_windows, negative_scale, one_batch_of_keys])
def test_attention_has_four_axes_and_a_positive_scale(how: Any) -> None:
    _, found = recognized(how)
    assert len(found) == 1
    leading = {dialect.sizes_of(one)[:2] for one in found[0].operands[:3]}
    assert leading == {(2, 3)}
    assert dialect.number_of(found[0].scale) > 0


def other_axis(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return (q @ k.mT).softmax(-2) @ v


def of_a_layer_alone(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    return q.softmax(-1) + v


@pytest.mark.parametrize("how", [other_axis, of_a_layer_alone])
def test_what_is_no_attention_stays(how: Any) -> None:
    module, found = recognized(how)
    assert found == []
    assert "softmax.int" in overloads(module)


def test_a_factor_that_others_use_is_left_in_place() -> None:
    def shared(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
        small = q * 0.5
        return (small @ k.mT).softmax(-1) @ v + small

    module, found = recognized(shared)
    assert dialect.number_of(found[0].scale) == 1.0
    assert "mul.Scalar" in overloads(module) or "mul.Tensor" in overloads(module)
