"""
Accuracy of the integer operators: attention and normalization beside float64, 8-bit operators beside LiteRT.

    python -m benchmarks.operator_accuracy [--json FILE] [--docs]

Exits with 1 if a figure that is required is missed. The figures are properties of the specification: they depend on
neither machine nor time. What must agree to the bit (TOSA's reference model, onnxruntime) is a test, not a figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.attention_error import BITS, LENGTHS, MODES, Case, kinds_of_logits, measure
from benchmarks.litert_operators import SOFTMAX_OUTPUT, fully_connected, gelu, softmax
from benchmarks.page import ACCURACY_PAGE, table, write_section
from sta.passes.quantization.probability_bits import LEAST_FIDELITY
from sta.spec.integers import apply_scale_32, encode_scale, matrix_product, saturate
from sta.spec.norm import FRACTION_BITS, KINDS, layer_norm, quantize_norm_parameters
from sta.spec.operators.registry import activation, activations, interpolation_bound
from sta.spec.softmax import probabilities
from sta.spec.tables import build_table_8, build_table_16, table_8, table_16

CLOSER = 4.0
"""Required factor by which our attention is closer to float64 than ITA's."""
SHORTEST = 128
"""Least number of keys of that requirement."""
ELEMENTS = 1 << 20
_LITERT_ABORTS = 512
"""Scores from which on LiteRT ends the process if they are all equal."""
RANGES = (4.0, 8.0, 16.0, 32.0)
"""The largest magnitude of the inputs of a 16-bit table."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """Results beside an oracle's, in units of the output."""

    operator: str
    elements: int
    different: int
    largest: int

    @staticmethod
    def of(operator: str, ours: Array, theirs: Array) -> Comparison:
        """Compares integers."""
        difference = np.abs(ours.astype(np.int64) - theirs)
        return Comparison(operator, difference.size, int(np.count_nonzero(difference)), int(difference.max()))


def compare_with_litert() -> list[Comparison]:
    """Compares operators with LiteRT's int8 reference kernels on random inputs and all extremes."""
    generator = np.random.default_rng(1)
    return [
        _fully_connected(generator),
        *(_softmax(generator, keys, scale) for keys in (16, 100, 1000) for scale in (0.02, 0.1)),
        *(_gelu(generator, approximate) for approximate in (False, True)),
    ]


def _float32(number: float) -> float:
    return float(np.float32(number))


def _every_int8(generator: np.random.Generator, rows: int, columns: int) -> NDArray[np.int8]:
    """Returns random int8 [rows, columns], the first two rows at the ends of the range."""
    x = generator.integers(-128, 128, (rows, columns)).astype(np.int8)
    x[0], x[1] = -128, 127
    return x


def _fully_connected(generator: np.random.Generator) -> Comparison:
    x, weights = _every_int8(generator, 2048, 384), _every_int8(generator, 512, 384)
    weights = np.maximum(weights, -127)
    bias = generator.integers(-20000, 20000, len(weights)).astype(np.int32)
    scales = generator.uniform(0.001, 0.002, len(weights)).astype(np.float32)
    (x_scale, zero_point), (output_scale, output_zero_point) = (_float32(0.03), 5), (_float32(0.05), -7)
    theirs = fully_connected(x, (x_scale, zero_point), weights, scales, bias, (output_scale, output_zero_point))
    folded = bias - zero_point * weights.sum(axis=1, dtype=np.int64)
    scale = encode_scale(x_scale * scales.astype(np.float64) / output_scale)
    rescaled = apply_scale_32(matrix_product(x, weights) + folded, *scale)
    return Comparison.of("fully connected", saturate(rescaled + output_zero_point, np.int8), theirs)


