"""The choice of formats: by the output, on samples held out, and never worse than the extremes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.samples import Samples
from sta.frontend.model import ImportedModel, import_model
from sta.passes.options import Options
from sta.passes.quantization import choice as quantization_choice
from sta.passes.quantization import wide_inputs
from sta.passes.quantization.calibrate import calibrate, range_of
from sta.passes.quantization.calibration_observer import MOST_ROWS, RowObserver
from sta.passes.quantization.candidate import rounded_weights
from sta.passes.quantization.choice import QuantizationChoice
from sta.passes.quantization.padding_rows import counted_rows, padding_mask
from sta.passes.quantization.plan import Plan
from sta.passes.quantization.range_by_error import range_by_error, rounding_error
from sta.passes.quantization.smoothquant import smooth, smoothing_scale
from sta.passes.quantization.work import products_of
from sta.passes.rewriting.torch_operations import array_of
from sta.passes.torch.calibrate import TorchCalibratePass
from sta.passes.torch.quantize import affine, quantize
from sta.passes.torch.round_weights import TorchRoundWeightsPass
from tests.support.torch_modules import FLOAT_PASSES, encoder, signal_to_noise


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type


def outliers(norm_first: bool) -> nn.Module:
    """An encoder whose normalizations give one column ten times as large as the others."""
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    model = encoder(norm_first, layers=2)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight[5] = 10.0
    return model


def imported(model: nn.Module, shape: tuple[int, ...] = (1, 7, 24)) -> tuple[ImportedModel, CompileContext]:
    result = import_model(model.eval(), (torch.zeros(shape),))
    context = CompileContext(result.weights)
    for rewrite in FLOAT_PASSES:
        rewrite(result.module, context.weights)
    return result, context


def samples(count: int, seed: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    return [{"src": generator.standard_normal((1, 7, 24), np.float32)} for _ in range(count)]


def test_outliers_are_smoothed_and_the_output_gets_better_on_samples_never_seen() -> None:
    decibels: dict[bool, float] = {}
    for smoothing in (False, True):
        model, context = imported(outliers(True))
        unseen = samples(4, 9)
        before = [run_torch(model.module, context, sample)["output"] for sample in unseen]
        chooser = QuantizationChoice(model.module, context, samples(32), ["smoothing"] if smoothing else ())
        choice = chooser.choose(0.0)
        chooser.apply(choice.plan)
        model.module.verify()
        # Smoothing alone changes nothing but the rounding of floats.
        smoothed = [run_torch(model.module, context, sample)["output"] for sample in unseen]
        assert np.abs(np.stack(before) - np.stack(smoothed)).max() < 1e-3
        assert (choice.plan.smoothing is not None) == smoothing
        quantize(model.module, context.weights)
        after = [run_torch(model.module, context, sample)["output"] for sample in unseen]
        decibels[smoothing] = signal_to_noise(np.stack(before), np.stack(after))
    assert decibels[True] > decibels[False] + 1


# nn.MultiheadAttention has a view in front; behind the last normalization after a layer there is no linear layer.
@pytest.mark.parametrize(("norm_first", "added"), [(True, 0), (False, 3)])
def test_linear_layers_get_a_normalization_of_their_own_only_beside_the_stream(norm_first: bool, added: int) -> None:
    model, context = imported(outliers(norm_first))
    observers = calibrate(model.module, context, samples(2), observer=lambda value: RowObserver())
    before = sum(isinstance(op, dialect.LayerNormOp) for op in model.module.walk())
    smoothed = smooth(model.module, context.weights, observers, 0.5)
    assert len(smoothed) == (4 if norm_first else 3)
    assert sum(isinstance(op, dialect.LayerNormOp) for op in model.module.walk()) == before + added


def test_what_is_kept_is_the_best_that_was_tried() -> None:
    model, context = imported(outliers(False))
    choice = QuantizationChoice(model.module, context, samples(8)).choose(0.0)
    assert choice.held_out == 2
    assert choice.trials[0].method == "extremes"
    assert choice.decibels == max(trial.decibels for trial in choice.trials)
    kept = [trial.decibels for trial in choice.trials if trial.kept]
    assert kept == sorted(kept)
    assert kept[-1] == choice.decibels


@pytest.mark.parametrize("least_gain", [0.0, 100.0])
@pytest.mark.parametrize(("norm_first", "costs"), [(True, False), (False, True)])
def test_a_method_that_costs_cycles_has_to_earn_them(
    norm_first: bool, costs: bool, least_gain: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization_choice, "LEAST_GAIN", least_gain)
    model, context = imported(outliers(norm_first))
    choice = QuantizationChoice(model.module, context, samples(8), ["smoothing"]).choose(0.0)
    trials = choice.trials[1:]
    assert [trial.costs_cycles for trial in trials] == [costs, costs]
    assert max(trial.decibels for trial in trials) > choice.trials[0].decibels
    assert sum(trial.kept for trial in trials) == (0 if costs and least_gain else 1)
    assert (choice.plan.smoothing is None) == (not any(trial.kept for trial in trials))


def test_below_the_required_accuracy_any_gain_is_worth_its_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization_choice, "LEAST_GAIN", 100.0)
    model, context = imported(outliers(False))
    choice = QuantizationChoice(model.module, context, samples(8), ["smoothing"]).choose(80.0)
    assert choice.plan.smoothing is not None


def test_what_is_kept_is_what_the_plan_has() -> None:
    for required in (0.0, 36.0, 90.0):
        model, context = imported(encoder(True, layers=2))
        choice = QuantizationChoice(model.module, context, samples(8)).choose(required)
        kept = {trial.method for trial in choice.trials if trial.kept}
        plan = choice.plan
        assert ("extremes" in kept) == (not plan.ranges_by_error)
        assert ("ranges by error" in kept) == plan.ranges_by_error
        assert ("GPTQ" in kept) == plan.weights_by_calibration
        smoothing: set[str] = set() if plan.smoothing is None else {f"SmoothQuant, strength {plan.smoothing}"}
        assert {name for name in kept if name.startswith("SmoothQuant")} == smoothing
        assert sum(name.startswith("16 bits") for name in kept) == bool(plan.int16_inputs)


def test_a_single_sample_decides_on_nothing_but_ranges() -> None:
    model, context = imported(outliers(False))
    choice = QuantizationChoice(model.module, context, samples(1)).choose(None)
    assert choice.held_out == 0
    assert len(choice.trials) == 1


def test_samples_for_evaluation_are_judged_on_as_those_that_are_held_out() -> None:
    given = samples(8)
    choices: list[tuple[list[tuple[str, float, bool]], int]] = []
    for calibration, evaluation in ((given, []), (given[:6], given[6:])):
        model, context = imported(outliers(False))
        choice = QuantizationChoice(model.module, context, calibration, evaluation=evaluation).choose(0.0)
        choices.append(([(one.method, one.decibels, one.kept) for one in choice.trials], choice.held_out))
    assert choices[0] == choices[1]
    assert choices[0][1] == 2


def test_ranges_are_those_of_calibration_and_every_sample_for_evaluation_counts() -> None:
    found: list[tuple[set[tuple[float, float] | None], float]] = []
    loud = [{"src": sample["src"] * 100} for sample in samples(11, 1)]
    for evaluation in ([], samples(11, 1), loud):
        model, context = imported(outliers(True))
        choice = QuantizationChoice(model.module, context, samples(4), (), evaluation=evaluation).choose(0.0)
        assert choice.held_out == (11 if evaluation else 1)
        function = main_function(model.module)
        ranges = {range_of(function, result) for op in model.module.walk() for result in op.results}
        found.append((ranges, choice.decibels))
    assert found[0][0] == found[1][0] == found[2][0]
    assert found[2][1] < 5 < found[1][1]


def test_one_sample_is_enough_for_ranges_where_others_are_for_evaluation() -> None:
    model, context = imported(outliers(False))
    choice = QuantizationChoice(model.module, context, samples(1), evaluation=samples(2, 1)).choose(None)
    assert choice.held_out == 2
    assert len(choice.trials) > 1


def test_a_sample_for_evaluation_that_cannot_be_judged_on_is_named() -> None:
    model, context = imported(encoder(True, layers=1))
    broken = [*samples(1), {"src": np.full((1, 7, 24), 3e38, np.float32)}]
    with pytest.raises(ValueError, match=r"^evaluation sample 1: output 'output' is not finite: look at the sample$"):
        QuantizationChoice(model.module, context, samples(2), evaluation=broken).choose(0.0)


@pytest.mark.parametrize(("count", "default", "wide"), [(8, 36.0, True), (1, 90.0, False)])
def test_without_a_figure_asked_for_the_default_holds_where_samples_are_held_out(
    count: int, default: float, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization_choice, "DEFAULT_LEAST_SQNR", default)
    model, context = imported(encoder(True, layers=2))
    choice = QuantizationChoice(model.module, context, samples(count), ()).choose(None)
    assert choice.trials[0].decibels < default
    assert bool(choice.plan.int16_inputs) == wide
    assert (choice.decibels >= default) == wide


@pytest.mark.parametrize(
    ("most", "wanted", "improved", "reached"),
    [(1.0, 38.0, 36.0, True), (0.0, 38.0, 36.0, False), (1.0, 90.0, 89.0, False)],
    ids=["affordable", "too dear", "out of reach"],
)
def test_without_a_figure_asked_for_the_output_improves_where_that_costs_little(
    most: float, wanted: float, improved: float, reached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wide_inputs, "MOST_COST", most)
    monkeypatch.setattr(quantization_choice, "WANTED_SQNR", wanted)
    monkeypatch.setattr(quantization_choice, "IMPROVED_SQNR", improved)
    model, context = imported(encoder(True, layers=2))
    choice = QuantizationChoice(model.module, context, samples(8), ()).choose(None)
    assert 20.0 < choice.trials[0].decibels < improved
    assert (choice.decibels >= improved) == reached
    assert bool(choice.plan.int16_inputs) == reached
    assert choice.missed is None


def test_improving_the_output_spends_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization_choice, "WANTED_SQNR", 90.0)
    monkeypatch.setattr(quantization_choice, "IMPROVED_SQNR", 30.0)
    model, context = imported(encoder(True, layers=2))
    choice = QuantizationChoice(model.module, context, samples(8), ()).choose(None)
    layers = [op for op in model.module.walk() if isinstance(op, dialect.LinearOp)]
    widened = [layer for layer in layers if module_path(layer) in choice.plan.int16_inputs]
    spent, whole = (sum(products_of(layer) for layer in some) for some in (widened, layers))
    assert 0 < spent <= wide_inputs.MOST_COST * whole
    assert choice.decibels > choice.trials[0].decibels


def test_inputs_get_16_bits_until_what_is_asked_for_is_reached() -> None:
    reached: list[tuple[int, float]] = []
    for asked in (0.0, 36.0, 90.0):
        model, context = imported(encoder(True, layers=2))
        chooser = QuantizationChoice(model.module, context, samples(8), ())
        choice = chooser.choose(asked)
        chooser.apply(choice.plan)
        marked = {module_path(op) for op in model.module.walk() if dialect.INT16_INPUT in op.attributes}
        assert marked == set(choice.plan.int16_inputs)
        reached.append((len(marked), choice.decibels))
        if asked < 90.0:
            assert choice.decibels >= asked
    # With every input at 16 bits queries, keys and values are what noise is left of.
    assert [count for count, _ in reached] == sorted(count for count, _ in reached)
    assert reached[0][0] == 0
    # PyTorch's attention holds two of the four inputs of a layer under one name.
    assert reached[-1][0] == 6


def test_candidates_leave_nothing_in_the_store_of_weights() -> None:
    model, context = imported(outliers(False))
    before = context.weights.names()
    QuantizationChoice(model.module, context, samples(8)).choose(60.0)
    assert context.weights.names() == before


class Padded(nn.Module):
    """A layer with a padding mask, true where a position is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(24, 2, 32, batch_first=True)

    def forward(self, src: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.layer(src, src_key_padding_mask=mask)


def test_rows_of_padding_count_neither_for_ranges_nor_for_noise() -> None:
    mask = np.array([[False] * 4 + [True] * 3])
    plain = samples(8)
    loud = [{"src": sample["src"] * np.where(mask, 1000.0, 1.0)[..., None].astype(np.float32)} for sample in plain]
    found: list[float] = []
    for inputs in (plain, loud):
        model = import_model(Padded().eval(), (torch.zeros(1, 7, 24), torch.tensor(mask)))
        context = CompileContext(model.weights)
        for rewrite in FLOAT_PASSES:
            rewrite(model.module, context.weights)
        seen = padding_mask(model.module, model.weights)
        assert seen is not None
        assert (seen.name, seen.inverted) == ("mask", True)
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
        chooser = QuantizationChoice(model.module, context, [{**one, "mask": mask} for one in inputs], ())
        found.append(chooser.choose(0.0).decibels)
    assert min(found) > 30


@given(st.integers(1, 3), st.integers(2, 5), st.integers(1, 4), st.integers(1, 3), st.data())
def test_counted_rows_are_those_of_the_mask_in_every_layout(
    batch: int, positions: int, width: int, heads: int, data: st.DataObject
) -> None:
    flags = data.draw(st.lists(st.booleans(), min_size=batch * positions, max_size=batch * positions))
    counted = np.array(flags).reshape(batch, positions)
    values = np.arange(batch * positions * width, dtype=np.float32).reshape(batch, positions, width)
    wanted = values[counted] if counted.any() else values.reshape(-1, width)
    np.testing.assert_array_equal(counted_rows(values, counted), wanted)
    if heads != positions and batch != positions and positions != batch * positions:
        split = np.repeat(values[:, None], heads, axis=1)
        assert len(counted_rows(split, counted)) == (counted.sum() or counted.size) * heads
    np.testing.assert_array_equal(counted_rows(values, None), values.reshape(-1, width))


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_ranges_by_error_lie_within_the_extremes_and_have_less_error(seed: int, symmetric: bool) -> None:
    values = np.random.default_rng(seed).standard_t(2, (50, 7)).astype(np.float32)
    observer = RowObserver()
    observer.update(values)
    low, high = range_by_error(observer, symmetric)
    extremes = observer.range()
    reach = max(-extremes[0], extremes[1]) if symmetric else None
    outer = (-reach, reach) if reach is not None else (min(extremes[0], 0.0), max(extremes[1], 0.0))
    assert outer[0] <= low <= 0 <= high <= outer[1]
    exact = values.astype(np.float64)
    assert rounding_error(exact, low, high) <= rounding_error(exact, *outer)
    assert affine(low, high).scale <= affine(*outer).scale


@given(st.lists(st.integers(1, 700), min_size=1, max_size=9))
def test_the_rows_that_are_kept_are_evenly_spaced_and_not_too_many(counts: list[int]) -> None:
    numbers = np.arange(sum(counts), dtype=np.float32)[:, None] * np.ones(3, np.float32)
    observer = RowObserver()
    for part in np.split(numbers, np.cumsum(counts)[:-1]):
        observer.update(part)
    step = 1
    while -(-len(numbers) // step) > MOST_ROWS:
        step *= 2
    np.testing.assert_array_equal(observer.rows(), numbers[::step])
    scale = np.array([1.0, 2.0, 4.0])
    np.testing.assert_array_equal(observer.divided(scale).rows(), numbers[::step] / scale)
    assert observer.divided(scale).range() == (0.0, float(len(numbers) - 1))


def test_ranges_are_those_of_what_was_smoothed() -> None:
    model, context = imported(outliers(False))
    plan = Plan(smoothing=0.5, ranges_by_error=True)
    chooser = QuantizationChoice(model.module, context, samples(8), ())
    chooser.choose(None)
    chooser.apply(plan)
    function = main_function(model.module)
    own = [op for op in model.module.walk() if isinstance(op, dialect.LayerNormOp) and _is_smoothed(op)]
    assert len(own) == 3
    for norm in own:
        narrow, wide = (range_of(function, norm.result, name) for name in (dialect.NARROW_RANGE, dialect.RANGE))
        assert narrow is not None
        assert wide is not None
        assert wide[0] <= narrow[0] <= 0 <= narrow[1] <= wide[1]


def _is_smoothed(norm: dialect.LayerNormOp) -> bool:
    return isinstance(norm.weight.owner, dialect.LiteralOp) and "smoothed" in (norm.weight.owner.resource or "")


def test_weights_are_rounded_by_calibration_where_the_output_gets_better() -> None:
    model, context = imported(encoder(True, layers=2))
    chooser = QuantizationChoice(model.module, context, samples(32), ["weights"])
    # With 16 bits for inputs, weights are what most of the noise comes from.
    choice = chooser.choose(None, ["layers.*"])
    assert [trial.method for trial in choice.trials] == ["extremes", "GPTQ"]
    assert choice.plan.weights_by_calibration
    assert choice.decibels > choice.trials[0].decibels + 0.5
    chooser.apply(choice.plan)
    TorchRoundWeightsPass().apply(context, model.module)
    layers = [op for op in model.module.walk() if isinstance(op, dialect.LinearOp)]
    assert len(layers) == 12
    for layer in layers:
        array = array_of(layer.weight, context.weights)
        assert array is not None
        np.testing.assert_allclose(rounded_weights(array), array, rtol=1e-6)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=9), st.floats(0, 1), st.integers(0, 99))
