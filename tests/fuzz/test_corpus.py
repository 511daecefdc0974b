"""Tests of the kept finds of the fuzzers: containers here, inputs of the native engine in `make sanitize`."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz import corpus
from tests.fuzz.containers import attempt
from tests.fuzz.corpus import ARCHIVE, kept, pack, unpack
from tests.fuzz.mutations import file_of, sections_of
from tests.fuzz.native_inputs import HEADER_BYTES, MOST_RECORDS, RECORD_BYTES, layout, translated
from tests.fuzz.seeds import COUNT, write_seeds

ROOT = Path(__file__).parents[2]


def test_every_kept_container_is_refused_or_runs_the_same_on_both_engines() -> None:
    stages = Counter(attempt(data).stage for data in kept("containers"))
    # All ways to end are in it.
    assert min(stages[stage] for stage in ("loader", "validator", "failed", "halted")) >= 5, stages


def test_the_kept_containers_reach_decoder_and_validator() -> None:
    # In a process of its own: lines that run on import, and what other tests have imported, do not count.
    command = [sys.executable, "-m", "tests.fuzz.coverage"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "% of decoder and validator" in result.stdout


def test_the_corpus_is_small() -> None:
    assert ARCHIVE.stat().st_size < 900_000


def test_what_is_unpacked_and_packed_again_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ARCHIVE.read_bytes()
    unpack(tmp_path)
    monkeypatch.setattr(corpus, "ARCHIVE", tmp_path / "corpus.zip")
    pack(tmp_path)
    assert (tmp_path / "corpus.zip").read_bytes() == before


def test_inputs_of_another_instruction_table_are_translated() -> None:
    now = layout()
    before = [dict(kind, numbers={"gone": 2, **kind["numbers"]}) for kind in reversed(now) if kind["name"] != "shift"]
    names = [kind["name"] for kind in now]
    old_names = [kind["name"] for kind in before]
    for data in kept("native"):
        # Seen as one of the older table, an input has the fields that it has there.
        found = translated(data, before)
        assert len(found) == len(data)
        if not data[4:5] or len(data) < HEADER_BYTES + RECORD_BYTES or data[4] % (MOST_RECORDS + 1) == 0:
            continue
        record, other = (each[HEADER_BYTES : HEADER_BYTES + RECORD_BYTES] for each in (data, found))
        kind = before[record[0] % len(before)]
        assert names[other[0]] == old_names[record[0] % len(before)]
        first = sum(kind["numbers"].values()) - 2
        assert other[1 : 1 + first] == record[3 : 3 + first]


def test_a_container_taken_apart_and_put_together_is_the_same_file() -> None:
    whole = 0
    for data in kept("containers"):
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