def _softmax(generator: np.random.Generator, keys: int, scale: float) -> Comparison:
    x = _every_int8(generator, ELEMENTS // keys + 1, keys)
    if keys >= _LITERT_ABORTS:
        x[:2, 0] = 0, 0
        x[:2, 1:] = -128
    multiplier, shift = (int(part) for part in encode_scale(_float32(scale) * 1024 / math.log(2)))
    unsigned = probabilities(x, multiplier, shift, SOFTMAX_OUTPUT[0])
    ours = unsigned.astype(np.int64) + SOFTMAX_OUTPUT[1]
    return Comparison.of(f"softmax, {keys} scores, scale {scale:g}", ours, softmax(x, scale))


def _gelu(generator: np.random.Generator, approximate: bool) -> Comparison:
    name = "gelu_tanh" if approximate else "gelu"
    ours: list[Array] = []
    theirs: list[Array] = []
    for _ in range(64):
        scale, output_scale = (_float32(number) for number in generator.uniform((0.01, 0.01), (0.06, 0.04)))
        zero_point, output_zero_point = (int(number) for number in generator.integers(-128, 128, 2))
        x = _every_int8(generator, 64, 256)
        x[2] = np.arange(-128, 128)
        made = build_table_8(activation(name), scale, output_scale, zero_point, output_zero_point)
        ours.append(table_8(x, made))
        theirs.append(gelu(x, (scale, zero_point), (output_scale, output_zero_point), approximate))
    return Comparison.of("GELU, tanh" if approximate else "GELU, erf", np.concatenate(ours), np.concatenate(theirs))


def compare_norms() -> list[Comparison]:
    """Compares the norms with the correctly rounded results for the same quantized gamma, beta and epsilon."""
    generator = np.random.default_rng(2)
    return [_norm(generator, kind, width) for kind in KINDS for width in (64, 384, 768, 4096)]


def _norm(generator: np.random.Generator, kind: str, width: int) -> Comparison:
    rows = ELEMENTS // width + 1
    deviations = 10.0 ** generator.uniform(1, 4, (rows, 1))
    x = np.clip(generator.normal(generator.normal() * 3000, deviations, (rows, width)), -32768, 32767).astype(np.int16)
    x[0], x[1], x[2], x[2, -1] = 32767, -32768, 0, 1
    real = generator.normal(size=width), generator.normal(size=width)
    gamma, beta, epsilon, shift = quantize_norm_parameters(*real, 1e-3, 1 / 4096, 1e-5, width, kind)
    # Longer than float64, so that its rounding is not in doubt.
    wide = x.astype(np.longdouble)
    centred = wide - wide.mean(axis=1, keepdims=True) if kind == "layer" else wide
    variance = (centred * centred).mean(axis=1, keepdims=True) + np.longdouble(epsilon) / width / width
    parameters = (np.ldexp(part.astype(np.longdouble), FRACTION_BITS - shift) for part in (gamma, beta))
    exact = centred / np.sqrt(variance) * next(parameters) + next(parameters)
    rounded = np.clip(np.rint(exact), -32768, 32767).astype(np.int64)
    name = "LayerNorm" if kind == "layer" else "RMSNorm"
    return Comparison.of(f"{name}, width {width}", layer_norm(x, gamma, beta, epsilon, shift, kind), rounded)


@dataclass(frozen=True)
class TableError:
    """Error of a 16-bit table over all its inputs, in units of its output."""

    function: str
    reach: float
    """The largest magnitude of its inputs."""
    bound: float
    """Bound of the error of straight lines between exact entries."""
    largest: float
    mean: float

    @property
    def holds(self) -> bool:
        """True if the error is within the bound and the rounding of entries."""
        return self.largest <= self.bound + 0.5 + 1e-9


def table_errors() -> list[TableError]:
    """Returns the error of each function's table, for inputs of each range, over all inputs."""
    return [_table_error(name, reach) for name in activations() for reach in RANGES]


def _table_error(name: str, reach: float) -> TableError:
    function, input_scale = activation(name), reach / 32767
    x = np.arange(-32768, 32768).astype(np.int16)
    exact = function(x.astype(np.float64) * input_scale)
    # The last entry of a table is at 32768: it must not saturate either.
    output_scale = float(max(np.abs(exact).max(), np.abs(function(np.array([32768 * input_scale]))).max())) / 32767
    found = table_16(x, build_table_16(function, input_scale, output_scale)) / 128
    error = np.abs(found - exact / output_scale)
    bound = interpolation_bound(name, input_scale) / output_scale
    return TableError(name, reach, bound, float(error.max()), float(error.mean()))


@dataclass(frozen=True)
class Results:
    """All figures."""

    litert: list[Comparison]
    norms: list[Comparison]
    tables: list[TableError]
    attention: list[Case]

    def missed(self) -> list[str]:
        """Returns the missed requirements, in words."""
        missed = [f"{c.operator}: {c.largest} from the oracle" for c in (*self.litert, *self.norms) if c.largest > 1]
        missed += [f"table of {t.function} on ±{t.reach:g}: {t.largest:.3f}" for t in self.tables if not t.holds]
        missed += [
            f"attention, {case.length} keys, {case.logits}, {case.chosen_bits} bits, {mode}: {closer:.2f} times closer"
            for case in self.attention
            for mode in MODES
            if case.length >= SHORTEST and (closer := case.closer(case.chosen_bits, mode)) < CLOSER
        ]
        return missed


def report(results: Results) -> str:
    """Returns all tables."""
    missed = results.missed()
    verdict = "**missed**: " + "; ".join(missed) if missed else "it does everywhere"
    parts = [
        "### 8-bit operators beside LiteRT\n\nElements that differ from those of the int8 reference kernels of "
        "ai-edge-litert 2.3.0, none by more than what the last column says:\n\n" + _comparisons(results.litert),
        "### Normalization beside float64\n\nElements that differ from the correctly rounded result for the same "
        "quantized gamma, beta and epsilon:\n\n" + _comparisons(results.norms),
        "### Tables of 513 entries\n\nThe error over all 65,536 inputs in units of the 16-bit output, whose scale fits "
        "the function's values. Entries are exact but for half a unit; straight lines between them add at most the "
        "bound.\n\n" + _tables(results.tables),
        *(_attention(results.attention, bits) for bits in BITS),
        "### Attention beside ITA's\n\nHow many times closer to float64 ours is, in the mean, with 8- and 16-bit "
        "exponentials and in both modes. Below 1 it is farther away. The compiler takes 16 bits where the signal is "
        f"less than {LEAST_FIDELITY:g} dB above the noise with 8. From {SHORTEST} keys on, what it chooses has to be "
        f"{CLOSER:g} times closer in both modes: {verdict}.\n\n" + _beside_ita(results.attention),
    ]
    return "\n\n".join(parts)


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    rows = [
        [c.operator, f"{c.elements:,}", f"{c.different:,}", f"{100 * c.different / c.elements:.4f} %", str(c.largest)]
        for c in comparisons
    ]
    return table(["operator", "elements", "different", "rate", "largest difference"], rows)


def _tables(errors: Sequence[TableError]) -> str:
    rows = [[e.function, f"±{e.reach:g}", f"{e.bound:.3f}", f"{e.largest:.3f}", f"{e.mean:.3f}"] for e in errors]
    return table(["function", "inputs", "bound of the lines", "largest error", "mean error"], rows, 2)


def _attention(cases: Sequence[Case], bits: int) -> str:
    header = ["keys", "logits", "RMS"]
    header += [f"{mode}: {part}" for mode in MODES for part in ("mean", "max", "mean/RMS")]
    rows: list[list[str]] = []
    for case in cases:
        row = [str(case.length), case.logits, f"{case.rms:.2f}"]
        for mode in MODES:
            error = case.ours[bits, mode]
            row += [f"{error.mean:.4f}", f"{error.largest:.3f}", f"{100 * error.mean / case.rms:.3f} %"]
        rows.append(row)
    return f"### Attention with {bits}-bit exponentials beside float64\n\n" + table(header, rows, 2)


def _beside_ita(cases: Sequence[Case]) -> str:
    header = ["keys", "logits", "ITA: mean", "max", "mean/RMS", "row sum", "8 row", "8 online", "16 row", "16 online"]
    header.append("chosen")
    rows: list[list[str]] = []
    for case in cases:
        row = [str(case.length), case.logits, f"{case.ita.mean:.3f}", f"{case.ita.largest:.3f}"]
        row += [f"{100 * case.ita.mean / case.rms:.1f} %", f"{case.ita_weight:.2f}"]
        row += [f"{case.closer(bits, mode):,.1f}" for bits in BITS for mode in MODES]
        rows.append([*row, str(case.chosen_bits)])
    return table(header, rows, 2)


def _to_json(results: Results) -> Any:
    plain = dataclasses.asdict(results)
    for case in plain["attention"]:
        case["ours"] = {f"{bits} {mode}": error for (bits, mode), error in case["ours"].items()}
    return plain


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns 1 if a required figure is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator_accuracy", description="accuracy of operators")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/accuracy.md")
    chosen = parser.parse_args(arguments)
    cases: list[Case] = []
    for length in LENGTHS:
        print(f"attention over {length} keys", file=sys.stderr, flush=True)
        cases += [measure(length, kind) for kind in kinds_of_logits()]
    results = Results(compare_with_litert(), compare_norms(), table_errors(), cases)
    text = report(results)
    print(text)
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(_to_json(results), indent=2) + "\n")
    if chosen.docs:
        write_section("operators", text, ACCURACY_PAGE)
    return 1 if results.missed() else 0


if __name__ == "__main__":
    sys.exit(main())
