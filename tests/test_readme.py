"""The README says what is so: its tour prints what it shows, its links and those of docs/ lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.readme_tour import README, run_tour

ROOT = README.parent
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def stable(text: str) -> str:
    """The text without the file size, which depends on the digits of the scales and so on the processor."""
    return re.sub(r"(?<=file size) +[\d.]+ KiB", " ... KiB", text)


def test_the_tour_prints_what_the_readme_shows() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count(">>> ") + text.count("\n$ ") >= 10
    assert stable(run_tour(text)) == stable(text), "the output has changed: `make docs` writes the new one"


def test_every_compile_of_the_tour_passes_its_check() -> None:
    text = README.read_text(encoding="utf-8")
    checked = text.replace("$ sta compile ", "$ sta compile --check ").replace("sparsity=", "check=True, sparsity=")
    assert checked.count("--check layer") == 2
    assert checked.count("check=True") == 1
    found = run_tour(checked)
    assert "check: bits are equal after every pass" in found
    # The check changes nothing.
    shown = stable(found.replace("--check ", "").replace("check=True, ", "")).splitlines()
    assert [line for line in stable(text).splitlines() if line not in shown] == []


def test_a_tour_that_prints_something_else_is_seen() -> None:
    text = "```python\n>>> x = 20\n>>> x + 1\n20\n```\n```console\n$ echo 4\n5\n```\n"
    assert run_tour(text) == text.replace("\n20\n", "\n21\n").replace("\n5\n", "\n4\n")


def test_commands_in_sentences_run_in_the_folder_of_the_tour() -> None:
    shown = re.findall(r"`(sta [a-z]+ [^`]*\.sta[^`]*)`", README.read_text(encoding="utf-8"))
    assert {command.split()[1] for command in shown} == {"report", "run", "debug", "diff", "where"}
    with pytest.raises(subprocess.CalledProcessError):
        run_tour("Then `sta info\nnone.sta` says what it is.")
    # Not a command that can be typed: a name alone, or one without a program.
    text = "`sta info` tells of a `.sta` file, `sta compile --dump-ir DIR` makes it."
    assert run_tour(text) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    files = [target for target in targets if not target.startswith("https://")]
    assert [file for file in files if not (page.parent / file).exists()] == []


def test_the_index_of_the_documentation_is_complete() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    names = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert names == set(re.findall(r"\]\((\w[\w-]*\.md)\)", index))
