"""The programs of the record, by name: models, options and inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from tests.record.models import (
    Inputs,
    Perceptron,
    Shape,
    Transformer,
    minilm,
    pytorch_decoder_layer,
    pytorch_encoder,
    transformer_inputs,
)
from tests.record.quantized_models import onnx_encoder, onnx_quantized, onnx_samples, pt2e

TINY = str(Path(__file__).with_name("tiny.yaml"))
SAMPLES = 4
"""Samples for calibration; another one follows, which is only run."""


@dataclass(frozen=True)
class Case:
    """The arguments of `sta.compile`, and the inputs of the runs."""

    model: Any
    example: Inputs | None
    options: dict[str, Any]
    runs: Sequence[Inputs]
    engines: tuple[str, ...] = ("native", "reference")


def _calibrated(model: Any, samples: Sequence[Inputs], options: dict[str, Any], **rest: Any) -> Case:
    """All samples but the last calibrate; the program runs on the first and on the last."""
    calibration = {name: np.stack([sample[name] for sample in samples[:-1]]) for name in samples[0]}
    example = None if isinstance(model, Path) else samples[0]
    return Case(model, example, {"calibration": calibration, **options}, [samples[0], samples[-1]], **rest)


Make = Callable[[Path], Case]
"""Makes the model; files of it go to the folder."""


def _minilm(**options: Any) -> Make:
    def make(_: Path) -> Case:
        model, inputs = minilm()
        # The reference engine would take longer than all other programs together.
        return _calibrated(model, inputs, options, engines=("native",))

    return make


def _transformer(shape: Shape, **options: Any) -> Make:
    def make(_: Path) -> Case:
        return _calibrated(Transformer(shape).eval(), _samples(shape), options)

    return make


def _samples(shape: Shape) -> list[Inputs]:
    return [transformer_inputs(shape, number) for number in range(SAMPLES + 1)]


def _random(seed: int, **sizes: Sequence[int]) -> list[Inputs]:
    generator = np.random.default_rng(seed)
    return [
        {name: generator.standard_normal(size, np.float32) for name, size in sizes.items()} for _ in range(SAMPLES + 1)
    ]


def _module(build: Callable[[], nn.Module], inputs: dict[str, Sequence[int]], **options: Any) -> Make:
    return lambda _: _calibrated(build(), _random(5, **inputs), options)


def _pt2e(shape: Shape, quantizer: dict[str, Any] | None = None, **options: Any) -> Make:
    def make(_: Path) -> Case:
        samples = _samples(shape)
        model = pt2e(Transformer(shape).eval(), samples[:-1], **(quantizer or {}))
        return Case(model, None, options, [samples[0], samples[-1]])

    return make


def _pt2e_module(build: Callable[[], nn.Module], inputs: dict[str, Sequence[int]], **options: Any) -> Make:
    def make(_: Path) -> Case:
        samples = _random(6, **inputs)
        return Case(pt2e(build(), samples[:-1]), None, options, [samples[0], samples[-1]])

    return make


def _onnx(layers: int, quantizer: dict[str, Any] | None, **options: Any) -> Make:
    """`quantizer` has the options of onnxruntime; None: the float model."""

    def make(folder: Path) -> Case:
        samples = onnx_samples(SAMPLES + 1)
        if quantizer is None:
            path = folder / "float.onnx"
            onnx_encoder(path, layers)
            return _calibrated(path, samples, options)
        path = onnx_quantized(folder, layers, samples[:-1], **quantizer)
        return Case(path, None, options, [samples[0], samples[-1]])

    return make


_LLAMA = Shape(norm="rms", activation="silu", gated=True, pre_norm=True, causal=True)
_LONG = Shape(sequence=150, heads=2, head_size=16, hidden=64, seed=40)

PROGRAMS: dict[str, Make] = {
    "minilm/dense": _minilm(),
    "minilm/2:4": _minilm(sparsity="2:4"),
    "minilm/1:16": _minilm(sparsity="1:16"),
    "minilm/int16": _minilm(int16_inputs=["*"], methods=[]),
    "minilm/2:4-int16-some": _minilm(sparsity="2:4", int16_inputs=["*.output.dense"], methods=["ranges"]),
    "minilm/small-2:4": _minilm(sparsity="2:4", target="sta-small", methods=[]),
    "minilm/large-1:16": _minilm(sparsity="1:16", target="sta-large", methods=[]),
    "minilm/online": _minilm(softmax="online", probability_bits=16, methods=[]),
    # Encoders: every activation, both orders of the norms, masks, ids, batches.
    "encoder/gelu": _transformer(Shape(seed=1)),
    "encoder/gelu-tanh-pre-norm": _transformer(Shape(activation="gelu_tanh", pre_norm=True, layers=2, seed=2)),
    "encoder/relu": _transformer(Shape(activation="relu", head_size=8, heads=3, sequence=31, seed=3)),
    "encoder/silu-spelled": _transformer(Shape(activation="silu", spelled=True, seed=4)),
    "encoder/tanh-embedded": _transformer(Shape(activation="tanh", embedded=True, batch=2, seed=5)),
    "encoder/sigmoid-gated": _transformer(Shape(activation="sigmoid", gated=True, seed=6)),
    "encoder/padding-mask": _transformer(Shape(masked=True, batch=3, sequence=11, seed=7)),
    "encoder/padding-mask-spelled": _transformer(Shape(masked=True, spelled=True, embedded=True, batch=2, seed=8)),
    "encoder/one-token": _transformer(Shape(sequence=1, head_size=5, hidden=1, seed=9)),
    "encoder/one-wide": _transformer(Shape(heads=1, head_size=1, hidden=7, seed=10)),
    "encoder/large-heads": _transformer(Shape(heads=2, head_size=65, hidden=131, sequence=40, seed=11)),
    "encoder/pytorch": _module(lambda: pytorch_encoder(64, 4, 128, 2), {"src": (1, 64, 64)}),
    "encoder/pytorch-pre-norm-batch": _module(
        lambda: pytorch_encoder(36, 3, 70, 1, norm_first=True, activation="gelu"), {"src": (3, 17, 36)}
    ),
    "encoder/small": _transformer(Shape(batch=2, sequence=70, hidden=150, seed=12), target="sta-small"),
    "encoder/large": _transformer(Shape(batch=2, sequence=70, hidden=150, seed=12), target="sta-large"),
    "encoder/tiny": _transformer(Shape(sequence=33, hidden=90, seed=13), target=TINY),
    "encoder/tiny-padding-mask-2:4": _transformer(
        Shape(masked=True, batch=2, embedded=True, layers=2, seed=14), target=TINY, sparsity="2:4"
    ),
    # Causal decoders.
    "decoder/causal": _transformer(Shape(causal=True, seed=20)),
    "decoder/causal-padding-mask": _transformer(Shape(causal=True, masked=True, batch=2, pre_norm=True, seed=21)),
    "decoder/causal-spelled": _transformer(Shape(causal=True, spelled=True, embedded=True, seed=22)),
    "decoder/rms-gated": _transformer(_LLAMA),
    "decoder/rms-gated-spelled": _transformer(
        Shape(norm="spelled", activation="silu", gated=True, pre_norm=True, causal=True, spelled=True, seed=23)
    ),
    "decoder/grouped-queries": _transformer(
        Shape(heads=4, key_heads=2, head_size=9, causal=True, norm="rms", gated=True, pre_norm=True, seed=24)
    ),
    "decoder/one-key-head-small": _transformer(
        Shape(heads=6, key_heads=1, head_size=8, causal=True, masked=True, batch=2, seed=25), target="sta-small"
    ),
    "decoder/long-causal": _transformer(
        Shape(causal=True, sequence=200, heads=2, head_size=16, hidden=64, pre_norm=True, seed=26), target="sta-small"
    ),
    "decoder/tiny-grouped-queries": _transformer(
        Shape(heads=4, key_heads=2, head_size=6, causal=True, norm="rms", seed=27), target=TINY
    ),
    # Attention to another sequence.
    "cross/encoder-decoder": _transformer(Shape(memory=27, causal=True, seed=30)),
    "cross/memory-mask-2:4": _transformer(
        Shape(memory=14, masked=True, batch=2, pre_norm=True, seed=31), sparsity="2:4"
    ),
    "cross/spelled-online-small": _transformer(
        Shape(memory=130, spelled=True, seed=32), softmax="online", target="sta-small"
    ),
    "cross/pytorch": _module(
        lambda: pytorch_decoder_layer(32, 2, 72), {"tgt": (1, 20, 32), "memory": (1, 29, 32)}, sparsity="1:4"
    ),
    # The softmax, over rows and chunk by chunk.
    "softmax/row": _transformer(_LONG, softmax="row", probability_bits=8),
    "softmax/online": _transformer(_LONG, softmax="online", probability_bits=8),
    "softmax/row-16": _transformer(_LONG, softmax="row", probability_bits=16),
    "softmax/online-16-small": _transformer(_LONG, softmax="online", probability_bits=16, target="sta-small"),
    "softmax/online-causal": _transformer(
        Shape(sequence=140, causal=True, masked=True, heads=1, batch=2, seed=41), softmax="online"
    ),
    "softmax/online-tiny": _transformer(
        Shape(sequence=60, head_size=7, masked=True, seed=42), softmax="online", target=TINY
    ),
    # Patterns and their encodings: bitmaps, indices, groups that do not divide the depth.
    "pattern/1:4": _transformer(Shape(seed=50), sparsity="1:4"),
    "pattern/1:8-large": _transformer(Shape(layers=2, seed=51), sparsity="1:8", target="sta-large"),
    "pattern/1:16": _transformer(Shape(heads=4, head_size=16, hidden=96, seed=52), sparsity="1:16"),
    "pattern/2:32": _transformer(Shape(heads=4, head_size=16, hidden=96, seed=53), sparsity="2:32"),
    "pattern/3:7": _transformer(Shape(batch=2, seed=54), sparsity="3:7"),
    "pattern/5:8-tiny": _transformer(Shape(sequence=9, seed=55), sparsity="5:8", target=TINY),
    "pattern/by-layer": _transformer(
        Shape(layers=2, seed=56), sparsity={"*.attention.*": "2:4", "*.widen": "1:8", "*.1.narrow": "4:6"}
    ),
    "pattern/found-2:4": _module(lambda: Perceptron(256, 320, 24, zeros=(2, 4)).eval(), {"x": (50, 256)}),
    "pattern/found-1:32": _module(lambda: Perceptron(256, 320, 24, zeros=(1, 32)).eval(), {"x": (50, 256)}),
    # 16-bit inputs, and what calibration may choose.
    "int16/all": _transformer(Shape(seed=60), int16_inputs=["*"]),
    "int16/some-2:4": _transformer(
        Shape(layers=2, gated=True, seed=61), int16_inputs=["*.narrow", "head"], sparsity="2:4"
    ),
    "int16/1:16-small": _transformer(
        Shape(heads=4, head_size=16, seed=62), int16_inputs=["*.query", "*.widen"], sparsity="1:16", target="sta-small"
    ),
    "int16/tiny-3:5": _transformer(Shape(sequence=9, seed=63), int16_inputs=["*"], sparsity="3:5", target=TINY),
    "calibration/min-sqnr": _transformer(Shape(layers=2, seed=64), min_sqnr=45.0),
    "calibration/no-methods": _transformer(Shape(layers=2, seed=64), min_sqnr=0, methods=[]),
    "calibration/smoothing": _transformer(Shape(pre_norm=True, seed=65), methods=["smoothing"]),
    # Products alone: deep, wide, and of one row.
    "product/deep-small": _module(lambda: Perceptron(3001, 70, 9).eval(), {"x": (33, 3001)}, target="sta-small"),
    "product/wide-2:4": _module(lambda: Perceptron(96, 1500, 31).eval(), {"x": (1, 150, 96)}, sparsity="2:4"),
    "product/one-row-tiny": _module(lambda: Perceptron(300, 50, 2).eval(), {"x": (1, 300)}, target=TINY),
    # Models that come with their number formats.
    "pt2e/encoder": _pt2e(Shape(seed=70)),
    "pt2e/pre-norm-2-layers": _pt2e(Shape(pre_norm=True, layers=2, activation="relu", seed=71)),
    "pt2e/rms-gated": _pt2e(_LLAMA, target="sta-small"),
    "pt2e/rms-gated-spelled": _pt2e(
        Shape(norm="spelled", activation="silu", gated=True, pre_norm=True, spelled=True, seed=72)
    ),
    "pt2e/ranges-by-error": _pt2e(Shape(embedded=True, seed=73), {"ranges": "error"}),
    "pt2e/quantization-aware": _pt2e(Shape(seed=74), {"is_qat": True}, target="sta-large"),
    "pt2e/pytorch": _pt2e_module(lambda: pytorch_encoder(48, 4, 96, 1), {"src": (1, 21, 48)}),
    "onnx/pairs": _onnx(2, {}),
    "onnx/pairs-signed-per-tensor": _onnx(1, {"signed": True, "per_channel": False}, target="sta-small"),
    "onnx/pairs-online-tiny": _onnx(1, {}, softmax="online", target=TINY),
    "onnx/float-2:4": _onnx(1, None, sparsity="2:4"),
}
"""Seeded, with fixed inputs; a name says what is special."""
