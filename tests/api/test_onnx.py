"""ONNX files compiled from end to end, beside onnxruntime."""
# pyright: basic
# onnx has no types that pyright could check.

import dataclasses
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sta
from sta.api.cli.command_line import main
from sta.api.compiler.bit_check import CheckError
from sta.api.compiler.compilation import CompileError
from sta.frontend.onnx import products
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
    model.graph.node.append(onnx.helper.make_node("ReduceProd", ["head/Add"], ["y"], name="pool", keepdims=1))
    model.graph.output[0].name = "y"
    onnx.save(model, path)
    assert main(["compile", str(path), "-o", str(output)]) == 1
    assert "onnx.ReduceProd in pool" in capsys.readouterr().err
    assert not output.exists()


@pytest.fixture
def wrong_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bias of a product is added the other way round."""
    plain = products.broadcast_operand

    def reversed_operand(*arguments: Any) -> Any:
        found = plain(*arguments)
        return None if found is None else dataclasses.replace(found, array=found.array[..., ::-1])

    monkeypatch.setattr(products, "broadcast_operand", reversed_operand)
    monkeypatch.setattr(products, "row_of", lambda graph, operand, width: operand.literal(graph))


def product(directory: Path) -> tuple[Path, np.ndarray]:
    """The file of a product with a bias, and samples."""
    value, rng = onnx.helper.make_tensor_value_info, np.random.default_rng(0)
    node = onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="product")
    weights = {"w": rng.normal(size=(8, 6)).astype(np.float32), "b": 9 * np.arange(6, dtype=np.float32)}
    graph = onnx.helper.make_graph(
        [node],
        "product",
        [value("x", onnx.TensorProto.FLOAT, [4, 8])],
        [value("y", onnx.TensorProto.FLOAT, [4, 6])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = directory / "product.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path, rng.normal(size=(8, 4, 8)).astype(np.float32)


def test_a_check_compares_the_import_with_onnxruntime(tmp_path: Path) -> None:
    path, xs = product(tmp_path)
    sta.compile(path, calibration={"x": xs}, check=True)


@pytest.mark.usefixtures("wrong_bias")
def test_a_check_finds_a_wrong_translation(tmp_path: Path) -> None:
    path, xs = product(tmp_path)
    message = "pass import changed output 'y': .* dB from the model as onnxruntime runs it, at least 60 dB"
    with pytest.raises(CheckError, match=message):
        sta.compile(path, calibration={"x": xs}, check=True)
    with pytest.warns(match="what was read is not the model"):
        assert sta.compile(path, calibration={"x": xs}).cycles > 0


def test_a_check_says_what_it_cannot_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("onnxruntime.InferenceSession", fail)
    path, xs = product(tmp_path)
    with pytest.warns(match="the import is not checked: onnxruntime cannot run the model: no such kernel"):
        sta.compile(path, calibration={"x": xs}, check=True)


def compared(directory: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Output of `sta diff` for the product."""
    path, xs = product(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sta.compile(path, calibration={"x": xs}).save(directory / "product.sta")
    np.savez(directory / "in.npz", x=xs[1])
    files = [str(path), str(directory / "product.sta"), "--inputs", str(directory / "in.npz")]
    assert main(["diff", *files, *options]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("wrong_bias")
def test_a_comparison_finds_a_wrong_translation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(compared(tmp_path, capsys, "--bisect", "20", "--json"))
    (output,) = found["original"]["outputs"]
    assert found["original"]["by"] == "onnxruntime"
    assert output["program"]["sqnr_db"] < 5
    assert output["float_model"]["sqnr_db"] < 5
    # The operations themselves are right.
    assert found["bisect"]["first"] is None
    assert found["bisect"]["float_model_departs"] == output
    text = compared(tmp_path, capsys, "--bisect", "20")
    assert "output y: already the float model is" in text
    assert "run by onnxruntime: what follows is no measure of the program" in text


def test_a_comparison_ends_with_the_model_as_it_was_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(compared(tmp_path, capsys, "--bisect", "20", "--json"))
    (output,) = found["original"]["outputs"]
    assert output["output"] == "y"
    assert output["float_model"]["exact"] or output["float_model"]["sqnr_db"] > 100
    assert found["bisect"]["float_model_departs"] is None
    (operation,) = [one for one in found["operations"] if one["operation"] == "output"]
    assert output["program"]["sqnr_db"] == pytest.approx(operation["accumulated"]["sqnr_db"], abs=0.02)
    assert "against the model as it was given, run by onnxruntime" in compared(tmp_path, capsys)


def _smart_turn() -> Path | None:
    """Folder of the installed pipecat-ai, which holds the model."""
    found = importlib.util.find_spec("pipecat")
    places = [] if found is None else list(found.submodule_search_locations or ())
    return Path(places[0]).parent if places else None


needs_smart_turn = pytest.mark.skipif(
    _smart_turn() is None, reason="`make install` installs pipecat-ai, which holds the model"
)


@needs_smart_turn
def test_smart_turn_compiles_with_its_own_scales(tmp_path: Path) -> None:
    from benchmarks.smart_turn import FEATURES, LAYERS, MODEL, cut, run, with_one_sample, without_activation_pairs

    package = _smart_turn()
    assert package is not None
    model = with_one_sample(onnx.load(package / MODEL))
    features = np.random.default_rng(0).uniform(0, 1, size=(1, 80, 800)).astype(np.float32)
    path = cut(model, FEATURES, LAYERS[-1], tmp_path / "encoder.onnx")
    plain = cut(without_activation_pairs(model), FEATURES, LAYERS[-1], tmp_path / "float.onnx")
    ours, theirs, reference = (
        sta.compile(path).run({FEATURES: features}).outputs[LAYERS[-1]],
        run(path, FEATURES, features),
        run(plain, FEATURES, features),
    )
    assert signal_to_noise(reference, ours) > signal_to_noise(reference, theirs)


@pytest.mark.slow
@needs_smart_turn
def test_smart_turn_compiles_as_it_is_from_features_to_probability(tmp_path: Path) -> None:
    from benchmarks.smart_turn import FEATURES, MODEL, PROBABILITY, RECORDING, log_mel, run, without_activation_pairs

    package = _smart_turn()
    assert package is not None
    plain = tmp_path / "float.onnx"
    onnx.save(without_activation_pairs(onnx.load(package / MODEL)), plain)
    speech = log_mel(package / RECORDING)
    noise = np.random.default_rng(0).uniform(0, 1, size=speech.shape).astype(np.float32)
    program = sta.compile(package / MODEL, {FEATURES: speech}, calibration={FEATURES: np.stack([speech, noise])})
    for features in (speech, noise):
        reference = run(plain, FEATURES, features).item()
        ours = program.run({FEATURES: features}).outputs[PROBABILITY].item()
        # Logits, which tell probabilities near 1 apart.
        assert abs(_logit(ours) - _logit(reference)) < abs(
            _logit(run(package / MODEL, FEATURES, features).item()) - _logit(reference)
        )


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))