def test_smoothing_scales_are_positive_and_have_a_geometric_mean_of_one(
    inputs: list[float], strength: float, seed: int
) -> None:
    weights = np.random.default_rng(seed).random(len(inputs))
    scale = smoothing_scale(np.array(inputs), weights, strength)
    assert (scale > 0).all()
    np.testing.assert_allclose(np.log(scale).mean(), 0.0, atol=1e-9)


def test_the_choice_does_not_depend_on_the_number_of_threads() -> None:
    found: list[tuple[list[tuple[str, float]], list[bytes]]] = []
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        model, context = imported(outliers(False))
        torch.set_num_threads(count)
        try:
            chooser = QuantizationChoice(model.module, context, samples(9))
            choice = chooser.choose(None)
            chooser.apply(choice.plan)
            assert torch.get_num_threads() == count
        finally:
            torch.set_num_threads(threads)
        layers = [op for op in model.module.walk() if isinstance(op, dialect.LinearOp)]
        weights = [array_of(layer.weight, context.weights) for layer in layers]
        found.append(
            (
                [(trial.method, trial.decibels) for trial in choice.trials],
                [array.tobytes() for array in weights if array is not None],
            )
        )
    assert found[0] == found[1] == found[2]


def test_progress_is_the_share_of_all_work_and_grows_to_the_end() -> None:
    model, context = imported(outliers(False))
    seen: list[tuple[str, float | None]] = []
    chooser = QuantizationChoice(
        model.module, context, samples(8), report=lambda stage, done: seen.append((stage, done))
    )
    choice = chooser.choose(0.0)
    chooser.apply(Plan(weights_by_calibration=True))
    shares = [done for _, done in seen if done is not None]
    assert len(shares) == len(seen)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert [stage for stage in dict.fromkeys(stage for stage, _ in seen) if stage.startswith("try")] == [
        "try smoothing",
        "try ranges",
        "try weights",
    ]
    assert len(choice.trials) == 5


