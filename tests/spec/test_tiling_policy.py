"""The policy of tiling refuses values that mean nothing, by name."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from sta.spec.tiling_policy import TilingPolicy


@pytest.mark.parametrize("field", [field.name for field in fields(TilingPolicy)])
def test_every_knob_has_a_least_value(field: str) -> None:
    with pytest.raises(ValueError, match=f"tiling policy: {field} "):
        replace(TilingPolicy(), **{field: -1})


@pytest.mark.parametrize(("field", "value"), [("layer_share", 1.5), ("tolerance", 2), ("hidden_divisor", 0)])
def test_values_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"tiling policy: {field} .*got {value}"):
        replace(TilingPolicy(), **{field: value})
