"""
How long one sentence takes on the emulator, next to ONNX Runtime and OpenVINO with the same model in int8.

    pip install '.[benchmarks]'
    python benchmarks/emulator.py [--models MiniLM BERT-base] [--runs 15] [--json]

All contenders run the same 128 tokens in turn, within one process and with the same number of threads: ONNX Runtime on
the model that its own dynamic quantization makes (int8 weights, u8 activations), OpenVINO on what NNCF makes of it with
calibration. Medians and the smallest of all runs are printed, of wall time and of the processor time of the process;
the latter is what counts on a machine that does other work as well. Models are exported and compiled once, to
`out/emulator`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Run as a script, the folder of this file is where Python looks for modules.
sys.path.insert(0, str(Path(__file__).parent))
from compile_time import MODELS, export, machine

FOLDER = Path("out/emulator")
TOKENS = 128
SMALLEST_VOCABULARY = 30000
CALIBRATION_SAMPLES = 16
# Left to settle: caches, the emulator's weights, the peers' threads.
WARM_UP = 3

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


def prepare(name: str) -> None:
    """Makes what is not there yet: the exported model, the program, and the peers' quantized models."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    exported, program, onnx = (FOLDER / f"{name}.{suffix}" for suffix in ("pt2", "sta", "onnx"))
    if not exported.exists():
        export(name, exported)
    if not program.exists():
        from sta.compilation import compile

        stacked = {key: np.stack([sample[key] for sample in samples(CALIBRATION_SAMPLES)]) for key in next(samples(1))}
        compile(str(exported), calibration=stacked).save(program)
    if not onnx.exists():
        export_onnx(exported, onnx)
    if not onnx.with_suffix(".int8.onnx").exists():
        quantization: Any = importlib.import_module("onnxruntime.quantization")
        quantization.quantize_dynamic(onnx, onnx.with_suffix(".int8.onnx"))
    if not onnx.with_suffix(".int8.xml").exists():
        quantize_openvino(onnx, onnx.with_suffix(".int8.xml"))


def export_onnx(exported: Path, path: Path) -> None:
    """Writes a `.pt2` file's model as ONNX."""
    import torch

    names = ["input_ids", "attention_mask"]
    example = {name: torch.tensor(value) for name, value in next(samples(1)).items()}
    exporter: Any = torch.onnx
    module = torch.export.load(exported).module()
    exporter.export(module, (), str(path), kwargs=example, input_names=names, dynamo=True, external_data=False)


def quantize_openvino(onnx: Path, path: Path) -> None:
    """Writes what NNCF makes of an ONNX model, for OpenVINO."""
    openvino: Any = importlib.import_module("openvino")
    nncf: Any = importlib.import_module("nncf")
    model = openvino.Core().read_model(onnx)
    data = nncf.Dataset(list(samples(CALIBRATION_SAMPLES)))
    openvino.save_model(nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER), path)


def emulator(name: str, threads: int) -> Run:
    """Returns the run of a program on the native engine, the conversion of inputs and outputs included."""
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


CONTENDERS = {"emulator": emulator, "ONNX Runtime int8": onnx_runtime, "OpenVINO int8": openvino_runtime}


def measure(name: str, threads: int, runs: int) -> dict[str, dict[str, float]]:
    """Returns milliseconds by contender; these take turns, so that what disturbs one disturbs all."""
    contenders = {contender: make(name, threads) for contender, make in CONTENDERS.items()}
    inputs = next(samples(1))
    wall: dict[str, list[float]] = {contender: [] for contender in contenders}
    processor: dict[str, list[float]] = {contender: [] for contender in contenders}
    for turn in range(WARM_UP + runs):
        for contender, run in contenders.items():
            start, start_processor = time.perf_counter(), time.process_time()
            run(inputs)
            end, end_processor = time.perf_counter(), time.process_time()
            if turn >= WARM_UP:
                wall[contender].append(1e3 * (end - start))
                processor[contender].append(1e3 * (end_processor - start_processor))
    return {
        contender: {
            "wall": statistics.median(wall[contender]),
            "smallest_wall": min(wall[contender]),
            "processor": statistics.median(processor[contender]),
            "smallest_processor": min(processor[contender]),
        }
        for contender in contenders
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="latency of the emulator and its peers")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {}
    for name in arguments.models:
        prepare(name)
        results[name] = {threads: measure(name, threads, arguments.runs) for threads in arguments.threads}
    if arguments.json:
        print(json.dumps({"machine": machine(), "milliseconds": results}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"{'milliseconds':40} {'wall: median':>14} {'smallest':>9} {'processor: median':>18} {'smallest':>9}")
    for name, by_threads in results.items():
        for threads, contenders in by_threads.items():
            for contender, times in contenders.items():
                label = f"{name}, {threads} thread{'s' * (threads > 1)}, {contender}"
                wall = f"{times['wall']:14.2f} {times['smallest_wall']:9.2f}"
                print(f"{label:40} {wall} {times['processor']:18.2f} {times['smallest_processor']:9.2f}")


if __name__ == "__main__":
    main()
