"""The row of an operator, and the types of its columns."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias, TypeVar

import numpy as np

from sta.spec.tables import Float64Array, RealFunction

Constant: TypeAlias = Any
"""A Python value that an operator accepts beside tensors: a number, a string, None, or a list of such."""

Reference: TypeAlias = Callable[..., Any]
"""An operator's arguments to its result, in float64."""


class Role(Enum):
    """The job of an operator in a model."""

    LINEAR = "product with a constant weight"
    EMBEDDING = "rows of a constant table"
    NORM = "normalization"
    ATTENTION = "attention"
    ELEMENTWISE = "function of each element, a table of the machine"
    FUNCTION = "function of each element, joined with others into one table"
    COMPARISON = "zeros and ones by comparison or logic, joined with other functions into one table"
    ARITHMETIC = "arithmetic, spelled with sums and products or joined into a table"
    ADDITION = "addition of two values"
    COMBINATION = "difference, maximum or minimum of two values"
    MULTIPLICATION = "product of two values, element by element"
    CONCATENATION = "values one after the other"
    SUM = "sums along the last axis"
    SPELLED = "spelled with other operators by a pass"
    MASK = "operation on a mask"
    PRODUCT = "matrix product of two values"
    SOFTMAX = "softmax, inside attention"
    SCALING = "scale of the scores, inside attention"
    SELECTION = "mask of the scores, inside attention"
    VIEW = "rearrangement without a copy"
    CONVERSION = "conversion of elements"
    DROPOUT = "dropout"
    CONSTANT = "computed where it depends on no input"
    COMPOSITION = "made of other operators, taken apart when a model is imported"


class Form(Enum):
    """Form in which an operator accepts a value: the format policy of both quantizers."""

    INPUT = "int8 with a zero point"
    """The input of a linear layer."""
    OPERAND = "int8, symmetric"
    """Query, key and value of attention."""
    STREAM = "int16, symmetric"
    """Everything between products: the residual stream, inputs and outputs."""


class Elements(Enum):
    """Effect of an operator on the elements of its tensors, if it is the same for all of them."""

    SAME = "leaves them as they are"
    RESHAPED = "keeps their order, under another shape"
    EXCHANGED = "exchanges two axes of the first operand"
    PARTED = "gives the parts of an axis of the first operand, as a list"
    EXPANDED = "repeats axes of size 1 of the first operand"
    MOVED = "takes those of the first operand from elsewhere, or several times"
    COMBINED = "makes one of those at the same position"


T = TypeVar("T")


def stored(taken: Iterable[T], stream: T, *, always_stream: bool) -> T:
    """
    The format to which a value is rounded where it is produced, for consumers of the formats `taken`.

    The consumers' common format; else `stream`, from which each consumer derives its own. Inputs of the model and rows
    of tables (`always_stream`) are stored as the stream is.
    """
    first, *others = dict.fromkeys(taken) or [stream]
    return stream if others or always_stream else first


@dataclass(frozen=True)
class Attribute:
    """An attribute of an ONNX operator, and its value where the node has none."""

    name: str
    default: Constant


@dataclass(frozen=True)
class Onnx:
    """The ONNX operator that accepts the same tensors."""

    name: str
    arguments: tuple[Constant, ...] = ()
    """Arguments after the tensors: an `Attribute` of the node, or a fixed value. Nodes with others are refused."""
    truth: bool = False
    """True if elements of the result are true or false; else they are of the last tensor's type."""


