"""Tests for complex numbers as pairs of real ones, against PyTorch."""
# pyright: basic
# torch.fx and torch.export have no complete types.

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Interpreter

from sta.frontend.complex_numbers import split_complex_numbers
from sta.frontend.graph_builder import erase_assertions

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance")

ROWS, PAIRS = 5, 4
ANGLES = torch.outer(torch.arange(ROWS).float(), 0.3 ** torch.arange(PAIRS).float())
TURNS = torch.polar(torch.ones_like(ANGLES) * 1.5, ANGLES)


def as_complex(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def as_real(z: Tensor) -> Tensor:
    return torch.view_as_real(z).flatten(-2)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "a product with a buffer": lambda x: as_real(as_complex(x) * TURNS),
    "a product with its conjugate": lambda x: as_real(TURNS.conj() * as_complex(x)),
    "a product of two values": lambda x: as_real(as_complex(x) * as_complex(x.flip(0))),
    "polar": lambda x: as_real(torch.polar(x[:, :PAIRS], x[:, PAIRS:]) * as_complex(x)),
    "complex of a row and a table": lambda x: as_real(torch.complex(x[:1, :PAIRS], x[:, PAIRS:])),
    "an exponential": lambda x: as_real(torch.exp(1j * x) + 2),
    "sums and differences": lambda x: as_real((as_complex(x) + x[:, :1]) - (TURNS - 3 + 1j)),
    "a number less a value": lambda x: as_real((2 - 1j) - as_complex(x)),
    "products with numbers": lambda x: as_real(as_complex(x) * 3 * (1 - 2j) * 1j),
    "quotients": lambda x: as_real(as_complex(x) / TURNS / 2 / (2 + x[:, :PAIRS].abs()) / (1 + 1j)),
    "a number by a value": lambda x: as_real(1 / (as_complex(x) + 4)),
    "parts": lambda x: as_complex(x).real - as_complex(x).imag * 2,
    "lengths": lambda x: as_complex(x).abs(),
    "views": lambda x: as_real(torch.cat((as_complex(x).mT[1:3], as_complex(x)[:, :2].mT)).unflatten(0, (2, 2)).sum(1)),
    "a real value made complex": lambda x: as_real(x.to(torch.complex64) * TURNS[:, :1]),
    "doubles": lambda x: as_real((as_complex(x).to(torch.complex128) * TURNS).to(torch.complex64)),
}


class _Model(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _split(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[list[str], Tensor]:
    """The nodes of complex numbers that are left, and the result."""
    program = torch.export.export(_Model(function).eval(), (x,)).run_decompositions({})
    program._state_dict = {**program.constants, **program.state_dict}
    erase_assertions(program)
    split_complex_numbers(program)
    program.graph.lint()
    state = {**program.state_dict, **program.constants}
    arguments = [x if one.target is None else state[one.target] for one in program.graph_signature.input_specs]
    left = [
        node.name for node in program.graph.nodes if node.op == "call_function" and node.meta["val"].dtype.is_complex
    ]
    with torch.no_grad():
        return left, Interpreter(program.graph_module).run(*arguments)[0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_parts_are_those_of_the_model(name: str) -> None:
    x = torch.randn(ROWS, 2 * PAIRS, generator=torch.Generator().manual_seed(0))

    left, result = _split(FUNCTIONS[name], x)

    assert left == []
    torch.testing.assert_close(result, FUNCTIONS[name](x), rtol=1e-5, atol=1e-5)


def test_what_has_no_rule_stays_with_all_that_it_reads() -> None:
    x = torch.randn(ROWS, 2 * PAIRS)

    left, result = _split(lambda x: as_real((as_complex(x) * TURNS).sqrt() * 2), x)

    assert len(left) == 4
    torch.testing.assert_close(result, as_real((as_complex(x) * TURNS).sqrt() * 2))
