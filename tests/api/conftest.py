"""Models and programs that the tests of the command line share."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from sta.api.cli.command_line import main
from sta.api.dump.ir_dump import Dump

TOKENS = 10
VOCABULARY = 20


class Small(torch.nn.Module):
    """An embedding and a Transformer layer: what the fastest compile consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, 16)
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.layer(self.embedding(ids))


class Sorted(torch.nn.Module):
    """The rows of x in order, without what is negative."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.sort(x).values)


class Unsupported(torch.nn.Module):
    """Three operators that the compiler does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Sorted(), Sorted()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.median(self.second(self.first(x)), -1).values


@dataclass(frozen=True)
class Files:
    """A folder with a model, inputs, and the program made of the model."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "small.pt2"

    @property
    def inputs(self) -> Path:
        return self.folder / "in.npz"

    @property
    def calibration(self) -> Path:
        return self.folder / "c.npz"

    @property
    def program(self) -> Path:
        return self.folder / "small.sta"


def save_model(module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    """Exports a model to a file."""
    torch.export.save(torch.export.export(module.eval(), (example,), strict=False), path)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files; they are not to be changed."""
    made = Files(tmp_path_factory.mktemp("small"))
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    generator = np.random.default_rng(0)
    ids = generator.integers(0, VOCABULARY, (1, TOKENS))
    save_model(Small(), torch.tensor(ids), made.model)
    np.savez(made.inputs, ids=ids)
    np.savez(made.calibration, ids=generator.integers(0, VOCABULARY, (4, 1, TOKENS)))
    arguments = ["compile", str(made.model), "-o", str(made.program), "--calibration", str(made.calibration)]
    assert main(arguments) == 0
    return made


@pytest.fixture(scope="session")
def dump(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    """The dump of the small model, pruned; beside its directory the program, m.sta. It is not to be changed."""
    folder = tmp_path_factory.mktemp("dump")
    arguments = ["compile", files.model, "-o", folder / "m.sta", "--calibration", files.calibration]
    assert main([*map(str, arguments), "--sparsity", "2:4", "--dump-ir", str(folder / "ir")]) == 0
    return Dump.read(folder / "ir")


def files_of(dump: Dump) -> list[Path]:
    """The modules, in their order."""
    return [dump.directory / step.file for step in dump.steps if step.file is not None]


@pytest.fixture(scope="session")
def unsupported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with operators that the compiler does not know."""
    path = tmp_path_factory.mktemp("unsupported") / "sorted.pt2"
    save_model(Unsupported(), torch.rand(1, 8, 8), path)
    return path
