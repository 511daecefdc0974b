"""
Idioms of PyTorch models, each in a small model: the program computes what PyTorch does, or a refusal names the idiom,
its place and a remedy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sta.api.compiler.bit_check import signal_to_noise
from sta.api.compiler.compilation import compile_model
from sta.frontend.errors import ModelError

ROWS, WIDTH, HEADS = 16, 64, 4
HEAD = WIDTH // HEADS
X = (1, ROWS, WIDTH)
"""The shape of a float input."""
IDS, FLAGS = (1, ROWS), (1, ROWS)
INF = float("inf")

Parts: TypeAlias = dict[str, nn.Module | Tensor]


class Idiom(nn.Module):
    """A model whose forward is a function of it and its inputs; `parts` are its modules, parameters and buffers."""

    def __init__(self, function: Callable[..., Any], parts: Parts) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module | nn.Parameter):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, *inputs: Tensor) -> Any:
        """Calls the function."""
        return self.function(self, *inputs)


@dataclass(frozen=True)
class Case:
    """An idiom, its inputs (a shape of floats, or a shape and the number of integers), and what becomes of it."""

    name: str
    function: Callable[..., Any]
    parts: Parts = field(default_factory=dict[str, nn.Module | Tensor])
    inputs: tuple[Any, ...] = (X,)
    refused: tuple[str, ...] = ()
    """Parts of the message that refuses it; empty if it compiles."""
    entries: int = 1
    """The operations that the refusal lists."""


def linears() -> dict[str, nn.Module | Tensor]:
    return {name: nn.Linear(WIDTH, WIDTH) for name in ("q", "k", "v", "o")}


def heads(x: Tensor, number: int = HEADS) -> Tensor:
    return x.unflatten(-1, (number, -1)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def sample(shape: Any, generator: torch.Generator) -> Tensor:
    if not isinstance(shape[0], tuple):
        return torch.randn(shape, generator=generator)
    sizes, numbers = shape
    drawn = torch.randint(0, numbers, sizes, generator=generator)
    # A key that every row has.
    drawn[..., 0] = 1
    return drawn


def compiled(case: Case) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The outputs of PyTorch, and those of the program."""
    torch.manual_seed(1)
    model = Idiom(case.function, case.parts).eval()
    generator = torch.Generator().manual_seed(2)
    samples = [[sample(shape, generator) for shape in case.inputs] for _ in range(9)]
    names = [f"inputs_{index}" for index in range(len(case.inputs))]
    calibration = {
        name: torch.stack([sample[index] for sample in samples[:8]]).numpy() for index, name in enumerate(names)
    }
    program = compile_model(model, samples[-1], calibration=calibration).program
    assert program is not None
    with torch.no_grad():
        expected = model(*samples[-1])
    expected = expected if isinstance(expected, tuple) else (expected,)
    given = program.run({name: one.numpy() for name, one in zip(names, samples[-1], strict=True)})
    return [one.detach().numpy() for one in expected], list(given.outputs.values())


torch.manual_seed(0)
TOKEN = nn.Parameter(torch.randn(1, 1, WIDTH))
ROW, MATRIX = torch.randn(WIDTH), torch.randn(WIDTH, WIDTH) / 8

IMPORTED = (
    Case(
        "stack of two buffers",
        lambda m, x: m.o(x) + torch.stack((m.a, m.b)).sum(0),
        {**linears(), "a": ROW, "b": -ROW / 2},
    ),
    Case(
        "cat of parameters",
        lambda m, x: m.o(x) + torch.cat((m.a, m.b * 2)),
        {**linears(), "a": ROW[:16], "b": ROW[16:]},
    ),
    Case(
        "cat of a token",
        lambda m, x: m.o(torch.cat((m.t, x), 1)),
        {**linears(), "t": TOKEN},
        refused=("aten.cat in forward",),
    ),
    Case("einsum with a constant", lambda m, x: m.o(torch.einsum("bnw,wv->bnv", x, MATRIX)), linears()),
    Case(
        "meshgrid of two ranges",
        lambda m, x: (
            m.o(x) + sum(torch.meshgrid(torch.arange(ROWS).float(), torch.arange(WIDTH).float(), indexing="ij"))
        ),
        linears(),
    ),
    Case(
        "meshgrid of buffers",
        lambda m, x: m.o(x) + sum(torch.meshgrid(m.a, m.b, indexing="ij")),
        {**linears(), "a": ROW[:ROWS], "b": ROW},
    ),
    Case(
        "positions of a constant's elements",
        lambda m, x: m.o(x) + m.a[m.a > 0].sum(),
        {**linears(), "a": ROW},
        refused=("aten.index", "in forward", "size of its result"),
    ),
    Case(
        "an embedding with max_norm",
        lambda m, i: m.o(m.e(i)),
        {**linears(), "e": nn.Embedding(50, WIDTH, max_norm=1.0)},
        ((IDS, 50),),
        refused=("e.weight", "max_norm"),
    ),
)

BATCH = torch.randn(HEADS, HEAD, HEAD) / 4

PRODUCTS = (
    Case(
        "addmm with a bias [1, N]",
        lambda m, x: m.o(torch.addmm(m.b, x[0], m.w)),
        {**linears(), "b": ROW[None], "w": MATRIX},
    ),
    Case(
        "addmm with factors",
        lambda m, x: m.o(torch.addmm(m.b, x[0], m.w, beta=2, alpha=0.5)),
        {**linears(), "b": ROW, "w": MATRIX},
    ),
    Case(
        "addmm with a matrix",
        lambda m, x: m.o(torch.addmm(m.b, x[0], m.w)),
        {**linears(), "b": torch.randn(ROWS, WIDTH), "w": MATRIX},
    ),
    Case("addmm with a value", lambda m, x: m.o(torch.addmm(m.q(x)[0], x[0], m.w)), {**linears(), "w": MATRIX}),
    Case("a constant on the left", lambda m, x: m.w @ m.o(x), {**linears(), "w": torch.randn(ROWS, ROWS) / 4}),
    Case("a constant of batch 1", lambda m, x: torch.bmm(m.o(x), m.w), {**linears(), "w": MATRIX[None]}),
    Case("a constant vector", lambda m, x: m.o(x) @ m.w, {**linears(), "w": ROW}),
)


@pytest.mark.parametrize("case", [*IMPORTED, *PRODUCTS], ids=lambda case: case.name)
def test_idioms(case: Case) -> None:
    if not case.refused:
        for expected, given in zip(*compiled(case), strict=True):
            assert signal_to_noise(expected, given) >= 30.0
        return
    with pytest.raises(ModelError) as refusal:
        compiled(case)
    message = str(refusal.value)
    for part in case.refused:
        assert part in message
    assert len(getattr(refusal.value, "operations", [None])) == case.entries, message
