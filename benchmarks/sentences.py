"""The development set of the STS benchmark, all of it, through MiniLM on the emulator."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from benchmarks.peers import FOLDER
from examples.minilm_sentences import (
    CALIBRATION_SENTENCES,
    OUTPUT,
    FloatArray,
    compile_variant,
    load_model,
    pool,
    read_pairs,
    similarity_spearman,
    tokenize,
)
from sta.runtime import Program

PAIRS = 1500
BATCH = 250
PROGRAM = FOLDER / "MiniLM-sentences.sta"


@dataclass(frozen=True)
class Sentences:
    """Time and results of all sentences."""

    sentences: int
    threads: int
    seconds: float
    processor_seconds: float
    spearman: float
    """The rank correlation of the pairs' similarities with human scores."""


def measure(pairs: int, threads: int) -> Sentences:
    """Runs both sentences of every pair, repeated or not, in one batch."""
    model, tokenizer = load_model()
    if not PROGRAM.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        calibration = [tokenize(tokenizer, sentence) for sentence in read_pairs("train", CALIBRATION_SENTENCES).left]
        compiled = compile_variant(model, calibration, None).program
        assert compiled is not None
        compiled.save(PROGRAM)
    program = Program.load(PROGRAM)
    program.check()
    chosen = read_pairs("dev", pairs)
    sentences = [*chosen.left, *chosen.right]
    inputs = [tokenize(tokenizer, sentence) for sentence in sentences]
    embeddings: dict[str, FloatArray] = {}
    start, start_processor = time.perf_counter(), time.process_time()
    for first in range(0, len(sentences), BATCH):
        batch = slice(first, first + BATCH)
        # Not more at a time: the hidden states of all sentences would fill a gigabyte.
        results = program.run_batch(inputs[batch], engine="native", threads=threads)
        for sentence, sample, result in zip(sentences[batch], inputs[batch], results, strict=True):
            embeddings[sentence] = pool(result.outputs[OUTPUT], sample["attention_mask"])
        done = min(first + BATCH, len(sentences))
        print(f"{done} of {len(sentences)} sentences, {threads} threads", file=sys.stderr, flush=True)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - start_processor
    spearman = similarity_spearman(embeddings, chosen)
    return Sentences(len(sentences), threads, seconds, processor_seconds, spearman)
