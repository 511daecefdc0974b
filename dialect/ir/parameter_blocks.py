"""Parameters of `nm` operations in the form of the vector unit, for the interpreters and for the lowering alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.dialect import nm
from sta.spec.parameters import MapParameters, NormParameters

Array = NDArray[Any]


def scalar_map_parameters(
    bias: int, multiplier: int, shift: int, epilogue: Mapping[str, int] | None = None
) -> MapParameters:
    """Parameters of the vector unit with one bias and one scale for all columns."""
    return channel_map_parameters(
        np.array([bias], np.int32), np.array([multiplier], np.int32), np.array([shift], np.int8), epilogue
    )


def channel_map_parameters(
    bias: Array, multiplier: Array, shift: Array, epilogue: Mapping[str, int] | None = None
) -> MapParameters:
    """Parameters of the vector unit with a bias and a scale a column; `epilogue` comes from `epilogue_scalars`."""
    scalars = epilogue or {}
    identity_multiplier, identity_shift = nm.IDENTITY_SCALE
    return MapParameters(
        bias=bias,
        multiplier=multiplier,
        shift=shift,
        table_multiplier=scalars.get("table_multiplier", identity_multiplier),
        table_shift=scalars.get("table_shift", identity_shift),
        residual_bias=scalars.get("residual_bias", 0),
        residual_multiplier=scalars.get("residual_multiplier", identity_multiplier),
        residual_shift=scalars.get("residual_shift", identity_shift),
        output_zero_point=scalars.get("zero_point", 0),
    )


def epilogue_scalars(op: nm.EpilogueOp) -> dict[str, int]:
    """The scalar properties of a fused epilogue by name."""
    table_multiplier, table_shift = op.table_scale.pair
    residual_multiplier, residual_shift = op.residual_scale.pair
    return {
        "table_multiplier": table_multiplier,
        "table_shift": table_shift,
        "residual_bias": op.residual_bias.value.data,
        "residual_multiplier": residual_multiplier,
        "residual_shift": residual_shift,
        "zero_point": op.zero_point.value.data,
    }


def norm_parameters(op: nm.NormOp, gamma: Array, beta: Array) -> NormParameters:
    """Parameters of a norm as the vector unit reads them."""
    return NormParameters(
        gamma=gamma,
        beta=beta,
        epsilon=op.epsilon.value.data,
        shift=op.shift.value.data,
        copy_multiplier=op.copy_scale.multiplier.value.data,
        copy_shift=op.copy_scale.shift.value.data,
        copy_zero_point=op.copy_zero_point.value.data,
    )
