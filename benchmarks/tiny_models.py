"""Models of each Hugging Face type in a tiny configuration: two layers of width 64, random weights."""
# pyright: basic
# Configs of transformers have the fields of their model's type.

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sta.frontend.hugging_face.inputs import example_inputs

Inputs = dict[str, NDArray[Any]]

TOKENS = 16
RECORDING = 4000
"""Samples of a recording."""
CALIBRATION = 8
"""Samples for the ranges of activations."""

_SIZES = {
    64: "hidden_size d_model n_embd dim embed_dim emb_dim embedding_size moe_intermediate_size",
    2: "num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers num_decoder_layers "
    "num_key_value_heads eos_token_id",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads num_experts "
    "num_local_experts n_routed_experts",
    128: "intermediate_size ffn_dim d_ff n_inner hidden_dim encoder_ffn_dim decoder_ffn_dim max_position_embeddings "
    "n_positions",
    320: "vocab_size",
    32: "image_size",
    16: "head_dim d_kv",
    8: "patch_size",
    1: "bos_token_id",
    0: "pad_token_id use_cache",
}
"""Fields of configs by their tiny value; a field that a type does not have, or has as a list, stays as it is."""
_PARTS = ("text_config", "vision_config", "audio_config", "encoder", "decoder")
_DEPTH = 2
"""Configs inside of configs that are made tiny."""


class TinyModel(NamedTuple):
    """A model that returns its first output, and inputs for it."""

    exported: torch.export.ExportedProgram
    example: Inputs
    calibration: Inputs
    """Eight other samples by name, first axis the samples."""
    expected: NDArray[np.float32]
    """The output for `example`, as PyTorch computes it."""


class _First(torch.nn.Module):
    """The first of a model's outputs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Any) -> Any:
        return self.model(**inputs)[0]


def model_types() -> list[str]:
    """Every type that `AutoModel` of the installed transformers knows, sorted."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    return sorted(MODEL_MAPPING_NAMES)


def build(kind: str) -> TinyModel:
    """Returns a type's model and inputs, the same at every call; raises whatever transformers or the export raises."""
    from transformers import CONFIG_MAPPING, AutoModel

    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind]()
    for part in _configs(config, _DEPTH):
        _shrink(part)
    model = AutoModel.from_config(config).eval()
    seq = RECORDING if model.main_input_name == "input_values" else TOKENS
    samples = [example_inputs(model, seq, batch=1, seed=seed) for seed in range(1 + CALIBRATION)]
    example = samples[0]
    tensors = {name: torch.tensor(array) for name, array in example.items()}
    whole = _First(model).eval()
    with torch.no_grad():
        exported = torch.export.export(whole, (), tensors, strict=False)
        expected = whole(**tensors).numpy()
    calibration = {name: np.stack([sample[name] for sample in samples[1:]]) for name in example}
    return TinyModel(exported, example, calibration, expected)


def _configs(config: Any, depth: int) -> Generator[Any]:
    yield config
    parts = (getattr(config, name, None) for name in _PARTS) if depth else ()
    yield from itertools.chain.from_iterable(_configs(part, depth - 1) for part in parts if hasattr(part, "to_dict"))


def _shrink(config: Any) -> None:
    for value, names in _SIZES.items():
        for name in names.split():
            before = getattr(config, name, None)
            if isinstance(before, int):
                _set(config, name, bool(value) if isinstance(before, bool) else value)


def _set(config: Any, name: str, value: int) -> None:
    try:
        setattr(config, name, value)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        # A property that only reads, or a value that the type does not take: it stays.
        return
