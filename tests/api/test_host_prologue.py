"""Programs with a host prologue: from PyTorch to the machine's bits on all levels, and in every tool."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sta
from sta.api.cli.command_line import main
from sta.api.report.report_data import Sources, report_data
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
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
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
    with pytest.raises(ValueError, match=r"neither takes nor makes the input 'positions\.indices'"):
        sta.compile(broken)
    broken.unlink()


@pytest.fixture(scope="module")
def files(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program, its model, and inputs of two runs."""
    folder = tmp_path_factory.mktemp("files")
    program.save(folder / "m.sta")
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    example = {name: torch.tensor(array) for name, array in sample(0).items()}
    torch.export.save(torch.export.export(Counted().eval(), (), example, strict=False), folder / "m.pt2")
    np.savez(folder / "in.npz", **samples(2, 2))
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_the_prologue_is_shown(capsys: pytest.CaptureFixture[str], files: Path) -> None:
    listing = said(capsys, "objdump", files / "m.sta", "--section", "prologue").splitlines()
    assert listing[1].strip() == "%0 = input 'ids' : int64[2, 8]"
    assert any("cumsum %" in line and "aten.cumsum" in line and "<forward>" in line for line in listing)
    assert listing[-1].strip().startswith("'forward.mask' = %")
    facts = json.loads(said(capsys, "info", files / "m.sta", "--json"))
    assert [one["name"] for one in facts["prologue"]["inputs"]] == ["ids", "kinds"]
    assert "steps on the host before" in said(capsys, "info", files / "m.sta")
    text = files / "m.s"
    said(capsys, "objdump", files / "m.sta", "-o", text)
    said(capsys, "asm", text, "-o", files / "again.sta")
    assert (files / "again.sta").read_bytes() == (files / "m.sta").read_bytes()


def test_the_report_shows_it(program: Program) -> None:
    rows = report_data(Sources("m.sta", program))["prologue"]
    assert [row[-1] for row in rows].count("aten.cumsum") > 0
    assert rows[-1][0] == "'forward.mask'"


def test_the_float_model_runs_behind_it(capsys: pytest.CaptureFixture[str], files: Path) -> None:
    found = json.loads(said(capsys, "diff", files / "m.pt2", files / "m.sta", "--inputs", files / "in.npz", "--json"))
    assert {row["module"] for row in found["operations"]} >= {"words", "positions", "norm", "out"}
    assert all(row["accumulated"]["sqnr_db"] > 25 for row in found["operations"])


def test_the_debugger_shows_computed_inputs(capsys: pytest.CaptureFixture[str], files: Path) -> None:
    shown = said(
        capsys, "debug", files / "m.sta", "--inputs", files / "in.npz", "--sample", 1, "--command", "print forward.mask"
    )
    assert "2 x 1 x 1 x 8 uint8" in shown


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
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    example = {name: torch.tensor(array) for name, array in sample(0).items()}
    program = sta.compile(Numbers(), example, calibration=samples(1, 8), check=True)
    ports = {port["name"]: port for port in program.container.signature["inputs"]}
    scales = [port["scale"] for port in ports.values() if port["kind"] == "quantized"]
    assert len(scales) == 4
    # Powers of two keep integers.
    assert all((1 / scale).is_integer() and int(1 / scale).bit_count() == 1 for scale in scales)
    assert program.fidelity is not None
    assert program.fidelity.given > 30


class Masked(nn.Module):
    """Attention of two kinds: within a sequence with a mask of its ids, and to another sequence with its padding."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.words = nn.Embedding(WORDS, WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: torch.Tensor, kinds: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        x, y = self.words(ids), self.words(other)
        x = x + self.attended(x, x, self.mask(ids, kinds))
        return self.out(x + self.attended(x, y, other.ne(PADDING)[:, None, None, :]))

    def mask(self, ids: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        """A block of the same kind, a window before each token, or all tokens before it, without padding."""
        counts = ids.ne(PADDING)[:, None, None, :]
        if self.form == "blocks":
            return (kinds[:, :, None] == kinds[:, None, :])[:, None] & (counts | torch.eye(LENGTH, dtype=torch.bool))
        causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
        if self.form == "window":
            return causal.triu(-2) & (counts | torch.eye(LENGTH, dtype=torch.bool))
        least = torch.finfo(torch.float32).min
        return torch.where(causal, 0.0, least) + (1.0 - counts.float()) * least

    def attended(self, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        def heads(values: torch.Tensor) -> torch.Tensor:
            return values.view(*values.shape[:2], 2, WIDTH // 2).transpose(1, 2)

        q, k, v = heads(self.query(x)), heads(self.key(y)), heads(self.value(y))
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize("form", ["blocks", "window", "causal"])
def test_masks_of_the_run_are_the_machine_s(form: str) -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    given = {**samples(1, 8), "other": samples(5, 8)["ids"]}
    example = {name: torch.tensor(array[0]) for name, array in given.items()}
    program = sta.compile(Masked(form), example, calibration=given, check=True)
    masks = {port["name"]: port["shape"] for port in program.container.signature["inputs"] if port["kind"] == "mask"}
    rows = 1 if form == "causal" else LENGTH
    assert list(masks.values()) == [[2, 1, rows, LENGTH], [2, 1, 1, LENGTH]]
    assert program.fidelity is not None
    assert program.fidelity.given > 25
    program.run_both({name: array[1] for name, array in given.items()})


class Weighed(nn.Module):
    """Attention whose mask is made of an input of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        values = self.out(x).view(2, LENGTH, 2, WIDTH // 2).transpose(1, 2)
        added = (1.0 - mask[:, None, None, :]) * torch.finfo(torch.float32).min
        return nn.functional.scaled_dot_product_attention(values, values, values, attn_mask=added)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
def test_a_mask_of_any_dtype_holds_0_and_1(dtype: str) -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    mask = (np.arange(LENGTH) < np.array([[5], [LENGTH]])).astype(dtype)
    x = np.random.default_rng(0).normal(size=(2, LENGTH, WIDTH)).astype(np.float32)
    model, example = Weighed(), {"x": torch.tensor(x), "mask": torch.tensor(mask)}
    with pytest.warns(UserWarning, match="no calibration data"):
        program = sta.compile(model, example, check=True)
    found = program.run({"x": x, "mask": mask}).outputs["output"]
    with torch.no_grad():
        expected = model(**example).numpy()
    assert np.abs(found - expected).max() < 0.1
    wrong = (mask * np.array(0.5 if dtype == "float32" else 3)).astype(dtype)
    with pytest.raises(ValueError, match=r"^input 'mask': a mask holds 0 and 1"):
        program.run({"x": x, "mask": wrong})
