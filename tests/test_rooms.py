"""Imports between rooms: the table in CONTRIBUTING.md, enforced on every import, inside functions too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ROOMS = {link.name for link in (ROOT / "src" / "sta").iterdir() if link.is_symlink()}

ALLOWED = {
    "spec": set[str](),
    "dialect": {"spec"},
    "compress": {"spec"},
    "frontend": {"dialect", "spec"},
    "passes": {"dialect", "spec"},
    "backend": {"dialect", "spec"},
    "runtime": {"backend", "spec"},
}
"""Permitted imports of a room besides itself; `explore/`, `api/` and `tests/` may import everything."""

FORBIDDEN_PACKAGES = {
    "spec": {"torch", "torch_mlir", "xdsl"},
    "dialect": {"torch_mlir"},
    "compress": {"torch_mlir", "xdsl"},
    "passes": {"torch_mlir"},
    "backend": {"torch", "torch_mlir"},
    "runtime": {"torch", "torch_mlir", "xdsl", "rich", "yaml", "safetensors"},
}
"""Packages of others that a room does without."""

Import = tuple[Path, int, str]
"""File, line and the full name of the module."""


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        module = node.module or ""
        # `from sta import spec` imports a room, `from sta.spec import target` a module of one.
        yield from (f"{module}.{alias.name}" for alias in node.names)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        first = node.args[0] if node.args else None
        if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
            yield str(first.value)


def imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        for name in imported_names(node):
            yield path.relative_to(ROOT), getattr(node, "lineno", 0), name


def room_of(name: str) -> str | None:
    """The room that a module of ours is in, `api` for the face of the package; None for other packages."""
    first, *rest = name.split(".")
    if first != "sta":
        return None
    return rest[0] if rest and rest[0] in ROOMS else "api"


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    found = [entry for path in modules(room) for entry in imports(path)]
    wrong = [entry for entry in found if room_of(entry[2]) not in {None, room, *ALLOWED[room]}]
    assert wrong == []


@pytest.mark.parametrize("room", FORBIDDEN_PACKAGES)
def test_a_room_does_without_the_packages_that_are_not_for_it(room: str) -> None:
    found = [entry for path in modules(room) for entry in imports(path)]
    assert [entry for entry in found if entry[2].split(".")[0] in FORBIDDEN_PACKAGES[room]] == []


def test_only_the_emitter_of_the_backend_knows_the_ir() -> None:
    names = {
        path.name
        for path in modules("backend")
        for _, _, name in imports(path)
        if name.split(".")[0] == "xdsl" or room_of(name) == "dialect"
    }
    assert names == {"emit.py"}


def test_the_runtime_does_not_import_the_emitter() -> None:
    found = [entry for path in modules("runtime") for entry in imports(path)]
    assert [entry for entry in found if entry[2].startswith("sta.backend.emit")] == []


def test_the_readers_of_imports_see_them_in_functions_and_in_calls() -> None:
    source = "def f():\n    import sta.passes.a\n    from sta import frontend\n    import_module('sta.dialect.nm')\n"
    names = [name for node in ast.walk(ast.parse(source)) for name in imported_names(node)]
    assert sorted(names) == ["sta.dialect.nm", "sta.frontend", "sta.passes.a"]
    assert [room_of(name) for name in sorted(names)] == ["dialect", "frontend", "passes"]


HEAVY = ("torch", "torch_mlir", "xdsl", "transformers", "safetensors")


def loaded_packages(code: str) -> set[str]:
    """The packages that a fresh interpreter has loaded when it has run `code`."""
    report = "import sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    result = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import sta",
        "import sta.runtime",
        "import sta; sta.load",
        "import sta.api.cli.command_line",
        "from sta.api.cli.command_line import main; main(['run', 'missing.sta', '--inputs', 'x.npz', '-o', 'y.npz'])",
        "from sta.api.cli.command_line import main; main(['objdump', 'missing.sta'])",
        "from sta.api.cli.command_line import main; main(['compile', 'x.pt2', '-o', 'y.sta', '--target', 'sta-bas'])",
    ],
)
def test_running_and_reading_programs_loads_neither_torch_nor_xdsl(code: str) -> None:
    loaded = loaded_packages(code)
    assert "sta" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_command_line_itself_does_not_load_numpy() -> None:
    assert "numpy" not in loaded_packages("import sta.api.cli.command_line")
