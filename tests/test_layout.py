"""The layout that CONTRIBUTING.md describes: links, packages, and where a pass is found."""

import ast
import re
import subprocess
import sys
import venv
from inspect import getfile
from pathlib import Path

import pytest
from setuptools import find_packages

from sta.passes.pipeline import pass_registry

ROOT = Path(__file__).parents[1]
LINKS = ROOT / "src" / "sta"
ROOMS = sorted(path.name for path in LINKS.iterdir() if path.is_symlink())


def folders() -> list[Path]:
    """The folders of the rooms that hold modules."""
    return sorted({path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")})


def test_the_package_has_one_link_a_room() -> None:
    assert {path.name for path in LINKS.iterdir() if path.is_dir()} - {"__pycache__"} == set(ROOMS)
    assert {room: (LINKS / room).resolve() for room in ROOMS} == {room: ROOT / room for room in ROOMS}
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks"} == set(ROOMS)


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_is_a_package_that_says_what_it_holds(folder: Path) -> None:
    initial = folder / "__init__.py"
    assert ast.get_docstring(ast.parse(initial.read_text(encoding="utf-8")))


def test_what_is_installed_are_the_folders_of_the_rooms() -> None:
    packages = {".".join(("sta", *folder.relative_to(ROOT).parts)) for folder in folders()}
    assert set(find_packages(str(ROOT / "src"))) == {"sta", *packages}


def test_the_type_checker_is_given_every_room() -> None:
    # It finds no files behind links.
    command = subprocess.run(["make", "-n", "typecheck"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    # Within another make it says as well where it is.
    given = set(next(line for line in command.splitlines() if "pyright" in line).split())
    assert {str(ROOT / room) for room in ROOMS} <= given
    assert {"benchmarks", "examples", "tests"} <= given


@pytest.mark.parametrize("name", pass_registry())
def test_a_pass_is_found_by_its_name(name: str) -> None:
    kind = pass_registry()[name]()
    assert kind.name == name
    assert kind.__name__ == name.title().replace("-", "") + "Pass"
    dialect, _, rest = name.partition("-")
    folder, file = ("lowering", name) if dialect == "convert" else (dialect, rest)
    assert Path(getfile(kind)).resolve() == ROOT / "passes" / folder / f"{file.replace('-', '_')}.py"


@pytest.mark.parametrize("name", pass_registry())
def test_a_pass_has_a_test_on_ir_text(name: str) -> None:
    path = ROOT / "tests" / "filecheck" / "passes" / f"{name.replace('-', '_')}.mlir"
    runs = "".join(re.findall("^// RUN: .*sta opt .*\n", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert re.search(rf"(?<![\w-]){name}(?![\w-])", runs) is not None


@pytest.mark.slow
def test_a_wheel_of_the_source_distribution_is_whole(tmp_path: Path) -> None:
    """A folder that was not there before is installed, too, and the native engine is built."""

    def run(*command: str | Path, cwd: Path = tmp_path) -> str:
        return subprocess.run(
            [str(part) for part in command], cwd=cwd, check=True, capture_output=True, text=True
        ).stdout

    checkout, unpacked, built = tmp_path / "checkout", tmp_path / "unpacked", tmp_path / "built"
    run("git", "clone", "-q", ROOT, checkout)
    for room in ("runtime", "api"):
        scratch = checkout / room / "scratch"
        scratch.mkdir()
        (scratch / "__init__.py").write_text('"""Scratch."""\n')
        (scratch / "module.py").write_text("ANSWER = 42\n")
    build = "import setuptools.build_meta as build, sys; print(getattr(build, sys.argv[1])(sys.argv[2]))"
    run(sys.executable, "-c", build, "build_sdist", built, cwd=checkout)
    (source,) = built.glob("*.tar.gz")
    unpacked.mkdir()
    run("tar", "xzf", source, "--strip-components=1", "-C", unpacked)
    run(sys.executable, "-c", build, "build_wheel", built, cwd=unpacked)
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel)
    (site,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    dependencies = {
        str(Path(getfile(module)).parents[1]) for module in (sys.modules["numpy"], sys.modules["setuptools"])
    }
    (site / "dependencies.pth").write_text("\n".join(sorted(dependencies)))
    assert run(tmp_path / "venv" / "bin" / "sta", "--version").startswith("sta ")
    loaded = "import sta.runtime._native, sta.runtime.scratch.module, sta.api.scratch.module; print(sta.__file__)"
    assert run(python, "-c", loaded).strip() == str(site / "sta" / "__init__.py")
    for folder, pattern in (("spec/targets", "*.yaml"), ("api/report/page", "page.*")):
        wanted = {path.name for path in (ROOT / folder).glob(pattern)}
        assert wanted == {path.name for path in (site / "sta" / folder).glob(pattern)} != set()
