"""What the fuzzers found is kept, and must go well: containers here, inputs of the native engine in `make sanitize`."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.containers import attempt
from tests.fuzz.mutations import file_of, sections_of
from tests.fuzz.seeds import COUNT, write_seeds

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"


def test_every_kept_container_is_refused_or_runs_the_same_on_both_engines() -> None:
    stages = Counter(attempt(path.read_bytes()).stage for path in sorted((CORPUS / "containers").iterdir()))
    # All ways to end are in it.
    assert min(stages[stage] for stage in ("loader", "validator", "failed", "halted")) >= 5, stages


def test_the_kept_containers_reach_decoder_and_validator() -> None:
    # In a process of its own: lines that run on import, and what other tests have imported, do not count.
    command = [sys.executable, "-m", "tests.fuzz.coverage", str(CORPUS / "containers")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "% of decoder and validator" in result.stdout


def test_the_corpus_is_small() -> None:
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) < 900_000


def test_a_container_taken_apart_and_put_together_is_the_same_file() -> None:
    whole = 0
    for path in (CORPUS / "containers").iterdir():
        data = path.read_bytes()
        if attempt(data).stage == "loader":
            continue
        sections = sections_of(data)
        assert sections is not None
        assert file_of(sections) == data
        whole += 1
    assert whole > 10


@pytest.mark.slow
def test_seeds_are_programs_that_run(tmp_path: Path) -> None:
    write_seeds(tmp_path)
    stages = Counter(attempt(path.read_bytes()).stage for path in (tmp_path / "containers").iterdir())
    assert stages["halted"] > 0.8 * COUNT, stages
    assert len(list((tmp_path / "native").iterdir())) == COUNT
