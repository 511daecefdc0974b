"""
Idioms of PyTorch models, each in a small model: the program computes what PyTorch does, or a refusal names the idiom,
its place and a way out.
"""
# pyright: basic
# The parts of a model made of a function have no types.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
import torch.nn.functional as F
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
    wide: bool = False
    """True if 8 bits cost more than the bound: the inputs of linear layers and the exponentials get 16."""
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
    # Of few samples of noise the next one leaves the ranges.
    samples = [[sample(shape, generator) for shape in case.inputs] for _ in range(33)]
    names = [f"inputs_{index}" for index in range(len(case.inputs))]
    calibration = {
        name: torch.stack([sample[index] for sample in samples[:-1]]).numpy() for index, name in enumerate(names)
    }
    wide: dict[str, Any] = {"int16_inputs": ["*"], "probability_bits": 16} if case.wide else {}
    program = compile_model(model, samples[-1], calibration=calibration, **wide).program
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
        "meshgrid beside a convolution",
        lambda m, x: (
            m.c(x.unsqueeze(1))
            + torch.add(*torch.meshgrid(torch.arange(2).float(), torch.arange(8).float(), indexing="xy")).mT
        ),
        {"c": nn.Conv2d(1, 8, 8, stride=8)},
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
    Case("a constant of heads", lambda m, x: heads(m.o(x)) @ m.w, {**linears(), "w": BATCH}),
    Case("a constant of heads on the left", lambda m, x: m.w @ heads(m.o(x)), {**linears(), "w": BATCH}),
    Case("two values", lambda m, x: m.o((m.q(x) @ m.k(x).mT) @ m.v(x) / 64), linears()),
    Case("an einsum", lambda m, x: torch.einsum("bhqd,bhkd->bqk", heads(m.q(x)), heads(m.k(x))), linears()),
    Case("baddbmm", lambda m, x: torch.baddbmm(m.o(x), m.q(x) @ m.k(x).mT, m.v(x), beta=0.5, alpha=0.01), linears()),
    Case("a vector", lambda m, x: m.q(x)[0] @ m.k(x)[0, 3], linears()),
)


CAUSAL = torch.full((ROWS, ROWS), -INF).triu(1)
PADDED = torch.zeros(ROWS).index_fill(0, torch.tensor([13, 14, 15]), -INF)


