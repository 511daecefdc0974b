"""The host prologue: whatever a model computes from integers, with PyTorch's numbers; the machine reads the results."""
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false
# Functions of tensors with arguments of many kinds.

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import embedding, one_hot, pad
from torch.nn.functional import scaled_dot_product_attention as attend
from xdsl.ir import BlockArgument

from sta.dialect import torch as dialect
from sta.dialect.host import prologue_of
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.main_function import main_function, prologue_function
from sta.dialect.ir.model_errors import UnsupportedOperationsError
from sta.frontend.model import ImportedModel, import_model
from sta.passes.pipeline import FLOAT_PIPELINE, pass_registry
from sta.passes.torch.check_supported import check_supported
from sta.passes.torch.extract_prologue import TorchExtractProloguePass

Inputs = Mapping[str, Any]
Function = Callable[..., torch.Tensor]
ROWS = 11
"""Of the table that tests look results up in."""


class LookedUp(nn.Module):
    """Rows of a table for the results of functions of two inputs of integers, whatever their numbers are."""

    def __init__(self, functions: Sequence[Function]) -> None:
        super().__init__()
        self.functions = functions
        self.table = nn.Embedding(ROWS, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.table(function(ids, mask).long().remainder(ROWS)) for function in self.functions)


def extracted(model: nn.Module, inputs: Inputs) -> ImportedModel:
    """The model behind the float passes up to the extraction."""
    imported = import_model(model.eval(), dict(inputs))
    context = CompileContext(imported.weights)
    for name in FLOAT_PIPELINE[: FLOAT_PIPELINE.index(TorchExtractProloguePass.name) + 1]:
        pass_registry()[name]()().apply(context, imported.module)
    imported.module.verify()
    return imported


def check(model: nn.Module, inputs: Inputs, others: Sequence[Inputs] = ()) -> ImportedModel:
    """Compares the module's outputs with PyTorch's, bit for bit, on the example and on other inputs."""
    imported = extracted(model, inputs)
    for given in (inputs, *others):
        found = run_torch(imported.module, CompileContext(imported.weights), dict(given))
        with torch.no_grad():
            made = model(**{name: torch.tensor(array) for name, array in given.items()})
        expected = [made] if isinstance(made, torch.Tensor) else made
        for one, other in zip(found.values(), expected, strict=True):
            np.testing.assert_array_equal(one, other.numpy())
    return imported


def drawn(seed: int, rows: int = 2, columns: int = 6) -> Inputs:
    numbers = np.random.default_rng(seed)
    lengths = numbers.integers(1, columns + 1, (rows, 1))
    ids = numbers.integers(0, 9, (rows, columns))
    # A row without a key is zero, where PyTorch has the mean of the values if finite numbers leave keys out.
    ids[:, 0] = 5
    return {
        "ids": ids,
        "mask": (np.arange(columns) < lengths).astype(np.int64),
    }


