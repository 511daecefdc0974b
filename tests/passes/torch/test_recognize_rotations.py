"""Rotary position embeddings in the forms that models spell them in."""

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
from sta.passes.torch.recognize_rotations import TorchRecognizeRotationsPass
from tests.support.torch_modules import largest_difference, outputs_of, overloads

ROWS, WIDTH = 5, 8
ANGLES = torch.outer(torch.arange(ROWS).float() + 1, 1 / 10 ** torch.linspace(0, 1, WIDTH // 2))
HALVES, NEIGHBOURS = torch.cat((ANGLES, ANGLES), -1), ANGLES.repeat_interleave(2, -1)


class Rotated(nn.Module):
    """A function of the tangent of a projected input [2, 3, rows, width]."""

    def __init__(self, how: Any) -> None:
        super().__init__()
        self.project = nn.Linear(WIDTH, WIDTH)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.how(torch.tanh(self.project(x)))


def turned(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


def llama(x: torch.Tensor) -> Any:
    return x * HALVES.cos() + turned(x) * HALVES.sin()


def scaled_as_yarn(x: torch.Tensor) -> Any:
    return x * (HALVES.cos() * 1.25) + turned(x) * (HALVES.sin() * 1.25)


def by_halves(x: torch.Tensor) -> Any:
    first, second = x.chunk(2, -1)
    return torch.cat((first * ANGLES.cos() - second * ANGLES.sin(), second * ANGLES.cos() + first * ANGLES.sin()), -1)


def before_the_transpose(x: torch.Tensor) -> Any:
    rows = x.transpose(1, 2)
    return (rows * HALVES[:, None].cos() + turned(rows) * HALVES[:, None].sin()).transpose(1, 2)


def neighbours(x: torch.Tensor) -> Any:
    pairs = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * NEIGHBOURS.cos() + pairs * NEIGHBOURS.sin()


def pairs_put_together(x: torch.Tensor) -> Any:
    pairs = x.view(*x.shape[:-1], -1, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    rotated = (first * ANGLES.cos() - second * ANGLES.sin(), first * ANGLES.sin() + second * ANGLES.cos())
    return torch.stack(rotated, -1).flatten(-2)


def complex_numbers(x: torch.Tensor) -> Any:
    turns = torch.polar(torch.ones_like(ANGLES), ANGLES)
    return torch.view_as_real(torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)) * turns).flatten(-2)


def conjugated(x: torch.Tensor) -> Any:
    turns = torch.exp(torch.complex(torch.zeros_like(ANGLES), ANGLES)).conj()
    return torch.view_as_real(torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)) * turns).flatten(-2)


def partly(x: torch.Tensor) -> Any:
    part, angles = x[..., :4], HALVES[:, [0, 1, 0, 1]]
    return torch.cat((part * angles.cos() + turned(part) * angles.sin(), x[..., 4:]), -1)


FORMS = [
    (llama, "half", 8),
    (scaled_as_yarn, "half", 8),
    (by_halves, "half", 8),
    (before_the_transpose, "half", 8),
    (neighbours, "interleaved", 8),
    (pairs_put_together, "interleaved", 8),
    (complex_numbers, "interleaved", 8),
    (conjugated, "interleaved", 8),
    (partly, "half", 4),
]


def recognized(how: Any) -> tuple[Any, list[dialect.RotateOp]]:
    model = Rotated(how).eval()
    x = {"x": np.random.default_rng(0).normal(size=(2, 3, ROWS, WIDTH)).astype(np.float32)}
    imported = import_model(model, dict(x))
    context = CompileContext(imported.weights)
    for rewrite in (fold_constants, canonicalize_views):
        rewrite(imported.module, context.weights)
    TorchRecognizeRotationsPass().apply(context, imported.module)
    imported.module.verify()
    assert largest_difference(run_torch(imported.module, context, x), outputs_of(model, x)) < 1e-5
    return imported.module, [one for one in imported.module.walk() if isinstance(one, dialect.RotateOp)]


@pytest.mark.parametrize(("how", "pairing", "width"), FORMS, ids=[form[0].__name__ for form in FORMS])
def test_forms(how: Any, pairing: str, width: int) -> None:
    module, found = recognized(how)
    assert [(one.pairing.data, one.width) for one in found] == [(pairing, width)]
    assert dialect.tensor_type(found[0].cosines).element_count == ROWS * width
    assert {"cat", "mul.Tensor", "add.Tensor", "neg"}.isdisjoint(overloads(module))


def mixed_heads(x: torch.Tensor) -> Any:
    return x * HALVES.cos() + turned(x).flip(1) * HALVES.sin()


def squared(x: torch.Tensor) -> Any:
    return x * HALVES.cos() + turned(x) * turned(x) * HALVES.sin()


def neighbours_to_halves(x: torch.Tensor) -> Any:
    pairs = torch.cat((x[..., ::2], x[..., 1::2]), -1)
    return pairs * HALVES.cos() + turned(pairs) * HALVES.sin() + x


@pytest.mark.parametrize("how", [mixed_heads, squared])
def test_what_is_no_rotation_stays(how: Any) -> None:
    module, found = recognized(how)
    assert found == []
    assert "cat" in overloads(module)


def test_only_the_rotation_behind_another_order_is_one() -> None:
    _, found = recognized(neighbours_to_halves)
    assert [(one.pairing.data, one.width) for one in found] == [("half", 8)]
