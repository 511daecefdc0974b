"""Maps in the order of the rows that are read: patches of an image without a copy, with the same bits."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sta.dialect import nm, sta
from sta.passes.pipeline import INTEGER_PIPELINE
from sta.spec.target import Target
from tests.support.nm_builder import PLAIN_TARGET, Case, NmBuilder
from tests.support.pipeline_check import apply, check_pipeline, operations
from tests.support.transformers import TINY


def patches(target: Target, rows: int, columns: int, kernel: int, channels: int) -> Case:
    """A linear layer over the patches of an image that a map rounds to 8 bits."""
    builder = NmBuilder(target)
    image = builder.stream("x", (channels, rows * kernel, columns * kernel))
    narrow = builder.clamp(builder.rescale(image, 1 / 300), nm.si8)
    apart = builder.permute(builder.view(narrow, channels, rows, kernel, columns, kernel), 1, 3, 0, 2, 4)
    joined = builder.view(apart, rows * columns, channels * kernel * kernel)
    return builder.case(builder.clamp(builder.linear(joined, 9, "w"), nm.si16))


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([PLAIN_TARGET, TINY]), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3)
)
def test_bits_stay_the_same(target: Target, rows: int, columns: int, kernel: int, channels: int) -> None:
    check_pipeline(patches(target, rows, columns, kernel, channels))


def test_a_product_reads_whole_patches() -> None:
    case = patches(PLAIN_TARGET, 4, 4, 4, 3)
    apply(case.module, case.context, *INTEGER_PIPELINE)
    depths = {sta.memref_of(product.operands[1]).get_shape()[1] for product in operations(case, sta.ProductOp)}
    assert depths == {4 * 4 * 3}
