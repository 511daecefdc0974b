"""The compiler from end to end, on models nobody tuned it to."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

import sta
from sta.api.compiler.bit_check import CheckError, signal_to_noise
from sta.api.compiler.compilation import Compilation, compile_model
from sta.backend.assembler import assemble, disassemble
from sta.backend.container import container_bytes
from sta.dialect import nm
from sta.passes.nm.fuse_epilogues import NmFuseEpiloguesPass
from sta.passes.torch.fold_masks import TorchFoldMasksPass
from tests.support.random_models import SHAPES, RandomTransformer, Shape

SMALL = Shape(2, 11, 2, 26, 50, 1, "gelu", False, "layer", False, False, False, True, True, None, 7)
BRIEF = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
THOROUGH = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def compiled(model: RandomTransformer, *, check: bool = False, target: str = "sta-base") -> Compilation:
    """The model compiled for its example inputs, pruned as its shape says."""
    inputs = {name: value[None].numpy() for name, value in model.example_inputs().items()}
    return compile_model(
        model.eval(),
        model.example_inputs(),
        target=target,
        sparsity=model.shape.pattern,
        int16_inputs=model.shape.int16_inputs,
        calibration=inputs,
        check=check,
    )


def arrays(model: RandomTransformer) -> dict[str, NDArray[np.generic]]:
    """The model's example inputs as NumPy arrays."""
    return {name: value.numpy() for name, value in model.example_inputs().items()}


def keeps_its_bits(shape: Shape) -> None:
    """Compiles with the check on: all passes, the emulator and two poison values give equal integers, without race."""
    target = ("sta-base", "sta-small", "sta-large")[shape.seed % 3]
    compilation = compiled(RandomTransformer(shape), check=True, target=target)
    assert compilation.program is not None
    assert compilation.program.cycles > 0
    compilation.program.check_races()


@BRIEF
@given(SHAPES)
def test_random_transformers_keep_their_bits(shape: Shape) -> None:
    keeps_its_bits(shape)


@pytest.mark.slow
@THOROUGH
@given(SHAPES)
def test_many_random_transformers_keep_their_bits(shape: Shape) -> None:
    keeps_its_bits(shape)


def test_the_program_computes_what_the_model_does() -> None:
    model = RandomTransformer(SMALL).eval()
    program = compiled(model).program
    assert program is not None
    outputs = program.run(arrays(model)).outputs
    with torch.no_grad():
        expected = model(**model.example_inputs())
    # Rows of padding count neither for ranges nor for noise.
    counts = model.example_inputs()["mask"].numpy() != 0
    for name, reference in zip(("output_0", "output_1"), expected, strict=True):
        difference = np.abs(outputs[name] - reference.numpy())
        rows = difference[counts] if difference.shape[:2] == counts.shape else difference
        assert rows.max() < 0.05 * float(reference.abs().max())


def test_a_broken_integer_pass_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = NmFuseEpiloguesPass.apply

    def broken(self: NmFuseEpiloguesPass, ctx: Context, op: ModuleOp) -> None:
        plain(self, ctx, op)
        linear = next(inner for inner in op.walk() if isinstance(inner, nm.LinearOp))
        linear.zero_point = nm.integer(linear.zero_point.value.data + 1)

    monkeypatch.setattr(NmFuseEpiloguesPass, "apply", broken)
    with pytest.raises(CheckError, match=r"pass nm-fuse-epilogues changed [\d,]+ of [\d,]+ integers of output"):
        compiled(RandomTransformer(SMALL), check=True)
    assert compiled(RandomTransformer(SMALL)).program is not None


def test_a_broken_float_pass_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = TorchFoldMasksPass.apply

    def broken(self: TorchFoldMasksPass, ctx: Context, op: ModuleOp) -> None:
        plain(self, ctx, op)
        attention = next(inner for inner in op.walk() if "scaled_dot_product" in inner.name)
        attention.operands[0] = attention.operands[1]

    monkeypatch.setattr(TorchFoldMasksPass, "apply", broken)
    with pytest.raises(CheckError, match="pass torch-fold-masks changed output"):
        compiled(RandomTransformer(SMALL), check=True)