FUNCTIONS: dict[str, Function] = {
    "add": lambda ids, mask: ids + mask * 3 - 1 + torch.add(ids, mask, alpha=2),
    "subtract": lambda ids, mask: 7 - ids - mask,
    "bool sums": lambda ids, mask: (ids > 3) + (mask == 0),
    "bool products": lambda ids, mask: (ids > 3) * (mask == 0),
    "narrow": lambda ids, mask: (ids * 40).to(torch.uint8) + mask.to(torch.uint8),
    "quotients": lambda ids, mask: torch.div(ids - 5, 2, rounding_mode="floor") + (ids - 4) // (mask + 1),
    "truncated": lambda ids, mask: torch.div(ids - 5, 2, rounding_mode="trunc") - torch.fmod(ids - 4, 3),
    "remainders": lambda ids, mask: (ids - 5) % 3 + torch.remainder(ids, mask + 2),
    "power": lambda ids, mask: ids**3 + (-mask).abs() + torch.neg(ids),
    "extremes": lambda ids, mask: torch.minimum(ids, mask * 4) + torch.maximum(ids, mask),
    "clamp": lambda ids, mask: ids.clamp(2, 5) + ids.clamp(min=3) + mask.clamp(max=0),
    "bits": lambda ids, mask: (ids & 5) | (mask ^ 3) | ~ids,
    "logic": lambda ids, mask: (ids > 3) & (mask != 0) | ~(ids.eq(4)) ^ (ids <= mask),
    "logical": lambda ids, mask: torch.logical_or(torch.logical_and(ids, mask), torch.logical_xor(ids, mask)),
    "negation": lambda ids, mask: torch.logical_not(mask),
    "comparisons": lambda ids, mask: (ids >= 2).long() + (ids < 7).int() + (ids.gt(mask)) + ids.ne(1),
    "where": lambda ids, mask: torch.where(mask.bool(), ids, -1) + torch.where(ids > 3, ids, mask),
    "masked fill": lambda ids, mask: ids.masked_fill(mask == 0, 3),
    "mask assignment": lambda ids, mask: put(ids, mask == 0, 3) + put(ids, mask[:, 0] == 1, 2),
    "views": lambda ids, mask: ids.unsqueeze(1).transpose(1, 2).reshape(-1, 2).view(2, -1),
    "expand": lambda ids, mask: ids[:, None, :].expand(2, 3, 6) + mask[:, :1].expand_as(ids)[:, None],
    "slices": lambda ids, mask: ids[:, 1:5:2] + mask[:, -2:] + ids[1, 2],
    "flip and roll": lambda ids, mask: ids.flip(1) + ids.roll(2, 1) + ids.roll(-1),
    "repeat": lambda ids, mask: ids.repeat(2, 2) + mask.repeat_interleave(2, 1).repeat_interleave(2, 0),
    "cat": lambda ids, mask: torch.cat([ids, mask.int(), ids.new_zeros(2, 1)], dim=-1),
    "stack": lambda ids, mask: torch.stack([ids, mask], dim=1),
    "pad": lambda ids, mask: pad(ids, (1, 2, 0, 1), value=4),
    "like": lambda ids, mask: torch.zeros_like(ids) + torch.ones_like(mask) + torch.full_like(ids, 3),
    "triangles": lambda ids, mask: (
        (ids[:, :, None] * mask[:, None, :]).tril() + (ids[:, None] + mask[..., None]).triu(1)
    ),
    "one hot": lambda ids, mask: one_hot(ids, 9),
    "sums": lambda ids, mask: mask.sum() + ids.sum(1, keepdim=True) + ids.sum((0, 1)) + (ids > 4).sum(-1, keepdim=True),
    "any and all": lambda ids, mask: (ids > 7).any(1).long() + mask.all(1) + (ids > 0).all() + mask.any(),
    "largest": lambda ids, mask: (
        ids.max() + ids.amax(1) + ids.max(1).values + ids.min(1).values - ids.amin(1) + ids.min()
    ),
    "places": lambda ids, mask: ids.argmax(1) + mask.argmin(1) + ids.argmax() + ids.max(1).indices,
    "cumsum": lambda ids, mask: torch.cumsum(mask, 1) * mask + (ids != 1).cumsum(1) + ids.cumsum(0, dtype=torch.int32),
    "gather": lambda ids, mask: torch.gather(ids, 1, mask[:, 1:4]),
    "index select": lambda ids, mask: ids.index_select(1, mask[0, :4] + 2),
    "index": lambda ids, mask: ids[mask, ids.clamp(max=5)] + ids[:, torch.tensor([5, 0, -1])].sum(1, keepdim=True),
    "last token": lambda ids, mask: ids[torch.arange(2), mask.sum(1) - 1],
    "from behind": lambda ids, mask: ids[mask - 1],
    "table": lambda ids, mask: torch.arange(20).flip(0)[ids] + torch.arange(12).view(4, 3)[mask, mask * 2],
    "shifted": lambda ids, mask: shifted(ids),
    "roberta": lambda ids, mask: (torch.cumsum(ids.ne(1).int(), 1).type_as(ids) * ids.ne(1)).long() + 1,
    "lengths": lambda ids, mask: torch.arange(6)[None, :] < mask.sum(1)[:, None],
    "segments": lambda ids, mask: (ids[:, :, None] == ids[:, None, :]) & (mask[:, None, :] == 1),
}


