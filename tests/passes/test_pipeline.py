"""The pipeline's list: names, kinds, and options at their steps."""

from __future__ import annotations

import pytest

from sta.passes.options import Options
from sta.passes.pipeline import (
    FIRST_INTEGER_STEP,
    FLOAT_PIPELINE,
    INTEGER_PIPELINE,
    SUPPORTED,
    dialect_made_by,
    dialect_taken_by,
    pass_of,
    pass_registry,
    pipeline,
)
from sta.passes.step import Kind

STEPS = pipeline(Options())
NAMES = [step.name for step in STEPS]


def test_every_pass_of_ours_has_a_place() -> None:
    assert set(NAMES) == set(pass_registry())
    assert [*FLOAT_PIPELINE, SUPPORTED] == NAMES[: len(FLOAT_PIPELINE) + 1]
    assert list(INTEGER_PIPELINE) == NAMES[NAMES.index(FIRST_INTEGER_STEP) + 1 :]


def test_integers_are_equal_and_floats_close_unless_a_step_says_what_it_loses_them_for() -> None:
    for position, step in enumerate(STEPS):
        kept = Kind.EQUAL if position > NAMES.index(FIRST_INTEGER_STEP) else Kind.CLOSE
        assert step.kind in (kept, Kind.LOSSY), step.name
        assert bool(step.purpose) == (step.kind == Kind.LOSSY) or not step.enabled, step.name


@pytest.mark.parametrize("position", range(len(STEPS)), ids=NAMES)
def test_steps_are_passes(position: int) -> None:
    assert pass_of(STEPS[position]).name == NAMES[position]


def test_dialects_follow_each_other() -> None:
    dialect: str | None = "torch"
    for name in NAMES:
        assert dialect_taken_by(name) == dialect, name
        dialect = dialect_made_by(name)
    assert dialect == "sta"
    assert dialect_taken_by("canonicalize") is dialect_made_by("canonicalize") is None


def test_options_reach_their_steps() -> None:
    options = Options.of(sparsity={"a": "1:4"}, softmax="row", probability_bits=8, int16_inputs=["b"], min_sqnr=30)
    steps = {step.name: step for step in pipeline(options)}
    assert steps["torch-prune"].enabled
    assert steps["torch-prune"].options == {"pattern": None, "patterns": ("a=1:4",)}
    assert steps["torch-prune"].purpose == "a=1:4"
    assert steps["torch-calibrate"].options["min_sqnr"] == 30.0
    assert steps["torch-calibrate"].options["int16_inputs"] == steps["torch-quantize"].options["int16_inputs"] == ("b",)
    assert steps["torch-choose-softmax"].options == {"mode": "row", "bits": "8"}
    assert "torch-prune" in [step.name for step in STEPS if not step.enabled]
