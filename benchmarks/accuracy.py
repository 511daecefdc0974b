"""
Loss of a model by quantization, measured on the emulator; writes the tables of docs/accuracy.md.

MiniLM embeds the sentences of STS-B's dev set, with 8 bits for the input of every product, with the default policy, and
with rising requirements. An encoder of PyTorch and one like a ViT's, with random weights, are compared with their float
models. Ends with exit code 1 if a required figure is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.page import replace_section, table
from examples import minilm_sentences as minilm
from sta.api.compiler.compilation import Compilation, compile_model
from sta.compress.quantize_program import quantize_program
from sta.runtime import Program

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"

ALL_PAIRS = 1500
CALIBRATION_SENTENCES = 32
CURVE = (22.0, 24.0, 27.0)
"""Required decibels along the curve."""

LEAST_COSINE = {"8 bits": 0.990, "default": 0.994}
HIGHEST_COSINE = 0.997
"""Least cosine on the curve."""
SPEARMAN_MARGIN = 0.003
LEAST_SQNR = 30.0
"""Least decibels of the encoders with random weights."""

Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Setting:
    """A way to compile MiniLM."""

    title: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class SentenceRow:
    """Measurements of MiniLM in one setting."""

    title: str
    sentences: int
    cosine: float
    least_cosine: float
    spearman: float
    cycles: int
    wide_inputs: int


@dataclass(frozen=True)
class EncoderRow:
    """Measurements of an encoder with random weights."""

    title: str
    sqnr: float
    cycles: int
    wide_inputs: int


SETTINGS = (
    Setting("8 bits, extremes only", {"min_sqnr": 0.0, "methods": ()}),
    Setting("8 bits", {"min_sqnr": 0.0}),
    Setting("default"),
)


def main() -> int:
    """Measures, prints the tables and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=ALL_PAIRS, help="pairs of STS-B dev (default: all)")
    parser.add_argument("--curve-pairs", type=int, default=150, help="pairs for the curve (default: 150)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the emulator (default: 1)")
    parser.add_argument("--json", type=Path, help="write what was measured to this file, too")
    parser.add_argument(
        "--runs", type=Path, help="keep what was measured of each program here, and do not measure it again"
    )
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/accuracy.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    # Operators here are small, and runs beside each other keep the processors busy.
    torch.set_num_threads(1)
    model, tokenizer = minilm.load_model()
    reference = _References(model, tokenizer, Runs(arguments.runs))
    full = [reference.measure(setting, arguments.pairs, arguments.threads) for setting in SETTINGS[1:]]
    asked = [Setting(f"{decibels:g} dB", {"min_sqnr": decibels}) for decibels in CURVE]
    curve = [
        reference.measure(setting, arguments.curve_pairs, arguments.threads) for setting in (*SETTINGS[:2], *asked)
    ]
    curve.insert(2, reference.measure_pt2e(arguments.curve_pairs, arguments.threads))
    spearman = reference.spearman(arguments.pairs)
    encoders = measure_encoders()
    sections = {
        "sentences": sentence_table(full, spearman),
        "curve": curve_table(curve),
        "encoders": encoder_table(encoders),
    }
    for name, section in sections.items():
        print(f"\n## {name}\n\n{section}")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        rows = {"sentences": full, "curve": curve, "encoders": encoders}
        measured = {name: [asdict(row) for row in found] for name, found in rows.items()}
        arguments.json.write_text(json.dumps({**measured, "float_spearman": spearman}, indent=2) + "\n")
    if arguments.docs:
        text = PAGE.read_text(encoding="utf-8")
        for name, section in sections.items():
            text = replace_section(text, name, section)
        PAGE.write_text(text, encoding="utf-8")
    missed = failures(full, curve, encoders, spearman)
    for failure in missed:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if missed else 0