def put(ids: torch.Tensor, mask: torch.Tensor, number: int) -> torch.Tensor:
    """As models of transformers put the padding token in place of images."""
    result = ids.clone()
    result[mask] = number
    return result


def shifted(ids: torch.Tensor) -> torch.Tensor:
    """As decoders of transformers shift their labels."""
    result = ids.new_zeros(ids.shape)
    result[:, 1:] = ids[:, :-1].clone()
    result[:, 0] = 2
    return result.masked_fill(result == 0, 1)


def reads_arguments_only(imported: ImportedModel) -> bool:
    """True if nothing of `main` computes with integers."""
    tables = [op for op in main_function(imported.module).walk() if isinstance(op, dialect.EmbeddingOp)]
    return all(isinstance(table.indices, BlockArgument) for table in tables)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_pytorch_computes_from_integers_the_host_does(name: str) -> None:
    imported = check(LookedUp([FUNCTIONS[name]]), drawn(0), [drawn(seed) for seed in range(1, 4)])
    assert prologue_of(imported.module, imported.weights) is not None
    assert reads_arguments_only(imported)


class Positions(nn.Module):
    """Positions of the tokens that are none of padding, whose rows a table has: a matrix, or one of matrices."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.weights = nn.Buffer(torch.randn(20, *sizes, generator=torch.Generator().manual_seed(0)))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        counted = ids.ne(1).int()
        positions = (torch.cumsum(counted, 1) * counted).long() + 1 + mask
        return self.weights.index_select(0, positions.view(-1)).view(*ids.shape, *self.sizes)


@pytest.mark.parametrize("sizes", [(8,), (2, 3)])
def test_rows_selected_from_a_table_are_an_embedding(sizes: tuple[int, ...]) -> None:
    imported = check(Positions(*sizes), drawn(0), [drawn(seed) for seed in range(1, 4)])
    assert sum(isinstance(one, dialect.EmbeddingOp) for one in main_function(imported.module).walk()) == 1
    assert reads_arguments_only(imported)


class RandomGraph:
    """A composition of functions of two matrices of integers, which give such a matrix."""

    STEPS: tuple[Function, ...] = (
        lambda a, b: a + b,
        lambda a, b: a - b * 2,
        lambda a, b: a * b % 13,
        lambda a, b: torch.where(a > b, a, b + 1),
        lambda a, b: a.masked_fill(b.eq(1), 2),
        lambda a, b: torch.cumsum(a, 1),
        lambda a, b: a.flip(0) + b.roll(1, 1),
        lambda a, b: torch.gather(a, 1, b % 6),
        lambda a, b: a[:, b[0] % 6],
        lambda a, b: torch.cat([a[:, 2:], b[:, :2]], 1),
        lambda a, b: (a < b).long(),
        lambda a, b: a.sum(1, keepdim=True) - b,
        lambda a, b: a.amax(0) + b.argmax(1, keepdim=True),
        lambda a, b: a.clamp(-3, 9) // (b.abs() + 1),
        lambda a, b: a.int() + b.to(torch.int16),
        lambda a, b: (a.bool() & ~b.bool()).int(),
        lambda a, b: torch.arange(40)[(a + b) % 40],
    )

    def __init__(self, seed: int) -> None:
        chooser = random.Random(seed)
        self.steps = [(chooser.choice(self.STEPS), chooser.random(), chooser.random()) for _ in range(8)]

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Each step takes two of the values so far."""
        values = [ids, mask]
        for function, first, second in self.steps:
            values.append(function(values[int(first * len(values))], values[int(second * len(values))].long()))
        return values[-1]


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_of_integers(seed: int) -> None:
    graphs = [RandomGraph(10 * seed + number) for number in range(4)]
    check(LookedUp(graphs), drawn(seed), [drawn(100 + seed)])


