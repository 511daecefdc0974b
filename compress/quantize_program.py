"""Quantization of an exported program after training, with samples: `prepare_pt2e`, runs of samples, `convert_pt2e`."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.utils import _pytree  # pyright: ignore[reportPrivateUsage] - no public way to flatten a tree

with warnings.catch_warnings():
    # torchao warns about kernels for GPUs, which nothing here uses.
    warnings.simplefilter("ignore")
    _level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        from sta.compress.sta_quantizer import STAQuantizer
    finally:
        logging.disable(_level)

from sta.spec.operators.registry import parts_of

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

Array = np.ndarray[Any, Any]


class QuantizeError(ValueError):
    """A program that cannot be quantized; the message names the layer."""


def quantize_program(
    program: ExportedProgram,
    names: Sequence[str],
    samples: Sequence[Mapping[str, Array]],
    quantizer: STAQuantizer | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExportedProgram:
    """
    `program` with quantize-dequantize pairs in the formats of `STAQuantizer`, and its weights as integers.

    `names` are the inputs' names, in the order of their leaves; each sample has an array for each, of the input's shape
    and dtype. `progress` is called with the number of samples done. The given program is not changed. Raises
    QuantizeError if the program is quantized already, if it lacks example inputs, whose structure samples need, if it
    does not run on a sample, or if a layer's values are not finite.
    """
    check_is_float(program)
    if program.example_inputs is None:
        raise QuantizeError("the program came without example inputs: export it with some")
    if not samples:
        raise QuantizeError("quantization needs at least one sample")
    with _quiet(), torch.no_grad():
        prepared = prepare_pt2e(_without_compositions(program).module(), quantizer or STAQuantizer())
        for index, sample in enumerate(samples):
            arguments, keywords = _arguments(program, names, sample)
            try:
                prepared(*arguments, **keywords)
            except Exception as error:  # whatever the model's own operators raise
                raise QuantizeError(f"the model does not run on sample {index}: {error}") from error
            if progress is not None:
                progress(index + 1)
        _check_finite(prepared)
        converted = convert_pt2e(prepared)
        _place(converted)
        _forget_unused(converted)
        arguments, keywords = program.example_inputs
        return torch.export.export(converted, arguments, keywords, strict=False)


def check_is_float(program: ExportedProgram) -> None:
    """Raises QuantizeError for a program that is quantized already: rounding it again would only lose more."""
    targets = [str(node.target) for module in _graph_modules(program) for node in module.graph.nodes]
    count = sum(target.startswith("quantized_decomposed.dequantize") for target in targets)
    if count:
        raise QuantizeError(
            f"the program is quantized already, {count:,} of its values and weights: compile it as it is with `sta "
            "compile`, or quantize the float program that it was made from"
        )


def _without_compositions(program: ExportedProgram) -> ExportedProgram:
    """`program` with the parts of the operators that other packages make of others: it is these that are rounded."""
    whole: Any = program
    targets: set[Any] = {node.target for module in _graph_modules(program) for node in module.graph.nodes}
    called: set[Any] = {target for target in targets if isinstance(target, OpOverload)}
    table: dict[Any, Any] = {one: parts for one in called if (parts := parts_of(one.name())) is not None}
    return whole.run_decompositions(table) if table else program


def _graph_modules(program: ExportedProgram) -> list[GraphModule]:
    whole: Any = program.graph_module
    return [module for module in whole.modules() if hasattr(module, "graph")]


def _arguments(
    program: ExportedProgram, names: Sequence[str], sample: Mapping[str, Array]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    leaves, structure = _pytree.tree_flatten(program.example_inputs)
    if len(leaves) != len(names):
        raise QuantizeError(f"the program has {len(leaves)} inputs, and not {len(names)}: {', '.join(names)}")
    given = [
        torch.from_numpy(np.ascontiguousarray(sample[name])) if name in sample else leaf  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
        for name, leaf in zip(names, leaves, strict=True)
    ]
    return _pytree.tree_unflatten(given, structure)


def _place(module: GraphModule) -> None:
    """Gives quantize and dequantize operators the module path of their layer."""
    for node in module.graph.nodes:
        if node.op != "call_function" or "quantize_per" not in str(node.target):
            continue
        near = [node.args[0], *node.users]
        stacks = [one.meta["nn_module_stack"] for one in near if one.meta.get("nn_module_stack")]
        if stacks:
            node.meta["nn_module_stack"] = stacks[0]


def _forget_unused(module: GraphModule) -> None:
    """Drops the float weights that integers have replaced."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in module.named_parameters(remove_duplicate=False) if name not in used]:
        owner, _, attribute = name.rpartition(".")
        delattr(module.get_submodule(owner), attribute)


def _check_finite(prepared: GraphModule) -> None:
    """Raises QuantizeError, naming the layer, for the first value that was not finite."""
    whole: Any = prepared
    modules: dict[str, Any] = dict(whole.named_modules())
    for node in prepared.graph.nodes:
        if node.op != "call_module":
            continue
        observer = modules[str(node.target)]
        for extreme in ("min_val", "max_val"):
            seen = getattr(observer, extreme, None)
            if isinstance(seen, torch.Tensor) and seen.numel() and not bool(torch.isfinite(seen).all()):
                raise QuantizeError(
                    f"{_path(node)}: values that are not finite on the samples: look at its weights and at the samples"
                )


def _path(node: Node) -> str:
    """The module path of the value that `node` observes: its producer's, or else its consumer's."""
    near = [node, *node.all_input_nodes, *node.users]
    stacks = [one.meta["nn_module_stack"] for one in near if one.meta.get("nn_module_stack")]
    path = str(list(stacks[0].values())[-1][0]) if stacks else ""
    return path.removeprefix("L['self'].") or "forward"


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Silences PyTorch's warnings about its own export and conversion, which users cannot act on."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
