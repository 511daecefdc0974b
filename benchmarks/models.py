"""The models behind the shapes: PyTorch's and Hugging Face's own classes, with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.shapes import Encoder
from sta.runtime import Program
from sta.spec.nm_format import Pattern
from sta.spec.target import Target

Inputs = dict[str, NDArray[Any]]


def build(encoder: Encoder) -> tuple[nn.Module, Inputs]:
    """Returns the model and one sample of its inputs, the same at every call."""
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    generator = np.random.default_rng(0)
    if not encoder.is_bert:
        layer = nn.TransformerEncoderLayer(encoder.width, encoder.heads, encoder.hidden, batch_first=True)
        shape = (1, encoder.sequence, encoder.width)
        model = nn.TransformerEncoder(layer, encoder.layers, enable_nested_tensor=False)
        return model.eval(), {"src": generator.standard_normal(shape, np.float32)}
    ids = generator.integers(0, encoder.vocabulary, (1, encoder.sequence))
    return _bert(encoder).eval(), {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def _bert(encoder: Encoder) -> nn.Module:
    from transformers import BertConfig, BertModel

    # The name of the attention is an argument of its base class, which the checker does not see.
    make: Any = BertConfig
    configuration = make(
        vocab_size=encoder.vocabulary,
        num_hidden_layers=encoder.layers,
        hidden_size=encoder.width,
        num_attention_heads=encoder.heads,
        intermediate_size=encoder.hidden,
        max_position_embeddings=max(512, encoder.sequence),
        attn_implementation="sdpa",
    )
    return BertModel(configuration)


def export(encoder: Encoder) -> tuple[torch.export.ExportedProgram, Inputs]:
    """Returns the exported model and one sample of its inputs."""
    model, inputs = build(encoder)
    examples = {name: torch.tensor(array) for name, array in inputs.items()}
    return torch.export.export(model, (), examples, strict=False), inputs


def compile_pruned(exported: torch.export.ExportedProgram, inputs: Inputs, target: Target, pattern: Pattern) -> Program:
    """Returns the program of a model whose linear layers are all pruned to a pattern."""
    from sta.api.compiler.compilation import compile

    calibration = {name: array[np.newaxis] for name, array in inputs.items()}
    sparsity = None if pattern.is_dense else str(pattern)
    return compile(exported, target=target, sparsity=sparsity, calibration=calibration)
