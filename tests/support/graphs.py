"""A Hypothesis strategy of arbitrary `nm` graphs: operations in any order, values used any number of times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

from hypothesis import strategies as st
from xdsl.dialects.builtin import IntegerType
from xdsl.ir import SSAValue

from sta.dialect import nm
from sta.spec.rotation import PAIRINGS
from tests.support.nm_builder import PLAIN_TARGET, Case, NmBuilder
from tests.support.transformers import TINY

LARGEST = 300
"""Most elements of a tensor."""


@dataclass
class Graph:
    """Draws a graph, step by step; stored values and int32 values are kept apart."""

    draw: st.DrawFn
    values: list[SSAValue] = field(default_factory=list[SSAValue])

    def __post_init__(self) -> None:
        target = self.draw(st.sampled_from([PLAIN_TARGET, TINY]))
        self.builder = NmBuilder(target, self.draw(st.integers(0, 2**32)))
        shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3)
        for name in ("x", "y"):
            shape = self.draw(shapes)
            make = self.draw(st.sampled_from([self.builder.stream, self.builder.bytes]))
            self.values.append(make(name, shape))

    def pick(self, *elements: IntegerType) -> SSAValue | None:
        """Draws a value of some element types; later ones are likelier."""
        found = [value for value in self.values if nm.element_of(value) in elements]
        if not found:
            return None
        return self.draw(st.sampled_from([*found, *found[-3:]]))

    def stored(self) -> SSAValue:
        """Draws a value that is stored."""
        value = self.pick(nm.si8, nm.si16)
        assert value is not None
        return value

    def narrow(self) -> SSAValue:
        """Draws a value of 8 bits, rounding one if there is none."""
        value = self.pick(nm.si8)
        return value or self.builder.clamp(self.builder.rescale(self.stored(), 1 / 100), nm.si8)

    def linear(self) -> SSAValue:
        """A product, of 8-bit or 16-bit activations, with its scales."""
        columns = self.draw(st.integers(1, 6))
        spread = self.draw(st.sampled_from([60.0, 5000.0]))
        wide = self.pick(nm.si16) if self.draw(st.integers(0, 2)) == 0 else None
        return self.builder.linear(wide or self.narrow(), columns, f"w{len(self.values)}", spread=spread)

    def matmul(self) -> SSAValue | None:
        """A product of two values, the second of which may be the first one, rounded."""
        first = self.stored()
        shape = nm.tensor_of(first).get_shape()
        if len(shape) < 2:
            return None
        fitting = [
            v for v in self.values if nm.element_of(v) == nm.si8 and multiplies(shape, nm.tensor_of(v).get_shape())
        ]
        if not fitting:
            fitting = [self.builder.clamp(self.builder.rescale(first, 1 / 100), nm.si8)]
        return self.builder.matmul(
            first, self.draw(st.sampled_from(fitting)), self.draw(st.sampled_from([60.0, 5000.0]))
        )

    def rescale(self) -> SSAValue:
        """A rescaling of something stored, or of an int32 value."""
        value = self.pick(nm.si32) if self.draw(st.integers(0, 3)) == 0 else None
        scale = self.draw(st.sampled_from([0.01, 0.3, 1.0]))
        return self.builder.rescale(value or self.stored(), scale, self.draw(st.sampled_from([0, 0, 5])))

    def table(self) -> SSAValue:
        """A table of something stored, or of an int32 value; mostly rescaled."""
        value = self.pick(nm.si16, nm.si32) or self.stored()
        looked_up = self.builder.table(value, f"t{len(self.values)}")
        return looked_up if self.draw(st.integers(0, 3)) == 0 else self.builder.rescale(looked_up, 1 / 128)

    def combine(self) -> SSAValue | None:
        """Two int32 values combined, one of which may broadcast."""
        first = self.pick(nm.si32)
        if first is None:
            return None
        shape = nm.tensor_of(first).get_shape()
        fitting = [v for v in self.values if nm.element_of(v) == nm.si32 and fits(nm.tensor_of(v).get_shape(), shape)]
        operands = [first, self.draw(st.sampled_from(fitting))]
        kind = self.draw(st.sampled_from([nm.AddOp, nm.AddOp, nm.SubtractOp, nm.MaximumOp, nm.MinimumOp]))
        return self.builder.combine(kind, *self.draw(st.permutations(operands)))

    def multiply(self) -> SSAValue:
        """A product of two values, the second of which is stored and may broadcast."""
        first = self.pick(nm.si8, nm.si32, nm.si16) or self.stored()
        shape, stored = nm.tensor_of(first).get_shape(), (nm.si8, nm.si16)
        fitting = [v for v in self.values if nm.element_of(v) in stored and fits(nm.tensor_of(v).get_shape(), shape)]
        if not fitting:
            return self.builder.rescale(first, 0.3)
        second = self.draw(st.sampled_from(fitting))
        scale, bias = self.draw(st.sampled_from([0.001, 0.02])), self.draw(st.sampled_from([0, 0, 9]))
        return self.builder.multiply(first, second, scale, bias)

    def clamp(self) -> SSAValue | None:
        """An int32 value, stored."""
        value = self.pick(nm.si32)
        element = self.draw(st.sampled_from([nm.si8, nm.si16, nm.si16, nm.ui8]))
        return None if value is None else self.builder.clamp(value, element, self.draw(st.sampled_from([0, 0, -7])))

    def norm(self) -> SSAValue | None:
        """A norm of a stream."""
        value = self.pick(nm.si16)
        return None if value is None else self.builder.norm(value, f"n{len(self.values)}")

    def rotate(self) -> SSAValue | None:
        """Pairs of columns of something stored, rotated with tables that may broadcast."""
        value = self.stored()
        shape = nm.tensor_of(value).get_shape()
        if shape[-1] < 2:
            return None
        own = self.draw(st.integers(1, len(shape)))
        rows = [self.draw(st.sampled_from([1, size])) for size in shape[len(shape) - own : -1]]
        tables = self.builder.angles(f"r{len(self.values)}", *rows, shape[-1])
        width, pairing = 2 * self.draw(st.integers(1, shape[-1] // 2)), self.draw(st.sampled_from(PAIRINGS))
        return self.builder.rotate(value, tables, width, self.draw(st.sampled_from([nm.si8, nm.si16])), pairing)

    def view(self) -> SSAValue:
        """Any value under another shape: the same elements, or a part of them."""
        value = self.pick(*nm.ELEMENT_TYPES)
        assert value is not None
        shape = list(nm.tensor_of(value).get_shape())
        match self.draw(st.sampled_from(["permute", "join", "split", "slice", "broadcast", "windows"])):
            case "broadcast" if len(shape) < 5:
                repeated = [size if size > 1 else self.draw(st.integers(1, 4)) for size in shape]
                return self.builder.broadcast(value, *self.draw(st.sampled_from([[], [1], [3]])), *repeated)
            case "permute":
                return self.builder.permute(value, *self.draw(st.permutations(range(len(shape)))))
            case "join" if len(shape) > 1:
                axis = self.draw(st.integers(0, len(shape) - 2))
                return self.builder.view(value, *shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
            case "split" if len(shape) < 5:
                axis = self.draw(st.integers(0, len(shape) - 1))
                part = self.draw(st.sampled_from([d for d in range(1, shape[axis] + 1) if shape[axis] % d == 0]))
                return self.builder.view(value, *shape[:axis], shape[axis] // part, part, *shape[axis + 1 :])
            case "windows" if len(shape) < 5:
                axis = self.draw(st.integers(0, len(shape) - 1))
                return self.builder.windows(
                    value, axis, self.draw(st.integers(1, shape[axis])), self.draw(st.integers(1, 3))
                )
            case _:
                axis = self.draw(st.integers(0, len(shape) - 1))
                start = self.draw(st.integers(0, shape[axis] - 1))
                stop, step = self.draw(st.integers(start + 1, shape[axis])), self.draw(st.sampled_from([1, 1, 2, 3]))
                return self.builder.slice(value, axis, start, stop, step)

    def concatenate(self) -> SSAValue:
        """Values, or parts of one, in a row; some of the parts are used by nothing else."""
        first = self.pick(*nm.ELEMENT_TYPES)
        assert first is not None
        element, shape = nm.element_of(first), list(nm.tensor_of(first).get_shape())
        axis = self.draw(st.integers(0, len(shape) - 1))

        def fitting(value: SSAValue) -> bool:
            given = list(nm.tensor_of(value).get_shape())
            return nm.element_of(value) == element and [*given[:axis], *given[axis + 1 :]] == rest and axis < len(given)

        rest = [*shape[:axis], *shape[axis + 1 :]]
        found = [value for value in self.values if fitting(value)]
        parts = [first, *self.draw(st.lists(st.sampled_from(found), max_size=3))]
        if self.draw(st.booleans()):
            scaled = self.builder.rescale(self.draw(st.sampled_from(parts)), 0.7)
            parts.append(scaled if element == nm.si32 else self.builder.clamp(scaled, element))
        return self.builder.concatenate(axis, *self.draw(st.permutations(parts)))

    def step(self) -> None:
        """Draws an operation."""
        kinds: list[Callable[[], SSAValue | None]] = [
            *(self.linear, self.rescale, self.table, self.combine, self.combine, self.clamp, self.clamp, self.norm),
            *(self.multiply, self.matmul, self.rotate),
            *(self.view, self.view, self.view, self.concatenate),
        ]
        value = self.draw(st.sampled_from(kinds))()
        if value is not None and prod(nm.tensor_of(value).get_shape()) <= LARGEST:
            self.values.append(value)

    def case(self) -> Case:
        """The module, returning some of its values."""
        outputs = self.draw(st.lists(st.sampled_from(self.values[2:] or self.values), min_size=1, max_size=3))
        return self.builder.case(self.values[-1], *outputs)


def fits(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """True if a shape broadcasts to another."""
    return len(shape) <= len(full) and all(
        size in (1, whole) for size, whole in zip(reversed(shape), reversed(full), strict=False)
    )


def multiplies(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """True if matrices of one shape multiply with the transposes of those of another."""
    if len(other) < 2 or shape[-1] != other[-1]:
        return False
    leading = zip(reversed(shape[:-2]), reversed(other[:-2]), strict=False)
    return all(size == 1 or others in (1, size) for size, others in leading)


@st.composite
def graphs(draw: st.DrawFn, longest: int = 12) -> Case:
    """Draws a graph of at most `longest` operations, not counting views between layers."""
    graph = Graph(draw)
    for _ in range(draw(st.integers(1, longest))):
        graph.step()
    return graph.case()
