"""Attention masks: one of a few forms, whatever produced them, or an error with the reason."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as attend
from xdsl.dialects.builtin import StringAttr, i1

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import ImportedModel, import_model
from sta.passes.torch.fold_constants import fold_constants
from sta.passes.torch.fold_masks import TorchFoldMasksPass, fold_masks
from sta.passes.torch.recognize_attention import recognize_attention
from tests.support.torch_modules import largest_difference, outputs_of, overloads

B, H, S, D = 2, 3, 4, 2


class Masked(nn.Module):
    """Attention with the mask that `make` makes of an input."""

    def __init__(self, make: Any, is_causal: bool = False) -> None:
        super().__init__()
        self.make = make
        self.is_causal = is_causal
        self.table = nn.Embedding(9, H * D)

    def forward(self, x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return attend(x, x, x, attn_mask=self.make(m), is_causal=self.is_causal)


class Indexed(Masked):
    """The input of the mask names rows of a table as well."""

    def forward(self, x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return super().forward(x + self.table(m).view(B, S, H, D).transpose(1, 2), m)


def folded(model: nn.Module, m: np.ndarray) -> tuple[ImportedModel, dialect.ScaledDotProductAttentionOp]:
    x = np.random.default_rng(0).normal(size=(m.shape[0] if m.ndim > 1 else B, H, S, D)).astype(np.float32)
    inputs = {"x": x, "m": m}
    imported = import_model(model.eval(), dict(inputs))
    context = CompileContext(imported.weights)
    fold_constants(imported.module, context.weights)
    TorchFoldMasksPass().apply(context, imported.module)
    imported.module.verify()
    assert largest_difference(run_torch(imported.module, context, inputs), outputs_of(model, inputs)) < 1e-6
    found = [one for one in imported.module.walk() if isinstance(one, dialect.ScaledDotProductAttentionOp)]
    return imported, found[0]


def form(imported: ImportedModel, attention: dialect.ScaledDotProductAttentionOp) -> tuple[Any, bool]:
    """The shape of the mask operand (None where there is none; with "constant" if it is one), and is_causal."""
    mask = attention.attn_mask
    is_causal = bool(dialect.constant_of(attention.is_causal))
    if isinstance(mask.type, dialect.NoneType):
        return None, is_causal
    sizes = dialect.sizes_of(mask)
    return (("constant", *sizes) if isinstance(mask.owner, dialect.LiteralOp) else sizes), is_causal


KEEP = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
PADDING = (B, 1, 1, S)
TRIANGLE = torch.ones(S, S).tril()


def to_bool(m: torch.Tensor) -> Any:
    return m.bool()[:, None, None, :]


def compared(m: torch.Tensor) -> Any:
    return (m != 0).view(B, 1, 1, S).expand(B, 1, S, S)


def greater(m: torch.Tensor) -> Any:
    return (m[:, None, None] > 0).expand(B, H, S, S)


def equal_to_one(m: torch.Tensor) -> Any:
    return (m == 1).unsqueeze(1).unsqueeze(2)


def not_excluded(m: torch.Tensor) -> Any:
    return ~(m == 0)[:, None, None, :]


def added(m: torch.Tensor) -> Any:
    return (1.0 - m[:, None, None, :].float()) * torch.finfo(torch.float32).min


def divided(m: torch.Tensor) -> Any:
    return (m[:, None, None, :].float() - 1.0) / 1e-9


def selected(m: torch.Tensor) -> Any:
    return torch.index_select(m, 1, torch.arange(S)).bool()[:, None, None, :]


def chosen(m: torch.Tensor) -> Any:
    return torch.where(m.bool()[:, None, None, :], 0.0, float("-inf"))


def filled(m: torch.Tensor) -> Any:
    return torch.zeros(B, 1, S, S).masked_fill(m[:, None, None, :] == 0, -1e9)


def indexed(m: torch.Tensor) -> Any:
    return m.bool()[torch.arange(B)[:, None, None, None], torch.arange(S)[None, None, None, :]]


def with_triangle(m: torch.Tensor) -> Any:
    return m.bool()[:, None, None, :] & TRIANGLE.bool()


def added_with_triangle(m: torch.Tensor) -> Any:
    return (1 - m[:, None, None, :] * TRIANGLE) * -1e9


def triangle(m: torch.Tensor) -> Any:
    return (torch.arange(S)[None, :] <= torch.arange(S)[:, None])[None, None]


def triangle_added(m: torch.Tensor) -> Any:
    return torch.full((S, S), float("-inf")).triu(1)


def everything(m: torch.Tensor) -> Any:
    return torch.ones(B, 1, S, S).bool()


def band(m: torch.Tensor) -> Any:
    return (torch.ones(S, S).tril(1).triu(-1) > 0).expand(B, H, S, S)


def band_by_head(m: torch.Tensor) -> Any:
    return torch.stack([torch.ones(S, S).tril(head) for head in range(H)]).bool()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (to_bool, (PADDING, False)),
        (compared, (PADDING, False)),
        (greater, (PADDING, False)),
        (equal_to_one, (PADDING, False)),
        (not_excluded, (PADDING, False)),
        (added, (PADDING, False)),
        (divided, (PADDING, False)),
        (selected, (PADDING, False)),
        (chosen, (PADDING, False)),
        (filled, (PADDING, False)),
        (indexed, (PADDING, False)),
        (with_triangle, (PADDING, True)),
        (added_with_triangle, (PADDING, True)),
        (triangle, (None, True)),
        (triangle_added, (None, True)),
        (everything, (None, False)),
        (band, (("constant", 1, 1, S, S), False)),
        (band_by_head, (("constant", 1, H, S, S), False)),
    ],
)
def test_forms(make: Any, expected: tuple[Any, bool]) -> None:
    imported, attention = folded(Masked(make), KEEP)
    assert form(imported, attention) == expected
    if dialect.MEANS in attention.attributes:
        # Rows before the first token have the mean of the values.
        return
    made_of = set(overloads(imported.module)) - {"scaled_dot_product_attention", "view"}
    assert made_of <= {"to.dtype"}


def test_a_bool_input_is_the_mask_itself() -> None:
    imported, attention = folded(Masked(lambda m: m[:, None, None, :]), KEEP.astype(bool))  # pyright: ignore[reportUnknownLambdaType]
    assert form(imported, attention) == (PADDING, False)
    assert overloads(imported.module) == ["view", "scaled_dot_product_attention"]


def for_all(m: torch.Tensor) -> Any:
    return m.bool().expand(B, 1, S, S)


def test_one_mask_for_all_samples_is_broadcast() -> None:
    imported, attention = folded(Masked(for_all), KEEP[0])
    assert form(imported, attention) == ((1, 1, 1, S), False)


def left_out(m: torch.Tensor) -> Any:
    return (m == 0)[:, None, None, :]


def left_out_added(m: torch.Tensor) -> Any:
    return torch.zeros(B, S).masked_fill(m.bool(), float("-inf")).view(B, 1, 1, S).expand(B, H, 1, S)


def left_out_with_triangle(m: torch.Tensor) -> Any:
    return ~m.bool()[:, None, None, :] & TRIANGLE.bool()


@pytest.mark.parametrize(
    ("make", "is_causal"), [(left_out, False), (left_out_added, False), (left_out_with_triangle, True)]
)
@pytest.mark.parametrize("kind", [bool, np.int64])
def test_a_mask_of_what_is_left_out_is_negated(make: Any, is_causal: bool, kind: Any) -> None:
    keep = np.array([[0, 0, 1, 1], [0, 1, 0, 1]]).astype(kind)
    imported, attention = folded(Masked(make), keep)
    assert form(imported, attention) == (PADDING, is_causal)
    assert overloads(imported.module) == ["logical_not", "view", "scaled_dot_product_attention"]


class Twice(Masked):
    """Two attentions with masks made of one input."""

    def forward(self, x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        first, second = self.make(m)
        return attend(attend(x, x, x, attn_mask=first), x, x, attn_mask=second)


@pytest.mark.parametrize("first", [to_bool, left_out])
@pytest.mark.parametrize("second", [compared, left_out])
def test_an_input_has_one_sense(first: Any, second: Any) -> None:
    imported, _ = folded(Twice(lambda m: (first(m), second(m))), KEEP)  # pyright: ignore[reportUnknownLambdaType]
    attentions = [one for one in imported.module.walk() if isinstance(one, dialect.ScaledDotProductAttentionOp)]
    assert dialect.MASK_ERROR not in attentions[0].attributes
    if (first is left_out) == (second is left_out):
        assert dialect.MASK_ERROR not in attentions[1].attributes
        return
    assert "another attention counts the keys" in cast(StringAttr, attentions[1].attributes[dialect.MASK_ERROR]).data


def rows_too(m: torch.Tensor) -> Any:
    return m.bool()[:, None, None, :] & m.bool()[:, None, :, None]


def segments(m: torch.Tensor) -> Any:
    return m[:, None, :, None] == m[:, None, None, :]


def causal_segments(m: torch.Tensor) -> Any:
    return segments(m) & TRIANGLE.bool()


def segments_added(m: torch.Tensor) -> Any:
    return torch.where(segments(m), 0.0, -1e9)


def three_elements(m: torch.Tensor) -> Any:
    return torch.where(m[:, None, None, :1] == 1, segments(m), ~segments(m))


def chosen_by_another(m: torch.Tensor) -> Any:
    # All ones admit everything, and all zeros do.
    return torch.where(m.bool()[:, None, :, None], m.bool()[:, None, None, :], ~m.bool()[:, None, None, :])


def third_number(m: torch.Tensor) -> Any:
    return (m != 3)[:, None, None, :]


def with_band(m: torch.Tensor) -> Any:
    return m.bool()[:, None, None, :] & torch.ones(S, S).tril(1).bool()


def flipped(m: torch.Tensor) -> Any:
    return m.bool()[:, torch.arange(S - 1, -1, -1)][:, None, None, :]


def bias(m: torch.Tensor) -> Any:
    return torch.arange(S).float().neg().expand(S, S)


def summed(m: torch.Tensor) -> Any:
    return (m.cumsum(1) > 1)[:, None, None, :]


def by_row(m: torch.Tensor) -> Any:
    return m.bool()[:, None, :, None].expand(B, 1, S, S)


def partly(m: torch.Tensor) -> Any:
    return m.bool()[:, None, None, :] | (torch.arange(S) == 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (rows_too, "two elements of an input"),
        (segments, "two elements of an input"),
        (causal_segments, "two elements of an input"),
        (segments_added, "two elements of an input"),
        (three_elements, "two elements of an input"),
        (chosen_by_another, "two elements of an input"),
        (third_number, "other numbers may"),
        (with_band, "a constant one that is not causal"),
        (flipped, "not those of an input in their order"),
        (summed, "made with aten.cumsum"),
        (by_row, "differently for different heads or rows"),
        (partly, "for some keys only"),
    ],
)
def test_other_masks_stay_and_say_why(make: Any, message: str) -> None:
    _, attention = folded(Masked(make), KEEP)
    assert not isinstance(attention.attn_mask.type, dialect.NoneType)
    assert message in cast(StringAttr, attention.attributes[dialect.MASK_ERROR]).data


# --- Biases ---

SLOPES = -torch.rand(1, H, S, S, generator=torch.Generator().manual_seed(5)) * 60


def filled_bias(m: torch.Tensor) -> Any:
    return torch.where(to_bool(m), SLOPES, torch.finfo(torch.float32).min)


def sum_with_a_bias(m: torch.Tensor) -> Any:
    return SLOPES + added(m) - SLOPES[:, :1] / 2


def constant_bias_and_mask(m: torch.Tensor) -> Any:
    return SLOPES.masked_fill(TRIANGLE == 0, -1e9)


def bias_of_segments(m: torch.Tensor) -> Any:
    return SLOPES + (1 - (m[:, None, :, None] == m[:, None, None, :]).float()) * -1e9


def rearranged_sum(m: torch.Tensor) -> Any:
    return (added(m).view(B, S, 1) + SLOPES[0, :, 0].T).permute(0, 2, 1).reshape(B, H, 1, S)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (bias, (None, False)),
        (filled_bias, (PADDING, False)),
        (sum_with_a_bias, (PADDING, False)),
        (constant_bias_and_mask, (None, True)),
        (rearranged_sum, (PADDING, False)),
    ],
)
def test_a_bias_is_apart_from_the_mask(make: Any, expected: Any) -> None:
    imported, attention = folded(Masked(make), KEEP)
    assert form(imported, attention) == expected
    assert attention.bias is not None
    assert dialect.tensor_type(attention.bias).is_float
    assert dialect.MASK_ERROR not in attention.attributes


def test_a_mask_that_is_not_known_is_a_bool_tensor_beside_the_bias() -> None:
    _, attention = folded(Masked(bias_of_segments), KEEP)
    assert attention.bias is not None
    assert dialect.tensor_type(attention.attn_mask).element_type == i1
    assert "two elements of an input" in cast(StringAttr, attention.attributes[dialect.MASK_ERROR]).data


class Computed(Masked):
    """A bias that the model computes, filled where keys are left out."""

    def forward(self, x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        scores = torch.tanh(x @ x.mT).masked_fill(~to_bool(m), -1e9) * 2
        return attend(x, x, x, attn_mask=scores)


def test_a_computed_bias_is_apart_from_the_mask() -> None:
    imported, attention = folded(Computed(to_bool), KEEP)
    assert form(imported, attention) == (PADDING, False)
    assert attention.bias is not None
    assert "tanh" in overloads(imported.module)


def without_effect(m: torch.Tensor) -> Any:
    return m.bool()[:, None, None, :] | torch.ones(S, dtype=torch.bool)


def hidden_by_constants(m: torch.Tensor) -> Any:
    # Two elements meet only where a constant decides.
    rows = m.bool()[:, None, :, None] | torch.ones(S, S, dtype=torch.bool)
    return m.bool()[:, None, None, :] & rows


def decided_by_one(m: torch.Tensor) -> Any:
    keys, rows = m.bool()[:, None, None, :], m.bool()[:, None, :, None]
    return torch.where(torch.ones(S, S).bool(), keys, rows)


@pytest.mark.parametrize(
    ("make", "expected"), [(without_effect, None), (hidden_by_constants, PADDING), (decided_by_one, PADDING)]
)
def test_what_does_not_change_an_element_is_no_dependence(make: Any, expected: Any) -> None:
    imported, attention = folded(Masked(make), KEEP)
    assert form(imported, attention) == (expected, False)


def test_a_bool_input_that_changes_nothing_is_dropped() -> None:
    def same(m: torch.Tensor) -> Any:
        return (m == m)[:, None, None, :]

    imported, attention = folded(Masked(same), KEEP.astype(bool))
    assert form(imported, attention) == (None, False)


# --- Rows without a key ---


class Spelled(Masked):
    """Attention operation by operation, in which `fill` takes the place of scores, or is added to them."""

    def __init__(self, make: Any, fill: float, is_added: bool) -> None:
        super().__init__(make)
        self.fill, self.is_added = fill, is_added

    def forward(self, x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        left_out, scores = ~self.make(m), x @ x.mT
        if self.is_added:
            return (scores + torch.where(left_out, self.fill, 0.0)).softmax(-1) @ x
        return scores.masked_fill(left_out, self.fill).softmax(-1) @ x


def empty_rows(m: torch.Tensor) -> Any:
    return TRIANGLE.bool() & (torch.arange(S)[:, None] != 1)


def padded_left(m: torch.Tensor) -> Any:
    return TRIANGLE.bool() & (torch.arange(S) >= 2)


def padded_left_input(m: torch.Tensor) -> Any:
    return padded_left(m) & m.bool()[:, None, None, :]


LEAST = torch.finfo(torch.float32).min


CONSTANT_ROWS = pytest.mark.parametrize(
    ("make", "rows"), [(empty_rows, "row 1 has"), (padded_left, "rows 0 to 1 have"), (padded_left_input, "rows 0 to 1")]
)


@CONSTANT_ROWS
@pytest.mark.parametrize(
    ("fill", "is_added", "reason"),
    [
        (float("-inf"), True, "NaN"),
        (float("-inf"), False, "NaN"),
        (-100.0, True, "the weights of scores without a mask"),
    ],
)
def test_spelled_rows_without_a_key_are_refused(make: Any, rows: str, fill: float, is_added: bool, reason: str) -> None:
    message = refused(Spelled(make, fill, is_added))
    assert f"{rows}" in message
    assert reason in message


def causal_input(m: torch.Tensor) -> Any:
    return TRIANGLE.bool() & m.bool()[:, None, None, :]


def of_queries(m: torch.Tensor) -> Any:
    return m.bool()[:, None, :, None].expand(-1, H, -1, S)


def of_both(m: torch.Tensor) -> Any:
    return m.bool()[:, None, :, None] & m.bool()[:, None, None, :]


ROWS_OF_RUNS = [causal_input, of_queries, of_both]


@pytest.mark.parametrize("make", [empty_rows, padded_left, padded_left_input, *ROWS_OF_RUNS])
@pytest.mark.parametrize(
    ("fill", "is_added"), [(-1e9, True), (LEAST, True), (-1e9, False), (LEAST, False), (-100.0, False)]
)
def test_rows_without_a_key_are_the_mean_of_the_values(make: Any, fill: float, is_added: bool) -> None:
    compares(Spelled(make, fill, is_added))


@pytest.mark.parametrize("make", ROWS_OF_RUNS)
def test_rows_without_a_key_in_a_run_have_scores_that_are_all_lowered(make: Any) -> None:
    compares(Spelled(make, -1e4, True))


@pytest.mark.parametrize("make", ROWS_OF_RUNS)
def test_a_number_that_keeps_a_part_of_the_scores_is_refused_where_a_run_may_admit_no_key(make: Any) -> None:
    assert "keeps a part of the scores in float32" in refused(Spelled(make, -1e7, True))


def compares(model: nn.Module) -> None:
    """Compares a model whose masks are folded with PyTorch, with padding at either end and with nothing else."""
    x = np.random.default_rng(0).normal(size=(B, H, S, D)).astype(np.float32)
    imported = import_model(model.eval(), {"x": x, "m": KEEP})
    for rewrite in (fold_constants, recognize_attention, fold_masks):
        rewrite(imported.module, imported.weights)
    for m in (KEEP, KEEP[:, ::-1].copy(), np.zeros_like(KEEP)):
        inputs = {"x": x, "m": m}
        found = run_torch(imported.module, CompileContext(imported.weights), inputs)
        # -1e4 takes 13 bits from the scores of float32.
        assert largest_difference(found, outputs_of(model, inputs)) < 1e-3


@pytest.mark.parametrize("number", [True, float("-inf")])
def test_rows_without_a_key_are_zero_in_pytorchs_own_attention(number: Any) -> None:
    def make(m: torch.Tensor) -> Any:
        return empty_rows(m) if number is True else torch.where(empty_rows(m), 0.0, number)

    imported, attention = folded(Masked(make), KEEP)
    assert form(imported, attention) == (("constant", 1, 1, S, S), False)


def refused(model: nn.Module) -> str:
    """Reason for which the mask of the only attention of a model is refused."""
    x = np.random.default_rng(0).normal(size=(B, H, S, D)).astype(np.float32)
    imported = import_model(model.eval(), {"x": x, "m": KEEP})
    for rewrite in (fold_constants, recognize_attention, fold_masks):
        rewrite(imported.module, imported.weights)
    found = [one for one in imported.module.walk() if isinstance(one, dialect.ScaledDotProductAttentionOp)]
    return cast(StringAttr, found[0].attributes[dialect.MASK_ERROR]).data


@pytest.mark.parametrize("make", [compared, left_out])
def test_an_index_input_is_no_mask(make: Any) -> None:
    _, attention = folded(Indexed(make), np.array([[3, 5, 2, 0], [4, 7, 0, 0]]))
    assert "made of the indices of an embedding" in cast(StringAttr, attention.attributes[dialect.MASK_ERROR]).data


def test_a_float_input_is_no_mask() -> None:
    _, attention = folded(Masked(lambda m: m[:, None, None, :]), KEEP.astype(np.float32))  # pyright: ignore[reportUnknownLambdaType]
    assert "floating-point input" in cast(StringAttr, attention.attributes[dialect.MASK_ERROR]).data


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.sampled_from([to_bool, compared, indexed, triangle, everything, band, with_triangle]), min_size=2, max_size=3
    ),
    st.integers(0, 2**31),
)
def test_conjunctions_keep_their_meaning(parts: list[Any], seed: int) -> None:
    def make(m: torch.Tensor) -> Any:
        mask = parts[0](m)
        for part in parts[1:]:
            mask = mask & part(m)
        return mask

    # Every row admits its first key: PyTorch's own result for a row without any differs between its kernels.
    keep = np.random.default_rng(seed).integers(0, 2, (B, S))
    keep[:, 0] = 1
    _, attention = folded(Masked(make), keep)
    supported = dialect.MASK_ERROR not in attention.attributes
    assert supported or band in parts
