"""Rotary position embeddings, against their definition on Python integers and against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sta.spec.integers import encode_scale
from sta.spec.rotation import PAIRINGS, partners, rotate_rows, rotation_tables

INT16 = st.one_of(st.integers(-(2**15), 2**15 - 1), st.sampled_from([-(2**15), 2**15 - 1]))


def saturated_scale(value: int, multiplier: int, shift: int) -> int:
    """Returns apply_scale_32 of one value."""
    limit = 1 << (shift - 1)
    return (max(-limit, min(limit - 1, value)) * multiplier + limit) >> shift


@settings(deadline=None)
@given(
    st.data(),
    st.sampled_from(PAIRINGS),
    st.integers(2, 9),
    st.sampled_from([np.int8, np.int16]),
    st.sampled_from([(np.int8, 2**7), (np.int16, 2**15)]),
    st.integers(0, 2**31 - 1),
    st.integers(2, 62),
)
def test_rotated_rows_follow_their_definition(
    data: st.DataObject,
    pairing: str,
    columns: int,
    source: type[np.int8 | np.int16],
    result: tuple[type[np.int8 | np.int16], int],
    multiplier: int,
    shift: int,
) -> None:
    dtype, limit = result
    width = 2 * data.draw(st.integers(1, columns // 2))
    shape = (data.draw(st.integers(1, 3)), columns)
    x = data.draw(hnp.arrays(source, shape))
    tables = [data.draw(hnp.arrays(np.int16, (data.draw(st.sampled_from([1, shape[0]])), columns), elements=INT16))]
    tables.append(data.draw(hnp.arrays(np.int16, shape, elements=INT16)))
    found = rotate_rows(x, tables[0], tables[1], pairing, width, (multiplier, shift), dtype)
    cosines, sines = (np.broadcast_to(table, shape).tolist() for table in tables)
    for i, row in enumerate(x.tolist()):
        for c in range(columns):
            partner = c
            if c < width and pairing == "half":
                partner = c + width // 2 if c < width // 2 else c - width // 2
            elif c < width:
                partner = c + 1 if c % 2 == 0 else c - 1
            total = min(row[c] * cosines[i][c] + row[partner] * sines[i][c], 2**31 - 1)
            expected = saturated_scale(total, multiplier, shift)
            assert found[i, c] == max(-limit, min(limit - 1, expected))
    assert found.dtype == dtype


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("width", [16, 10])
@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_tables_rotate_as_models_do(pairing: str, width: int, factor: float) -> None:
    # The columns of a model's cosines and sines, and its rotation, as in Llama and in GPT-J; YaRN scales them.
    columns, positions = 16, 40
    frequencies = 10000.0 ** -(np.arange(width // 2) / (width // 2))
    angles = np.arange(positions)[:, np.newaxis] * frequencies
    laid_out = np.tile(angles, 2) if pairing == "half" else np.repeat(angles, 2, axis=1)
    cosines, sines = np.cos(laid_out) * factor, np.sin(laid_out) * factor
    x = np.random.default_rng(width).integers(-32768, 32768, (positions, columns)).astype(np.int16)
    rotated = x[:, :width].astype(np.float64)
    if pairing == "half":
        turned = np.concatenate([-rotated[:, width // 2 :], rotated[:, : width // 2]], axis=1)
    else:
        turned = np.stack([-rotated[:, 1::2], rotated[:, ::2]], axis=-1).reshape(positions, width)
    exact = np.concatenate([rotated * cosines + turned * sines, x[:, width:]], axis=1) / 3
    whole, signed, unit = rotation_tables(cosines, sines, pairing, columns)
    scale = tuple(int(part) for part in encode_scale(unit / 3))
    found = rotate_rows(x, whole, signed, pairing, width, (scale[0], scale[1]), np.int16)
    pairs = np.abs(x) + np.abs(x[:, partners(columns, width, pairing)].astype(np.float64))
    assert np.all(np.abs(found - exact) <= 0.5 + pairs * unit / 2 / 3 + 1e-3)


@pytest.mark.parametrize("pairing", PAIRINGS)
@given(st.integers(2, 40), st.data())
def test_partners_are_each_others(pairing: str, columns: int, data: st.DataObject) -> None:
    width = 2 * data.draw(st.integers(1, columns // 2))
    paired = partners(columns, width, pairing)
    assert paired[paired].tolist() == list(range(columns))
    assert [c for c in range(columns) if paired[c] == c] == list(range(width, columns))


@pytest.mark.parametrize("width", [0, 3, 10, -2])
def test_a_width_that_is_no_pairs_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"from 2 to all 8, not {width}"):
        partners(8, width, "half")


def test_another_pairing_is_refused() -> None:
    with pytest.raises(ValueError, match="pairing 'thirds' is none of half, interleaved"):
        partners(8, 4, "thirds")
