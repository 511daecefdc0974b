"""TOSA's reference model: a graph in MLIR is serialized by `tosa-opt` and run."""

import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class TosaGraph:
    """A function whose arguments and results are tensors, written down operation by operation."""

    def __init__(self) -> None:
        self._arguments: list[tuple[str, Array]] = []
        self._lines: list[str] = []
        self._results: list[tuple[str, str]] = []

    def argument(self, values: Array) -> str:
        """Adds an argument, and what it will be; returns its name."""
        name = f"%a{len(self._arguments)}"
        self._arguments.append((name, values))
        return name

    def constant(self, values: Array) -> str:
        """Adds a constant of one axis; returns its name."""
        name = f"%c{len(self._lines)}"
        kind = tensor_type(values.dtype, values.shape)
        self._lines.append(f'{name} = "tosa.const"() {{values = dense<{values.tolist()}> : {kind}}} : () -> {kind}')
        return name

    def apply(self, operation: str, operands: Sequence[str], kinds: Sequence[str], attributes: str = "") -> None:
        """Adds an operation whose result is one of the graph; `kinds` are the types of its operands and its result."""
        name = f"%r{len(self._lines)}"
        types = f"({', '.join(kinds[:-1])}) -> {kinds[-1]}"
        self._lines.append(f"{name} = tosa.{operation} {', '.join(operands)} {attributes} : {types}")
        self._results.append((name, kinds[-1]))

    def run(self, folder: Path) -> list[Array]:
        """Runs the graph; returns its results. Files go to `folder`."""
        arguments = ", ".join(f"{name}: {tensor_type(array.dtype, array.shape)}" for name, array in self._arguments)
        names, kinds = (", ".join(column) for column in zip(*self._results, strict=True))
        body = "\n  ".join([*self._lines, f"return {names} : {kinds}"])
        source, binary = folder / "graph.mlir", folder / "graph.tosa"
        source.write_text(f"func.func @main({arguments}) -> ({kinds}) {{\n  {body}\n}}\n")
        compiler = Path(sys.executable).with_name("tosa-opt")
        command = [compiler, source, "--tosa-serialize", f"--tosa-flatbuffer-filename={binary}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        model: Any = import_module("tosa_reference_model")
        results, status = model.run(binary.read_bytes(), [array for _, array in self._arguments])
        assert status == model.GraphStatus.TOSA_VALID
        return results


def tensor_type(dtype: Any, shape: Sequence[int]) -> str:
    """The type of a tensor of signed integers."""
    return f"tensor<{'x'.join(map(str, shape))}xi{8 * np.dtype(dtype).itemsize}>"
