"""STAQuantizer: its annotations, and compiled models with exactly its scales."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.fx import Node
from xdsl.ir import SSAValue

import sta
from sta.api.compiler.compilation import CompileError, compile_model
from sta.compress.quantize_program import QuantizeError, quantize_program
from sta.compress.sta_quantizer import STAQuantizer
from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.torch import si8, si16
from sta.frontend.model import import_model
from sta.passes.torch.fold_quantization import fold_quantization
from tests.support.random_models import SpelledNorm
from tests.support.torch_modules import FLOAT_PASSES, encoder, signal_to_noise

SHAPE = (1, 7, 24)


class SpelledOut(nn.Module):
    """One head of attention without scaled_dot_product_attention, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(24, 24) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [layer(x).view(1, 7, 2, 12).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        scores = torch.softmax(parts[0] @ parts[1].transpose(-1, -2) / 12**0.5, -1)
        return self.out((scores @ parts[2]).transpose(1, 2).reshape(1, 7, 24)) + x


class Gated(nn.Module):
    """Positions that are learned, a norm, and `silu(gate(x)) * up(x)`, as LLaMA has it."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(24, 40), nn.Linear(24, 40), nn.Linear(40, 24)
        self.norm = norm(24)
        self.positions = nn.Parameter(torch.randn(7, 24))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.positions
        normalized = self.norm(x)
        return x + self.down(nn.functional.silu(self.gate(normalized)) * self.up(normalized))


class Sink(nn.Module):
    """Attention in which the first key of each head counts for nearly all."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Parameter(torch.zeros(24).index_fill(0, torch.arange(0, 24, 12), 9.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.tensor([1.0] + [0.0] * 6).unsqueeze(-1)
        query, key = (self.split(one) for one in (x + self.key, x + first * self.key))
        mixed = nn.functional.scaled_dot_product_attention(query, key, self.split(x + 9 * first))
        return mixed.transpose(1, 2).reshape(1, 7, 24)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(1, 7, 2, 12).transpose(1, 2)


class Dead(nn.Module):
    """A ReLU that lets nothing through, biases behind it, and an output channel whose weights were all pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(24, 16), nn.Linear(16, 24), nn.Linear(24, 24)
        with torch.no_grad():
            self.first.bias.fill_(-100.0)
            self.last.weight[3] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(torch.relu(self.first(x))) + x)


def samples(count: int = 6) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    return [{"x": generator.standard_normal(SHAPE, np.float32)} for _ in range(count)]


def exported(model: nn.Module) -> torch.export.ExportedProgram:
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return torch.export.export(model.eval(), (torch.tensor(samples()[0]["x"]),), strict=False)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def quantized(model: nn.Module, **options: Any) -> torch.export.ExportedProgram:
    return quantize_program(exported(model), ["x"], samples(), STAQuantizer(**options))


def made(model: Callable[[], nn.Module] | None = None, norm_first: bool = False) -> nn.Module:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    return encoder(norm_first) if model is None else model()


def float_output(program: torch.export.ExportedProgram, sample: dict[str, Any]) -> Any:
    return cast(Any, program.module())(torch.tensor(sample["x"])).detach().numpy()


def input_name(program: torch.export.ExportedProgram) -> str:
    return import_model(program).input_names[0]


MODELS = {
    "post-norm": lambda: made(),
    "pre-norm": lambda: made(norm_first=True),
    "spelled out": lambda: made(SpelledOut),
    "RMSNorm, gated": lambda: made(lambda: Gated(nn.RMSNorm)),
    "RMSNorm spelled out, gated": lambda: made(lambda: Gated(SpelledNorm)),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_quantized_compiles_without_calibration_to_what_the_pairs_say(name: str) -> None:
    model = MODELS[name]()
    program = quantized(model)
    with warnings.catch_warnings():
        # Nothing is left for calibration, so that nothing warns of missing data.
        warnings.simplefilter("error")
        compiled = compile_model(program)
    assert compiled.program is not None
    assert compiled.quantization is None
    sample = samples(7)[-1]
    found = compiled.program.run({input_name(program): sample["x"]}).outputs["output"]
    assert signal_to_noise(float_output(program, sample), found) > 40
    assert signal_to_noise(float_output(exported(model), sample), found) > 30


@pytest.mark.parametrize("name", MODELS)
def test_the_folded_module_computes_what_pytorch_computes(name: str) -> None:
    program = quantized(MODELS[name]())
    imported = import_model(program)
    fold_quantization(imported.module, imported.weights)
    imported.module.verify()
    sample = samples(7)[-1]
    outputs = run_torch(imported.module, CompileContext(imported.weights), {imported.input_names[0]: sample["x"]})
    np.testing.assert_array_equal(outputs["output"], float_output(program, sample))


def test_a_sample_beyond_the_ranges_passes_the_check() -> None:
    """-127..127 is -128..127 on the machine: one step more where a value saturates, which is no error of a pass."""

    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(24, 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ops = torch.ops.quantized_decomposed
            rounded = ops.quantize_per_tensor(x, 0.01, 0, -127, 127, torch.int8)
            return self.dense(ops.dequantize_per_tensor(rounded, 0.01, 0, -127, 127, torch.int8))

    calibration = {"x": np.stack([sample["x"] for sample in samples()])}
    compiled = compile_model(exported(made(Narrow)), calibration=calibration, check=True)
    assert compiled.check is not None
    losses = {one.step.name: one.before for one in compiled.check.fidelity}
    assert 30 < losses["torch-fold-quantization"] < 60


@pytest.mark.parametrize("name", MODELS)
def test_formats_are_those_of_the_machine(name: str) -> None:
    imported = import_model(quantized(MODELS[name]()))
    for rewrite in (fold_quantization, *FLOAT_PASSES):
        rewrite(imported.module, imported.weights)
    for operation in imported.module.walk():
        if isinstance(operation, dialect.LinearOp):
            rounded = _source(operation.input)
            assert isinstance(rounded, dialect.FakeQuantizeOp)
            assert rounded.storage == si8
            assert isinstance(operation.weight.owner, dialect.FakeQuantizeChannelsOp)
        elif isinstance(operation, dialect.NormOp | dialect.ElementwiseOperation | dialect.MulTensorOp):
            for value in operation.operands[: 2 if isinstance(operation, dialect.MulTensorOp) else 1]:
                rounded = _source(value)
                assert isinstance(rounded, dialect.FakeQuantizeOp)
                assert (rounded.storage, rounded.zero_point.value.data) == (si16, 0)


@pytest.mark.parametrize("name", ["post-norm", "pre-norm"])
def test_query_key_and_value_of_one_projection_have_scales_of_their_own(name: str) -> None:
    program = quantized(MODELS[name]())
    imported = import_model(program)
    for rewrite in (fold_quantization, *FLOAT_PASSES):
        rewrite(imported.module, imported.weights)
    (attention,) = [op for op in imported.module.walk() if isinstance(op, dialect.ScaledDotProductAttentionOp)]
    roundings = [_source(value) for value in attention.operands[:3]]
    assert len({rounding.scale.value.data for rounding in roundings}) == 3
    # The packed projection is split with its weight's integers and scales, one part for each rounding.
    assert all(isinstance(_source(rounding.input), dialect.LinearOp) for rounding in roundings)
    sample = samples(7)[-1]
    outputs = run_torch(imported.module, CompileContext(imported.weights), {imported.input_names[0]: sample["x"]})
    expected = float_output(program, sample)
    # 60 dB: a sum in another order may round to the neighbour.
    assert np.square(outputs["output"] - expected).sum() <= 1e-6 * np.square(expected).sum()


def _source(value: SSAValue) -> Any:
    """Operation that produces `value`, before rearrangements."""
    while isinstance(value.owner, dialect.ViewOp | dialect.PermuteOp) or ".transpose" in getattr(
        value.owner, "name", ""
    ):
        value = cast(Any, value.owner).operands[0]
    return value.owner


@pytest.mark.parametrize("name", ["post-norm", "pre-norm", "spelled out"])
def test_attention_is_annotated_as_a_whole(name: str) -> None:
    program = quantized(MODELS[name]())
    softmaxes = [node for node in program.graph.nodes if "softmax" in str(node.target)]
    products = [node for node in program.graph.nodes if str(node.target).startswith("aten.matmul")]
    attentions = [node for node in program.graph.nodes if "scaled_dot_product" in str(node.target)]
    assert attentions or (softmaxes and products)
    for node in softmaxes:
        assert not any("dequantize" in str(near.target) for near in _near(node))
    for node in attentions:
        for operand in node.args[:3]:
            assert "dequantize" in str(_rounded(operand).target)
            assert _rounded(operand).args[2] == 0


def _near(node: Node) -> list[Node]:
    return [*node.all_input_nodes, *node.users]


def _rounded(node: Any) -> Node:
    while "dequantize" not in str(node.target):
        node = node.args[0]
    return node


def test_layers_keep_their_names_and_float_weights_are_gone() -> None:
    compiled = compile_model(quantized(made()))
    assert compiled.integer_module is not None
    text = {entry for entry in compiled.context.weights.names()}
    assert any(name.startswith("layers.0.linear1") for name in text)
    program = quantized(made())
    float_weights = [
        tensor for tensor in program.state_dict.values() if tensor.dim() == 2 and tensor.is_floating_point()
    ]
    assert float_weights == []


def test_the_largest_operand_of_attention_does_not_saturate() -> None:
    program = quantized(made(Sink))
    graph = program.graph
    symmetric = [node for node in graph.nodes if "quantized_decomposed.quantize_per_tensor" in str(node.target)]
    assert {node.args[3:5] for node in symmetric} == {(-127, 127), (-32767, 32767)}
    sample = samples()[0]
    found = sta.compile(program).run({input_name(program): sample["x"]}).outputs["output"]
    # 32 dB if the largest numbers are rounded to 128 and cut off at 127.
    assert signal_to_noise(float_output(exported(made(Sink)), sample), found) > 45


@pytest.mark.parametrize("ranges", ["extremes", "error"])
def test_what_is_zero_on_all_samples_leaves_room_for_biases(ranges: str) -> None:
    program, sample = quantized(made(Dead), ranges=ranges), samples()[0]
    compiled = sta.compile(program)
    expected = float_output(exported(made(Dead)), sample)
    assert signal_to_noise(expected, compiled.run({input_name(program): sample["x"]}).outputs["output"]) > 30


def test_what_is_zero_in_training_leaves_room_for_biases() -> None:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e

    x = torch.tensor(samples()[0]["x"])
    prepared = prepare_qat_pt2e(exported(made(Dead)).module(), STAQuantizer(is_qat=True))
    prepared(x)
    program = torch.export.export(convert_pt2e(prepared), (x,), strict=False)
    found = sta.compile(program).run({input_name(program): x.numpy()}).outputs["output"]
    assert signal_to_noise(float_output(exported(made(Dead)), samples()[0]), found) > 30


@pytest.mark.parametrize("name", ["pre-norm", "RMSNorm, gated", "RMSNorm spelled out, gated"])
def test_quantization_aware_training_works(name: str) -> None:
    from torchao.quantization.pt2e import allow_exported_model_train_eval  # pyright: ignore[reportPrivateUsage]
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e

    model = MODELS[name]()
    x = torch.tensor(samples()[0]["x"])
    prepared = prepare_qat_pt2e(exported(model).module(), STAQuantizer(is_qat=True))
    allow_exported_model_train_eval(prepared)
    wanted = torch.zeros(SHAPE)
    optimizer: Any = torch.optim.SGD(prepared.parameters(), 0.1)
    losses: list[float] = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(prepared(x), wanted)
        cast(Any, loss).backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    converted = convert_pt2e(prepared)
    program = torch.export.export(converted, (x,), strict=False)
    found = sta.compile(program).run({input_name(program): x.numpy()}).outputs["output"]
    assert signal_to_noise(converted(x).detach().numpy(), found) > 40


def test_ranges_by_error_are_torchaos() -> None:
    program = quantized(made(), ranges="error")
    assert sta.compile(program).cycles > 0
    with pytest.raises(ValueError, match="unknown ranges 'best'"):
        STAQuantizer(ranges="best")


def test_values_that_are_not_finite_name_the_layer() -> None:
    model = made(norm_first=True)
    with torch.no_grad():
        cast(Any, model).layers[0].linear1.weight[3, 4] = float("inf")
    with pytest.raises(QuantizeError, match=r"layers\.0.*not finite"):
        quantized(model)


def test_a_quantized_model_keeps_its_formats() -> None:
    program = quantized(made())
    with pytest.raises(CompileError, match="quantized already"):
        compile_model(program, min_sqnr=40.0)
    with pytest.raises(CompileError, match="prune it before"):
        compile_model(program, sparsity="2:4")


def test_a_partly_quantized_model_is_completed_by_calibration(tmp_path: Path) -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(24, 24), nn.Linear(24, 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ops = torch.ops.quantized_decomposed
            rounded = ops.quantize_per_tensor(self.first(x), 0.03, 5, -128, 127, torch.int8)
            return self.second(ops.dequantize_per_tensor(rounded, 0.03, 5, -128, 127, torch.int8)) + x

    torch.manual_seed(1)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    program = exported(Part())
    calibration = {"x": np.stack([sample["x"] for sample in samples()])}
    found = sta.compile(program, calibration=calibration).run({"x": samples(7)[-1]["x"]}).outputs["output"]
    assert signal_to_noise(float_output(program, samples(7)[-1]), found) > 35