class Attention(nn.Module):
    """Attention with a mask that `make` makes of ids and a mask."""

    def __init__(self, make: Function) -> None:
        super().__init__()
        self.make = make
        self.table = nn.Embedding(9, 8)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.table(ids).view(*ids.shape, 2, 4).transpose(1, 2)
        return attend(x, x, x, attn_mask=self.make(ids, mask))


CAUSAL = torch.ones(6, 6, dtype=torch.bool).tril()
LEAST = torch.finfo(torch.float32).min
ADDED = torch.full((6, 6), LEAST).triu(1)
"""A causal mask that is added to scores."""


def alike(ids: torch.Tensor) -> torch.Tensor:
    """True for two tokens of a sequence that are the same."""
    return ids[:, :, None] == ids[:, None, :]


def admitting(bools: torch.Tensor) -> torch.Tensor:
    """A mask of bools as numbers that are added to scores."""
    return torch.where(bools, 0.0, LEAST)


def inverted(mask: torch.Tensor) -> torch.Tensor:
    """As older models of transformers make numbers of a mask."""
    excluded = 1.0 - mask.float()
    return excluded.masked_fill(excluded.bool(), LEAST)


def joined(mask: torch.Tensor) -> torch.Tensor:
    """As decoders of transformers put padding into a causal mask."""
    causal = ADDED[None, None].expand(2, 1, 6, 6).clone()
    padding = causal + mask[:, None, None, :]
    return causal.masked_fill(padding == 0, LEAST)


