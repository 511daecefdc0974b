"""
docs/troubleshooting.md: common mistakes, made on purpose. `python -m tests.support.troubleshooting` writes the message
of each command into the file.
"""

import contextlib
import io
import shlex
import tempfile
import textwrap
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sta.api.cli.command_line import main

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
_HEAD = """# Troubleshooting

The most common mistakes of new users, the messages, and the remedies. `make docs` makes each mistake and writes this
page.

Every error is one message on standard error, and no output file is written or changed. The exit code is 1 for unusable
input and 2 for a wrong call of a command; `--debug` adds Python's traceback.
"""


@dataclass(frozen=True)
class Mistake:
    """A failing command, and the remedy."""

    title: str
    command: str
    advice: str


MISTAKES = (
    Mistake(
        "A checkpoint in place of a model",
        "sta compile checkpoint.pt -o model.sta",
        "A file of `torch.save` holds weights, or Python objects, but not the model's computation. Export the model: "
        "`torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2')`. Or stay in Python: "
        "`sta.compile(model, [example])`.",
    ),
    Mistake(
        "An operator that the machine does not have",
        "sta compile ranking.pt2 -o model.sta",
        "All such operators are listed at once, each with its module. Compile the part of the model "
        "without them, or add the operator: [adding-an-operator.md](adding-an-operator.md).",
    ),
    Mistake(
        "A model exported with dynamic shapes",
        "sta compile dynamic.pt2 -o model.sta",
        "A program has one batch size and one sequence length. Omit `dynamic_shapes`, and pad inputs to the "
        "length, with an attention mask.",
    ),
    Mistake(
        "A Hugging Face model with pickled weights",
        "sta compile bert -o model.sta",
        "A pickle runs code while it loads, and a model's directory may come from anywhere. Load the model with "
        "transformers where you trust it, and `model.save_pretrained('bert')` writes `model.safetensors`.",
    ),
    Mistake(
        "A program without calibration data",
        "sta compile model.pt2 -o model.sta",
        "A warning: the program is compiled, but its activation ranges come from one input. Save some real inputs with "
        "`numpy.savez('samples.npz', ids=...)`, along the first axis, and give `--calibration samples.npz`.",
    ),
    Mistake(
        "Calibration data with other names than the model's",
        "sta compile model.pt2 -o model.sta --calibration other_names.npz",
        "Name the arrays like the parameters of the model's `forward`.",
    ),
    Mistake(
        "A target that does not exist",
        "sta compile model.pt2 -o model.sta --target sta-bse",
        "`sta targets` lists the presets. A target of your own is a YAML file: "
        "[adding-a-target.md](adding-a-target.md).",
    ),
    Mistake(
        "A misspelt option",
        "sta compile model.pt2 -o model.sta --sparcity 2:4",
        "`sta COMMAND --help` lists the options of a command. Abbreviations are not accepted.",
    ),
    Mistake(
        "A model in place of a program",
        "sta run model.pt2 --inputs inputs.npz -o outputs.npz",
        "`sta run` accepts files written by `sta compile`.",
    ),
    Mistake(
        "Inputs of another shape",
        "sta run model.sta --inputs longer.npz -o outputs.npz",
        "The shapes are fixed at export; `sta info model.sta` shows them. With one more leading "
        "axis the file holds the inputs of several runs.",
    ),
)


class _Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 16)
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.layer(self.embedding(ids))


class _Ranking(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(16, 16)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        return torch.topk(torch.relu(torch.sort(self.head(signal)).values), 3).values


def troubleshooting() -> str:
    """Returns the page with the present messages of the commands."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _make_files()
        sections = [_section(mistake) for mistake in MISTAKES]
    return "\n".join([_HEAD, *sections])


def _make_files() -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    model, ids = _Model().eval(), torch.arange(10)[None]
    torch.save(model.state_dict(), "checkpoint.pt")
    _export(model, ids, "model.pt2")
    _export(_Ranking().eval(), torch.rand(1, 8, 16), "ranking.pt2")
    _export(torch.nn.Linear(16, 16).eval(), torch.rand(1, 8, 16), "dynamic.pt2", {1: torch.export.Dim("length")})
    Path("bert").mkdir()
    Path("bert/config.json").write_text('{"model_type": "bert"}')
    Path("bert/pytorch_model.bin").touch()
    np.savez("samples.npz", ids=ids.numpy()[None])
    np.savez("other_names.npz", input_ids=ids.numpy()[None])
    np.savez("inputs.npz", ids=ids.numpy())
    np.savez("longer.npz", ids=np.arange(12)[None])
    with _quiet():
        assert main(["compile", "model.pt2", "-o", "model.sta", "--calibration", "samples.npz"]) == 0


def _export(model: torch.nn.Module, example: torch.Tensor, path: str, dynamic: object = None) -> None:
    shapes = None if dynamic is None else (dynamic,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, (example,), dynamic_shapes=shapes), path)


@contextlib.contextmanager
def _quiet() -> Generator[io.StringIO]:
    """Captures a command's output; yields its standard error."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        yield errors


def _section(mistake: Mistake) -> str:
    with _quiet() as errors:
        main(shlex.split(mistake.command)[1:])
    lines = errors.getvalue().splitlines()
    # What comes before is progress.
    start = next(number for number, line in enumerate(lines) if line.startswith(("sta: error: ", "sta: warning: ")))
    said = [
        line for line in lines[start:] if line.startswith(("sta: error: ", "sta: warning: ")) or line[:5] != "sta: "
    ]
    shown = "\n".join([f"$ {mistake.command}", *said])
    return f"## {mistake.title}\n\n```console\n{shown}\n```\n\n{_wrapped(mistake.advice)}\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(troubleshooting(), encoding="utf-8")