class Runs:
    """Earlier measurements, by the bytes of the program and the sentences; settings may give the same program."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        known = file is not None and file.exists()
        self._known: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file is not None and known else {}

    def get(self, program: Program, sentences: int) -> dict[str, Any] | None:
        """The cosines and Spearman of a program on so many sentences, if they are known."""
        return self._known.get(_key(program, sentences))

    def put(self, program: Program, sentences: int, measured: dict[str, Any]) -> None:
        """Stores a measurement."""
        self._known[_key(program, sentences)] = measured
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._file.with_name(f"{self._file.name}.part")
            unfinished.write_text(json.dumps(self._known, indent=2) + "\n")
            unfinished.replace(self._file)


def _key(program: Program, sentences: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.sta"
        program.save(path)
        return f"{hashlib.sha256(path.read_bytes()).hexdigest()} on {sentences} sentences"


class _References:
    """The float model, its inputs and its embeddings, computed once."""

    def __init__(self, model: Any, tokenizer: Any, runs: Runs) -> None:
        self._runs = runs
        self._model = model
        self._tokenizer = tokenizer
        self._inputs: dict[str, Inputs] = {}
        self._embeddings: dict[str, Any] = {}
        sentences = minilm.read_pairs("train", CALIBRATION_SENTENCES).left
        samples = [minilm.tokenize(tokenizer, sentence) for sentence in sentences]
        self._example = samples[0]
        self._calibration = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _prepare(self, pairs: minilm.Pairs) -> None:
        new = [sentence for sentence in pairs.sentences if sentence not in self._inputs]
        inputs = {sentence: minilm.tokenize(self._tokenizer, sentence) for sentence in new}
        minilm.note(f"embed {len(new)} sentences in float32 with PyTorch")
        self._embeddings |= minilm.float_embeddings(self._model, inputs)
        self._inputs |= inputs

    def spearman(self, count: int) -> float:
        """Returns the rank correlation of the float model."""
        pairs = minilm.read_pairs("dev", count)
        self._prepare(pairs)
        return minilm.similarity_spearman(self._embeddings, pairs)

    def measure(self, setting: Setting, count: int, threads: int) -> SentenceRow:
        """Compiles in a setting, runs all sentences of `count` pairs on the emulator, and compares."""
        minilm.note(f"{setting.title}: calibrate and compile")
        compilation = compile_model(self._model, self._example, calibration=self._calibration, **setting.options)
        return self._measured(setting.title, compilation, count, threads)

    def measure_pt2e(self, count: int, threads: int) -> SentenceRow:
        """The same with the formats of PyTorch's export quantization, on the same samples."""
        title = "PT2E with STAQuantizer"
        minilm.note(f"{title}: quantize and compile")
        example = {name: torch.tensor(array) for name, array in self._example.items()}
        exported = torch.export.export(self._model, (), example, strict=False)
        samples = [
            {name: array[index] for name, array in self._calibration.items()} for index in range(CALIBRATION_SENTENCES)
        ]
        quantized = quantize_program(exported, list(self._example), samples)
        return self._measured(title, compile_model(quantized), count, threads)

    def _measured(self, title: str, compilation: Compilation, count: int, threads: int) -> SentenceRow:
        pairs = minilm.read_pairs("dev", count)
        program = compilation.program
        assert program is not None
        measured = self._runs.get(program, len(pairs.sentences))
        if measured is None:
            minilm.note(f"{title}: run {len(pairs.sentences)} sentences on the emulator")
            measured = self._run(program, pairs, threads)
            self._runs.put(program, len(pairs.sentences), measured)
        wide = _wide_inputs(compilation)
        row = SentenceRow(title, len(pairs.sentences), **measured, cycles=program.cycles, wide_inputs=wide)
        minilm.note(str(row))
        return row

    def _run(self, program: Program, pairs: minilm.Pairs, threads: int) -> dict[str, float]:
        self._prepare(pairs)
        sentences = pairs.sentences
        results = program.run_batch([self._inputs[sentence] for sentence in sentences], threads=threads)
        embeddings = {
            sentence: minilm.pool(result.outputs[minilm.OUTPUT], self._inputs[sentence]["attention_mask"])
            for sentence, result in zip(sentences, results, strict=True)
        }
        cosines = [float(embeddings[sentence] @ self._embeddings[sentence]) for sentence in sentences]
        spearman = minilm.similarity_spearman(embeddings, pairs)
        return {"cosine": float(np.mean(cosines)), "least_cosine": min(cosines), "spearman": spearman}


def _wide_inputs(compilation: Compilation) -> int:
    return 0 if compilation.quantization is None else len(compilation.quantization.plan.int16_inputs)


def measure_encoders() -> list[EncoderRow]:
    """Compiles the encoders with random weights, and compares with PyTorch on samples outside the calibration."""
    rows: list[EncoderRow] = []
    for title, model, sample_shape in random_encoders():
        minilm.note(f"{title}: calibrate, compile and run")
        generator = np.random.default_rng(1)
        samples = generator.standard_normal((16, *sample_shape), np.float32)
        compilation = compile_model(model, (torch.tensor(samples[0]),), calibration={"src": samples[:12]})
        program = compilation.program
        assert program is not None
        with torch.inference_mode():
            wanted = [model(torch.tensor(sample)).numpy() for sample in samples[12:]]
        found = [program.run({"src": sample}).outputs["output"] for sample in samples[12:]]
        rows.append(EncoderRow(title, decibels(wanted, found), program.cycles, _wide_inputs(compilation)))
        minilm.note(str(rows[-1]))
    return rows


