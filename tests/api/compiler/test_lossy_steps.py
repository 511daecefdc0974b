"""Steps that change the function on purpose: `--check` reports their cost, and refuses other changes."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

import sta
from sta.api.compiler.bit_check import CheckError
from sta.dialect import torch as torch_dialect
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.quantization import smoothquant
from sta.passes.quantization.noise import Noise
from sta.passes.torch.choose_softmax import TorchChooseSoftmaxPass

Ids = NDArray[np.int64]


class LastHidden(nn.Module):
    """A model of Hugging Face that returns its last hidden states alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids).last_hidden_state


def clip_text() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    tokens: dict[str, Any] = {"vocab_size": 99, "bos_token_id": 97, "eos_token_id": 98, "pad_token_id": 1}
    return CLIPTextModel(CLIPTextConfig(**sizes, **tokens, num_attention_heads=4, max_position_embeddings=16))


def ctrl() -> Any:
    from transformers import CTRLConfig, CTRLModel

    return CTRLModel(CTRLConfig(vocab_size=99, n_positions=16, n_embd=32, dff=64, n_layer=2, n_head=4, use_cache=False))


def biogpt() -> Any:
    from transformers import BioGptConfig, BioGptModel

    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BioGptModel(
        BioGptConfig(**sizes, vocab_size=99, intermediate_size=64, max_position_embeddings=32, use_cache=False)
    )


class SameText(nn.Module):
    """An encoder-decoder whose decoder is given the encoder's text."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> Any:
        return self.model(input_ids=input_ids, decoder_input_ids=input_ids)


def blenderbot() -> Any:
    from transformers import BlenderbotConfig, BlenderbotModel

    layers: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2}
    heads: dict[str, Any] = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    widths: dict[str, Any] = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    config = BlenderbotConfig(**layers, **heads, **widths, vocab_size=99, max_position_embeddings=32, use_cache=False)
    return SameText(BlenderbotModel(config))


def samples(count: int) -> Ids:
    return np.random.default_rng(0).integers(2, 97, (count, 1, 8))


def checked(model: Any) -> tuple[sta.Program, nn.Module, Ids]:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    module, ids = LastHidden(model()).eval(), samples(8)
    program = sta.compile(module, {"input_ids": torch.from_numpy(ids[0])}, calibration={"input_ids": ids}, check=True)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    return program, module, ids


@pytest.mark.parametrize("model", [clip_text, ctrl, biogpt, blenderbot])
def test_a_check_reports_what_calibration_costs(model: Any) -> None:
    program, module, ids = checked(model)
    losses = {loss.step: loss for loss in program.losses}
    assert list(losses) == ["torch-round-attention", "torch-round-weights", "torch-quantize", "convert-torch-to-nm"]
    assert losses["torch-round-attention"].decibels == float("inf"), "nothing was rounded"
    # What is reported last is what the program does to the sample of the check, measured here from outside.
    with torch.no_grad():
        exact = cast("NDArray[np.float32]", module(torch.from_numpy(ids[0])).numpy()).astype(np.float64)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    noise = program.run({"input_ids": ids[0]}).outputs["output"] - exact
    measured = 10 * np.log10(np.square(exact).sum() / np.square(noise).sum())
    assert losses["convert-torch-to-nm"].model_decibels == pytest.approx(measured, abs=0.1)
    assert 20 < measured < 80


def test_the_loss_of_calibration_stands_beside_what_it_was_kept_for() -> None:
    program, _, _ = checked(ctrl)
    calibration = next(loss for loss in program.losses if loss.step == "torch-round-weights")
    assert calibration.decibels < float("inf")
    assert "GPTQ (" in calibration.kept_for
    assert " dB)" in calibration.kept_for


def test_a_program_that_was_not_checked_has_no_losses() -> None:
    ids = samples(2)
    module = LastHidden(ctrl()).eval()
    assert sta.compile(module, {"input_ids": ids[0]}, calibration={"input_ids": ids}).losses == ()


class PaddedOnTheLeft(nn.Module):
    """A causal attention, spelled out, whose keys an input leaves out by a number that is finite."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.number = number

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        query, key, value = (layer(x)[:, None] for layer in (self.query, self.key, self.value))
        admitted = (keep != 0)[:, None, None, :] & torch.ones(8, 8).tril().bool()
        scores = query @ key.mT / 4 + torch.where(admitted, 0.0, self.number)
        return (scores.softmax(-1) @ value)[:, 0]


@pytest.mark.parametrize("number", [-1e9, torch.finfo(torch.float32).min, float("-inf")])
def test_rows_of_padding_are_no_change_of_a_pass(number: float) -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    rng = np.random.default_rng(0)
    x, keep = rng.normal(size=(8, 2, 8, 16)).astype(np.float32), np.ones((8, 2, 8), np.int64)
    # Rows without a key: a mean in PyTorch, or NaN, and zero on the machine. The second sequence is nothing else.
    keep[:, 0, :3] = keep[:, 1, :] = 0
    inputs = {"x": x, "keep": keep}
    program = sta.compile(
        PaddedOnTheLeft(number).eval(),
        {name: array[0] for name, array in inputs.items()},
        calibration=inputs,
        check=True,
    )
    assert {loss.step for loss in program.losses if loss.model_decibels < 25} == set()


def test_a_step_behind_lossy_ones_is_still_held_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = TorchChooseSoftmaxPass.apply

    def broken(self: TorchChooseSoftmaxPass, ctx: Context, op: ModuleOp) -> None:
        plain(self, ctx, op)
        *_, norm = (one for one in op.walk() if isinstance(one, torch_dialect.LayerNormOp))
        norm.operands = [norm.weight if value is norm.bias else value for value in norm.operands]

    monkeypatch.setattr(TorchChooseSoftmaxPass, "apply", broken)
    with pytest.raises(CheckError, match=r"pass torch-choose-softmax changed output 'output': .* from the step before"):
        checked(ctrl)


def test_smoothing_is_held_to_the_bound_of_steps_that_keep_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    program, _, _ = checked(clip_text)
    assert "torch-calibrate" not in {loss.step for loss in program.losses}
    divided = smoothquant._divided_parameters  # pyright: ignore[reportPrivateUsage] - broken on purpose

    def broken(norm: torch_dialect.LayerNormOp, store: WeightStore, scale: Any) -> list[tuple[str, Any]]:
        return divided(norm, store, scale * 1.01)

    better = itertools.count(100)

    def decibels(self: Noise, module: ModuleOp, *_: Any) -> float:
        return float(next(better))

    monkeypatch.setattr(smoothquant, "_divided_parameters", broken)
    monkeypatch.setattr(Noise, "decibels", decibels)
    with pytest.raises(CheckError, match=r"pass torch-calibrate changed output 'output': .* at least 60 dB expected"):
        checked(clip_text)