@dataclass(frozen=True)
class Operator:
    """One overload of an operator of PyTorch."""

    name: str
    """As torch-mlir spells it: `aten.gelu`, `aten.add.Tensor`."""
    role: Role
    summary: str = ""
    """Result of the operator, as a noun phrase; empty where its name in PyTorch says enough."""
    takes: tuple[Form, ...] = ()
    """
    The forms of its first operands. Later operands are no values: weights, tables and numbers are converted with it.
    """
    remedy: str = ""
    """Remedy for the user."""
    reference: Reference | None = None
    """
    The float reference: NumPy on float64, called with the operator's arguments. It raises ValueError for unsupported
    arguments, with a message for users. Every operator that the machine computes has one.
    """
    parts: Callable[..., Any] | None = None
    """Of a composition: a function of PyTorch tensors that calls other operators with the operator's arguments."""
    onnx: Onnx | None = None
    spelling: str = ""
    """Spelling of the operator with others, by a pass; empty if it has none."""
    elements: Elements | None = None
    """Effect on elements, of a view and of a constant; None if one of the result depends on many, or on none."""
    neutral: float | None = None
    """The number which, as its second operand, leaves the first as it is."""
    kept: bool = True
    """True if torch-mlir keeps the operator whole; else it may decompose it."""
    examples: tuple[tuple[Constant, ...], ...] = ((),)
    """Of an elementwise function: arguments after the tensor, for tests and benchmarks."""
    curvature: float = math.inf
    """Of an elementwise function: the largest magnitude of its second derivative, which every such row gives."""
    bend: float = 0.0
    """Of an elementwise function: the largest jump of its slope, away from 0."""
    domain: tuple[float, float] = (-math.inf, math.inf)
    """Of a function of each element: an interval, without its ends, in which it has values."""

    @property
    def label(self) -> str:
        """The name without overload, and without the namespace of PyTorch's own: `gelu`, `add`, `acme.gelu`."""
        return ".".join(self.name.split(".")[:2]).removeprefix("aten.")

    @property
    def makes_value(self) -> bool:
        """True if the machine computes a value that is stored: all but rearrangements, masks and parts of attention."""
        return self.role in _COMPUTED

    @property
    def moves(self) -> bool:
        """True if each element of the result is one of the first operand, and further operands say which."""
        return self.elements is not None and self.elements is not Elements.COMBINED

    @property
    def combines(self) -> bool:
        """True if each element of the result depends on those at its position, broadcast, and on no others."""
        return self.elements is Elements.COMBINED or self.role in _COMBINING

    @property
    def is_pointwise(self) -> bool:
        """True if it can be part of a function of one value (`sta.spec.operators.expression`)."""
        return self.combines and self.reference is not None

    @property
    def may_do_nothing(self) -> bool:
        """True if the result is the first operand where both have one type."""
        return self.elements in (Elements.SAME, Elements.RESHAPED, Elements.EXPANDED) or self.role is Role.CONVERSION

    def form_of(self, operand: int) -> Form:
        """Form in which the operand of this index is accepted."""
        return self.takes[operand] if operand < len(self.takes) else Form.STREAM

    # --- Elementwise functions ---

    def function(self, *arguments: Constant) -> RealFunction:
        """
        The function on float64 arrays of an elementwise operator with `arguments` after its tensor.

        It raises ValueError where the reference has no value: outside its domain, or on overflow.
        """
        reference = self.reference
        assert reference is not None

        def apply(x: Float64Array) -> Float64Array:
            try:
                return reference(x, *arguments)
            except ArithmeticError as error:
                raise ValueError(f"{self.name} has no value there ({type(error).__name__}: {error})") from error

        return apply

    def table_name(self, *arguments: Constant) -> str:
        """The name of the table of an elementwise operator: `gelu`, and `gelu_tanh` for arguments of their own."""
        defaults = self.defaults
        own = [str(given) for given, default in zip(arguments, defaults, strict=True) if given != default]
        return "_".join([self.label, *own])

    @property
    def defaults(self) -> tuple[Constant, ...]:
        """The defaults of an elementwise operator's arguments after the tensor; None where there is none."""
        assert self.reference is not None
        _, *parameters = inspect.signature(self.reference).parameters.values()
        return tuple(None if one.default is one.empty else one.default for one in parameters)

    def refusal(self, *arguments: Constant) -> str | None:
        """Fault in the arguments of an elementwise operator; None if they are accepted."""
        try:
            self.function(*arguments)(np.zeros(1))
        except ValueError as error:
            return str(error)
        return None


_COMPUTED = frozenset(
    {
        Role.LINEAR,
        Role.EMBEDDING,
        Role.NORM,
        Role.ATTENTION,
        Role.PRODUCT,
        Role.ELEMENTWISE,
        Role.ADDITION,
        Role.COMBINATION,
        Role.MULTIPLICATION,
        Role.CONCATENATION,
        Role.SUM,
    }
)

_COMBINING = frozenset(
    {
        Role.ELEMENTWISE,
        Role.FUNCTION,
        Role.COMPARISON,
        Role.ARITHMETIC,
        Role.ADDITION,
        Role.COMBINATION,
        Role.MULTIPLICATION,
        Role.MASK,
        Role.SCALING,
        Role.SELECTION,
        Role.CONVERSION,
    }
)
