"""The front end: from a model to a module of the `torch` dialect and its arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from sta.dialect.host import model_inputs
from sta.dialect.interpreters.torch import input_names as argument_names
from sta.dialect.interpreters.torch import output_names as result_names
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.weight_store import WeightStore
from sta.dialect.torch import numpy_dtype, tensor_type
from sta.frontend.errors import ModelError
from sta.frontend.float32 import array_in_float32, in_float32
from sta.frontend.hugging_face.directory import DEFAULTS, Request, load_directory
from sta.frontend.original import Original, original_file, original_program
from sta.frontend.program import ExampleInputs, closest_or_all, export_module, load_program
from sta.frontend.samples import InputType, as_array

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.nn import Module

Array = NDArray[Any]


@dataclass(frozen=True)
class ImportedModel:
    """A model in the compiler's form."""

    module: ModuleOp
    """Its function `main`, in the `torch` dialect."""

    weights: WeightStore
    """The arrays that the module's literals name."""

    example_inputs: dict[str, Array]
    """One input of the model, by name; empty if none was given."""

    input_names: list[str]
    """The inputs, in `forward`'s order."""

    output_names: list[str]
    """The outputs, in `forward`'s order."""

    original: Original | None = None
    """The model as it was given; None where it is a module of a dump."""

    @property
    def input_types(self) -> dict[str, InputType]:
        """Shape and NumPy dtype of every input, by name."""
        known = model_inputs(self.module)
        if known is not None:
            return {one.name: InputType(one.shape, np.dtype(one.dtype)) for one in known}
        types = (tensor_type(value) for value in main_function(self.module).body.block.args)
        kinds = (InputType(kind.sizes, numpy_dtype(kind.element_type)) for kind in types)
        return dict(zip(self.input_names, kinds, strict=True))


def import_model(
    model: Module | ExportedProgram | str | os.PathLike[str],
    example_inputs: ExampleInputs | None = None,
    request: Request = DEFAULTS,
) -> ImportedModel:
    """
    Imports a module, an exported program, a `.pt2` file, an `.onnx` file, or the directory of a Hugging Face model. The
    caller's object is not changed.

    `example_inputs` (by name, or in `forward`'s order) give a module's shapes and dtypes, and are required for a
    module. An exported program brings its own, which are used if none are given; for a directory they are made, by
    `request`. Raises ModelError if the model or the example inputs cannot be used, TypeError if the latter are neither
    mapping, list nor tuple; the message gives the reason.
    """
    from sta.frontend.forward_names import input_names, output_names
    from sta.frontend.importer import import_program

    _check_container(example_inputs)
    if isinstance(model, str | os.PathLike) and Path(cast("os.PathLike[str]", model)).suffix.lower() == ".onnx":
        return _import_onnx(Path(cast("os.PathLike[str]", model)), example_inputs)
    if isinstance(model, str | os.PathLike) and Path(cast("os.PathLike[str]", model)).is_dir():
        loaded = load_directory(Path(cast("os.PathLike[str]", model)), request)
        model, example_inputs = loaded.model, loaded.inputs if example_inputs is None else example_inputs
    elif given := [name for name, value in request._asdict().items() if value is not None]:
        raise ModelError(f"{' and '.join(given)} are for the directory of a Hugging Face model: leave them out")
    program = in_float32(_program(model, example_inputs))
    leaves, outputs = input_names(program), output_names(program)
    imported = import_program(program, leaves, outputs)
    function = main_function(imported.module)
    inputs = argument_names(function)
    given = _examples(program, leaves, None if _is_module(model) else example_inputs)
    examples = {
        name: as_array(f"example input {name!r}", array_in_float32(given[name])) for name in inputs if name in given
    }
    return _checked(imported.module, imported.weights, examples, original_program(program))


def _import_onnx(path: Path, example_inputs: ExampleInputs | None) -> ImportedModel:
    from sta.frontend.onnx.file import examples_by_name, load_onnx
    from sta.frontend.onnx.importer import import_graph

    model = load_onnx(path)
    examples = examples_by_name(model.graph, example_inputs)
    imported = import_graph(model, path.parent, examples)
    original = original_file(path, [value.name for value in model.graph.output])
    return _checked(imported.module, imported.weights, examples, original)


def _checked(module: ModuleOp, weights: WeightStore, examples: dict[str, Array], original: Original) -> ImportedModel:
    """The imported model; example inputs must be of the types of its inputs."""
    function = main_function(module)
    result = ImportedModel(module, weights, examples, argument_names(function), result_names(function), original)
    for name, array in examples.items():
        _check_example(name, array, result.input_types[name])
    return result


def _check_container(example_inputs: object) -> None:
    if example_inputs is None or isinstance(example_inputs, Mapping | list | tuple):
        return
    raise TypeError(
        "example inputs are a mapping from input name to tensor, or a list or tuple in forward's order, "
        f"not {type(example_inputs).__name__}"
    )


def _is_module(model: object) -> bool:
    import torch

    return isinstance(model, torch.nn.Module)


def _program(model: Any, example_inputs: ExampleInputs | None) -> ExportedProgram:
    import torch

    if isinstance(model, torch.export.ExportedProgram):
        return model
    if isinstance(model, torch.nn.Module):
        return export_module(model, example_inputs)
    if isinstance(model, str | os.PathLike):
        return load_program(os.fspath(cast("os.PathLike[str]", model)))
    raise ModelError(
        "a model is a module, an exported program, or the path of a .pt2 or .onnx file or of a directory, not "
        f"{type(model).__name__}"
    )


def _examples(program: ExportedProgram, names: list[str], given: ExampleInputs | None) -> dict[str, Any]:
    """Example inputs by name: the given ones, or the ones of the export."""
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise ModelError(f"the model has no input {name!r}{closest_or_all(name, names)}")
        missing = [name for name in names if name not in given]
        if missing:
            raise ModelError(f"example inputs lack {', '.join(missing)}")
        return dict(given)
    leaves = _leaves(program.example_inputs) if given is None else list(given)
    if not leaves:
        return {}
    if len(leaves) != len(names):
        raise ModelError(f"the model has {len(names)} inputs ({', '.join(names)}), not {len(leaves)}")
    return dict(zip(names, leaves, strict=True))


def _leaves(tree: Any) -> list[Any]:
    from torch.utils import _pytree  # pyright: ignore[reportPrivateUsage] - no public way to flatten a tree

    return [] if tree is None else list(_pytree.tree_leaves(tree))


def _check_example(name: str, array: Array, kind: InputType) -> None:
    if (array.shape, array.dtype) != (kind.sizes, kind.dtype):
        given, expected = f"{array.dtype}{list(array.shape)}", f"{kind.dtype}{list(kind.sizes)}"
        raise ModelError(f"example input {name!r} is {given}, not {expected}")
