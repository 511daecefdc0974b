"""Directories of Hugging Face models: what compiles, what is refused, and that nothing in them runs."""
# pyright: basic
# Configs of transformers have no types that the checker knows.

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import sta
from sta.frontend.errors import ModelError
from sta.frontend.hugging_face.directory import Request, load_directory
from sta.frontend.hugging_face.tasks import TASKS
from sta.frontend.model import import_model

SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
TEXT: dict[str, Any] = {**SMALL, "vocab_size": 40, "max_position_embeddings": 24}
IMAGE: dict[str, Any] = {**SMALL, "image_size": 16, "patch_size": 8}
DECODER: dict[str, Any] = {"d_model": 32, "decoder_layers": 1, "encoder_layers": 1, "decoder_attention_heads": 2}
SPEECH: dict[str, Any] = {
    **DECODER,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 40,
}
WHISPER: dict[str, Any] = {
    **SPEECH,
    "pad_token_id": 0,
    "num_mel_bins": 8,
    "max_source_positions": 10,
    "max_target_positions": 12,
}


def bert(**more: Any) -> transformers.BertConfig:
    return transformers.BertConfig(**TEXT, **more)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A directory whose config has every trap."""
    torch.manual_seed(0)
    folder = tmp_path / "bert.v1"
    transformers.BertForSequenceClassification(bert(num_labels=3)).save_pretrained(folder)
    return edited(folder, return_dict=False, output_hidden_states=True, output_attentions=True, use_cache=True)


def edited(folder: Path, **fields: object) -> Path:
    """The directory, with other fields in its config."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    return folder


def test_a_directory_compiles_to_what_transformers_computes(classifier: Path) -> None:
    with pytest.warns(UserWarning, match="no calibration data"):
        program = sta.compile(classifier, seq=8, batch=2, fast=True, check=True)
    assert [(one.name, one.shape) for one in program.outputs] == [("logits", (2, 3))]
    names = [(one.name, one.shape) for one in program.inputs]
    assert names == [(name, (2, 8)) for name in ("input_ids", "attention_mask", "token_type_ids")]
    ids = np.random.default_rng(3).integers(5, 40, (2, 8))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    model = transformers.BertForSequenceClassification.from_pretrained(classifier, return_dict=True).eval()
    with torch.no_grad():
        expected = model(**{name: torch.tensor(value) for name, value in inputs.items()}).logits.numpy()
    assert np.abs(program.run(inputs).outputs["logits"] - expected).max() < 0.1 * np.abs(expected).max()


def test_the_task_is_what_the_weights_were_trained_for(classifier: Path) -> None:
    loaded = load_directory(classifier, Request(seq=8))
    assert type(loaded.model).__name__ == "BertForSequenceClassification"
    assert loaded.model.config.num_labels == 3
    assert not any(part.training for part in loaded.model.modules())


def test_every_task_has_its_classes() -> None:
    for names in TASKS.values():
        assert all(hasattr(transformers, name) for name in names)


@pytest.mark.parametrize(
    ("make", "task", "kind", "inputs"),
    [
        (
            lambda: transformers.BertForMaskedLM(bert()),
            "feature-extraction",
            "BertModel",
            {"input_ids": (1, 24), "attention_mask": (1, 24), "token_type_ids": (1, 24)},
        ),
        (
            lambda: transformers.RobertaForTokenClassification(transformers.RobertaConfig(**TEXT, type_vocab_size=1)),
            "token-classification",
            "RobertaForTokenClassification",
            # Its positions begin behind that of padding, number 1.
            {"input_ids": (1, 22), "attention_mask": (1, 22)},
        ),
        (
            lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**IMAGE)),
            None,
            "ViTForImageClassification",
            {"pixel_values": (1, 3, 16, 16)},
        ),
        (
            lambda: transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**WHISPER)),
            None,
            "WhisperForConditionalGeneration",
            {"input_features": (1, 8, 20), "decoder_input_ids": (1, 12)},
        ),
        (
            lambda: transformers.CLIPModel(
                transformers.CLIPConfig(text_config=TEXT, vision_config=IMAGE, projection_dim=8)
            ),
            None,
            "CLIPModel",
            {"input_ids": (1, 24), "pixel_values": (1, 3, 16, 16), "attention_mask": (1, 24)},
        ),
    ],
)
def test_inputs_follow_from_the_signature_and_the_config(
    make: Callable[[], Any], task: str | None, kind: str, inputs: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    make().save_pretrained(tmp_path)
    model, examples = load_directory(tmp_path, Request(task=task))
    assert type(model).__name__ == kind
    assert {name: array.shape for name, array in examples.items()} == inputs
    with torch.no_grad():
        model(**{name: torch.tensor(array) for name, array in examples.items()})


def test_half_precision_weights_are_converted_with_a_note(tmp_path: Path) -> None:
    transformers.BertModel(bert()).half().save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="weights in float16 are converted to float32"):
        model, _ = load_directory(tmp_path, Request())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


