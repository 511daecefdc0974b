"""The benchmark of the schedule on models that compile in a moment."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from benchmarks.measurement import Measurement, measure
from benchmarks.models import export
from benchmarks.picture import draw
from benchmarks.requirements import Requirement, requirements, speed_up
from benchmarks.schedule import main, report
from benchmarks.shapes import Encoder
from sta.spec.nm_format import DENSE, Pattern
from sta.spec.target import load_target

BERT = Encoder("small-bert", layers=1, width=28, heads=2, hidden=44, sequence=9, vocabulary=11)
PLAIN = replace(BERT, name="small-encoder", layers=2, vocabulary=0)
TARGET = load_target("sta-base")

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance")


@cache
def measured(encoder: Encoder, pattern: Pattern) -> Measurement:
    exported, inputs = export(encoder)
    return measure(encoder, pattern, TARGET, exported, inputs)


@pytest.mark.parametrize("encoder", [BERT, PLAIN])
@pytest.mark.parametrize("pattern", [DENSE, Pattern(1, 4)])
def test_a_program_is_measured_against_its_shape(encoder: Encoder, pattern: Pattern) -> None:
    measurement = measured(encoder, pattern)
    least = encoder.least_dram_bytes(pattern)
    # Tiles of weights that are no multiple of what an address can be are padded.
    assert least["weights"] <= measurement.dram["weights"] < 1.1 * least["weights"]
    assert measurement.dram["inputs"] == least["inputs"]
    assert measurement.dram["outputs"] == least["outputs"]
    assert measurement.dram_bytes >= measurement.least_dram_bytes
    assert measurement.efficiency < measurement.padded_efficiency < 1
    # No product is computed twice, or padded by more than the array asks for.
    assert measurement.compute_bound * TARGET.macs_per_cycle == encoder.padded_macs(pattern, TARGET)


def test_other_macs_than_those_of_the_shape_are_refused() -> None:
    exported, inputs = export(BERT)
    deeper = replace(BERT, layers=2)
    with pytest.raises(ValueError, match=rf"1:1: {BERT.macs()} useful MACs, where its shape has {deeper.macs()}"):
        measure(deeper, DENSE, TARGET, exported, inputs)


def test_all_tables_have_every_program() -> None:
    measurements = [measured(BERT, DENSE), measured(BERT, Pattern(1, 4))]
    text = report(measurements, requirements(measurements))
    assert text.count("| small-bert | 1:4 ") >= 3
    assert f" {measurements[1].cycles:,} " in text
    assert "Required figures, 6 of 6 reached" in text


def test_equal_measurements_make_equal_pictures(tmp_path: Path) -> None:
    reached = [large(DENSE, 11_500_000), large(Pattern(2, 4), 6_000_000)]
    slower = [reached[0], large(Pattern(2, 4), 9_000_000)]
    pictures: list[str] = []
    for index, measurements in enumerate((reached, reached, slower)):
        draw(measurements, tmp_path / f"{index}.svg")
        pictures.append((tmp_path / f"{index}.svg").read_text())
    assert pictures[0] == pictures[1] != pictures[2]
    assert all(text in pictures[0] for text in ("BERT-base", "dense", "2:4"))


def large(pattern: Pattern, cycles: int) -> Measurement:
    """BERT-base's shape with cycles of our choice, and everything else taken from another program."""
    encoder = replace(BERT, name="BERT-base", layers=12, width=768, heads=12, hidden=3072, sequence=128)
    busy = {"ld": 0, "st": 0, "mm": 1000, "sm": 0, "vp": 0}
    dram = {"weights": sum(encoder.least_dram_bytes(pattern).values()), "attention": 0}
    return Measurement(encoder, pattern, TARGET, cycles, busy, dram, dma_bound=10, compile_seconds=1.0)


def missed(*measurements: Measurement) -> list[tuple[str, str]]:
    return [(r.pattern, r.figure) for r in requirements(measurements) if not r.holds]


def test_a_missed_figure_is_found() -> None:
    # The most cycles that reach 0.97 and 0.96 of 1024 MACs a cycle; one less, as the speed-up is over rounded ones.
    dense, half = int(large(DENSE, 1).macs / 1024 / 0.97), int(large(Pattern(2, 4), 1).macs / 1024 / 0.96) - 1
    reached = [large(DENSE, dense), large(Pattern(2, 4), half)]
    assert missed(*reached) == []
    assert missed(large(DENSE, dense + 1)) == [("dense", "MAC efficiency")]
    assert missed(reached[0], large(Pattern(2, 4), half + 2)) == [("2:4", "MAC efficiency"), ("2:4", "speed-up")]
    assert missed(replace(reached[0], busy={"mm": dense + 1})) == [("dense", "bound by cycles")]
    assert missed(replace(reached[0], dma_bound=dense + 1)) == [("dense", "bound by cycles")]
    spilled = {"weights": reached[0].dram_bytes, "activations": reached[0].dram_bytes // 9, "attention": 0}
    assert missed(replace(reached[0], dram=spilled)) == [("dense", "DRAM ratio")]
    leaking = {"weights": reached[0].dram_bytes - 1, "attention": 1}
    assert missed(replace(reached[0], dram=leaking)) == [("dense", "DRAM bytes of attention")]


def test_bounds_are_inclusive() -> None:
    assert Requirement("m", "dense", "f", 0.97, 0.97).holds
    assert Requirement("m", "dense", "f", 0.97, 0.97, at_most=True).holds
    assert not Requirement("m", "dense", "f", 0.9699, 0.97).holds
    assert not Requirement("m", "dense", "f", 0.9701, 0.97, at_most=True).holds


def test_the_speed_up_is_over_dense_of_the_same_model() -> None:
    sparse = large(Pattern(2, 4), 50)
    assert speed_up(sparse, [large(DENSE, 200), sparse]) == 4
    assert speed_up(sparse, [sparse]) is None


def test_the_page_is_written_for_all_models_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--models", "TinyBERT-4", "--docs"])
    assert "--docs is for all models and sparsities" in capsys.readouterr().err