def attention(
    m: Any,
    x: Tensor,
    scores: Callable[[Tensor], Tensor] = lambda s: s / 4,
    repeat: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Spelled-out attention, with another way from products to scores, or keys of two heads that are repeated."""
    q, k, v = (heads(layer(x)) for layer in (m.q, m.k, m.v))
    if repeat is not None:
        k, v = repeat(k[:, :2]), repeat(v[:, :2])
    return m.o(joined(scores(q @ k.transpose(-1, -2)).softmax(-1) @ v))


def with_first(flags: Tensor) -> Tensor:
    """Flags of which the first is set."""
    return torch.cat((torch.ones_like(flags[:, :1]), flags[:, 1:]), 1)


def padding(flags: Tensor) -> Tensor:
    return (1 - flags[:, None, None, :].float()) * -1e9


def bloom(m: Any, x: Tensor) -> Tensor:
    """Products on [batch * heads, rows, width], with views around mask and softmax."""
    q, k, v = (heads(layer(x)).reshape(-1, ROWS, HEAD) for layer in (m.q, m.k, m.v))
    scores = torch.bmm(q, k.transpose(1, 2)).view(-1, HEADS, ROWS, ROWS) / 4 + m.mask
    weights = scores.softmax(-1).view(-1, ROWS, ROWS)
    return m.o(joined(torch.bmm(weights, v).view(-1, HEADS, ROWS, HEAD)))


def einsum(m: Any, x: Tensor) -> Tensor:
    q, k, v = (layer(x).unflatten(-1, (HEADS, HEAD)) for layer in (m.q, m.k, m.v))
    weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) / 4).softmax(-1)
    return m.o(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))


def learned(m: Any, x: Tensor) -> Tensor:
    return m.o(joined(F.scaled_dot_product_attention(heads(m.p), heads(m.k(x)), heads(m.v(x)))))


def learned_keys(m: Any, x: Tensor) -> Tensor:
    return m.o(joined(F.scaled_dot_product_attention(heads(m.q(x)), heads(m.p), heads(m.p))))


SLOPES = (
    -(torch.arange(ROWS)[None] - torch.arange(ROWS)[:, None]).abs()
    * torch.tensor([0.5, 0.25, 0.125, 0.0625])[:, None, None]
)


def both_results(m: Any, x: Tensor) -> Any:
    return m.a(x, x, x)


def spelled_weights(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    weights = (heads(m.q(x)) @ heads(m.k(x)).transpose(-1, -2) / 4).softmax(-1)
    return m.o(joined(weights @ heads(m.v(x)))), weights


def windows(m: Any, x: Tensor) -> Tensor:
    """Attention of four windows of four rows, with a mask by windows on five axes."""
    q, k, v = (heads(layer(x).reshape(4, 4, WIDTH)) for layer in (m.q, m.k, m.v))
    scores = q @ k.mT / 4 + m.slopes
    masks = torch.stack((m.mask, m.mask.T, 0 * m.mask.nan_to_num(0, 0, 0), m.mask))[None, :, None]
    scores = (scores.view(1, 4, HEADS, 4, 4) + masks).view(4, HEADS, 4, 4)
    return m.o(joined(scores.softmax(-1) @ v).reshape(1, ROWS, WIDTH))


ATTENTIONS = (
    Case("a mask with one axis", lambda m, x: attention(m, x, lambda s: s / 4 + m.mask), {**linears(), "mask": PADDED}),
    Case("learned queries", learned, {**linears(), "p": nn.Parameter(torch.randn(1, 8, WIDTH))}),
    Case("learned keys", learned_keys, {**linears(), "p": nn.Parameter(torch.randn(1, 8, WIDTH))}),
    Case(
        "a mask before the scale",
        lambda m, x: attention(m, x, lambda s: (s + m.mask) / 4),
        {**linears(), "mask": CAUSAL},
    ),
    Case(
        "a fill before the scale",
        lambda m, x: attention(m, x, lambda s: s.masked_fill(m.mask < 0, -1e9) / 4),
        {**linears(), "mask": CAUSAL},
    ),
    Case(
        "a mask that is subtracted",
        lambda m, x: attention(m, x, lambda s: s / 4 - m.mask),
        {**linears(), "mask": -CAUSAL},
    ),
    Case(
        "two masks",
        lambda m, x, f: attention(m, x, lambda s: s / 4 + m.mask + padding(f)),
        {**linears(), "mask": CAUSAL},
        (X, (FLAGS, 2)),
    ),
    Case(
        "two fills",
        lambda m, x, f: attention(
            # PyTorch has NaN for a row without a key.
            m,
            x,
            lambda s: (s / 4).masked_fill(m.mask < 0, -INF).masked_fill(with_first(f)[:, None, None, :] == 0, -INF),
        ),
        {**linears(), "mask": CAUSAL},
        (X, (FLAGS, 2)),
    ),
    Case(
        "a fill and a sum",
        lambda m, x, f: attention(m, x, lambda s: (s / 4).masked_fill(m.mask < 0, -INF) + padding(f)),
        {**linears(), "mask": CAUSAL},
        (X, (FLAGS, 2)),
    ),
    Case(
        "keys by repeat_interleave", lambda m, x: attention(m, x, repeat=lambda k: k.repeat_interleave(2, 1)), linears()
    ),
    Case("keys repeated in turn", lambda m, x: attention(m, x, repeat=lambda k: k.repeat(1, 2, 1, 1)), linears()),
    Case(
        "keys of one head", lambda m, x: attention(m, x, repeat=lambda k: k[:, :1].expand(-1, HEADS, -1, -1)), linears()
    ),
    Case("keys of one head, broadcast", lambda m, x: attention(m, x, repeat=lambda k: k[:, :1]), linears()),
    Case("views around the mask", bloom, {**linears(), "mask": CAUSAL}, ((2, ROWS, WIDTH),), wide=True),
    Case("einsum on heads", einsum, linears()),
    Case(
        "both results of attention",
        both_results,
        {"a": nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)},
    ),
    Case("weights of attention", spelled_weights, linears()),
    Case("a cap on scores", lambda m, x: attention(m, x, lambda s: 30 * torch.tanh(s / 120)), linears()),
    Case(
        "a cap on scores behind a mask",
        lambda m, x, f: attention(m, x, lambda s: 5 * torch.tanh(s / 20) + m.mask + padding(f)),
        {**linears(), "mask": CAUSAL},
        (X, (FLAGS, 2)),
    ),
    Case(
        "a factor on weights",
        lambda m, x: m.o(joined((heads(m.q(x)) @ heads(m.k(x)).transpose(-1, -2)).softmax(-1) * m.f @ heads(m.v(x)))),
        {**linears(), "f": torch.rand(HEADS, 1, 1)},
    ),
    Case(
        "a bias on scores",
        lambda m, x: attention(m, x, lambda s: s / 4 + m.slopes),
        {**linears(), "slopes": SLOPES},
        wide=True,
    ),
    Case(
        "a bias, a causal mask and a padding mask",
        lambda m, x, f: attention(m, x, lambda s: s / 4 + (m.slopes + m.mask + padding(f))),
        {**linears(), "slopes": SLOPES, "mask": CAUSAL},
        (X, (FLAGS, 2)),
    ),
    Case(
        "a bias of scores filled by segments",
        lambda m, x, f: attention(
            m, x, lambda s: torch.where(f[:, None, :, None] == f[:, None, None], s / 4 + m.slopes, -1e9)
        ),
        {**linears(), "slopes": SLOPES},
        (X, (FLAGS, 2)),
    ),
    Case(
        "a computed bias",
        lambda m, x: attention(m, x, lambda s: s / 4 + torch.tanh(m.b(x)).unflatten(-1, (HEADS, -1)).transpose(1, 2)),
        {**linears(), "b": nn.Linear(WIDTH, HEADS * ROWS)},
    ),
    Case(
        "a negative scale",
        lambda m, x: m.o(
            joined(F.scaled_dot_product_attention(heads(m.q(x)), heads(m.k(x)), heads(m.v(x)), scale=-0.25))
        ),
        linears(),
        wide=True,
    ),
    Case(
        "values of another width",
        lambda m, x: m.o(joined((heads(m.q(x)) @ heads(m.k(x)).mT / 4).softmax(-1) @ heads(m.w(x)))),
        {**linears(), "w": nn.Linear(WIDTH, 2 * WIDTH), "o": nn.Linear(2 * WIDTH, WIDTH)},
    ),
    Case("windows of rows", windows, {**linears(), "mask": CAUSAL[:4, :4], "slopes": SLOPES[:, :4, :4]}),
)


def standardized(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5)


NORMS = (
    Case("a norm by division", lambda m, x: m.o(x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)), linears()),
    Case(
        "a norm by a power",
        lambda m, x: m.o(m.w * (x * (x.square().mean(-1, keepdim=True) + 1e-6) ** -0.5)),
        {**linears(), "w": ROW},
    ),
    Case("a layer norm", lambda m, x: m.o(m.w * standardized(x) + m.b), {**linears(), "w": ROW, "b": -ROW}),
    Case(
        "a layer norm by variance",
        lambda m, x: m.o((x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)),
        linears(),
    ),
)

ARITHMETIC = tuple(
    Case(f"arithmetic {name}", function, {**linears(), "c": ROW})
    for name, function in {
        "y - c": lambda m, x: m.o(x) - m.c,
        "c - y": lambda m, x: m.c - m.o(x),
        "2 - y": lambda m, x: 2 - m.o(x),
        "-y": lambda m, x: -m.o(x),
        "y / c": lambda m, x: m.o(x) / (m.c.abs() + 0.5),
        "y / [1, 2, …]": lambda m, x: m.o(x) / torch.arange(1, WIDTH + 1),
        "y + 2 * c": lambda m, x: torch.add(m.o(x), m.c, alpha=2),
        "x - y": lambda m, x: m.o(x) - m.q(x),
        "x - 2 * y": lambda m, x: torch.sub(m.o(x), m.q(x), alpha=2),
        "by other names": lambda m, x: torch.true_divide(torch.subtract(torch.negative(m.o(x)), m.c), 3),
    }.items()
)

GELUS = tuple(
    Case(f"GELU {name}", function, linears())
    for name, function in {
        "with a cube": lambda m, x: m.q(tanh_gelu(m.o(x), lambda y: y**3)),
        "with products": lambda m, x: m.q(tanh_gelu(m.o(x), lambda y: y * y * y)),
        "with erf": lambda m, x: m.q(erf_gelu(m.o(x))),
        "with the half inside": lambda m, x: m.q(half_gelu(m.o(x))),
    }.items()
)


def erf_gelu(y: Tensor) -> Tensor:
    return 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))


def half_gelu(y: Tensor) -> Tensor:
    return y * (0.5 + 0.5 * torch.erf(y * 0.70710678))


def tanh_gelu(y: Tensor, cube: Callable[[Tensor], Tensor]) -> Tensor:
    return 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * cube(y))))


ANGLES = torch.outer(torch.arange(ROWS).float(), 1 / 100 ** torch.linspace(0, 1, HEAD // 2))
IMAGE = (1, 8, 8, WIDTH)


def complex_rotation(m: Any, x: Tensor) -> Tensor:
    q, k = (
        torch.view_as_real(torch.view_as_complex(heads(layer(x)).unflatten(-1, (-1, 2))) * m.turns).flatten(3)
        for layer in (m.q, m.k)
    )
    return m.o(joined(F.scaled_dot_product_attention(q, k, heads(m.v(x)))))


def turned_back(y: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(y.unflatten(-1, (HEADS, -1, 2)))
    return torch.view_as_real(pairs * turns.unsqueeze(1).conj()).flatten(2)


def halves_rotation(m: Any, x: Tensor) -> Tensor:
    def rotated(y: Tensor) -> Tensor:
        first, second = y.chunk(2, -1)
        return y * m.angles.cos() + torch.cat((-second, first), -1) * m.angles.sin()

    q, k = rotated(heads(m.q(x))), rotated(heads(m.k(x)))
    return m.o(joined(F.scaled_dot_product_attention(q, k, heads(m.v(x)))))


def pairs_rotation(m: Any, x: Tensor) -> Tensor:
    def rotated(y: Tensor) -> Tensor:
        turned = torch.stack((-y[..., 1::2], y[..., ::2]), -1).flatten(-2)
        return y * m.angles.cos() + turned * m.angles.sin()

    q, k = rotated(heads(m.q(x))), rotated(heads(m.k(x)))
    return m.o(joined(F.scaled_dot_product_attention(q, k, heads(m.v(x)))))


def shifted_windows(m: Any, x: Tensor) -> Tensor:
    def windows(y: Tensor) -> Tensor:
        batch, height, width, channels = y.shape
        parted = y.view(batch, height // 4, 4, width // 4, 4, channels).transpose(2, 3)
        return parted.reshape(-1, 16, channels)

    moved = windows(torch.roll(m.q(x), (-2, -2), (1, 2)))
    q, k, v = heads(moved), heads(moved), heads(m.v(moved))
    back = joined(F.scaled_dot_product_attention(q, k, v)).view(x.shape[0], 2, 2, 4, 4, -1).transpose(2, 3)
    return m.o(torch.roll(back.reshape(x.shape), (2, 2), (1, 2)))


def roberta_positions(m: Any, ids: Tensor) -> Tensor:
    counted = (ids != 1).int()
    return m.o(m.e(ids) + m.p((torch.cumsum(counted, 1) * counted).long() + 1))


def dropping(m: Any, x: Tensor) -> Tensor:
    q, k, v = (heads(layer(x)) for layer in (m.q, m.k, m.v))
    return m.o(joined(F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)))


EMBEDDINGS = {**linears(), "e": nn.Embedding(50, WIDTH), "p": nn.Embedding(60, WIDTH)}
TURNS = {**linears(), "angles": torch.cat((ANGLES, ANGLES), -1), "turns": torch.polar(torch.ones_like(ANGLES), ANGLES)}


def masked_mean(m: Any, x: Tensor, mask: Tensor) -> Tensor:
    """The pooling of sentence-transformers."""
    tokens = m.o(x)
    wide = mask.unsqueeze(-1).expand(tokens.size()).float()
    return torch.sum(tokens * wide, 1) / torch.clamp(wide.sum(1), min=1e-9)


REFUSED = (
    Case("a length of complex numbers", lambda m, x: torch.fft.rfft(m.o(x)).abs(), linears(), refused=("complex",)),
    Case(
        "mean over the tokens that a mask admits, by their number",
        lambda m, x, mask: (m.o(x) * mask[..., None]).sum(1) / mask[..., None].sum(1).clamp(min=1),
        linears(),
        (X, (FLAGS, 2)),
    ),
    Case(
        "mean over the tokens that a mask admits, by their number as a float",
        lambda m, x, mask: (m.o(x) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).float().clamp(min=1),
        linears(),
        (X, (FLAGS, 2)),
    ),
    Case("mean over the tokens by a mask in their shape", masked_mean, linears(), (X, (FLAGS, 2))),
    Case("a roll by nothing", lambda m, x: m.q(torch.roll(m.o(x), (0, 8), (1, 2))), linears(), (IMAGE,)),
    Case(
        "a weight of one axis",
        lambda m, x: F.linear(m.o(x), m.w),
        {**linears(), "w": ROW},
        refused=("aten.linear in forward", "2 axes"),
    ),
    Case(
        "a group norm",
        lambda m, x: m.g(m.o(x)),
        {**linears(), "g": nn.GroupNorm(4, ROWS)},
    ),
    Case(
        "an integer input made float",
        lambda m, x, f: m.o(x * f.unsqueeze(-1).float().expand(-1, -1, 1)),
        linears(),
        (X, (FLAGS, 2)),
    ),
    Case("the largest logit", lambda m, x: m.o(x).argmax(-1), linears(), refused=("aten.argmax", "return the logits")),
    Case(
        "log-probabilities",
        lambda m, x: F.log_softmax(m.o(x), -1),
        linears(),
    ),
    Case(
        "logarithms of probabilities",
        lambda m, x: m.o(x).softmax(-1).log(),
        linears(),
    ),
    *(
        Case(
            f"a function without a table, {name}",
            function,
            linears(),
        )
        for name, function in {
            "exp": lambda m, x: m.o(m.q(x).exp()),
            "abs": lambda m, x: m.o(m.q(x).abs()),
            "clamp": lambda m, x: m.o(m.q(x).clamp(-1, 1)),
        }.items()
    ),
    Case(
        "a norm by the deviation plus a number",
        lambda m, x: m.o(m.f * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)),
        {**linears(), "f": torch.rand(64)},
    ),
    Case(
        "vectors of length one",
        lambda m, x: F.normalize(m.o(x), dim=-1),
        linears(),
    ),
    Case("dropout of a call", dropping, linears(), refused=("scaled_dot_product_attention", "dropout_p is 0.1")),
    Case(
        "dropout in training",
        lambda m, x: m.o(F.dropout(m.q(x), 0.1, training=True)),
        linears(),
        refused=("training=True",),
    ),
    Case("positions of RoBERTa", roberta_positions, EMBEDDINGS, ((IDS, 50),)),
    Case(
        "positions behind an offset",
        lambda m, i: m.o(m.e(i) + m.p(i + 2)),
        EMBEDDINGS,
        ((IDS, 50),),
    ),
    Case(
        "a norm by another root",
        lambda m, x: m.o(x / x.norm(dim=-1, keepdim=True)),
        linears(),
    ),
)

MOVEMENTS = (
    Case("a rotation of complex numbers", complex_rotation, TURNS, wide=True),
    Case("a rotation back", lambda m, x: m.o(turned_back(m.q(x), m.turns)), TURNS),
    Case("rotation of halves", halves_rotation, TURNS),
    Case("rotation of pairs", pairs_rotation, TURNS),
    Case("a roll over two axes", lambda m, x: torch.roll(m.o(x), (-2, -2), (1, 2)), linears(), (IMAGE,)),
    Case("chosen positions", lambda m, x: m.o(x)[:, [1, 3]], linears()),
    Case("shifted windows", shifted_windows, linears(), (IMAGE,)),
    Case(
        "every second token", lambda m, x: m.o(torch.cat((x[:, ::2], x[:, 1::2]), -1).unflatten(-1, (2, -1))), linears()
    ),
    Case(
        "a token of each batch",
        lambda m, x: m.o(torch.cat((m.t.expand(3, -1, -1), x), 1)),
        {**linears(), "t": TOKEN},
        ((3, ROWS, WIDTH),),
    ),
    Case("padding", lambda m, x: m.o(F.pad(m.q(x), (0, 0, 2, -1), value=0.5)), linears()),
    Case("the other way round", lambda m, x: m.o(m.q(x).flip(1)), linears()),
    Case(
        "an input, a view of it and a constant",
        lambda m, x: (m.o(x), x, x[:, 0], x.mT, m.t * 2),
        {**linears(), "t": TOKEN},
    ),
)

CASES = [*MOVEMENTS, *IMPORTED, *PRODUCTS, *ATTENTIONS, *NORMS, *ARITHMETIC, *GELUS, *REFUSED]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
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
