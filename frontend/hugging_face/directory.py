"""
Directories of Hugging Face models: config.json and safetensors, as transformers reads them.

A directory is of unknown origin. Nothing in it is executed, unpickled, or followed to a place outside of it.
"""
# pyright: basic
# Configs of transformers have the fields of their model's type.

from __future__ import annotations

import json
import os
import struct
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from sta.frontend.errors import ModelError
from sta.frontend.hugging_face.inputs import example_inputs
from sta.frontend.hugging_face.tasks import auto_class
from sta.frontend.program import quiet
from sta.spec.suggestion import suggestion

_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
"""Weights in other forms than safetensors; most are pickles, which run code while they load."""
_CHOICES = (
    *("attn_implementation", "_attn_implementation", "experts_implementation", "dtype", "torch_dtype"),
    *("use_cache", "return_dict", "output_hidden_states", "output_attentions"),
)
"""Fields about how a model runs, some of which may name code on a server: `_prepare` sets them or transformers does."""
_NARROW = {"F16": "float16", "BF16": "bfloat16", "F64": "float64"}
"""Number formats of safetensors that become float32."""


class Request(NamedTuple):
    """Purpose of the model of a directory, and the sizes of its inputs."""

    task: str | None = None
    """A name of `TASKS`; None for what the weights were trained for."""
    seq: int | None = None
    """Tokens of a text; None for 128, or fewer where the model has fewer positions."""
    batch: int | None = None
    """The first axis of every input; None for 1."""


DEFAULTS = Request()
"""Purpose that the weights were trained for, with inputs of the usual sizes."""


class LoadedDirectory(NamedTuple):
    """A model in evaluation mode, and one sample of its inputs by name."""

    model: Any
    inputs: dict[str, NDArray[Any]]


def load_directory(path: Path, request: Request) -> LoadedDirectory:
    """
    Loads the model of a directory, in float32, without caches, its outputs by name.

    Raises ModelError if transformers is missing; for a directory without config.json or safetensors, with weights in
    pickles only, with an adapter or quantized weights; for a config that needs code of its own; for weights that the
    task needs and the files do not have; and for a task or sizes that do not fit.
    """
    config = _config(path)
    files = _weight_files(path)
    with quiet():
        task, auto = auto_class(config, request.task)
    model = _load(auto, path, config, task)
    _prepare(model)
    narrow = sorted({_NARROW[kind] for file in files for kind in _kinds(file) if kind in _NARROW})
    if narrow:
        warnings.warn(f"{path}: weights in {' and '.join(narrow)} are converted to float32", stacklevel=9)
    return LoadedDirectory(model, example_inputs(model, request.seq, request.batch or 1))


def _config(path: Path) -> Any:
    """The config of the model's type, from config.json. Raises ModelError where the directory asks for more."""
    file = path / "config.json"
    if (path / "adapter_config.json").exists():
        raise ModelError(
            f"{path} has an adapter (adapter_config.json), not a whole model: merge it into its model with PEFT's "
            "merge_and_unload(), and save that"
        )
    if not file.is_file():
        raise ModelError(
            f"{path} is a directory without config.json: give that of a Hugging Face model, as save_pretrained writes "
            "it, or a .pt2 or .onnx file"
        )
    fields = _json(file)
    if "auto_map" in fields:
        raise ModelError(
            f"{file} wants to run Python code of its own ('auto_map'), and code from a model's directory is never "
            "executed: export the model with torch.export where you trust it, or remove 'auto_map' if transformers' "
            "own class of this type is meant"
        )
    if "quantization_config" in fields:
        method = fields["quantization_config"].get("quant_method") or "an unnamed method"
        raise ModelError(
            f"{file}: the weights are quantized ({method}), which is not supported: give the directory of the float "
            "model, and calibration data"
        )
    return _known_config(file, _without_choices(fields))


def _known_config(file: Path, fields: dict[str, Any]) -> Any:
    try:
        with quiet():
            from transformers import CONFIG_MAPPING
    except ImportError as error:
        raise ModelError(
            f"a Hugging Face directory is read by transformers, which is not installed ({error}): install "
            "sta-toolchain[transformers]"
        ) from error
    kind = str(fields.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            f"{file} is of a model that transformers does not have, which can be exported with torch.export where its "
            f"code is: model_type is {kind!r}{suggestion(kind, list(CONFIG_MAPPING))}"
        )
    try:
        with quiet():
            return CONFIG_MAPPING[kind].from_dict(fields)
    except Exception as error:  # whatever a config's class raises for fields that do not fit
        raise ModelError(f"{file} is no config of type {kind!r}: {_reason(error)}") from error


def _without_choices(fields: Any) -> Any:
    if isinstance(fields, dict):
        return {name: _without_choices(value) for name, value in fields.items() if name not in _CHOICES}
    return fields


def _weight_files(path: Path) -> list[Path]:
    """The safetensors of the model. Raises ModelError if there are none, or if one is missing or elsewhere."""
    index = path / _INDEX
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    if not index.is_file():
        raise _no_weights(path)
    names = _json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{index} is damaged: its 'weight_map' does not say which file holds which weight")
    files = sorted(set(names.values()))
    for name in files:
        if name != os.path.basename(name) or name in (".", ".."):
            raise ModelError(f"{index} names weights outside of the directory: {name!r}")
        if not (path / name).is_file():
            raise ModelError(f"{path} lacks {name}, which {index.name} names: download the model again")
    return [path / name for name in files]


def _no_weights(path: Path) -> ModelError:
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if not pickles:
        return ModelError(f"{path} has no weights: model.safetensors is missing")
    return ModelError(
        f"{path} has weights in {pickles[0]} only, and loading such a file can run code: convert it where you trust "
        "it, with model.save_pretrained(directory), which writes model.safetensors"
    )


def _load(auto: Any, path: Path, config: Any, task: str) -> Any:
    """The model with all its weights. Raises ModelError if some are not in the files."""
    model, missing = _loaded(auto, path, config)
    if missing and all(name.split(".")[0] == "pooler" for name in missing):
        # Models that were trained without a pooler have none.
        model, missing = _loaded(auto, path, config, add_pooling_layer=False)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(
            f"{path} has no weights for {missing[0]}{more} of {type(model).__name__}: the model was not trained for "
            f"{task}; its config names {', '.join(config.architectures or ['no class'])}"
        )
    return model


def _loaded(auto: Any, path: Path, config: Any, **options: Any) -> tuple[Any, list[str]]:
    """The model, and the names of weights that the files lack."""
    import torch

    try:
        with quiet():
            model, info = auto.from_pretrained(
                os.fspath(path),
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # whatever a damaged file or a config of another model makes transformers raise
        raise ModelError(f"transformers cannot load {path}: {_reason(error)}") from error
    return model, sorted(info["missing_keys"])


def _prepare(model: Any) -> None:
    """Lets a model return what was asked for and nothing else: no cache, no intermediate values, outputs by name."""
    model.eval()
    for config in _configs(model.config):
        config.use_cache = False
        config.return_dict = True
        config.output_hidden_states = False
        config.output_attentions = False


def _configs(config: Any) -> Generator[Any]:
    yield config
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if part is not None:
            yield from _configs(part)


def _kinds(file: Path) -> set[str]:
    """The number formats in a file of safetensors, from its header."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}


def _json(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ModelError(f"{file} is no JSON object")
    return fields


def _reason(error: Exception) -> str:
    """The first line of an error of transformers."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
