"""
Distance from onnxruntime of a quantized model from elsewhere, compiled with its own scales.

The model is Smart Turn 3.2, a Whisper encoder with four layers that tells whether a speaker has finished. It is inside
the PyPI package pipecat-ai 1.14.0 (BSD-2-Clause), together with a short recording:

    pip download --no-deps pipecat-ai==1.14.0
    unzip pipecat_ai-1.14.0-py3-none-any.whl -d pipecat
    python -m benchmarks.smart_turn pipecat

Everything is compiled, from the features to the probability.
"""
# pyright: basic
# onnx, onnxruntime and transformers have no types that pyright could check.

from __future__ import annotations

import argparse
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
from numpy.typing import NDArray
from onnx import helper

import sta

Array = NDArray[Any]

MODEL = "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
RECORDING = "pipecat/services/aws/nova_sonic/ready.wav"
FEATURES, PROBABILITY = "input_features", "logits"
LAYERS = [f"layer_norm_{index}_DequantizeLinear_Output" for index in (2, 4, 6, 8)]
"""Outputs of the four layers: the input of the next, normalized, and of the pooling."""
SECONDS, RATE = 8, 16000


def with_one_sample(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` for a batch of one, whose shapes no longer depend on the input."""
    model = onnx.load_from_string(model.SerializeToString())
    graph = model.graph
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param == batch:
                axis.dim_value = 1
    batches = [node for node in graph.node if node.op_type == "Shape" and node.input[0].startswith(FEATURES)]
    for node in batches:
        node.CopyFrom(helper.make_node("Constant", [], node.output, name=node.name, value_ints=[1]))
    return model


def cut(model: onnx.ModelProto, first: str, last: str, path: Path) -> Path:
    """The file `path` with the part of `model` between two of its values."""
    with tempfile.TemporaryDirectory() as directory:
        whole = Path(directory) / "whole.onnx"
        onnx.save(model, whole)
        onnx.utils.extract_model(whole, path, [first], [last])
    return path


def without_activation_pairs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` that computes in float: weights from its integers, values without rounding."""
    model = onnx.load_from_string(model.SerializeToString())
    graph = model.graph
    quantizes = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in quantizes:
            source = quantizes[node.input[0]].input[0]
            node.CopyFrom(helper.make_node("Identity", [source], node.output, name=node.name))
    kept = [node for node in graph.node if node.op_type != "QuantizeLinear"]
    del graph.node[:]
    graph.node.extend(kept)
    return model


def run(path: Path, name: str, value: Array, *, optimized: bool = True) -> Array:
    """Outputs of onnxruntime, with or without its graph optimizations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return np.asarray(onnxruntime.InferenceSession(path, options).run(None, {name: value})[0])


def log_mel(recording: Path) -> Array:
    """Whisper's features [1, 80, 800] of the last eight seconds of a 16-bit recording at 16 kHz."""
    from transformers import WhisperFeatureExtractor

    with wave.open(str(recording)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    length = SECONDS * RATE
    padded = np.pad(samples, (max(length - len(samples), 0), 0))[-length:]
    extractor = WhisperFeatureExtractor(chunk_length=SECONDS)
    settings = {"padding": "max_length", "max_length": length, "truncation": True, "do_normalize": True}
    return extractor(padded, sampling_rate=RATE, return_tensors="np", **settings)["input_features"].astype(np.float32)


def fidelity(value: Array, reference: Array) -> str:
    """Signal to noise in decibels, and cosine."""
    noise = np.square(reference.astype(np.float64) - value).sum()
    decibels = 10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise)
    cosine = float((value * reference).sum() / np.linalg.norm(value) / np.linalg.norm(reference))
    return f"{decibels:5.1f} dB, {cosine:.3f}"


def main() -> None:
    """Compiles, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the directory that the wheel was unpacked to")
    package = parser.parse_args().package
    model = with_one_sample(onnx.load(package / MODEL))
    plain = without_activation_pairs(model)
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), model, plain, log_mel(package / RECORDING))


def compare(directory: Path, model: onnx.ModelProto, plain: onnx.ModelProto, features: Array) -> None:
    """Prints a line for each layer, and the model's result."""
    print("| after layer | program to onnxruntime | onnxruntime to itself | program to float | onnxruntime to float |")
    print("|---|---|---|---|---|")
    for number, layer in enumerate(LAYERS, 1):
        ours, theirs, again, reference = results(directory, model, plain, features, layer)
        pairs = ((ours, theirs), (again, theirs), (ours, reference), (theirs, reference))
        print(f"| {number} | {' | '.join(fidelity(*pair) for pair in pairs)} |", flush=True)
    said = [one.item() for one in results(directory, model, plain, features, PROBABILITY)]
    print("\nProbability that the speaker has finished: program {:.3f}, onnxruntime {:.3f},".format(*said[:2]))
    print("onnxruntime without rewriting {:.3f}, float model {:.3f}.".format(*said[2:]))


def results(
    directory: Path, model: onnx.ModelProto, plain: onnx.ModelProto, features: Array, last: str
) -> tuple[Array, Array, Array, Array]:
    """The value `last`: of a program, of onnxruntime with and without its optimizations, and in float."""
    path = cut(model, FEATURES, last, directory / "part.onnx")
    # The pooling has no pairs: its ranges are those of the recording.
    program = sta.compile(path, calibration={FEATURES: features[None]})
    ours = program.run({FEATURES: features}).outputs[last]
    print(f"{last}: {program.timing.cycles:,} cycles", file=sys.stderr)
    theirs, again = run(path, FEATURES, features), run(path, FEATURES, features, optimized=False)
    return ours, theirs, again, run(cut(plain, FEATURES, last, directory / "float.onnx"), FEATURES, features)


if __name__ == "__main__":
    main()
