"""Movement of values, spelled with views and concatenations: any operator, any arguments, the same elements."""
# pyright: basic
# Functions of models have no types.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from xdsl.dialects.func import ReturnOp

import sta
from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.rewriting.movement import MOST_PARTS
from sta.passes.rewriting.torch_operations import operations_of
from sta.passes.torch.canonicalize_views import canonicalize_views
from sta.passes.torch.decompose_movement import decompose_movement
from sta.passes.torch.fold_constants import fold_constants
from tests.support.torch_modules import signal_to_noise

CORE = (
    dialect.ConcatenateOp,
    dialect.ViewOp,
    dialect.PermuteOp,
    dialect.SliceTensorOp,
    dialect.ExpandOp,
    dialect.LiteralOp,
    dialect.ListConstructOp,
    dialect.ConstantIntOp,
    dialect.ConstantBoolOp,
    dialect.ConstantFloatOp,
    ReturnOp,
)


class Moved(nn.Module):
    def __init__(self, move: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.move = move

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.move(x, y)


def spelled(move: Callable[[Tensor, Tensor], Tensor], *sizes: int) -> list[Any]:
    """Checks that `move` of two random tensors is spelled with the core alone; returns the operations."""
    x, y = torch.arange(2.0 * np.prod(sizes)).view(2, *sizes)
    imported = import_model(Moved(move), (x, y))
    context = CompileContext(imported.weights)
    for rewrite in (fold_constants, canonicalize_views, decompose_movement, fold_constants, canonicalize_views):
        rewrite(imported.module, context.weights)
        imported.module.verify()
    operations = operations_of(imported.module)
    assert [one.name for one in operations if not isinstance(one, CORE)] == []
    (found,) = run_torch(imported.module, context, {"x": x.numpy(), "y": y.numpy()}).values()
    np.testing.assert_array_equal(found, move(x, y).numpy())
    return operations


def concatenations(operations: list[Any]) -> list[int]:
    """The number of parts of each concatenation."""
    return [len(one.parts) for one in operations if isinstance(one, dialect.ConcatenateOp)]


SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(SIZES, st.data())
def test_every_movement_is_spelled_with_the_core(sizes: list[int], data: st.DataObject) -> None:
    draw, rank = data.draw, len(sizes)
    axis = draw(st.integers(-rank, rank - 1))
    size = sizes[axis]
    index = torch.tensor(draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=12)))
    start = draw(st.integers(0, size - 1))
    stop, step = draw(st.integers(start + 1, size)), draw(st.integers(1, 3))
    pads = draw(st.lists(st.integers(0, 3), min_size=2, max_size=2)) + draw(st.sampled_from([[], [-1, 1], [2, -1]]))
    pads = pads if rank > 1 else pads[:2]
    times = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank + 1))
    shifts = draw(st.lists(st.integers(-9, 9), min_size=rank, max_size=rank))

    def scattered(x: Tensor, y: Tensor) -> Tensor:
        taken = y.narrow(axis, 0, len(range(start, stop, step)))
        return torch.slice_scatter(x, taken, axis, start, stop, step)

    def gathered(x: Tensor, y: Tensor) -> Tensor:
        shape = [1 if one != axis % rank else len(index) for one in range(rank)]
        return x.gather(axis, (index % size).view(shape).expand([*sizes[: axis % rank], -1, *sizes[axis % rank + 1 :]]))

    moves: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "cat": lambda x, y: torch.cat([x, y, x], axis),
        "stack": lambda x, y: torch.stack([x, y], axis),
        "pad": lambda x, y: nn.functional.pad(x, pads, value=0.5),
        "roll": lambda x, y: torch.roll(x, shifts, list(range(rank))),
        "roll of all": lambda x, y: torch.roll(x, shifts[0]),
        "flip": lambda x, y: x.flip(axis),
        "repeat": lambda x, y: x.repeat(times),
        "interleave": lambda x, y: x.repeat_interleave(3, axis),
        "interleave all": lambda x, y: x.repeat_interleave(2),
        "slice": lambda x, y: x[(slice(None),) * (axis % rank) + (slice(start, stop, step),)],
        "scatter": scattered,
        "select scatter": lambda x, y: torch.select_scatter(x, y.select(axis, 0), axis, start),
        "index_select": lambda x, y: x.index_select(axis, index % size),
        "index": lambda x, y: x[(slice(None),) * (axis % rank) + (index,)],
        "gather": gathered,
        "expand": lambda x, y: x.narrow(axis, 0, 1).expand_as(x),
    }
    # An axis that cannot give up a position has none to pad.
    moves = {name: move for name, move in moves.items() if name != "pad" or rank == 1 or sizes[-2] > 1}
    spelled(moves[draw(st.sampled_from(sorted(moves)))], *sizes)