def test_a_module_is_calibrated_fast_by_its_ranges_alone() -> None:
    plans: list[tuple[int, Plan]] = []
    for fast in (False, True):
        model, context = imported(outliers(True))
        context.samples = Samples({"calibration": lambda: samples(8)})
        TorchCalibratePass(fast=fast).apply(context, model.module)
        choice = context.notes[TorchCalibratePass.name]
        plans.append((len(choice.trials), choice.plan))
    # Four methods, and 16 bits.
    assert plans[0][0] == 6
    assert plans[1] == (1, Plan())
    with pytest.raises(ValueError, match="leave out fast or min_sqnr"):
        Options.of(fast=True, min_sqnr=30.0)


def test_the_model_given_is_the_original_and_a_departure_from_it_is_told() -> None:
    model, context = imported(encoder(True, layers=1))
    assert model.original is not None
    original = model.original.run
    context.original = lambda sample: {name: 2 * output for name, output in original(sample).items()}
    context.samples = Samples({"calibration": lambda: list(samples(8))})
    with pytest.warns(UserWarning, match="what was read is not the model; sta diff shows where they part"):
        TorchCalibratePass().apply(context, model.module)
    choice = context.notes[TorchCalibratePass.name]
    # Half of the original is missing.
    assert choice.given == pytest.approx(6.0, abs=0.2)
    assert choice.decibels > 30
