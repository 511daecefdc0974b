"""
The tour in README.md, run: `python -m tests.support.readme_tour` writes what it prints into the file.

Blocks of `python` hold statements after `>>>`, blocks of `console` commands after `$`; all of them share one folder and
one set of variables. So do commands in sentences that name a program, such as `sta info layer.sta`: what they print is
not shown.
"""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

README = Path(__file__).parents[2] / "README.md"
_BLOCK = re.compile(
    r"(?<=```python\n)>>> .*?(?=```)|(?<=```console\n)\$ .*?(?=```)|(?<=`)sta [^`]*\.sta\b[^`]*(?=`)", re.DOTALL
)


def run_tour(text: str) -> str:
    """Returns the text with every output replaced by what its command prints. Raises CalledProcessError."""
    variables: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, _inside(folder):
        return _BLOCK.sub(lambda block: _run(block.group(), variables), text)


def _run(block: str, variables: dict[str, Any]) -> str:
    if block.startswith("sta "):
        _output(" ".join(block.split()))
        return block
    lines = _run_console(block) if block.startswith("$") else _run_python(block, variables)
    return "".join(lines)


def _run_python(block: str, variables: dict[str, Any]) -> Iterator[str]:
    for example in doctest.DocTestParser().get_examples(block):
        source = example.source.replace("\n", "\n... ").removesuffix("... ")
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(example.source, "README.md", "single"), variables)
        yield f">>> {source}{output.getvalue()}"


def _run_console(block: str) -> Iterator[str]:
    for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
        output = "\n".join(line.rstrip() for line in _output(command).splitlines())
        yield f"$ {command}\n{output}\n"


def _output(command: str) -> str:
    """The output of a command of the shell; raises CalledProcessError if it fails."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shell = ["bash", "-o", "pipefail", "-c", command]
    nothing = subprocess.DEVNULL
    return subprocess.run(shell, env=environment, stdin=nothing, stdout=subprocess.PIPE, text=True, check=True).stdout


@contextlib.contextmanager
def _inside(folder: str) -> Generator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    README.write_text(run_tour(README.read_text(encoding="utf-8")), encoding="utf-8")
