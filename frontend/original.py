"""
The model as it was given, run by what it was made for: PyTorch, or onnxruntime, or else ONNX's reference operators.

What the compiler does is compared with this at least once, since its float modules begin behind the import.
"""
# pyright: basic
# onnxruntime and the tree specifications of torch.utils._pytree have no public types.

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from sta.frontend.errors import ModelError
from sta.frontend.forward_names import input_names, output_names

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

Array = NDArray[Any]
Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class Original:
    """A model that can be run: inputs by name to outputs by name."""

    name: str
    """Name of its runner: "PyTorch"."""
    _compute: Callable[[Inputs], dict[str, Array]]

    def run(self, inputs: Inputs) -> dict[str, Array]:
        """Its outputs. Raises ModelError if what runs it cannot."""
        try:
            return self._compute(inputs)
        except Exception as error:  # whatever another library raises for a model that it does not run
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ModelError(f"{self.name} cannot run the model: {first}") from error


def original_program(program: ExportedProgram) -> Original:
    """An exported program, run by PyTorch."""
    module = cache(program.module)
    return Original("PyTorch", lambda inputs: _run_program(program, module(), inputs))


def _run_program(program: ExportedProgram, module: torch.nn.Module, inputs: Inputs) -> dict[str, Array]:
    import torch
    from torch.utils import _pytree

    names = input_names(program)
    examples = _pytree.tree_leaves(program.example_inputs) if program.example_inputs else [None] * len(names)
    # An input that nothing uses is none of the compiled model.
    given = (torch.tensor(inputs[name]) if name in inputs else one for name, one in zip(names, examples, strict=True))
    arguments, keywords = _pytree.tree_unflatten(list(given), cast(Any, program.call_spec.in_spec))
    with torch.no_grad():
        results = _pytree.tree_leaves(module(*arguments, **keywords))
    named = zip(output_names(program), results, strict=True)
    return {name: result.detach().cpu().numpy() for name, result in named if isinstance(result, torch.Tensor)}


def original_file(path: Path, outputs: list[str]) -> Original:
    """The ONNX file at `path`, run by onnxruntime if it is installed, without rewriting the graph; else by ONNX."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        def interpret(inputs: Inputs) -> dict[str, Array]:
            results = ReferenceEvaluator(os.fspath(path)).run(outputs, dict(inputs))
            return dict(zip(outputs, map(np.asarray, results), strict=True))

        return Original("ONNX's reference operators", interpret)

    def execute(inputs: Inputs) -> dict[str, Array]:
        options = onnxruntime.SessionOptions()
        # Rewritten, 16-bit pairs are rounded to 8 bits.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        return dict(zip(outputs, map(np.asarray, session.run(outputs, dict(inputs))), strict=True))

    return Original("onnxruntime", execute)