def test_indices_of_several_axes_are_positions_of_their_product() -> None:
    first, second = torch.tensor([[0], [2]]), torch.tensor([1, 3, -1])
    spelled(lambda x, y: x[:, first, second], 2, 3, 4)
    spelled(lambda x, y: x[first, :, second], 3, 2, 4)
    spelled(lambda x, y: x.gather(1, torch.tensor([[[2, 0]], [[1, 1]]])), 2, 3, 2)


def test_windows_in_another_order_are_a_view() -> None:
    order = torch.arange(64).view(4, 2, 4, 2).transpose(1, 2).reshape(-1)
    assert concatenations(spelled(lambda x, y: x[:, order], 2, 64, 3)) == []


def test_runs_of_positions_are_slices() -> None:
    order = torch.tensor([9, 0, 1, 2, 3, 3, 3, 8, 6, 4])
    assert concatenations(spelled(lambda x, y: x[order], 10, 2)) == [3, 5]


def test_long_axes_are_reversed_in_few_operations() -> None:
    assert len(spelled(lambda x, y: x.flip(0), 512, 2)) < 200


def test_positions_in_no_order_at_all_stay_as_they_are() -> None:
    order = torch.tensor(np.random.default_rng(0).permutation(4 * MOST_PARTS))
    with pytest.raises(AssertionError, match=r"aten\.index"):
        spelled(lambda x, y: x[order], 4 * MOST_PARTS, 2)


def test_infinite_padding_stays() -> None:
    with pytest.raises(AssertionError, match=r"aten\.constant_pad_nd"):
        spelled(lambda x, y: nn.functional.pad(x, (1, 1), value=float("-inf")), 4, 2)


def test_masks_and_integers_stay() -> None:
    with pytest.raises(AssertionError, match=r"aten\.cat"):
        spelled(lambda x, y: torch.cat([x > 1, y > 1]), 4, 2)


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (1, 0, 2, 3), (3, 0, 1, 2)])
def test_positions_that_differ_from_row_to_row_are_a_product(axes: tuple[int, ...]) -> None:
    rows = torch.randint(20, (1, 1, 9, 40), generator=torch.Generator().manual_seed(0)).expand(2, 3, 9, 40)
    index, axis = rows.permute(axes).contiguous(), axes.index(3)
    x = np.random.default_rng(0).normal(size=np.transpose(np.empty((2, 3, 9, 20)), axes).shape).astype(np.float32)
    model = Moved(lambda x, y: x.gather(axis, index) + y)
    imported = import_model(model, (torch.tensor(x), torch.ones(1)))
    for rewrite in (fold_constants, canonicalize_views, decompose_movement):
        rewrite(imported.module, imported.weights)
        imported.module.verify()
    (product,) = (one for one in operations_of(imported.module) if isinstance(one, dialect.MatmulOp))
    assert dialect.sizes_of(product.other) == (9, 20, 40)
    context, inputs = CompileContext(imported.weights), {"x": x, "y": np.ones(1, np.float32)}
    (found,) = run_torch(imported.module, context, inputs).values()
    np.testing.assert_allclose(found, np.take_along_axis(x, index.numpy(), axis) + 1, rtol=1e-6)
    program = sta.compile(model, inputs, calibration={name: array[None] for name, array in inputs.items()}, check=True)
    assert signal_to_noise(found, program.run(inputs).outputs["output"]) > 60
