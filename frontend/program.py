"""Exported programs: from a module and example inputs, or from a `.pt2` file."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import os
import re
import traceback
import warnings
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sta.frontend.archive import check_archive, descriptions, tensors_only
from sta.frontend.errors import ModelError
from sta.frontend.float32 import float_kind
from sta.spec.operators.registry import operators
from sta.spec.suggestion import suggestion

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.nn import Module

ExampleInputs = Mapping[str, Any] | Sequence[Any]
"""Arrays or tensors, by the names of `forward`'s parameters or in their order."""


def load_program(path: str | os.PathLike[str]) -> ExportedProgram:
    """
    Loads the `.pt2` file at `path`.

    A program exported from a Hugging Face model loads only if PyTorch knows the class of its outputs, so its module is
    imported first. Raises ModelError if the file is missing, is no `.pt2` file, would run code while it loads, or does
    not load.
    """
    check_archive(Path(path))
    _register_output_classes(Path(path))
    _register_operators(Path(path))
    with quiet(), tensors_only(), _collected_log("torch.export", "torch._export") as log:
        try:
            return _load(os.fspath(path))
        except Exception as error:  # whatever a damaged archive makes the loader raise
            raise ModelError(f"cannot load {path}: {_reason(_last_line(log) or _last_line([str(error)]))}") from error


def _reason(text: str) -> str:
    """Reason for which a program cannot be loaded: PyTorch's words, or ours for an unregistered operator."""
    unknown = re.search(r"failed to resolve torch\.ops\.(\S+?)(?:\.default)? to an operator", text)
    if unknown is None:
        return text
    return f"it calls {unknown[1]}, which PyTorch does not have here: install the package that registers this operator"


def _load(path: str) -> ExportedProgram:
    """The program; raises the errors of PyTorch."""
    import torch

    try:
        path.encode()
    except UnicodeEncodeError:
        # Not UTF-8, which PyTorch's own reader of files takes names to be.
        with open(path, "rb") as file:
            return torch.export.load(file)
    return torch.export.load(path)


def export_module(module: Module, example_inputs: ExampleInputs | None) -> ExportedProgram:
    """
    Exports `module` as it is in evaluation mode, for inputs of the shapes and dtypes of `example_inputs`.

    The module is left as it was. Raises ModelError if there are no example inputs, if one has a name that `forward`
    does not accept, or if PyTorch cannot export the module.
    """
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"{type(module).__name__} is TorchScript, which PyTorch cannot export: give the module itself")
    if example_inputs is None:
        raise ModelError("example inputs are needed to export a module: give a tensor for each input of forward")
    arguments, keywords = _arguments(module, example_inputs)
    arguments, keywords = _without_aliases(arguments, keywords)
    with _evaluation(module), quiet():
        try:
            return torch.export.export(module, arguments, keywords, strict=False)
        except Exception as error:  # whatever the model's own code raises
            raise ModelError(
                f"cannot export {type(module).__name__}: {_first_line(str(error)) or type(error).__name__}\n"
                f"{_way_out(error)}"
            ) from error


def _way_out(error: Exception) -> str:
    """Remedies for a module that PyTorch cannot export."""
    frames = traceback.extract_tb(error.__traceback__)
    if any(frame.name == "_detect_is_causal_mask" for frame in frames):
        return (
            "nn.TransformerEncoder and nn.TransformerDecoder look at the numbers of a mask to find out whether it is "
            "causal: tell them, with is_causal=True or False (tgt_is_causal for a decoder)."
        )
    return "The model must run on the example inputs, and its control flow must not depend on their values."


def _register_output_classes(path: Path) -> None:
    """Imports the modules of the Hugging Face classes that the program mentions, which registers them with PyTorch."""
    for module_name in sorted(_mentioned_modules(path)):
        try:
            importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise ModelError(
                f"{path} was exported from a Hugging Face model: install transformers to load it "
                f"({module_name} defines the class of its outputs, and could not be imported: {error})"
            ) from error


def _register_operators(path: Path) -> None:
    """Imports the modules that define operators of other packages, and of quantized programs."""
    # A package registers its operators with PyTorch in the module that has their rows.
    operators()
    if any("quantized_decomposed" in text for text in descriptions(path)):
        importlib.import_module("torch.ao.quantization.fx._decomposed")


