"""
Transformers of the sizes that are published, and the figures that follow from their configurations alone.

As in `benchmarks.shapes`, nothing here looks at a compiled program. A table that all layers share (rotations, biases of
positions) is counted once in the least traffic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.shapes import INDEX_BYTES, STREAM_BYTES, TABLE_BYTES, Product, Shape
from sta.spec.nm_format import Pattern, packed_size, smaller_encoding
from sta.spec.parameters import map_parameters_size, norm_parameters_size

CHANNELS = 3
IMAGE = 224
SWIN_PATCH = 4
SWIN_WINDOW = 7
WHISPER_MELS = 80
WHISPER_KERNEL = 3


@dataclass(frozen=True)
class Front:
    """
    The part before the layers: `products` of patches or frames, and the sizes that any schedule reads for it.

    `table_rows`: rows of the stream's width that tables give, words, positions and class tokens.
    `inputs`: bytes of the model's inputs. `norms`: whole-width norms. `tables`: tables of functions.
    """

    products: tuple[Product, ...] = ()
    table_rows: int = 0
    inputs: int = 0
    norms: int = 0
    tables: int = 0


@dataclass(frozen=True)
class Stack(Shape):
    """
    A model of equal layers at its own number of tokens.

    `gated`: the feed-forward's first layer has two halves. `functions`: tables of functions in all layers. `norms`: all
    norms of the layers and after them. `causal`: a token sees no later one. `constants`: bytes of
    tables that all layers share.
    """

    layers: int
    width: int
    heads: int
    hidden: int
    norms: int
    functions: int
    front: Front
    gated: bool = False
    causal: bool = False
    constants: int = 0

    def products(self) -> Iterator[Product]:
        """Iterates over the products of the whole model, equal ones of all layers together."""
        yield from self.front.products
        sizes = self.sequence, self.width, self.heads, self.hidden, self.layers
        yield from _layers(*sizes, gated=self.gated, causal=self.causal)

    def least_dram_bytes(self, pattern: Pattern) -> dict[str, int]:
        """Least bytes of any schedule, by class."""
        return {
            **_weights(self, pattern),
            "norms": (self.norms + self.front.norms) * norm_parameters_size(self.width),
            "tables": (self.functions + self.front.tables) * TABLE_BYTES,
            "embedding rows": STREAM_BYTES * self.front.table_rows * self.width,
            "constants": self.constants,
            "inputs": self.front.inputs,
            "outputs": STREAM_BYTES * self.sequence * self.width,
        }


@dataclass(frozen=True)
class Swin(Shape):
    """
    A Swin Transformer: stages of layers whose attention is in windows, and between them layers that merge four patches.

    `width` and `heads` are the first stage's, and double from stage to stage; `sequence` is its number of patches.
    """

    depths: tuple[int, ...]
    width: int
    heads: int

    def products(self) -> Iterator[Product]:
        """Iterates over the products of the whole model, equal ones of a stage together."""
        yield Product("patches", self.sequence, self.width, CHANNELS * SWIN_PATCH**2)
        for stage, depth in enumerate(self.depths):
            tokens, width = self.sequence >> 2 * stage, self.width << stage
            window = SWIN_WINDOW**2
            yield from _layers(tokens, width, self.heads << stage, 4 * width, depth, windows=tokens // window)
            if stage + 1 < len(self.depths):
                yield Product("merging", tokens // 4, 2 * width, 4 * width)

    def least_dram_bytes(self, pattern: Pattern) -> dict[str, int]:
        """
        Least bytes of any schedule, by class. Each layer has its own biases between the positions of a window, of which
        a window of 7x7 has 13x13 different ones a head; which windows are cut by the shift follows from their place.
        """
        stages = range(len(self.depths))
        widths = [self.width << stage for stage in stages]
        norms = 2 * sum(depth * norm_parameters_size(width) for depth, width in zip(self.depths, widths, strict=True))
        merging = sum(norm_parameters_size(4 * width) for width in widths[:-1])
        ends = norm_parameters_size(widths[0]) + norm_parameters_size(widths[-1])
        differences = (2 * SWIN_WINDOW - 1) ** 2
        biases = sum(depth * (self.heads << stage) * differences for stage, depth in enumerate(self.depths))
        return {
            **_weights(self, pattern),
            "norms": norms + merging + ends,
            "tables": sum(self.depths) * TABLE_BYTES,
            "embedding rows": 0,
            "constants": STREAM_BYTES * biases,
            "inputs": STREAM_BYTES * CHANNELS * IMAGE**2,
            "outputs": STREAM_BYTES * (self.sequence >> 2 * stages[-1]) * widths[-1],
        }


def _layers(
    tokens: int,
    width: int,
    heads: int,
    hidden: int,
    layers: int,
    *,
    gated: bool = False,
    causal: bool = False,
    windows: int = 1,
) -> Iterator[Product]:
    head, keys = width // heads, tokens // windows
    attentions = heads * windows * layers
    yield Product("projections", tokens, width, width, 4 * layers)
    yield Product("scores", keys, keys, head, attentions, weights=False, causal="n" if causal else None)
    yield Product("context", keys, head, keys, attentions, weights=False, causal="k" if causal else None)
    yield Product("intermediate", tokens, hidden, width, (2 if gated else 1) * layers)
    yield Product("output", tokens, width, hidden, layers)


def _weights(shape: Shape, pattern: Pattern) -> dict[str, int]:
    encoding = smaller_encoding(pattern)
    layers = [product for product in shape.products() if product.weights]
    return {
        "weights": sum(p.count * packed_size(p.n, p.k, pattern, encoding) for p in layers),
        "biases and scales": sum(p.count * map_parameters_size(p.n) for p in layers),
    }


def _text(tokens: int, *, positions: bool, norms: int = 0) -> Front:
    return Front(table_rows=tokens * (2 if positions else 1), inputs=INDEX_BYTES * tokens, norms=norms)


def _image(patch: int, width: int, extra: int, norms: int = 0) -> Front:
    """Patches by one product, `extra` tokens before them, and positions; extra tokens can be added beforehand."""
    patches = (IMAGE // patch) ** 2
    product = Product("patches", patches, width, CHANNELS * patch**2)
    return Front((product,), patches + extra, STREAM_BYTES * CHANNELS * IMAGE**2, norms)


def _sound(tokens: int, width: int) -> Front:
    """Two convolutions, the second of which halves the frames, each with a GELU; then positions."""
    first = Product("convolution 1", 2 * tokens, width, WHISPER_KERNEL * WHISPER_MELS)
    second = Product("convolution 2", tokens, width, WHISPER_KERNEL * width)
    return Front((first, second), tokens, STREAM_BYTES * WHISPER_MELS * 2 * tokens, tables=2)


def _rotations(tokens: int, head: int, kinds: int = 1) -> int:
    """Bytes of a cosine and a sine for each token and pair of channels."""
    return kinds * STREAM_BYTES * tokens * head


def _position_biases(tokens: int, heads: int) -> int:
    """Bytes of biases between all positions; there is one for each head and difference."""
    return STREAM_BYTES * heads * (2 * tokens - 1)


_TEXT = _text(128, positions=True)
_WORDS = _text(128, positions=False)

GPT2 = Stack("GPT-2", 128, 12, 768, 12, 3072, norms=25, functions=12, front=_TEXT, causal=True)
VIT = Stack("ViT-base", 197, 12, 768, 12, 3072, norms=25, functions=12, front=_image(16, 768, 1))
DEIT = Stack("DeiT-small", 198, 12, 384, 6, 1536, norms=25, functions=12, front=_image(16, 384, 2))
SWIN = Swin("Swin-tiny", 3136, (2, 2, 6, 2), 96, 3)
CLIP_TEXT = Stack(
    "CLIP-text", 77, 12, 512, 8, 2048, norms=25, functions=12, front=_text(77, positions=True), causal=True
)
CLIP_VISION = Stack("CLIP-vision", 50, 12, 768, 12, 3072, norms=24, functions=12, front=_image(32, 768, 1, norms=1))
WHISPER = Stack("Whisper-base", 1500, 6, 512, 8, 2048, norms=13, functions=6, front=_sound(1500, 512))
T5 = Stack("T5-base", 128, 12, 768, 12, 3072, norms=25, functions=0, front=_WORDS, constants=_position_biases(128, 12))
MODERN_BERT = Stack(
    "ModernBERT-base",
    128,
    22,
    768,
    12,
    1152,
    norms=44,
    functions=22,
    front=_text(128, positions=False, norms=1),
    gated=True,
    constants=_rotations(128, 64, kinds=2),
)
LLAMA = Stack(
    "LLaMA-160M",
    128,
    12,
    768,
    12,
    3072,
    norms=25,
    functions=12,
    front=_WORDS,
    gated=True,
    causal=True,
    constants=_rotations(128, 64),
)
REAL_SHAPES: tuple[Shape, ...] = (
    GPT2,
    VIT,
    DEIT,
    SWIN,
    CLIP_TEXT,
    CLIP_VISION,
    WHISPER,
    T5,
    MODERN_BERT,
    LLAMA,
)
