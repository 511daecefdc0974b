"""``sta quantize``: a model file to a quantized model file."""

from __future__ import annotations

from argparse import Namespace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sta.api.cli.argument_parser import about
from sta.api.cli.progress import Progress
from sta.api.cli.tables import count, noun, print_json, print_table, size
from sta.api.files.output_file import check_output
from sta.passes.option_values import as_samples

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from sta.frontend.samples import InputType


def execute(arguments: Namespace) -> None:
    """Runs the command; raises ValueError and OSError for files that cannot be used."""
    model, calibration, output = Path(arguments.model), Path(arguments.calibration), Path(arguments.output)
    check_output(output, model, calibration)
    data = as_samples("calibration", calibration)
    with Progress() as progress:
        progress.report("load PyTorch and torchao", None)
        from sta.api.files.sample_files import read_samples
        from sta.backend.new_file import new_file
        from sta.compress.quantize_program import check_is_float, quantize_program
        from sta.compress.sta_quantizer import STAQuantizer
        from sta.frontend.forward_names import input_names
        from sta.frontend.program import load_program

        progress.report("load the model", None)
        program = load_program(model)
        with about(str(model)):
            check_is_float(program)
        names = input_names(program)
        samples = read_samples("calibration", data, _input_types(program, names))
        quantized = quantize_program(
            program,
            names,
            samples,
            STAQuantizer(ranges=arguments.ranges),
            lambda done: progress.report("calibrate", done / len(samples)),
        )
        progress.report("save", None)
        import torch

        with new_file(output) as file:
            # Not into the file itself: PyTorch's writer ends the process at an error of a disk that is full.
            archive = BytesIO()
            torch.export.save(quantized, archive)
            file.write(archive.getbuffer())
    summary = summarize(quantized, output, len(samples))
    if arguments.json:
        print_json(summary)
        return
    if arguments.quiet:
        return
    print_table(
        [summary["output"], noun(summary["samples"], "sample")],
        [
            ["file size", size(summary["file_bytes"])],
            ["weights of 8 bits", count(summary["weights"])],
            ["values of 8 bits", count(summary["int8_values"])],
            ["values of 16 bits", count(summary["int16_values"])],
        ],
        numbers=[1],
    )


def _input_types(program: ExportedProgram, names: list[str]) -> dict[str, InputType]:
    """Shape and NumPy dtype of every input that is a tensor, by name."""
    from sta.frontend.samples import InputType

    inputs = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    types: dict[str, InputType] = {}
    for name, node in zip(names, nodes, strict=True):
        value: Any = node.meta.get("val")
        if value is not None and hasattr(value, "dtype"):
            dtype = np.dtype(str(value.dtype).removeprefix("torch."))
            types[name] = InputType(tuple(int(size) for size in value.shape), dtype)
    return types


def summarize(program: ExportedProgram, output: Path, samples: int) -> dict[str, Any]:
    """Returns the facts of a quantized program and its saved file, for JSON."""
    import torch

    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    values = [node for node in calls if str(node.target).startswith("quantized_decomposed.quantize_per_tensor")]
    weights = [node for node in calls if str(node.target).startswith("quantized_decomposed.dequantize_per_channel")]
    return {
        "output": str(output),
        "samples": samples,
        "file_bytes": output.stat().st_size,
        "weights": len(weights),
        "int8_values": sum(node.args[5] == torch.int8 for node in values),
        "int16_values": sum(node.args[5] == torch.int16 for node in values),
    }
