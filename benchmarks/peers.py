"""
The emulator and its peers, ONNX Runtime and OpenVINO, with the same models in int8, as functions to be called in turn.

ONNX Runtime runs its own dynamic quantization of a model (int8 weights, u8 activations), OpenVINO NNCF's calibrated
one. Models are exported, quantized and compiled once, to `out/emulator`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compile_time import export

FOLDER = Path("out/emulator")
TOKENS = 128
SMALLEST_VOCABULARY = 30000
CALIBRATION_SAMPLES = 16

Inputs = Mapping[str, Any]
Run = Callable[[Inputs], object]


def samples(count: int) -> Iterator[dict[str, Any]]:
    """Iterates over random sentences, of different lengths."""
    random = np.random.default_rng(0)
    for length in random.integers(TOKENS // 2, TOKENS + 1, count):
        yield {
            "input_ids": random.integers(0, SMALLEST_VOCABULARY, (1, TOKENS)),
            "attention_mask": (np.arange(TOKENS) < length).astype(np.int64)[np.newaxis],
        }


def compiled(name: str, sparsity: str | None = None) -> Path:
    """Returns the program of a model, which is compiled if it is missing."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    exported = FOLDER / f"{name}.pt2"
    program = FOLDER / (f"{name}-{sparsity.replace(':', '-')}.sta" if sparsity else f"{name}.sta")
    if not exported.exists():
        export(name, exported)
    if not program.exists():
        from sta.api.compiler.compilation import compile

        stacked = {key: np.stack([sample[key] for sample in samples(CALIBRATION_SAMPLES)]) for key in next(samples(1))}
        # 8 bits for every product, as the peers have them: random sentences ask for more than real ones.
        compile(str(exported), sparsity=sparsity, calibration=stacked, min_sqnr=0.0).save(program)
    return program


def prepare(name: str) -> None:
    """Produces missing files: the exported model, the program, and the peers' quantized models."""
    compiled(name)
    onnx = FOLDER / f"{name}.onnx"
    if not onnx.exists():
        export_onnx(FOLDER / f"{name}.pt2", onnx)
    if not onnx.with_suffix(".int8.onnx").exists():
        quantization: Any = importlib.import_module("onnxruntime.quantization")
        quantization.quantize_dynamic(onnx, onnx.with_suffix(".int8.onnx"))
    if not onnx.with_suffix(".int8.xml").exists():
        quantize_openvino(onnx, onnx.with_suffix(".int8.xml"))


def export_onnx(exported: Path, path: Path) -> None:
    """Writes a `.pt2` file's model as ONNX."""
    import torch

    # The type of the outputs is known only after its import.
    importlib.import_module("transformers.modeling_outputs")

    names = ["input_ids", "attention_mask"]
    example = {name: torch.tensor(value) for name, value in next(samples(1)).items()}
    exporter: Any = torch.onnx
    module = torch.export.load(exported).module()
    exporter.export(module, (), str(path), kwargs=example, input_names=names, dynamo=True, external_data=False)


def quantize_openvino(onnx: Path, path: Path) -> None:
    """Writes NNCF's quantization of an ONNX model, for OpenVINO."""
    openvino: Any = importlib.import_module("openvino")
    nncf: Any = importlib.import_module("nncf")
    model = openvino.Core().read_model(onnx)
    data = nncf.Dataset(list(samples(CALIBRATION_SAMPLES)))
    openvino.save_model(nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER), path)


def emulator(name: str, threads: int) -> Run:
    """Returns the run of a program on the native engine, including the conversion of inputs and outputs."""
    import sta

    program = sta.load(FOLDER / f"{name}.sta")
    return lambda inputs: program.run(inputs, engine="native", threads=threads)


def onnx_runtime(name: str, threads: int) -> Run:
    """Returns the run of ONNX Runtime."""
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    path = str(FOLDER / f"{name}.int8.onnx")
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(inputs))


def openvino_runtime(name: str, threads: int) -> Run:
    """Returns the run of OpenVINO."""
    openvino: Any = importlib.import_module("openvino")
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(FOLDER / f"{name}.int8.xml", "CPU", settings)
    return lambda inputs: model(dict(inputs))


EMULATOR = "emulator"
CONTENDERS = {EMULATOR: emulator, "ONNX Runtime int8": onnx_runtime, "OpenVINO int8": openvino_runtime}
