"""The documentation names things as they are."""

import dataclasses
import importlib
import re
from pathlib import Path

from sta.dialect.ir.accuracy import FIDELITY, PRUNED
from sta.dialect.ir.port_attribute import PORT
from sta.dialect.nm import NM
from sta.dialect.sta import STA
from sta.dialect.torch import ANNOTATIONS
from sta.passes.pipeline import FLOAT_PIPELINE, INTEGER_PIPELINE, pass_registry
from sta.spec.target import Target

ROOT = Path(__file__).parents[1]
EXAMPLES = {
    "api/cli/commands/NAME.py",
    "passes/nm/foo_bar.py",
    "runtime/native/instructions/NAME.cpp",
    "spec/instructions/NAME.py",
    "passes/lowering/convert_x_to_y.py",
    "tests/passes/nm/test_foo_bar.py",
    "tests/filecheck/passes/nm_foo_bar.mlir",
}
"""Files that pages name for what a reader is about to add."""
DOCS = ROOT / "docs"


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def sources() -> str:
    """The code of the rooms, in one text of small letters."""
    rooms = [link for link in (ROOT / "src" / "sta").iterdir() if link.is_symlink()]
    paths = [path for room in rooms for ending in ("py", "cpp", "h") for path in room.resolve().rglob(f"*.{ending}")]
    return re.sub(r"\s+", " ", " ".join(path.read_text(encoding="utf-8") for path in paths)).lower()


def test_the_words_of_the_glossary_are_in_use() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", text_of("glossary.md"), re.MULTILINE)[1:]
    named = re.findall(r"`([\w-]+)`", " ".join(text for row in rows for text in row))
    terms = [term.strip() for words, _ in rows for term in re.sub(r"\(.*?\)", "", words).split(",")]
    code = sources()
    assert len(rows) > 50
    assert [word for word in named if word not in code] == []
    missing = {term for term in terms if not re.search(re.sub(r"[ -]", "[ _-]?", term.lower()), code)}
    # Planned words stand in the page about what is planned.
    assert {term for term in missing if term not in text_of("dynamic-control.md").lower()} == set()
    assert [words for words, _ in rows] == sorted((words for words, _ in rows), key=str.lower)


def test_every_operation_of_ours_is_explained() -> None:
    text = text_of("dialects.md")
    operations = {operation.name for dialect in (NM, STA) for operation in dialect.operations}
    assert {name for name in operations if f"`{name}`" not in text} == set()


def test_the_documented_operations_and_annotations_exist() -> None:
    operations = {operation.name for dialect in (NM, STA) for operation in dialect.operations}
    # A word with a dot after the dialect's name is an operation, an annotation, or a module of the package `sta`.
    named = set(re.findall(r"`((?:nm|sta)\.\w+)`", text_of("dialects.md"))) - {"sta.spec"}
    assert named <= operations | set(ANNOTATIONS) | {PORT, FIDELITY, PRUNED}


def test_the_passes_are_listed_in_their_order() -> None:
    listed = re.findall(r"^\| `([\w-]+)` \| ", text_of("dialects.md").split("## The passes")[1], re.MULTILINE)
    assert set(listed) == set(pass_registry())
    assert len(listed) == len(set(listed))
    for pipeline in (FLOAT_PIPELINE, INTEGER_PIPELINE):
        positions = [listed.index(name) for name in dict.fromkeys(pipeline)]
        assert positions == sorted(positions)


def test_the_definitions_of_numerics_exist() -> None:
    names = re.findall(r"`(sta\.spec(?:\.\w+)+)`", text_of("numerics.md"))
    assert len(names) > 15
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_files_that_are_named_exist() -> None:
    rooms = "spec|dialect|compress|frontend|passes|backend|runtime|explore|api|examples|tests|docs"
    for page in [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        named = set(re.findall(rf"`((?:{rooms})/[\w/.-]*)`", page.read_text(encoding="utf-8")))
        missing = {name for name in named if not (ROOT / name).exists()} - EXAMPLES
        assert missing == set(), page.name


def test_the_keys_of_a_target_are_all_explained() -> None:
    text = text_of("adding-a-target.md")
    assert [field.name for field in dataclasses.fields(Target) if f"`{field.name}`" not in text] == []


def test_decisions_are_numbered_and_say_why_and_at_what_cost() -> None:
    first, *entries = re.split(r"(?=^## )", text_of("decisions.md"), flags=re.MULTILINE)
    assert first.startswith("# ")
    assert [int(entry.split(".")[0].removeprefix("## ")) for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry.split("\n")[0] for entry in entries if "*Why.*" not in entry or "*Cost.*" not in entry] == []
