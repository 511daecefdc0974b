"""Small PyTorch Transformers of any shape, as a Hypothesis strategy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "hardsigmoid": nn.Hardsigmoid,
    "leaky_relu": nn.LeakyReLU,
    "mish": nn.Mish,
    "quick_gelu": lambda: Function(lambda x: x * torch.sigmoid(1.702 * x)),
    "relu": nn.ReLU,
    "relu_squared": lambda: Function(lambda x: nn.functional.relu(x).square()),
    "selected": lambda: Function(lambda x: torch.where(x > 0.1, x * x, (0.5 * x).expm1())),
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}

MIXINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda x, y: x + y,
    "difference": lambda x, y: x - y,
    "maximum": lambda x, y: x + torch.maximum(x, y),
    "minimum of a row": lambda x, y: x + torch.minimum(y, x[..., :1]),
    "quotient": lambda x, y: x + y / (1 + x.abs()),
    "gate": lambda x, y: x + y * (x > y),
    "selection": lambda x, y: torch.where((x > 0) & (y < 0.2), x, x + y),
}
"""Values and what attention makes of them, combined."""


@dataclass(frozen=True)
class Shape:
    """Shape of a random Transformer."""

    batch: int
    sequence: int
    heads: int
    head_size: int
    feed_forward: int
    layers: int
    activation: str
    gated: bool
    """The activation is multiplied with a second linear layer."""
    norm: str
    """layer, rms, or spelled: RMSNorm as LLaMA writes it."""
    pre_norm: bool
    decomposed: bool
    """Attention as matmul, scale, mask, softmax, matmul."""
    causal: bool
    masked: bool
    """Takes a padding mask."""
    embedded: bool
    """Takes ids, not numbers."""
    pattern: str | None
    """Pruned to this pattern."""
    seed: int
    int16_inputs: tuple[str, ...] = ()
    """Globs over the linear layers whose input has 16 bits."""
    stem: str = "none"
    """A convolution along the sequence in front of the layers, by its name in STEMS."""
    multiplied: bool = False
    """Products of values that are no attention stand between the layers."""
    mixing: str = "sum"
    """Combination of the values and what attention makes of them."""

    @property
    def width(self) -> int:
        """The hidden size."""
        return self.heads * self.head_size


class SpelledNorm(nn.Module):
    """RMSNorm operation by operation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + torch.randn(width) / 4)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(mean + 1e-6)).to(x.dtype)


NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm, "spelled": SpelledNorm}


STEMS: dict[str, Callable[[int], nn.Module | None]] = {
    "none": lambda width: None,
    "padded": lambda width: nn.Conv1d(width, width, 3, padding=1),
    "dilated": lambda width: nn.Conv1d(width, width, 3, padding=2, dilation=2),
    "depthwise": lambda width: nn.Conv1d(width, width, 3, padding=1, groups=width),
    "pointwise": lambda width: nn.Sequential(nn.Conv1d(width, 2 * width, 1), nn.ReLU(), nn.Conv1d(2 * width, width, 1)),
}
"""Convolutions that keep the sequence, by the width."""


