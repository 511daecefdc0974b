"""Example inputs of Hugging Face models, by what `forward` takes and the config says."""
# pyright: basic
# Configs of transformers have the fields of their model's type.

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.frontend.errors import ModelError

TOKENS = 128
"""Tokens of a text if nothing else is asked for."""
SAMPLES = 16_000
"""Samples of a recording: a second, at the rate that speech models are trained at."""
BINS = 80
"""Bins of a spectrogram whose model does not say."""
IMAGE = 224
"""Pixels of a side of an image whose model does not say."""

_MAIN = ("input_ids", "pixel_values", "input_features", "input_values")
"""Inputs of which a model needs one."""


def example_inputs(model: Any, seq: int | None, batch: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """
    One sample of the inputs that `model` of transformers needs, by the name of `forward`'s parameter.

    Args:
        model: a model; `main_input_name`, its config and the signature of `forward` tell what it takes.
        seq: tokens of a text (default: 128, or as many as the model has positions), steps of a spectrogram, or samples
            of a recording.
        batch: the first axis of every input.
        seed: of the random numbers.

    Returns:
        input_ids, attention_mask and decoder_input_ids int64 [batch, seq], token_type_ids alike where there are types;
        pixel_values float32 [batch, channels, height, width]; input_values float32 [batch, samples], or [batch, steps,
        bins] for a spectrogram; input_features float32 [batch, bins, steps] or [batch, steps, bins].

    Raises:
        ModelError: the model has fewer positions than `seq`, or takes none of these inputs.
    """
    generator = np.random.default_rng(seed)
    parameters = inspect.signature(model.forward).parameters
    main = model.main_input_name
    if main not in parameters or main not in _MAIN:
        main = next((name for name in _MAIN if name in parameters), None)
    if main is None:
        raise ModelError(
            f"{type(model).__name__} takes {', '.join(parameters)}, and example inputs can be made for "
            f"{', '.join(_MAIN)}: export the model with torch.export, and compile the program"
        )
    config = model.config
    needed = [name for name in _MAIN[:2] if name in parameters] if _has_two_towers(config) else [main]
    inputs: dict[str, NDArray[Any]] = {}
    for name in needed:
        if name == "input_ids":
            inputs[name] = _ids(config, _tokens(model, seq), batch, generator)
        else:
            inputs[name] = generator.standard_normal((batch, *_SIZES[name](config, seq)), np.float32)
    if "input_ids" in inputs:
        inputs |= _beside_ids(inputs["input_ids"], config, parameters)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in parameters:
        inputs["decoder_input_ids"] = _ids(
            config, _tokens(model, seq if "input_ids" in inputs else None), batch, generator
        )
    return inputs


def _tokens(model: Any, seq: int | None) -> int:
    """The number of tokens. Raises ModelError for more than the model has positions."""
    text = _part(model.config, "text_config", "vocab_size")
    positions = _number(text, "max_position_embeddings", "n_positions", "max_target_positions")
    if positions is None:
        return seq or TOKENS
    # RoBERTa's positions are counted from behind that of padding.
    tables = (part for name, part in model.named_modules() if name.endswith("position_embeddings"))
    positions -= max(
        (one.padding_idx + 1 for one in tables if getattr(one, "padding_idx", None) is not None), default=0
    )
    if seq is not None and seq > positions:
        raise ModelError(f"seq is {seq}, and the model has {positions} positions: give at most {positions}")
    return seq or min(TOKENS, positions)


def _ids(config: Any, seq: int, batch: int, generator: np.random.Generator) -> NDArray[Any]:
    """Random ids of the second half of the vocabulary: special ones have low numbers."""
    vocabulary = _number(_part(config, "text_config", "vocab_size"), "vocab_size") or 2
    return generator.integers(vocabulary // 2, vocabulary, (batch, seq))


def _beside_ids(ids: NDArray[Any], config: Any, parameters: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    if "attention_mask" in parameters:
        found["attention_mask"] = np.ones_like(ids)
    if "token_type_ids" in parameters and (_number(config, "type_vocab_size") or 0) > 1:
        found["token_type_ids"] = np.zeros_like(ids)
    return found


def _image_sizes(config: Any, seq: int | None) -> tuple[int, ...]:
    vision = _part(config, "vision_config", "image_size")
    size = getattr(vision, "image_size", None) or IMAGE
    if isinstance(size, Mapping):
        size = (size["height"], size["width"])
    height, width = (size, size) if isinstance(size, int) else size
    channels = _number(vision, "num_channels", "in_channels", "in_chans") or 3
    return channels, height, width


def _feature_sizes(config: Any, seq: int | None) -> tuple[int, ...]:
    audio = _part(config, "audio_config", "num_mel_bins")
    wide = _number(audio, "input_feat_per_channel", "feature_projection_input_dim")
    if wide is not None:
        return seq or TOKENS, wide
    steps = _number(audio, "max_source_positions")
    # Whisper's: two steps of the spectrogram are a position, and its length is fixed.
    return _number(audio, "num_mel_bins") or BINS, seq or TOKENS if steps is None else 2 * steps


def _value_sizes(config: Any, seq: int | None) -> tuple[int, ...]:
    bins, steps = _number(config, "num_mel_bins"), _number(config, "max_length")
    if bins is not None and steps is not None and hasattr(config, "frequency_stride"):
        return steps, bins
    return (seq or SAMPLES,)


_SIZES = {"pixel_values": _image_sizes, "input_features": _feature_sizes, "input_values": _value_sizes}
"""Sizes behind the batch of the inputs that are numbers, by the config and `seq`."""


def _has_two_towers(config: Any) -> bool:
    """True for a model of CLIP's kind, which takes a text and an image."""
    return all(hasattr(config, name) for name in ("text_config", "vision_config", "logit_scale_init_value"))


def _part(config: Any, name: str, known_by: str) -> Any:
    """The part of `config` that is called `name`, if it is that which has the field `known_by`."""
    part = getattr(config, name, None)
    return part if part is not None and hasattr(part, known_by) else config


def _number(config: Any, *names: str) -> int | None:
    """The first of these fields that is a positive number."""
    values = (getattr(config, name, None) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)
