"""Weights cut into blocks and packed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sta.spec.alignment import aligned
from sta.spec.nm_format import ENCODINGS, Pattern, packed_size, prune_by_magnitude
from sta.spec.packing import Packing


@given(st.data())
def test_unpacking_gives_the_weights_back(data: st.DataObject) -> None:
    m = data.draw(st.integers(1, 9))
    n = data.draw(st.integers(1, m))
    pattern = Pattern(n, m)
    encoding = "dense" if pattern.is_dense else data.draw(st.sampled_from(ENCODINGS[1:]))
    columns, tile = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 9))
    # Cuts end between groups, but for the last.
    cuts = [group * m for group in data.draw(st.lists(st.integers(1, 3), max_size=3))]
    depths = (*cuts, data.draw(st.integers(1, 3 * m)))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = random.integers(-127, 128, (columns, sum(depths)))
    weights = prune_by_magnitude(values.astype(np.float64), pattern).astype(np.int8)
    packing = Packing(columns, depths, tile, pattern, encoding)
    packed = packing.pack(weights)
    assert np.array_equal(packing.unpack(packed), weights)
    sizes = [
        aligned(packed_size(min(tile, columns - start), depth, pattern, encoding))
        for start in range(0, columns, tile)
        for depth in depths
    ]
    assert packed.size == sum(sizes)


def test_what_is_too_short_is_refused() -> None:
    packing = Packing(4, (8,), 2, Pattern(1, 1), "dense")
    with pytest.raises(ValueError, match="block of 2 x 8 weights"):
        packing.unpack(packing.pack(np.zeros((4, 8), np.int8))[:20])
