"""
The measured encoders, and the figures that follow from their shapes alone.

Nothing here looks at a compiled program, nor calls the compiler: figures to compare with the compiler's have to be
independent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from sta.spec.nm_format import DENSE, Pattern, kept, packed_size, smaller_encoding
from sta.spec.parameters import map_parameters_size, norm_parameters_size
from sta.spec.tables import TABLE_ENTRIES
from sta.spec.target import Target

STREAM_BYTES = 2
"""Bytes of an element of the residual stream, of embedding tables and of outputs: int16."""
TABLE_BYTES = 2 * TABLE_ENTRIES
INDEX_BYTES = 4
MASK_BYTES = 1


@dataclass(frozen=True)
class Product:
    """
    `count` products of ``[m, k]`` by ``[k, n]`` of one kind.

    `weights`: the second operand is a model's weight. `causal`: a side of the product whose length is that of the keys,
    of which query i sees i + 1.
    """

    kind: str
    m: int
    n: int
    k: int
    count: int = 1
    weights: bool = True
    causal: Literal["n", "k"] | None = None

    def macs(self, pattern: Pattern) -> Fraction:
        """
        Useful multiply-accumulates: count * m * n * k; for products with weights N/M of that; of causal ones those of
        the keys that are seen.
        """
        dense = self.count * self.m * self.n * self.k
        if self.causal is not None:
            dense = dense * (self.m + 1) // (2 * self.m)
        return Fraction(dense * pattern.n, pattern.m) if self.weights else Fraction(dense)

    def padded_macs(self, pattern: Pattern, target: Target) -> int:
        """
        Multiply-accumulates with m, n and the kept k padded to the next multiple of the array's R, C and L; of causal
        ones, in every R rows the keys that their last row sees.
        """
        if self.causal is not None:
            return self.count * self._padded_causal(target)
        depth = kept(self.k, pattern) if self.weights else self.k
        rows, columns = _padded(self.m, target.array_rows), _padded(self.n, target.array_columns)
        return self.count * rows * columns * _padded(depth, target.multipliers)

    def _padded_causal(self, target: Target) -> int:
        rows, columns, multipliers = target.array_rows, target.array_columns, target.multipliers
        seen = [min(first + rows, self.m) for first in range(0, self.m, rows)]
        if self.causal == "n":
            return rows * sum(_padded(keys, columns) for keys in seen) * _padded(self.k, multipliers)
        return rows * sum(_padded(keys, multipliers) for keys in seen) * _padded(self.n, columns)


@dataclass(frozen=True)
class Shape(ABC):
    """The shape of a model with one batch of `sequence` tokens."""

    name: str
    sequence: int

    @abstractmethod
    def products(self) -> Iterator[Product]:
        """Iterates over the products of the whole model."""

    @abstractmethod
    def least_dram_bytes(self, pattern: Pattern) -> dict[str, int]:
        """Least bytes of any schedule, by class."""

    def macs(self, pattern: Pattern = DENSE) -> Fraction:
        """Useful multiply-accumulates: all of attention, and N/M of the products with weights."""
        return sum((product.macs(pattern) for product in self.products()), Fraction())

    def padded_macs(self, pattern: Pattern, target: Target) -> int:
        """The same, of shapes padded to the array's granularity."""
        return sum(product.padded_macs(pattern, target) for product in self.products())

    def ideal_speed_up(self, pattern: Pattern) -> Fraction:
        """Factor of fewer MACs than dense."""
        return self.macs() / self.macs(pattern)


@dataclass(frozen=True)
class Encoder(Shape):
    """
    The shape of a Transformer encoder.

    `vocabulary`: rows of the word embedding. A BERT has one, and positions and token types, a norm after them, a mask,
    GELU and a pooler; 0 is PyTorch's encoder, from stream to stream, with ReLU.
    """

    layers: int
    width: int
    heads: int
    hidden: int
    vocabulary: int

    @property
    def is_bert(self) -> bool:
        """True if there are embeddings and a pooler."""
        return self.vocabulary > 0

    def products(self) -> Iterator[Product]:
        """Iterates over the products of the whole model, equal ones of all layers together."""
        tokens, width, head = self.sequence, self.width, self.width // self.heads
        yield Product("projections", tokens, width, width, 4 * self.layers)
        yield Product("scores", tokens, tokens, head, self.heads * self.layers, weights=False)
        yield Product("context", tokens, head, tokens, self.heads * self.layers, weights=False)
        yield Product("intermediate", tokens, self.hidden, width, self.layers)
        yield Product("output", tokens, width, self.hidden, self.layers)
        if self.is_bert:
            yield Product("pooler", 1, width, width)

    def least_dram_bytes(self, pattern: Pattern) -> dict[str, int]:
        """
        Least bytes of any schedule, by class; everything else would have to stay on the chip.

        Each layer's weights are packed as one block and have one block of biases and scales; embedding rows are the
        words' rows and the positions' rows, to which the token type's row can be added beforehand.
        """
        layers = [product for product in self.products() if product.weights]
        encoding = smaller_encoding(pattern)
        stream = STREAM_BYTES * self.sequence * self.width
        norms = 2 * self.layers + self.is_bert
        tables = self.layers + 1 if self.is_bert else 0
        inputs = (INDEX_BYTES + MASK_BYTES) * self.sequence if self.is_bert else stream
        pooled = STREAM_BYTES * self.width if self.is_bert else 0
        return {
            "weights": sum(p.count * packed_size(p.n, p.k, pattern, encoding) for p in layers),
            "biases and scales": sum(p.count * map_parameters_size(p.n) for p in layers),
            "norms": norms * norm_parameters_size(self.width),
            "tables": tables * TABLE_BYTES,
            "embedding rows": 2 * stream if self.is_bert else 0,
            "inputs": inputs,
            "outputs": stream + pooled,
        }


def bert(name: str, layers: int, width: int, heads: int, hidden: int, sequence: int = 128) -> Encoder:
    """Returns a BERT with the vocabulary of `bert-base-uncased`."""
    return Encoder(name, sequence, layers, width, heads, hidden, 30522)


ENCODERS = (
    bert("BERT-base", 12, 768, 12, 3072),
    bert("TinyBERT-6", 6, 768, 12, 3072),
    bert("TinyBERT-4", 4, 312, 12, 1200),
    Encoder("Transformer-base", 128, 6, 512, 8, 2048, 0),
    bert("BERT-base-512", 12, 768, 12, 3072, 512),
    bert("BERT-base-2048", 12, 768, 12, 3072, 2048),
)
PATTERNS = (DENSE, *map(Pattern.parse, ("2:4", "1:4", "2:8", "1:8", "1:16")))


def pattern_name(pattern: Pattern) -> str:
    """Returns ``dense``, ``2:4``, .."""
    return "dense" if pattern.is_dense else str(pattern)


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
