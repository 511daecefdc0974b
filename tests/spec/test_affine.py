"""Affine forms against the functions that they represent."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sta.spec.affine import Affine, affine

KEYS: tuple[str, ...] = ("i", "j", "k")
SMALL = st.integers(-20, 20)
TERMS = st.lists(st.tuples(st.sampled_from(KEYS), SMALL), max_size=5)
FORMS = st.builds(affine, SMALL, TERMS)
VALUES = st.fixed_dictionaries({key: SMALL for key in KEYS})
RANGES = st.fixed_dictionaries({key: st.tuples(SMALL, st.integers(0, 4)) for key in KEYS}).map(
    lambda drawn: {key: (least, least + extent) for key, (least, extent) in drawn.items()}
)


def values_in(form: Affine[str], ranges: dict[str, tuple[int, int]]) -> list[int]:
    every = product(*(range(least, greatest + 1) for least, greatest in ranges.values()))
    return [form.at(dict(zip(ranges, values, strict=True))) for values in every]


@given(SMALL, TERMS, VALUES)
def test_terms_of_one_key_are_added_up(base: int, terms: list[tuple[str, int]], values: dict[str, int]) -> None:
    form = affine(base, terms)
    assert form.at(values) == base + sum(coefficient * values[key] for key, coefficient in terms)
    keys = [key for key, _ in form.terms]
    assert keys == [key for key in dict.fromkeys(key for key, _ in terms) if key in keys]
    assert all(coefficient for _, coefficient in form.terms)


@given(FORMS, FORMS, SMALL, VALUES)
def test_arithmetic_is_that_of_the_values(
    left: Affine[str], right: Affine[str], number: int, values: dict[str, int]
) -> None:
    assert (left + right).at(values) == left.at(values) + right.at(values)
    assert (left - right).at(values) == left.at(values) - right.at(values)
    assert (left + number).at(values) == left.at(values) + number
    assert (left - number).at(values) == left.at(values) - number
    assert (left * number).at(values) == left.at(values) * number


@given(FORMS, FORMS)
def test_forms_are_equal_whatever_the_order_of_their_terms(left: Affine[str], right: Affine[str]) -> None:
    assert left + right == right + left
    assert hash(left + right) == hash(right + left)
    assert (left == right) == (left - right == Affine())
    assert left != left + 1
    assert left != left.base


@given(FORMS, st.integers(1, 9), VALUES)
def test_a_division_is_exact_or_refused(form: Affine[str], divisor: int, values: dict[str, int]) -> None:
    assert (form * divisor).divided(divisor) == form
    parts = [form.base, *(coefficient for _, coefficient in form.terms)]
    if any(part % divisor for part in parts):
        with pytest.raises(ValueError, match=f"is not divisible by {divisor}"):
            form.divided(divisor)
    else:
        assert form.divided(divisor).at(values) * divisor == form.at(values)


@given(FORMS, st.lists(FORMS, min_size=3, max_size=3), VALUES)
def test_substitution_is_evaluation_of_evaluations(
    form: Affine[str], others: list[Affine[str]], values: dict[str, int]
) -> None:
    forms = dict(zip(KEYS, others, strict=True))
    expected = form.at({key: other.at(values) for key, other in forms.items()})
    assert form.substituted(forms).at(values) == expected


@given(FORMS, RANGES)
def test_bounds_are_the_extremes_of_all_values(form: Affine[str], ranges: dict[str, tuple[int, int]]) -> None:
    values = values_in(form, ranges)
    assert form.bounds(ranges) == (min(values), max(values))


@given(FORMS, RANGES, st.integers(1, 9))
def test_a_form_is_a_multiple_if_all_its_values_are(
    form: Affine[str], ranges: dict[str, tuple[int, int]], divisor: int
) -> None:
    assert form.is_multiple(divisor, ranges) == all(value % divisor == 0 for value in values_in(form, ranges))


def test_keys_may_be_positions() -> None:
    form = Affine(3, ((0, 5), (2, -1)))
    assert form.at([1, 9, 4]) == 4
    assert form.bounds([(0, 1), (0, 9), (0, 4)]) == (-1, 8)
