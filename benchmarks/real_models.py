"""The models behind `benchmarks.real_shapes`: transformers' own classes, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.real_shapes import (
    CHANNELS,
    CLIP_TEXT,
    CLIP_VISION,
    DEIT,
    GPT2,
    IMAGE,
    LLAMA,
    MODERN_BERT,
    T5,
    VIT,
    WHISPER,
    WHISPER_MELS,
    Stack,
    Swin,
)
from benchmarks.shapes import Shape

Examples = dict[str, torch.Tensor]

_TEXT = "input_ids"
_PIXELS = "pixel_values"
_SOUND = "input_features"


class _LastHiddenState(nn.Module):
    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.model(**{self.name: values}, return_dict=True).last_hidden_state


def export(shape: Shape) -> tuple[torch.export.ExportedProgram, Examples]:
    """Returns the exported model, from its input to the last hidden state, and one sample of its input."""
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    model, name = build(shape)
    examples = {"values": _example(name, shape)}
    with torch.no_grad():
        exported = torch.export.export(_LastHiddenState(model, name).eval(), (), examples, strict=False)
    return exported, examples


def _example(name: str, shape: Shape) -> torch.Tensor:
    if name == _TEXT:
        return torch.randint(3, 300, (1, shape.sequence))
    if name == _PIXELS:
        return torch.randn(1, CHANNELS, IMAGE, IMAGE)
    return torch.randn(1, WHISPER_MELS, 2 * shape.sequence)


def build(shape: Shape) -> tuple[nn.Module, str]:
    """Returns a model of transformers with random weights, and the name of its input."""
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    # The arguments of configurations are dynamic, which the checker does not see.
    library: Any = transformers
    if isinstance(shape, Swin):
        configuration = library.SwinConfig(depths=list(shape.depths), embed_dim=shape.width)
        return library.SwinModel(configuration, add_pooling_layer=False), _PIXELS
    assert isinstance(shape, Stack)
    if shape is WHISPER:
        return WhisperEncoder(library.WhisperConfig(**_sizes(shape, _WHISPER_FIELDS))), _SOUND
    if shape in (VIT, DEIT):
        kind = "ViT" if shape is VIT else "DeiT"
        configuration = getattr(library, f"{kind}Config")(**_sizes(shape, _FIELDS))
        return getattr(library, f"{kind}Model")(configuration, add_pooling_layer=False), _PIXELS
    model, configuration, fields, name = _PLAIN[shape.name]
    return getattr(library, model)(getattr(library, configuration)(**_sizes(shape, fields))), name


_Fields = tuple[str, str, str, str]
"""A configuration's names of layers, width, heads and hidden width."""
_FIELDS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
_WHISPER_FIELDS = ("encoder_layers", "d_model", "encoder_attention_heads", "encoder_ffn_dim")
_PLAIN: dict[str, tuple[str, str, _Fields, str]] = {
    GPT2.name: ("GPT2Model", "GPT2Config", ("n_layer", "n_embd", "n_head", "n_inner"), _TEXT),
    CLIP_TEXT.name: ("CLIPTextModel", "CLIPTextConfig", _FIELDS, _TEXT),
    CLIP_VISION.name: ("CLIPVisionModel", "CLIPVisionConfig", _FIELDS, _PIXELS),
    T5.name: ("T5EncoderModel", "T5Config", ("num_layers", "d_model", "num_heads", "d_ff"), _TEXT),
    MODERN_BERT.name: ("ModernBertModel", "ModernBertConfig", _FIELDS, _TEXT),
    LLAMA.name: ("LlamaModel", "LlamaConfig", _FIELDS, _TEXT),
}
"""Class, configuration, its names of sizes, and input, of the models whose class takes nothing but a configuration."""


def _sizes(shape: Stack, fields: _Fields) -> dict[str, int]:
    return dict(zip(fields, (shape.layers, shape.width, shape.heads, shape.hidden), strict=True))
