"""Rows of operators: a function of each element, one that is made of others, and one that depends on no input."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sta.spec.operators.elementwise import elementwise
from sta.spec.operators.operator import Operator, Role

SINC = elementwise("aten.sinc", np.sinc, "sin(pi x) / (pi x)", curvature=math.pi**2 / 3)


def _swiglu(gate: torch.Tensor, x: torch.Tensor, slope: float) -> torch.Tensor:
    return torch.nn.functional.silu(slope * gate) * x


@torch.library.custom_op("acme::swiglu", mutates_args=())
def swiglu(gate: torch.Tensor, x: torch.Tensor, slope: float) -> torch.Tensor:
    """A kernel of somebody else."""
    return _swiglu(gate, x, slope)


@swiglu.register_fake  # pyright: ignore[reportUnknownMemberType] - PyTorch leaves it untyped
def _swiglu_shape(gate: torch.Tensor, x: torch.Tensor, slope: float) -> torch.Tensor:
    return torch.empty_like(x)


SWIGLU = Operator("acme.swiglu", Role.COMPOSITION, "silu(slope * gate) * x (Shazeer 2020)", parts=_swiglu)


@torch.library.custom_op("acme::slopes", mutates_args=())
def slopes(count: int) -> torch.Tensor:
    """``2 ** -i`` for i < count."""
    return torch.tensor([2.0**-i for i in range(count)])


@slopes.register_fake  # pyright: ignore[reportUnknownMemberType] - PyTorch leaves it untyped
def _slopes_shape(count: int) -> torch.Tensor:
    return torch.empty(count)


def _slopes_reference(count: int) -> NDArray[np.floating[Any]]:
    return 0.5 ** np.arange(count)


SLOPES = Operator("acme.slopes", Role.CONSTANT, "falling slopes", reference=_slopes_reference)