class Layer(nn.Module):
    """Attention and feed-forward, before or after their norms."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.query, self.key, self.value, self.out = (nn.Linear(shape.width, shape.width) for _ in range(4))
        self.widen = nn.Linear(shape.width, shape.feed_forward)
        self.narrow = nn.Linear(shape.feed_forward, shape.width)
        self.up = nn.Linear(shape.width, shape.feed_forward) if shape.gated else None
        self.activation, self.mix = ACTIVATIONS[shape.activation](), MIXINGS[shape.mixing]
        self.norms = nn.ModuleList([NORMS[shape.norm](shape.width) for _ in range(2)])

    def feed_forward(self, x: Tensor) -> Tensor:
        """The two or three linear layers."""
        hidden = self.activation(self.widen(x))
        return self.narrow(hidden if self.up is None else hidden * self.up(x))

    def attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attention in the form the shape asks for."""
        shape = self.shape
        split = (shape.batch, shape.sequence, shape.heads, shape.head_size)
        q, k, v = (f(x).view(split).transpose(1, 2) for f in (self.query, self.key, self.value))
        admissible = None if mask is None else (mask != 0)[:, None, None, :]
        if shape.causal:
            lower = torch.ones(shape.sequence, shape.sequence, dtype=torch.bool).tril()
            admissible = lower if admissible is None else admissible & lower
        if not shape.decomposed:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=admissible)
        else:
            scores = q @ k.transpose(-1, -2) / math.sqrt(shape.head_size)
            if admissible is not None:
                scores = scores + torch.where(admissible, 0.0, torch.finfo(torch.float32).min)
            mixed = scores.softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(x.shape))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        first, second = self.norms
        if self.shape.pre_norm:
            x = self.mix(x, self.attention(first(x), mask))
            return x + self.feed_forward(second(x))
        x = first(self.mix(x, self.attention(x, mask)))
        return second(x + self.feed_forward(x))


class RandomTransformer(nn.Module):
    """An encoder with random weights; its second output is a slice of the first, through a linear layer."""

    ROWS = 37

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        torch.manual_seed(shape.seed)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
        self.shape = shape
        self.embedding = nn.Embedding(self.ROWS, shape.width)
        self.positions = nn.Parameter(torch.randn(shape.sequence, shape.width))
        self.layers = nn.ModuleList([Layer(shape) for _ in range(shape.layers)])
        self.head = nn.Linear(shape.width, 5)
        self.stem = STEMS[shape.stem](shape.width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden = (self.embedding(x) if self.shape.embedded else x) + self.positions
        if self.stem is not None:
            hidden = hidden + self.stem(hidden.transpose(1, 2)).transpose(1, 2)
        for layer in self.layers:
            hidden = layer(hidden, mask)
            if self.shape.multiplied:
                hidden = hidden + hidden @ (hidden.transpose(1, 2) @ hidden) / self.shape.sequence
        return hidden, self.head(hidden[:, 0])

    def example_inputs(self) -> dict[str, Tensor]:
        """Inputs by name; the mask leaves every sequence its first key."""
        shape, generator = self.shape, torch.Generator().manual_seed(self.shape.seed)
        if shape.embedded:
            x = torch.randint(0, self.ROWS, (shape.batch, shape.sequence), generator=generator)
        else:
            x = torch.randn(shape.batch, shape.sequence, shape.width, generator=generator)
        if not shape.masked:
            return {"x": x}
        mask = torch.randint(0, 2, (shape.batch, shape.sequence), generator=generator)
        mask[:, 0] = 1
        return {"x": x, "mask": mask}


def _patterns() -> st.SearchStrategy[str | None]:
    free = st.integers(2, 12).flatmap(lambda m: st.integers(1, m - 1).map(lambda n: f"{n}:{m}"))
    return st.one_of(st.none(), st.sampled_from(["2:4", "1:4", "1:8"]), free)


SHAPES = st.builds(
    Shape,
    batch=st.integers(1, 3),
    sequence=st.integers(1, 40),
    heads=st.integers(1, 4),
    head_size=st.sampled_from([1, 5, 8, 13, 26, 32, 65]),
    feed_forward=st.integers(1, 200),
    layers=st.integers(1, 2),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    gated=st.booleans(),
    norm=st.sampled_from(sorted(NORMS)),
    pre_norm=st.booleans(),
    decomposed=st.booleans(),
    causal=st.booleans(),
    masked=st.booleans(),
    embedded=st.booleans(),
    pattern=_patterns(),
    mixing=st.sampled_from(sorted(MIXINGS)),
    seed=st.integers(0, 2**31 - 1),
    int16_inputs=st.sampled_from([(), (), ("*",), ("*.narrow",), ("*.widen", "*.query"), ("*.out", "head")]),
    stem=st.sampled_from(sorted(STEMS)),
    multiplied=st.booleans(),
)
"""Shapes that divide nothing."""
