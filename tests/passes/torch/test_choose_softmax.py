"""The choice of a softmax for each attention, and models whose attention is long, precise, causal or grouped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sta.api.compiler.compilation import CompileError, compile_model
from sta.dialect import nm
from sta.passes.lowering.useful_macs import useful_macs
from sta.passes.pipeline import INTEGER_PIPELINE
from sta.passes.quantization.probability_bits import BEST_FIDELITY, LEAST_FIDELITY, NarrowFidelity
from sta.passes.tiling.attention_tiling import AttentionShape, capacity, online_tiling, row_tiling, tile_bytes
from sta.passes.torch.choose_softmax import TorchChooseSoftmaxPass
from sta.spec.target import load_target
from sta.spec.tiling_policy import TilingPolicy
from tests.support.nm_builder import PLAIN_TARGET, NmBuilder
from tests.support.pipeline_check import apply, assert_same_integers, integers, program_of

POLICY = TilingPolicy()
TINY = replace(PLAIN_TARGET, name="tiny", sram_bytes=1 << 14, array_rows=4, array_columns=4, tile_rows=16)


class Grouped(nn.Module):
    """Causal self-attention with fewer heads of keys, and a projection."""

    def __init__(self, repeats: bool) -> None:
        super().__init__()
        torch.manual_seed(1)  # pyright: ignore[reportUnknownMemberType]
        self.q, self.kv, self.out = nn.Linear(24, 48), nn.Linear(24, 48), nn.Linear(48, 24)
        self.repeats = repeats

    def forward(self, x: Tensor) -> Tensor:
        """`x` is [batch, rows, 24]."""
        batch, rows, _ = x.shape
        q = self.q(x).view(batch, rows, 6, 8).transpose(1, 2)
        k, v = self.kv(x).view(batch, rows, 2, 3, 8).permute(2, 0, 3, 1, 4)
        if self.repeats:
            # As decoders of Hugging Face do.
            k, v = (part[:, :, None, :, :].expand(batch, 3, 2, rows, 8).reshape(batch, 6, rows, 8) for part in (k, v))
            attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(attended.transpose(1, 2).reshape(batch, rows, 48))


def attention_of(compilation: Any) -> nm.AttentionOp:
    """The only attention of a compilation."""
    (found,) = [op for op in compilation.integer_module.walk() if isinstance(op, nm.AttentionOp)]
    return found


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize(("softmax", "bits"), [("row", 8), ("online", 16)])
def test_grouped_and_causal_attention(repeats: bool, softmax: str, bits: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 37, 24)).astype(np.float32)
    compilation = compile_model(
        Grouped(repeats),
        {"x": torch.from_numpy(x)},  # pyright: ignore[reportUnknownMemberType]
        target=TINY,
        calibration={"x": x[np.newaxis]},
        softmax=softmax,
        probability_bits=bits,
        check=True,
    )
    attention = attention_of(compilation)
    assert nm.tensor_of(attention.q).get_shape()[1] == 6
    assert nm.tensor_of(attention.k).get_shape()[1] == 3
    assert attention.bits == bits
    assert (attention.chunk_keys is None) == (softmax == "row")
    assert compilation.program is not None
    compilation.program.check_races()
    # The projections of 74 rows, and of each of 12 heads the 37 * 38 / 2 pairs that are admissible.
    pairs = 12 * (37 * 38 // 2)
    assert compilation.program.macs == 74 * (24 * 48 + 24 * 48 + 48 * 24) + 2 * 8 * pairs


class Attention(nn.Module):
    """Attention of one head."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All are [1, 1, rows, width]."""
        return nn.functional.scaled_dot_product_attention(q, k, v)


