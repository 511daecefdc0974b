"""ONNX files compiled from end to end, beside onnxruntime."""
# pyright: basic
# onnx has no types that pyright could check.

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest

import sta
from sta.api.cli.command_line import main
from sta.api.compiler.compilation import CompileError
from tests.support.onnx_models import encoder, quantized, run_onnxruntime, samples
from tests.support.torch_modules import signal_to_noise


def test_a_quantized_model_compiles_with_its_own_scales(tmp_path: Path) -> None:
    path = quantized(tmp_path, encoder())
    program, xs = sta.compile(path), samples(6, seed=2)
    results = np.stack([program.run({"x": x}).outputs["head/Add"] for x in xs])
    theirs = np.stack([run_onnxruntime(path, x) for x in xs])
    reference = np.stack([run_onnxruntime(tmp_path / "float.onnx", x) for x in xs])
    # Scores and weights of attention are not rounded to 8 bits in between, queries are once more.
    assert signal_to_noise(theirs, results) > 28
    assert signal_to_noise(reference, results) > signal_to_noise(reference, theirs) - 1.5


def test_every_step_gives_the_same_bits(tmp_path: Path) -> None:
    path = quantized(tmp_path, encoder(1))
    sta.compile(path, {"x": samples(1)[0]}, check=True)


def test_the_command_compiles_onnx_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = quantized(tmp_path, encoder(1)), tmp_path / "model.sta"
    assert main(["compile", str(path), "-o", str(output)]) == 0
    assert "warning" not in capsys.readouterr().err
    x = samples(1)[0]
    expected = sta.compile(path).run({"x": x}).outputs["head/Add"]
    np.testing.assert_array_equal(sta.load(output).run({"x": x}).outputs["head/Add"], expected)


def test_a_float_model_is_calibrated_like_any_other(tmp_path: Path) -> None:
    path, xs = tmp_path / "float.onnx", samples(4)
    onnx.save(encoder(1), path)
    program = sta.compile(path, calibration={"x": xs})
    assert signal_to_noise(run_onnxruntime(path, xs[0]), program.run({"x": xs[0]}).outputs["head/Add"]) > 25


def test_an_input_that_is_not_rounded_needs_calibration_data(tmp_path: Path) -> None:
    path = quantized(tmp_path, encoder(1), nodes_to_exclude=["embed/MatMul"])
    with pytest.raises(CompileError, match="the model does not say how to quantize an input, embed"):
        sta.compile(path)
    assert sta.compile(path, calibration={"x": samples(2)}).cycles > 0


def test_the_command_lists_what_cannot_be_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = tmp_path / "pooled.onnx", tmp_path / "model.sta"
    model = encoder(1)
    model.graph.node.append(onnx.helper.make_node("ReduceMax", ["head/Add"], ["y"], name="pool", keepdims=1))
    model.graph.output[0].name = "y"
    onnx.save(model, path)
    assert main(["compile", str(path), "-o", str(output)]) == 1
    assert "onnx.ReduceMax in pool" in capsys.readouterr().err
    assert not output.exists()


def _smart_turn() -> Path | None:
    """Folder of the installed pipecat-ai, which holds the model."""
    found = importlib.util.find_spec("pipecat")
    places = [] if found is None else list(found.submodule_search_locations or ())
    return Path(places[0]).parent if places else None


@pytest.mark.skipif(_smart_turn() is None, reason="`make install` installs pipecat-ai, which holds the model")
def test_smart_turn_compiles_with_its_own_scales(tmp_path: Path) -> None:
    from benchmarks.smart_turn import (
        BEFORE,
        FEATURES,
        LAYERS,
        MODEL,
        cut,
        run,
        with_one_sample,
        without_activation_pairs,
    )

    package = _smart_turn()
    assert package is not None
    model = with_one_sample(onnx.load(package / MODEL))
    features = np.random.default_rng(0).uniform(0, 1, size=(1, 80, 800)).astype(np.float32)
    stem = run(cut(model, FEATURES, BEFORE, tmp_path / "stem.onnx"), FEATURES, features)
    path = cut(model, BEFORE, LAYERS[-1], tmp_path / "encoder.onnx")
    plain = cut(without_activation_pairs(model), BEFORE, LAYERS[-1], tmp_path / "float.onnx")
    ours, theirs, reference = (
        sta.compile(path).run({BEFORE: stem}).outputs[LAYERS[-1]],
        run(path, BEFORE, stem),
        run(plain, BEFORE, stem),
    )
    assert signal_to_noise(reference, ours) > signal_to_noise(reference, theirs)