MARKER = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n"


def test_code_of_a_directory_is_refused_and_never_runs(classifier: Path) -> None:
    for name in ("modeling_own.py", "configuration_own.py", "__init__.py", "conftest.py"):
        (classifier / name).write_text(MARKER)
    maps = {"AutoConfig": "configuration_own.Own", "AutoModelForSequenceClassification": "modeling_own.Own"}
    with pytest.raises(ModelError, match=r"config\.json wants to run Python code of its own .* never executed"):
        sta.compile(edited(classifier, auto_map=maps), seq=8)
    assert not (classifier / "ran").exists()
    assert not [name for name in sys.modules if "modeling_own" in name]


def test_kernels_that_a_config_names_are_not_fetched(classifier: Path) -> None:
    folder = edited(classifier, attn_implementation="someone/kernels", _attn_implementation="someone/kernels")
    model, _ = load_directory(folder, Request(seq=8))
    assert model.config._attn_implementation == "sdpa"


def test_pickled_weights_are_refused_with_the_way_to_convert_them(classifier: Path) -> None:
    (classifier / "model.safetensors").rename(classifier / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin only, and loading such a file can run code: convert it"):
        load_directory(classifier, Request())


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 40)


def damaged_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def listed_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def wrong_config(folder: Path) -> None:
    edited(folder, hidden_size="wide")


def other_width(folder: Path) -> None:
    edited(folder, hidden_size=64)


def unknown_type(folder: Path) -> None:
    edited(folder, model_type="bertt")


def no_type(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "model_type"}))


def quantized(folder: Path) -> None:
    edited(folder, quantization_config={"quant_method": "gptq", "bits": 4})


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def with_index(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"classifier.bias": name}}))


def outside(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder.parent / "elsewhere.safetensors")
    with_index(folder, "../elsewhere.safetensors")


def lost_part(folder: Path) -> None:
    with_index(folder, "model-1-of-2.safetensors")


def no_map(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "request_", "message"),
    [
        (no_config, Request(), r"a directory without config\.json: give that of a Hugging Face model"),
        (no_weights, Request(), r"has no weights: model\.safetensors is missing"),
        (damaged_weights, Request(), r"transformers cannot load .*"),
        (damaged_config, Request(), r"config\.json is no JSON: "),
        (listed_config, Request(), r"config\.json is no JSON object"),
        (wrong_config, Request(), r"config\.json is no config of type 'bert': "),
        (other_width, Request(), r"transformers cannot load "),
        (unknown_type, Request(), r"model_type is 'bertt'; did you mean 'bert'\?"),
        (no_type, Request(), r"model_type is 'None'"),
        (quantized, Request(), r"the weights are quantized \(gptq\), which is not supported: give the directory"),
        (adapter, Request(), r"has an adapter .* merge it into its model"),
        (outside, Request(), r"names weights outside of the directory: '\.\./elsewhere\.safetensors'"),
        (lost_part, Request(), r"lacks model-1-of-2\.safetensors, which .* names: download the model again"),
        (no_map, Request(), r"is damaged: its 'weight_map' does not say which file holds which weight"),
        (None, Request("translation"), r"unknown task 'translation', it is one of feature-extraction, "),
        (None, Request("image-classification"), r"no model of type 'bert' for image-classification: its tasks are "),
        (
            None,
            Request("question-answering"),
            r"no weights for qa_outputs\..* trained for question-answering; its config",
        ),
        (None, Request("fill-mask"), r"has no weights for cls\.predictions\..* and \d+ more of BertForMaskedLM: .*"),
        (None, Request(seq=25), r"seq is 25, and the model has 24 positions: give at most 24"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_message(
    spoil: Callable[[Path], None] | None, request_: Request, message: str, classifier: Path
) -> None:
    if spoil is not None:
        spoil(classifier)
    with pytest.raises(ModelError, match=message):
        load_directory(classifier, request_)


def test_without_transformers_the_message_says_what_to_install(
    classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"install sta-toolchain\[transformers\]"):
        load_directory(classifier, Request())


def test_sizes_and_tasks_are_for_directories_only() -> None:
    with pytest.raises(ModelError, match="task and seq are for the directory of a Hugging Face model: leave them out"):
        import_model(torch.nn.Linear(2, 2), (torch.ones(1, 2),), Request(task="fill-mask", seq=3))