def test_compiling_twice_gives_the_same_bytes() -> None:
    first, second = (compiled(RandomTransformer(SMALL)).program for _ in range(2))
    assert first is not None
    assert second is not None
    assert container_bytes(first.container) == container_bytes(second.container)


def test_assembly_of_a_compiled_model_gives_the_same_bytes() -> None:
    program = compiled(RandomTransformer(SMALL)).program
    assert program is not None
    assert container_bytes(assemble(disassemble(program.container))) == container_bytes(program.container)


def test_dumps_hold_each_pass_that_changed_something(tmp_path: Path) -> None:
    model = RandomTransformer(SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sta.compile(model.eval(), model.example_inputs(), dump_ir=tmp_path)
    files = sorted(path.name for path in tmp_path.glob("*.mlir"))
    assert files[0] == "00-import.mlir"
    assert files[-1].endswith("sta-synchronize.mlir")
    texts = [(tmp_path / name).read_text() for name in files]
    assert all(before != after for before, after in pairwise(texts))
    assert all("layers.0.query" in text for text in texts)


def test_without_calibration_there_is_a_warning() -> None:
    model = RandomTransformer(SMALL)
    with pytest.warns(UserWarning, match="activation ranges are taken from the example inputs"):
        sta.compile(model.eval(), model.example_inputs())


def macs_of(model: nn.Module, inputs: dict[str, torch.Tensor]) -> int:
    """Multiply-accumulates of a float model, counted by PyTorch's own counter: half its floating-point operations."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter knows the products that attention is made of, not the fused kernel of this CPU.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(**inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("pattern", [None, "1:2"])
def test_useful_macs_are_those_of_the_torch_graph(decomposed: bool, pattern: str | None) -> None:
    shape = Shape(2, 11, 2, 26, 50, 2, "gelu", False, "layer", False, decomposed, False, False, True, pattern, 7)
    model = RandomTransformer(shape).eval()
    program = compiled(model).program
    assert program is not None
    total = macs_of(model, model.example_inputs())
    assert program.dense_macs == total
    attention = 2 * shape.batch * shape.heads * shape.sequence**2 * shape.head_size * shape.layers
    assert program.macs == (total if pattern is None else (total - attention) // 2 + attention)


def test_causal_attention_counts_admissible_pairs_only() -> None:
    shape = Shape(1, 10, 2, 8, 16, 1, "relu", False, "layer", True, False, True, False, False, None, 3)
    program = compiled(RandomTransformer(shape)).program
    assert program is not None
    full = macs_of(RandomTransformer(shape).eval(), RandomTransformer(shape).example_inputs())
    assert full - program.macs == 2 * shape.heads * shape.head_size * (10 * 10 - 10 * 11 // 2)


def test_sparsity_by_module_path() -> None:
    model = RandomTransformer(SMALL).eval()
    program = sta.compile(
        model,
        model.example_inputs(),
        sparsity={"layers.0.widen": "1:4"},
        calibration={name: value[None].numpy() for name, value in model.example_inputs().items()},
    )
    assert "1:4" in program.container.ir
    assert program.dense_macs - program.macs == SMALL.batch * SMALL.sequence * SMALL.width * SMALL.feed_forward * 3 // 4


def test_16_bit_inputs_are_closer_to_the_model_in_twice_the_cycles_of_their_layer() -> None:
    torch.manual_seed(1)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    layer = nn.TransformerEncoderLayer(64, 2, 256, batch_first=True, activation="gelu").eval()
    src = torch.randn(4, 1, 32, 64)
    with torch.no_grad():
        expected = layer(src[0]).numpy()
    narrow, wide = (
        sta.compile(layer, {"src": src[0]}, calibration={"src": src.numpy()}, int16_inputs=globs)
        for globs in ([], ["linear?"])
    )
    fidelity = [
        signal_to_noise(expected, program.run({"src": src[0].numpy()}).outputs["output"]) for program in (narrow, wide)
    ]
    assert fidelity[1] > fidelity[0] + 3
    # Two passes of the two layers, and none of them counts as work that the model needs.
    product = 2 * 32 * 64 * 256 // 1024
    assert product * 9 // 10 < wide.cycles - narrow.cycles < product * 11 // 10
    assert (wide.macs, wide.dense_macs) == (narrow.macs, narrow.dense_macs)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("value", [0.0, 3.0, -1e-12])
def test_samples_that_never_change_make_a_program(norm_first: bool, value: float) -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    model = nn.TransformerEncoderLayer(26, 2, 54, batch_first=True, norm_first=norm_first).eval()
    x = torch.full((1, 7, 26), value)
    program = sta.compile(model, {"src": x}, calibration={"src": x[None].numpy()}, check=True)
    with torch.no_grad():
        expected = model(x).numpy()
    assert signal_to_noise(expected, program.run({"src": x.numpy()}).outputs["output"]) > 30


def test_numbers_no_scale_can_hold_are_reported_with_their_layer() -> None:
    layer = nn.TransformerEncoderLayer(26, 2, 54, batch_first=True).eval()
    x = torch.full((1, 7, 26), 1e6)
    with pytest.raises(ValueError, match=r"^self_attn: scale .* is too large: .*; look at this layer's weights"):
        sta.compile(layer, {"src": x}, calibration={"src": x[None].numpy()})


@contextmanager
def without_fused_kernels() -> Generator[None]:
    """PyTorch's fused encoder layer, which writes zeros where a sequence is padded, is not used inside."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batch=st.integers(1, 3),
    sequence=st.integers(2, 19),
    heads=st.integers(1, 3),
    head_size=st.sampled_from([5, 8, 13]),
    norm_first=st.booleans(),
    causal=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_padding_mask_that_is_true_where_keys_are_left_out(
    batch: int, sequence: int, heads: int, head_size: int, norm_first: bool, causal: bool, seed: int
) -> None:
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    width = heads * head_size
    layer = nn.TransformerEncoderLayer(width, heads, 2 * width + 1, batch_first=True, norm_first=norm_first)
    model = Padded(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), causal).eval()
    lengths = torch.randint(1, sequence + 1, (batch,))
    padding = torch.arange(sequence) >= lengths[:, None]
    src = torch.randn(batch, sequence, width)
    calibration = {"src": src[None].numpy(), "padding": padding[None].numpy()}
    program = sta.compile(model, {"src": src, "padding": padding}, calibration=calibration, check=True)
    assert [port.inverted for port in program.inputs] == [False, True]

    counted = ~padding.numpy()
    result = program.run({"src": src.numpy(), "padding": padding.numpy()})
    with torch.no_grad(), without_fused_kernels():
        expected = model(src, padding).numpy()
    assert signal_to_noise(expected[counted], result.outputs["output"][counted]) > 30
    # Whatever stands where a sequence is padded: not a bit of the rest changes.
    other = np.where(counted[..., None], src.numpy(), -src.numpy())
    again = program.run({"src": other, "padding": padding.numpy()})
    np.testing.assert_array_equal(again.raw["output"][counted], result.raw["output"][counted])
    if not causal and padding.any():
        unmasked = program.run({"src": src.numpy(), "padding": np.zeros_like(padding.numpy())})
        assert not np.array_equal(unmasked.raw["output"][counted], result.raw["output"][counted])


class Padded(nn.Module):
    """An encoder with a padding mask, causal or not."""

    def __init__(self, encoder: nn.TransformerEncoder, causal: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.causal = causal

    def forward(self, src: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(src.shape[1], src.shape[1], dtype=torch.bool).triu(1) if self.causal else None
        return self.encoder(src, mask=mask, src_key_padding_mask=padding, is_causal=self.causal)