def inputs(rows: int, keys: int, width: int = 8) -> dict[str, Tensor]:
    """Random queries, keys and values."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: torch.randn(1, 1, n, width, generator=generator) for name, n in (("q", rows), ("k", keys), ("v", keys))
    }


def compiled(rows: int, keys: int, **how: Any) -> Any:
    """The compilation of attention of one head for the tiny machine."""
    given = inputs(rows, keys)
    calibration = {name: tensor.numpy()[np.newaxis] for name, tensor in given.items()}
    return compile_model(Attention(), given, target=TINY, calibration=calibration, **how)


@pytest.mark.parametrize(("rows", "width"), [(384, 16), (512, 16), (1024, 32)])
def test_the_faster_softmax_is_taken_where_both_fit(rows: int, width: int) -> None:
    # Whole rows: chunks begin and end with each tile of rows.
    cycles: dict[str, int] = {}
    for softmax in ("auto", "row", "online"):
        given = inputs(rows, rows, width)
        calibration = {name: tensor.numpy()[np.newaxis] for name, tensor in given.items()}
        program = compile_model(Attention(), given, calibration=calibration, softmax=softmax).program
        assert program is not None
        cycles[softmax] = program.cycles
    assert cycles["auto"] == cycles["row"] < cycles["online"]


def test_rows_where_they_fit_and_chunks_where_not() -> None:
    assert attention_of(compiled(16, 24)).chunk_keys is None
    long = attention_of(compiled(16, 3000))
    assert long.chunk_keys is not None
    assert long.chunk_keys < 3000
    assert attention_of(compiled(16, 24, softmax="online")).chunk_keys is not None


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CompileError, match=r"target tiny: forward .*whole rows of 3,000 keys needs"):
        compiled(16, 3000, softmax="row")


def test_a_softmax_that_is_unknown() -> None:
    with pytest.raises(
        ValueError, match="unknown softmax 'onlin', it is one of auto, row, online; did you mean 'online'"
    ):
        TorchChooseSoftmaxPass(mode="onlin")
    with pytest.raises(ValueError, match="unknown width of probabilities '12', it is one of auto, 8, 16"):
        TorchChooseSoftmaxPass(bits="12")


@pytest.mark.parametrize("keys", [128, 512, 2048, 8192])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiles_of_the_base_machine_are_whole_array_rows_and_fit(keys: int, bits: int) -> None:
    target = load_target("sta-base")
    shape = AttentionShape(keys, keys, 64, bits)
    row, online = row_tiling(target, POLICY, shape), online_tiling(target, POLICY, shape)
    assert online is not None
    assert (row is None) == (keys == 8192)
    for tiling in (online, *([row] if row is not None else [])):
        assert tiling.rows % target.array_rows == 0
        assert tile_bytes(shape, tiling) <= capacity(target, POLICY)


def fidelity(sink: float, keys: int = 2000) -> float:
    """Decibels of 8-bit exponentials where one key lies so far above the others."""
    generator = torch.Generator().manual_seed(3)
    q, k, v = torch.ones(1, 2, 5, 1), 0.3 * torch.randn(1, 1, keys, 1, generator=generator), torch.ones(1, 1, keys, 4)
    k[..., 7, :] = sink
    v[..., 7, :] = 0.0
    seen = NarrowFidelity()
    seen.update(q, k, v, None, False, 1.0)
    return seen.decibels()


def test_a_sink_takes_16_bits_and_none_takes_8() -> None:
    assert fidelity(0.0) > LEAST_FIDELITY + 10
    # All that is not the sink is lost: noise as large as the signal.
    assert fidelity(10.0) == pytest.approx(0.0, abs=1e-6)


def test_masks_and_rows_without_keys_do_not_count() -> None:
    seen = NarrowFidelity()
    q, k, v = (torch.ones(1, 1, 4, 2) for _ in range(3))
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    seen.update(q, k, v, mask, True, 1.0)
    assert seen.decibels() == BEST_FIDELITY


@pytest.mark.slow
def test_a_layer_of_8192_rows() -> None:
    # On the machine that results are reported for; no scores leave the chip.
    rows = 8192
    builder = NmBuilder(load_target("sta-base"))
    q, k, v = (builder.bytes(name, (1, 1, rows, 64)) for name in "qkv")
    shape = AttentionShape(rows, rows, 64, 8)
    tiling = online_tiling(builder.context.target, POLICY, shape)
    assert tiling is not None
    case = builder.case(builder.attention((q, k, v), causal=True, chunk=tiling.chunk))
    expected, macs = integers(case), useful_macs(case.module)
    apply(case.module, case.context, *INTEGER_PIPELINE)
    program = program_of(case, macs)
    assert program.profile().to_json()["total"]["dram"]["attention"] == 0
    assert program.macs == 2 * 64 * (rows * (rows + 1) // 2)
    # The groups of rows compute one sixteenth of the pairs in vain.
    assert program.mac_efficiency > 0.88
    assert_same_integers(expected, program.run(case.inputs).raw, "the emulator")
