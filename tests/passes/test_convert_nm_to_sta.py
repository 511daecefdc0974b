"""Lowering to the machine: hand-made modules whose layouts, sizes or uses are out of the ordinary keep their bits."""

from __future__ import annotations

from dataclasses import replace

from xdsl.ir import SSAValue

from sta.dialect import nm
from sta.spec.target import Target
from tests.support.nm_builder import PLAIN_TARGET, NmBuilder
from tests.support.pipeline_check import check_pipeline

SMALL = replace(PLAIN_TARGET, name="small", sram_bytes=1 << 14, tile_rows=8, tile_columns=8)
"""A machine on which almost nothing stays on the chip."""


def fused_attention(target: Target, batch: int, sequence: int, heads: int, depth: int) -> tuple[NmBuilder, SSAValue]:
    """A builder, and attention whose queries, keys and values are parts of one tensor."""
    builder = NmBuilder(target)
    width = heads * depth
    x = builder.bytes("x", (batch, sequence, width))
    joined = builder.clamp(builder.linear(x, 3 * width, "qkv"), nm.si8)
    q, k, v = (
        builder.permute(
            builder.view(builder.slice(joined, 2, i * width, (i + 1) * width), batch, sequence, heads, depth),
            *(0, 2, 1, 3),
        )
        for i in range(3)
    )
    return builder, builder.attention((q, k, v))


def test_a_residual_may_be_a_part_of_what_it_is_added_to() -> None:
    # Both are tiles of one tensor in DRAM, at different places.
    builder = NmBuilder(SMALL)
    x = builder.stream("x", (200, 24))
    first = builder.slice(x, 0, 0, 1)
    total = builder.clamp(builder.sum(builder.rescale(x, 0.5), builder.rescale(first, 0.7)), nm.si16)
    check_pipeline(builder.case(builder.slice(total, 0, 0, 50)))


def test_queries_keys_and_values_may_be_parts_of_one_tensor_in_dram() -> None:
    builder, attention = fused_attention(SMALL, 2, 100, 2, 16)
    check_pipeline(builder.case(builder.slice(attention, 2, 0, 30)))
