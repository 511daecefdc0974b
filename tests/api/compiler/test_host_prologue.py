"""Programs whose inputs the host brings into another form: from PyTorch to the machine's bits, on all levels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sta
from sta.runtime import Program

WIDTH, LENGTH, WORDS, PADDING = 16, 8, 30, 1


class Counted(nn.Module):
    """A model of RoBERTa's kind: positions count the ids that are no padding; kinds of tokens are not read."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.positions = nn.Embedding(LENGTH + PADDING, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        mask = ids.ne(PADDING)
        positions = (torch.cumsum(mask.int(), 1) * mask + PADDING - 1).long()
        x = self.norm(self.words(ids) + self.positions(positions)).view(*ids.shape, 2, WIDTH // 2).transpose(1, 2)
        attended = nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask[:, None, None, :])
        return self.out(attended.transpose(1, 2).reshape(*ids.shape, WIDTH))


def samples(seed: int, count: int) -> dict[str, Any]:
    numbers = np.random.default_rng(seed)
    ids = numbers.integers(2, WORDS, (count, 2, LENGTH))
    lengths = numbers.integers(2, LENGTH, (count, 2, 1))
    return {"ids": np.where(np.arange(LENGTH) < lengths, ids, PADDING), "kinds": numbers.integers(0, 2, ids.shape)}


def sample(seed: int) -> dict[str, Any]:
    return {name: array[0] for name, array in samples(seed, 1).items()}


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dump") / "ir"


@pytest.fixture(scope="module")
def program(dump: Path) -> Program:
    torch.manual_seed(0)
    example = {name: torch.tensor(array) for name, array in sample(0).items()}
    return sta.compile(Counted(), example, calibration=samples(1, 8), check=True, dump_ir=dump)


def test_the_inputs_are_those_of_the_model(program: Program) -> None:
    assert [(one.name, one.kind) for one in program.inputs] == [("ids", "index"), ("kinds", "host")]
    assert program.fidelity is not None
    assert program.fidelity.given > 30


def test_both_engines_get_the_same_computed_inputs(program: Program) -> None:
    result = program.run_both(sample(2))
    batch = program.run_batch([sample(2), sample(3)], threads=2)
    np.testing.assert_array_equal(batch[0].raw["output"], result.raw["output"])


def test_an_input_that_nothing_reads_takes_any_numbers(program: Program) -> None:
    given = sample(2)
    result = program.run({**given, "kinds": given["kinds"] - 1000})
    np.testing.assert_array_equal(result.raw["output"], program.run(given).raw["output"])


def test_the_file_holds_the_prologue(program: Program, tmp_path: Path) -> None:
    program.save(tmp_path / "m.sta")
    loaded = sta.load(tmp_path / "m.sta")
    assert loaded.prologue is not None
    assert "cumsum" in [step.operation for step in loaded.prologue.steps]
    np.testing.assert_array_equal(loaded.run(sample(2)).raw["output"], program.run(sample(2)).raw["output"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": np.full((2, LENGTH), WORDS)}, r"^input 'ids': expected indices in 0\.\.29, got 30"),
        ({"kinds": np.zeros((2, LENGTH))}, "^input 'kinds': expected int64, got float64"),
        ({"kinds": np.zeros((2, LENGTH + 1), np.int64)}, "^input 'kinds': expected shape"),
        ({"ids": None}, "^missing input 'ids'"),
        ({"positions.indices": np.zeros((2, LENGTH), np.int64)}, "^unexpected input 'positions.indices'"),
    ],
)
def test_inputs_that_do_not_fit_are_named(program: Program, change: dict[str, Any], message: str) -> None:
    given = {name: array for name, array in {**sample(2), **change}.items() if array is not None}
    with pytest.raises(ValueError, match=message):
        program.run(given)


STEPS = ("torch-extract-prologue", "torch-quantize", "convert-torch-to-nm", "nm-plan-tiles", "convert-nm-to-sta")


@pytest.mark.parametrize("step", STEPS)
def test_a_dump_is_compiled_on_to_the_same_bits(program: Program, dump: Path, step: str) -> None:
    (path,) = dump.glob(f"*-{step}.mlir")
    again = sta.compile(path, calibration=samples(1, 8), check=True)
    assert again.container.prologue == program.container.prologue
    np.testing.assert_array_equal(again.run(sample(2)).raw["output"], program.run(sample(2)).raw["output"])


def test_a_dump_whose_prologue_does_not_fit_is_refused(program: Program, dump: Path, tmp_path: Path) -> None:
    (path,) = dump.glob("*-nm-plan-tiles.mlir")
    text = path.read_text(encoding="utf-8")
    broken = path.with_name("changed.mlir")
    broken.write_text(text.replace('{sta.name = "positions.indices"}', '{sta.name = "other"}', 1), encoding="utf-8")
    with pytest.raises(ValueError, match="neither takes nor makes the input 'positions.indices'"):
        sta.compile(broken)
    broken.unlink()


class Numbers(nn.Module):
    """Counts, ids and bools as numbers to compute with."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, LENGTH)
        self.out = nn.Linear(LENGTH, WIDTH)

    def forward(self, ids: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        x = self.words(ids[:, 0]) + (ids != PADDING) + kinds.cumsum(1)
        return self.out(x * kinds.bool() + ids.float())


def test_integers_become_numbers_of_the_machine() -> None:
    torch.manual_seed(0)
    example = {name: torch.tensor(array) for name, array in sample(0).items()}
    program = sta.compile(Numbers(), example, calibration=samples(1, 8), check=True)
    ports = {port["name"]: port for port in program.container.signature["inputs"]}
    scales = [port["scale"] for port in ports.values() if port["kind"] == "quantized"]
    assert len(scales) == 4
    # Powers of two keep integers.
    assert all((1 / scale).is_integer() and int(1 / scale).bit_count() == 1 for scale in scales)
    assert program.fidelity is not None
    assert program.fidelity.given > 30