MASKS: dict[str, tuple[Function, list[int]]] = {
    "ids that are no padding": (lambda ids, mask: ids.ne(1)[:, None, None, :], [2, 1, 1, 6]),
    "segments": (lambda ids, mask: alike(ids)[:, None], [2, 1, 6, 6]),
    "window": (lambda ids, mask: CAUSAL.triu(-2) & mask.bool()[:, None, None, :] | torch.eye(6).bool(), [2, 1, 6, 6]),
    "two axes": (lambda ids, mask: (ids[0] > 2)[None, :] | torch.eye(6).bool(), [1, 1, 6, 6]),
    "chosen numbers": (lambda ids, mask: admitting(ids.ne(1)[:, None, None, :]), [2, 1, 1, 6]),
    "computed numbers": (lambda ids, mask: (1.0 - ids.ne(1)[:, None, None, :].float()) * LEAST, [2, 1, 1, 6]),
    "inverted numbers": (lambda ids, mask: inverted(ids.ne(1)[:, None, None, :].expand(2, 1, 6, 6)), [2, 1, 1, 6]),
    "causal and ids": (lambda ids, mask: ADDED + admitting(ids.ne(1)[:, None, None, :]), [2, 1, 1, 6]),
    "causal bools and ids": (lambda ids, mask: CAUSAL & ids.ne(1)[:, None, None, :], [2, 1, 1, 6]),
    "padding twice": (lambda ids, mask: joined(mask) + admitting((ids > 0)[:, None, None, :]), [2, 1, 1, 6]),
    "padding and segments": (
        lambda ids, mask: (
            (1.0 - mask[:, None, None, :].float()) * LEAST + admitting(alike(ids)[:, None] | (torch.arange(6) == 0))
        ),
        [2, 1, 6, 6],
    ),
    "window of numbers": (
        lambda ids, mask: admitting(CAUSAL.triu(-2)) + admitting((mask.bool() | ids.ne(1))[:, None, None, :]),
        [2, 1, 6, 6],
    ),
    "one key for all": (lambda ids, mask: ids[:, None, :1, None] > 2, [2, 1, 1, 6]),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_that_are_combined_at_run_time(name: str) -> None:
    make, sizes = MASKS[name]
    model = Attention(make)
    imported = extracted(model, drawn(0))
    attention = next(
        op for op in main_function(imported.module).walk() if isinstance(op, dialect.ScaledDotProductAttentionOp)
    )
    assert isinstance(attention.attn_mask, BlockArgument)
    assert list(dialect.sizes_of(attention.attn_mask)) == sizes
    assert dialect.MASK_ERROR not in attention.attributes
    for seed in range(3):
        given = drawn(seed)
        found = next(iter(run_torch(imported.module, CompileContext(imported.weights), dict(given)).values()))
        with torch.no_grad():
            expected = model(**{key: torch.tensor(array) for key, array in given.items()}).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_inputs_that_the_machine_can_read_stay() -> None:
    imported = extracted(Attention(lambda ids, mask: mask.bool()[:, None, None, :]), drawn(0))
    assert prologue_function(imported.module) is None


def test_an_input_that_nothing_reads_takes_any_numbers() -> None:
    model = LookedUp([lambda ids, mask: ids])
    imported = check(model, drawn(0), [{**drawn(1), "mask": np.full((2, 6), -77)}])
    prologue = prologue_of(imported.module, imported.weights)
    assert prologue is not None
    assert [one.name for one in prologue.inputs] == ["ids", "mask"]
    assert prologue.sources(prologue.results[0][1]) == ["ids"]


def test_values_are_computed_once_for_all_that_read_them() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Embedding(30, 2), nn.Embedding(20, 2)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            positions = ids + 1
            return self.first(positions) + self.second(positions) + embedding(ids, self.first.weight)

    imported = check(Twice(), {"ids": drawn(0)["ids"]})
    prologue = prologue_of(imported.module, imported.weights)
    assert prologue is not None
    assert [name for name, _ in prologue.results] == ["first.indices"]


def test_an_index_outside_of_a_table_names_the_input() -> None:
    imported = extracted(LookedUp([lambda ids, mask: torch.arange(5)[ids + mask]]), drawn(0))
    ids = np.full((2, 6), 7)
    with pytest.raises(ValueError, match=r"^inputs 'ids' and 'mask': aten\.index.* is no index of 0\.\.4"):
        run_torch(imported.module, CompileContext(imported.weights), {**drawn(0), "ids": ids})


def test_nothing_is_computed_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 8)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            x = self.table(ids).view(*ids.shape, 2, 4).transpose(1, 2)
            x = attend(x, x, x, attn_mask=ids.ne(1)[:, None, None, :])
            return attend(x, x, x, attn_mask=torch.where(ids.ne(1), 0.0, LEAST)[:, None, None, :])

    imported = extracted(Twice(), drawn(0))
    prologue = prologue_of(imported.module, imported.weights)
    assert prologue is not None
    assert [name for name, _ in prologue.results] == ["forward.mask"]
    assert [step.operation for step in prologue.steps] == ["number", "equal", "not", "reshape"]


def test_numbers_have_the_shape_of_a_product_that_no_factor_has() -> None:
    class Slopes(nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.5], [0.25], [0.125]]) * (mask.cumsum(1) * mask)[:, None, :]

    imported = check(Slopes(), drawn(0), [drawn(1)])
    prologue = prologue_of(imported.module, imported.weights)
    assert prologue is not None
    assert prologue.result_type("forward.numbers").shape == (2, 3, 6)


def test_indices_that_the_host_cannot_compute_are_refused_by_the_operator() -> None:
    model = LookedUp([lambda ids, mask: ids.sort(1).values])
    imported = extracted(model, drawn(0))
    with pytest.raises(UnsupportedOperationsError, match=r"made with aten\.sort, which the host does not compute"):
        check_supported(imported.module)
