"""Coverage of Hugging Face's types: the page, results that a run resumes from, and a sample that is measured again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import coverage
from benchmarks.coverage import (
    BOUND,
    MODELS_PAGE,
    WIDE_BOUND,
    measure,
    measure_apart,
    page,
    read_results,
    write_results,
)
from benchmarks.tiny_models import model_types

SAMPLE = ("bert", "distilbert", "vit", "albert", "gpt2", "electra")
"""Types that take seconds each."""
FIGURES: dict[str, Any] = {"sqnr": 50.0, "cycles": 1234, "mac_efficiency": 0.25}
RESULTS: dict[str, dict[str, Any]] = {
    "a": {"type": "a", "status": "good", "bound": BOUND, **FIGURES},
    "b": {"type": "b", "status": "good", "bound": WIDE_BOUND, **FIGURES},
    "c": {"type": "c", "status": "noisy", "bound": WIDE_BOUND, **FIGURES},
    "d": {"type": "d", "status": "refused", "reason": "a|b <c>"},
    "e": {"type": "e", "status": "not exported", "reason": "no size"},
}


def test_the_page_is_made_of_the_results() -> None:
    expected = page(read_results(), model_types()) + "\n"
    message = "run `python -m benchmarks.coverage page > docs/models.md`"
    assert MODELS_PAGE.read_text(encoding="utf-8") == expected, message


def test_the_page_has_every_type_with_its_figures_or_its_reason() -> None:
    text = page(RESULTS, ["a", "b", "c", "d", "e", "f"])
    assert "**2 of 4** models that can be exported are good, 1 of them with 16 bits. transformers has 6 types." in text
    assert "| a     |    30 |     50.0 |  1,234 |         25.0 % |" in text
    assert "| b ¹   |    45 |" in text
    assert "## Noisy: compiles, and does not keep the bound (1)" in text
    assert r"| d | a\|b &lt;c> |" in text
    assert "| e | no size |" in text
    assert "## Not measured (1)\n\nf" in text


def test_results_are_sorted_and_the_last_of_a_type_counts(tmp_path: Path) -> None:
    path = tmp_path / "models.jsonl"
    write_results({"b": RESULTS["b"], "a": RESULTS["a"]}, path)
    with path.open("a") as file:
        file.write('{"type": "a", "status": "refused", "reason": "now"}\n')
    found = read_results(path)
    assert list(found) == ["a", "b"]
    assert found["a"]["reason"] == "now"
    assert read_results(tmp_path / "none.jsonl") == {}


def test_a_run_in_parts_measures_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, measured = tmp_path / "models.jsonl", list[str]()

    def one(name: str, seconds: int) -> dict[str, Any]:
        measured.append(name)
        return {**RESULTS["a"], "type": name}

    monkeypatch.setattr(coverage, "measure_apart", one)
    monkeypatch.setattr(coverage, "read_results", lambda path=path: read_results(path))
    monkeypatch.setattr(coverage.measure_all, "__defaults__", (path,))
    for names in (["bert"], ["bert", "vit"]):
        monkeypatch.setattr(sys, "argv", ["coverage", "measure", *names, "--jobs", "1"])
        coverage.main()
    assert measured == ["bert", "vit"]
    assert list(read_results(path)) == ["bert", "vit"]


@pytest.mark.slow
def test_a_type_that_fails_or_takes_too_long_is_a_result() -> None:
    assert measure_apart("no-type", 200)["status"] == "not exported"
    assert measure_apart("bert", 1) == {"type": "bert", "status": "fault", "reason": "takes more than 1 s"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAMPLE)
@pytest.mark.filterwarnings("ignore")
def test_a_sample_of_the_types_is_as_the_page_says(kind: str) -> None:
    published, found = read_results()[kind], measure(kind)
    assert (found["status"], found.get("bound")) == (published["status"], published.get("bound")), found
    assert found["sqnr"] >= published["bound"]
