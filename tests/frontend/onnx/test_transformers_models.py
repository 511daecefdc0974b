"""Models of transformers, exported by either exporter of PyTorch: onnxruntime's numbers, or one true reason."""
# pyright: basic
# onnx and transformers have no types that pyright could check.

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from sta.api.compiler.compilation import compile_model
from tests.support.onnx_graphs import decibels

WIDTH, VOCABULARY, BATCH, LENGTH = 32, 50, 2, 9
SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 40,
}
T5 = {"d_model": WIDTH, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "vocab_size": VOCABULARY}
BART = {
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 40,
}
DISTILBERT = {
    "dim": WIDTH,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 64,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 40,
}
VIT = {name: SIZES[name] for name in list(SIZES)[:4]} | {"image_size": 32, "patch_size": 8}


def using(attention: str) -> dict[str, Any]:
    """The choice of an attention, of which the configurations' own types know nothing."""
    return {"attn_implementation": attention}


MODELS: dict[str, Callable[[str], Any]] = {
    "BERT": lambda attention: transformers.BertModel(
        transformers.BertConfig(**SIZES, **using(attention)), add_pooling_layer=False
    ),
    "DistilBERT": lambda attention: transformers.DistilBertModel(
        transformers.DistilBertConfig(**DISTILBERT, **using(attention))
    ),
    "ELECTRA": lambda attention: transformers.ElectraModel(
        transformers.ElectraConfig(**SIZES, embedding_size=WIDTH, **using(attention))
    ),
    "BART's encoder": lambda attention: transformers.BartModel(
        transformers.BartConfig(**BART, **using(attention))
    ).get_encoder(),
    "RoBERTa": lambda attention: transformers.RobertaModel(
        transformers.RobertaConfig(**SIZES, **using(attention)), add_pooling_layer=False
    ),
    "XLM-R": lambda attention: transformers.XLMRobertaModel(
        transformers.XLMRobertaConfig(**SIZES, **using(attention)), add_pooling_layer=False
    ),
    "MPNet": lambda attention: transformers.MPNetModel(
        transformers.MPNetConfig(**SIZES, **using(attention)), add_pooling_layer=False
    ),
    "T5's encoder": lambda attention: transformers.T5EncoderModel(transformers.T5Config(**T5, **using(attention))),
    "ViT": lambda attention: transformers.ViTModel(
        transformers.ViTConfig(**VIT, **using(attention)), add_pooling_layer=False
    ),
}

GENERATOR = np.random.default_rng(3)
IDS = GENERATOR.integers(3, VOCABULARY, (BATCH, LENGTH))
ONES = np.ones((BATCH, LENGTH), np.int64)
PADDED = ONES.copy()
PADDED[1, 5:] = 0
POSITIONS = np.broadcast_to(np.arange(2, 2 + LENGTH), (BATCH, LENGTH)).copy()


class Hidden(torch.nn.Module):
    """The last hidden states of a model whose inputs have the given names."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, values, strict=True))).last_hidden_state


def exported(directory: Path, name: str, attention: str, dynamo: bool, inputs: dict[str, Any]) -> Path:
    """The file of a tiny model with drawn weights."""
    torch.manual_seed(0)
    path = directory / "model.onnx"
    examples = tuple(torch.from_numpy(array) for array in inputs.values())
    with warnings.catch_warnings():
        # Of the exporters, about their own future.
        warnings.simplefilter("ignore")
        model = Hidden(MODELS[name](attention).eval(), list(inputs)).eval()
        torch.onnx.export(model, examples, path, dynamo=dynamo, input_names=list(inputs), verbose=False)
    return path


dynamo = pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "script"])
attention = pytest.mark.parametrize("attention", ["sdpa", "eager"])


@dynamo
@attention
@pytest.mark.parametrize(
    "name",
    ["BERT", *(pytest.param(name, marks=pytest.mark.slow) for name in ("DistilBERT", "ELECTRA", "BART's encoder"))],
)
def test_a_model_with_an_attention_mask_has_onnxruntimes_numbers(
    tmp_path: Path, name: str, attention: str, dynamo: bool
) -> None:
    path = exported(tmp_path, name, attention, dynamo, {"input_ids": IDS, "attention_mask": ONES})
    for mask in (ONES, PADDED):
        assert decibels(path, {"input_ids": IDS, "attention_mask": mask}) > 120


@dynamo
def test_a_program_of_such_a_model_keeps_its_bits(tmp_path: Path, dynamo: bool) -> None:
    inputs = {"input_ids": IDS, "attention_mask": PADDED}
    path = exported(tmp_path, "BERT", "sdpa", dynamo, inputs)
    samples = {name: array[None] for name, array in inputs.items()}
    compilation = compile_model(path, calibration=samples, check=True)
    assert compilation.program is not None


@dynamo
@pytest.mark.parametrize("name", ["RoBERTa", "XLM-R"])
def test_the_host_counts_positions_from_the_ids(tmp_path: Path, name: str, dynamo: bool) -> None:
    inputs = {"input_ids": IDS, "attention_mask": PADDED}
    assert decibels(exported(tmp_path, name, "sdpa", dynamo, inputs), inputs) > 120


@dynamo
@pytest.mark.parametrize("name", ["MPNet", "T5's encoder"])
def test_learned_numbers_are_added_to_scores(tmp_path: Path, name: str, dynamo: bool) -> None:
    inputs = {"input_ids": IDS, "attention_mask": PADDED}
    if name == "MPNet":
        inputs["position_ids"] = POSITIONS
    assert decibels(exported(tmp_path, name, "eager", dynamo, inputs), inputs) > 110


@dynamo
def test_patches_and_their_token_have_onnxruntimes_numbers(tmp_path: Path, dynamo: bool) -> None:
    pixels = {"pixel_values": GENERATOR.normal(size=(BATCH, 3, 32, 32)).astype(np.float32)}
    assert decibels(exported(tmp_path, "ViT", "sdpa", dynamo, pixels), pixels) > 110
