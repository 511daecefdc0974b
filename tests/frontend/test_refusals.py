"""Models that have no form on the machine, whatever operators it knows: one message each, which says why."""
# pyright: basic
# torch.cond and torch.sparse have no complete types.

import re

import pytest
import torch
from torch import nn

import sta
from sta.frontend.errors import ModelError


class Complex(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x)


class Sized(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x > 0]


class Counted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nonzero(x).float()


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


class PythonBranch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4).to_sparse())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sparse.mm(self.weight, x)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Complex(), "complex numbers have no integer form"),
        (Sized(), "size of its result depends on numbers, and every size must be known"),
        (Counted(), "size of its result depends on numbers, and every size must be known"),
        (
            Branching(),
            r"^torch\.cond in forward cannot be compiled: its parts run by the values",
        ),
        (PythonBranch(), "control flow must not depend on their values"),
        (Sparse(), r"weight is a sparse tensor: store it with to_dense\(\)"),
    ],
)
def test_what_has_no_form_is_refused_in_one_message(part: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=re.compile(message, re.IGNORECASE)) as caught:
        sta.compile(part, (torch.randn(4, 4),), fast=True)
    assert type(caught.value).__module__.startswith("sta"), caught.value
    assert isinstance(caught.value, ModelError)
