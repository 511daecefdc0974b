"""Small Transformers, and modules of the `torch` dialect from text: what tests of the front end start from."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.printer import Printer

from sta.dialect.interpreters.torch import operation_name, run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.weight_store import WeightStore
from sta.frontend.model import ImportedModel, import_model
from sta.passes.torch.broadcast_constants import broadcast_constants
from sta.passes.torch.canonicalize_views import canonicalize_views
from sta.passes.torch.decompose_elementwise import decompose_elementwise
from sta.passes.torch.decompose_movement import decompose_movement
from sta.passes.torch.decompose_reductions import decompose_reductions
from sta.passes.torch.fold_constants import fold_constants
from sta.passes.torch.fold_masks import fold_masks
from sta.passes.torch.fuse_pointwise import fuse_pointwise
from sta.passes.torch.recognize_attention import recognize_attention
from sta.passes.torch.recognize_gelu import recognize_gelu
from sta.passes.torch.recognize_norms import recognize_norms

# The tensors are small, and tests run beside each other: threads that wait for each other cost more than they save.
torch.set_num_threads(1)

Array = NDArray[Any]
Rewrite = Callable[[ModuleOp, WeightStore], None]

FLOAT_PASSES: tuple[Rewrite, ...] = (
    fold_constants,
    canonicalize_views,
    recognize_norms,
    recognize_gelu,
    recognize_attention,
    fold_masks,
    decompose_elementwise,
    decompose_movement,
    decompose_reductions,
    fuse_pointwise,
    broadcast_constants,
    fold_constants,
    canonicalize_views,
)


def parse(text: str, context: CompileContext | None = None) -> ModuleOp:
    """The verified module that `text` spells."""
    module = Parser(context or CompileContext(), text).parse_module()
    module.verify()
    return module


def printed(module: ModuleOp, *, generic: bool = False, locations: bool = False) -> str:
    """The text of `module`."""
    stream = io.StringIO()
    Printer(stream=stream, print_generic_format=generic, print_debuginfo=locations).print_op(module)
    return stream.getvalue()


def overloads(module: ModuleOp) -> list[str]:
    """The ATen operators of `module`, in order: "linear", "add.Tensor", …"""
    names = [operation_name(operation) for operation in module.walk()]
    return [name.removeprefix("torch.aten.") for name in names if name.startswith("torch.aten.")]


def largest_difference(left: Mapping[str, Array], right: Mapping[str, Array]) -> float:
    """The largest absolute difference between outputs of the same names."""
    assert list(left) == list(right)
    return max(float(np.abs(left[name] - right[name]).max()) for name in left)


def signal_to_noise(reference: Array, result: Array) -> float:
    """Signal to quantization noise in decibels."""
    return float(10 * np.log10(np.sum(reference**2) / np.sum((reference - result) ** 2)))


def outputs_of(model: nn.Module, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of PyTorch, named as the front end names them, for a tensor, a tuple or a dictionary."""
    with torch.no_grad():
        result: Any = model(**{name: torch.tensor(array) for name, array in inputs.items()})
    if isinstance(result, torch.Tensor):
        return {"output": result.numpy()}
    if isinstance(result, tuple):
        return {
            f"output_{index}": tensor.numpy() for index, tensor in enumerate(cast(tuple[torch.Tensor, ...], result))
        }
    return {name: tensor.numpy() for name, tensor in cast(Mapping[str, torch.Tensor], result).items()}


def through_float_passes(
    model: nn.Module, inputs: Mapping[str, Array], tolerance: float = 2e-5
) -> tuple[ImportedModel, CompileContext]:
    """Imports `model` and run every float pass, comparing with PyTorch after each."""
    reference = outputs_of(model, inputs)
    imported = import_model(model, dict(inputs))
    context = CompileContext(imported.weights)
    assert largest_difference(run_torch(imported.module, context, inputs), reference) < tolerance
    for rewrite in FLOAT_PASSES:
        rewrite(imported.module, context.weights)
        imported.module.verify()
        difference = largest_difference(run_torch(imported.module, context, inputs), reference)
        assert difference < tolerance, f"{rewrite.__name__} changed the result by {difference}"
    return imported, context


def encoder(
    norm_first: bool, *, width: int = 24, heads: int = 2, activation: str = "gelu", layers: int = 1
) -> nn.Module:
    """A stack of PyTorch's encoder layers, batch first."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 2 * width + 4, activation=activation, batch_first=True, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()
