"""
Affine forms: a constant and a multiple of each of some variables.

Addresses, offsets and strides of a program are affine in the counters of the loops around an instruction. Keys name the
variables: values of the IR in the compiler, registers in a program, depths of loops in the run-time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

Key = TypeVar("Key", bound=Hashable)
Other = TypeVar("Other", bound=Hashable)
KeyIn = TypeVar("KeyIn", contravariant=True)
Value = TypeVar("Value", covariant=True)


class Lookup(Protocol[KeyIn, Value]):
    """A value for each key: a mapping, or a sequence where the keys are positions."""

    def __getitem__(self, key: KeyIn, /) -> Value: ...


@dataclass(frozen=True, slots=True, eq=False)
class Affine(Generic[Key]):
    """
    The integer `base + sum of coefficient * key` over `terms`.

    The keys of the terms are distinct and their coefficients are not zero; `affine` builds a form of any others. The
    terms keep the order of their keys' first appearance, which does not matter to equality.
    """

    base: int = 0
    terms: tuple[tuple[Key, int], ...] = ()
    """Pairs (key, coefficient)."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Affine):
            return NotImplemented
        form = cast("Affine[Any]", other)
        return self.base == form.base and (self.terms == form.terms or dict(self.terms) == dict(form.terms))

    def __hash__(self) -> int:
        return hash((self.base, frozenset(self.terms)))

    def __add__(self, other: Affine[Key] | int) -> Affine[Key]:
        if isinstance(other, int):
            return Affine(self.base + other, self.terms)
        if not other.terms:
            return Affine(self.base + other.base, self.terms)
        if not self.terms:
            return Affine(self.base + other.base, other.terms)
        return affine(self.base + other.base, self.terms + other.terms)

    def __sub__(self, other: Affine[Key] | int) -> Affine[Key]:
        return self + other * -1

    def __mul__(self, factor: int) -> Affine[Key]:
        if factor == 1:
            return self
        if factor == 0:
            return Affine()
        return Affine(self.base * factor, tuple([(key, coefficient * factor) for key, coefficient in self.terms]))

    def divided(self, divisor: int) -> Affine[Key]:
        """
        The form divided by a constant.

        Raises ValueError unless the base and every coefficient are multiples of `divisor`.
        """
        if self.base % divisor or any(coefficient % divisor for _, coefficient in self.terms):
            raise ValueError(f"{self} is not divisible by {divisor}")
        return Affine(self.base // divisor, tuple((key, coefficient // divisor) for key, coefficient in self.terms))

    def substituted(self, forms: Lookup[Key, Affine[Other]]) -> Affine[Other]:
        """The form with each key replaced by a form."""
        result: Affine[Other] = Affine(self.base)
        for key, coefficient in self.terms:
            result = result + forms[key] * coefficient
        return result

    def at(self, values: Lookup[Key, int]) -> int:
        """The value for given values of the keys."""
        value = self.base
        for key, coefficient in self.terms:
            value += coefficient * values[key]
        return value

    def bounds(self, ranges: Lookup[Key, tuple[int, int]]) -> tuple[int, int]:
        """
        The smallest and the largest value while each key takes every value of its range, independently of the others.

        A range is its smallest and its largest value.
        """
        low = high = self.base
        for key, coefficient in self.terms:
            least, greatest = ranges[key]
            if coefficient < 0:
                least, greatest = greatest, least
            low += coefficient * least
            high += coefficient * greatest
        return low, high

    def is_multiple(self, divisor: int, ranges: Lookup[Key, tuple[int, int]]) -> bool:
        """True if every value, while the keys take the values of their ranges, is a multiple of `divisor`."""
        first = self.base
        for key, coefficient in self.terms:
            least, greatest = ranges[key]
            if greatest > least and coefficient % divisor:
                return False
            first += coefficient * least
        return first % divisor == 0


def affine(base: int, terms: Iterable[tuple[Key, int]]) -> Affine[Key]:
    """The form of any terms: terms of one key are added up, and terms of zero are dropped."""
    coefficients: dict[Key, int] = {}
    for key, coefficient in terms:
        coefficients[key] = coefficients.get(key, 0) + coefficient
    return Affine(base, tuple([term for term in coefficients.items() if term[1]]))