def _mentioned_modules(path: Path) -> set[str]:
    modules: set[str] = set()
    for text in descriptions(path):
        modules |= set(re.findall(r'"type":\s*"(transformers(?:\.\w+)*)\.\w+"', text.replace('\\"', '"')))
    return modules


def _arguments(module: Module, example_inputs: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of `forward`, as tensors, the latter in the order of its parameters."""
    kind = float_kind(module)
    if not isinstance(example_inputs, Mapping):
        return tuple(_tensor(str(index), value, kind) for index, value in enumerate(example_inputs)), {}
    parameters = inspect.signature(module.forward).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in example_inputs:
        if name not in parameters and not takes_any:
            raise ModelError(f"{type(module).__name__}.forward takes no {name!r}{closest_or_all(name, parameters)}")
    order = [*(name for name in parameters if name in example_inputs), *example_inputs]
    return (), {name: _tensor(repr(name), example_inputs[name], kind) for name in dict.fromkeys(order)}


def _without_aliases(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    The arguments with a copy of each tensor that is there before, in trees of tensors, too.

    An export takes one tensor in two places for one input, and the model would read nothing of the other.
    """
    import torch
    from torch.utils import _pytree  # pyright: ignore[reportPrivateUsage] - no public way to map over a tree

    seen: set[int] = set()

    def own(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        place = value.untyped_storage().data_ptr()
        known = place in seen
        seen.add(place)
        return value.detach().clone() if known else value

    return _pytree.tree_map(own, (arguments, keywords))


def closest_or_all(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The end of a message about the unknown `name`: the closest known name, or all of them."""
    return suggestion(name, known) or f"; known are {', '.join(repr(one) for one in known)}"


def _tensor(name: str, value: Any, kind: torch.dtype) -> Any:
    """
    A tensor for a NumPy array; anything else unchanged.

    Floats of a module in another precision than float32 are converted to that, its `kind`. Raises ModelError for
    unsupported numbers.
    """
    import numpy as np
    import torch

    try:
        tensor = torch.tensor(value) if isinstance(value, np.ndarray | np.generic) else value
    except (TypeError, ValueError) as error:
        raise ModelError(f"example input {name} cannot be read as a tensor: {error}") from error
    if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and kind != torch.float32:
        return tensor.to(kind)
    is_real = isinstance(tensor, torch.Tensor) and (tensor.is_floating_point() or tensor.is_complex())
    if is_real and tensor.dtype != torch.float32:
        raise ModelError(
            f"example input {name} is {str(tensor.dtype).removeprefix('torch.')}, and only float32 is supported: "
            "convert it with tensor.float() or array.astype(numpy.float32)"
        )
    return tensor


@contextlib.contextmanager
def _evaluation(module: Module) -> Generator[None]:
    """Evaluation mode for every part of `module`, and no fused attention, whose operator cannot be compiled."""
    import torch

    training = {part: part.training for part in module.modules()}
    fastpath = torch.backends.mha.get_fastpath_enabled()
    try:
        for part in training:
            part.training = False
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for part, was_training in training.items():
            part.training = was_training


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Silences, on all channels, PyTorch's messages about its own internals, which users cannot act on."""
    with (
        warnings.catch_warnings(),
        _collected_log("torch"),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _collected_log(*names: str) -> Generator[list[str]]:
    """Collects what the loggers called `names` say instead of showing it."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.extend(_record_lines(record))
    # PyTorch gives some loggers below these handlers of their own.
    below = [logger for logger in logging.root.manager.loggerDict if logger.startswith(tuple(f"{n}." for n in names))]
    loggers = [logging.getLogger(name) for name in names]
    loggers += [logger for logger in map(logging.getLogger, below) if logger.handlers]
    before = [(logger.handlers[:], logger.propagate) for logger in loggers]
    try:
        for logger in loggers:
            logger.handlers, logger.propagate = [handler], False
        yield messages
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


def _record_lines(record: logging.LogRecord) -> list[str]:
    """A message with its error."""
    error = record.exc_info[1] if record.exc_info else None
    return [record.getMessage(), str(error)] if error is not None else [record.getMessage()]


def _last_line(messages: Sequence[str]) -> str:
    """The last line that is not empty: a traceback's message."""
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _first_line(message: str) -> str:
    """The first line that is not empty: the reason of PyTorch's exporter."""
    return next((line.strip() for line in message.splitlines() if line.strip()), "")