def random_encoders() -> list[tuple[str, Any, tuple[int, ...]]]:
    """Returns encoders with random weights, by title, with the shape of their input `src`."""
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    plain = nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True)
    layer = nn.TransformerEncoderLayer(192, 3, 768, activation="gelu", batch_first=True, norm_first=True)

    class VisionEncoder(nn.Module):
        """ViT-Tiny behind its patches: positions, layers that normalize first, a last normalization."""

        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(768, 192)
            self.positions = nn.Parameter(torch.randn(1, 197, 192) * 0.02)
            self.layers = nn.TransformerEncoder(layer, 12, nn.LayerNorm(192), enable_nested_tensor=False)

        def forward(self, src: torch.Tensor) -> torch.Tensor:
            return self.layers(self.project(src) + self.positions)

    encoder = nn.TransformerEncoder(plain, 6, enable_nested_tensor=False)
    return [
        ("nn.TransformerEncoder, 6 layers of width 256", encoder.eval(), (1, 64, 256)),
        ("ViT-like, 12 layers of width 192, 197 positions", VisionEncoder().eval(), (1, 197, 768)),
    ]


def decibels(wanted: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float:
    """Returns the SQNR of arrays against their reference."""
    signal = sum(float(np.square(array, dtype=np.float64).sum()) for array in wanted)
    pairs = zip(wanted, found, strict=True)
    noise = sum(float(np.square(exact.astype(np.float64) - array).sum()) for exact, array in pairs)
    return 10 * float(np.log10(signal / noise))


def sentence_table(rows: Sequence[SentenceRow], spearman: float) -> str:
    """Returns the table of the full set."""
    lines = [["float32, PyTorch", "1", "1", f"{spearman:.4f}", "", ""], *(_sentence_line(row) for row in rows)]
    return table(["MiniLM", "mean cosine", "least cosine", "Spearman", "cycles", "16-bit inputs"], lines)


def curve_table(rows: Sequence[SentenceRow]) -> str:
    """Returns the table of cosine against cycles."""
    least = min(row.cycles for row in rows)
    lines = [[*_sentence_line(row), f"{row.cycles / least:.3f}"] for row in rows]
    header = ["asked for", "mean cosine", "least cosine", "Spearman", "cycles", "16-bit inputs", "relative cycles"]
    return table(header, lines)


def _sentence_line(row: SentenceRow) -> list[str]:
    numbers = (f"{row.cosine:.4f}", f"{row.least_cosine:.4f}", f"{row.spearman:.4f}")
    return [row.title, *numbers, f"{row.cycles:,}", str(row.wide_inputs)]


def encoder_table(rows: Sequence[EncoderRow]) -> str:
    """Returns the table of encoders with random weights."""
    lines = [[row.title, f"{row.sqnr:.1f} dB", f"{row.cycles:,}", str(row.wide_inputs)] for row in rows]
    return table(["model", "SQNR", "cycles", "16-bit inputs"], lines)


def failures(
    full: Sequence[SentenceRow], curve: Sequence[SentenceRow], encoders: Sequence[EncoderRow], spearman: float
) -> list[str]:
    """Returns the missed figures."""
    found: list[str] = []
    for row in full:
        least: Mapping[str, float] = LEAST_COSINE
        if row.cosine < least.get(row.title, 0.0):
            found.append(f"{row.title}: the mean cosine is {row.cosine:.4f}, less than {least[row.title]}")
        if row.title in least and row.spearman < spearman - SPEARMAN_MARGIN:
            found.append(f"{row.title}: Spearman is {row.spearman:.4f}, and that of float32 {spearman:.4f}")
    if max(row.cosine for row in curve) < HIGHEST_COSINE:
        found.append(f"the curve does not reach a cosine of {HIGHEST_COSINE}")
    found += [f"{row.title}: {row.sqnr:.1f} dB, less than {LEAST_SQNR}" for row in encoders if row.sqnr < LEAST_SQNR]
    return found


if __name__ == "__main__":
    sys.exit(main())
