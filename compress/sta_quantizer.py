"""
The quantizer of the STA for PyTorch's export quantization: `prepare_pt2e`, `prepare_qat_pt2e` and `convert_pt2e`.

It annotates an exported program with the compiler's formats (docs/numerics.md), by the rows of the operators
(`sta.spec.operators`), as the compiler's own quantizer does. Weights of linear layers are int8, symmetric, one scale an
output channel; their inputs int8 with a zero point; query, key and value of attention int8 and symmetric; everything
added, normalized, activated, input or output int16 and symmetric. Attention is annotated as a whole,
`scaled_dot_product_attention` or spelled out as matmul, softmax and matmul: its inside needs no range, since the
softmax reads accumulators. So is RMSNorm, `rms_norm` or spelled out as LLaMA does. A linear layer whose only consumer
is an addition stays in the accumulators, and its result is not annotated.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    FakeQuantize,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import (
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    Quantizer,
)

from sta.spec.integers import DEAD_RANGE, HEADROOM, SMALLEST_RANGE
from sta.spec.operators.operator import Form, Operator, Role, stored
from sta.spec.operators.registry import row_of_overload

aten = torch.ops.aten

SMALLEST_WEIGHT_SCALE = 2.0**-40
"""torchao's default is for activations; the rows of a weight may be smaller."""

VIEWS = (Role.VIEW, Role.DROPOUT)
"""Operators that only rearrange; dropout is one once training is over."""
SCORES = (*VIEWS, Role.ADDITION, Role.MULTIPLICATION, Role.SCALING, Role.SELECTION, Role.CONVERSION, Role.SOFTMAX)
"""Operators on scores between the two products of a spelled-out attention."""


class LiveRange:
    """
    Of an observer: a value that was zero on every sample gets DEAD_RANGE, on either side of zero.

    With the smallest scale, the bias of a following linear layer would not fit an accumulator.
    """

    min_val: torch.Tensor
    max_val: torch.Tensor
    quant_max: int

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The scale and the zero point, one of each."""
        below: Any = super()
        scale, zero_point = below.calculate_qparams()
        if self.min_val.numel() and not self.min_val.any() and not self.max_val.any():
            return torch.full_like(scale, DEAD_RANGE / self.quant_max), torch.zeros_like(zero_point)
        return scale, zero_point


class NarrowObserver(LiveRange, MinMaxObserver):
    """The extremes of a value of 8 bits."""


class ErrorObserver(LiveRange, HistogramObserver):
    """The range of a value of 8 bits that minimizes the squared error."""


class MovingNarrowObserver(LiveRange, MovingAverageMinMaxObserver):
    """The moving averages of the extremes of a value of 8 bits."""


class Headroom(LiveRange):
    """Of an observer of a value of 16 bits: the observed range, with HEADROOM."""

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The scale and the zero point, one of each."""
        scale, zero_point = super().calculate_qparams()
        return scale * HEADROOM, zero_point


class StreamObserver(Headroom, MinMaxObserver):
    """The extremes of a value of 16 bits, with HEADROOM."""


class MovingStreamObserver(Headroom, MovingAverageMinMaxObserver):
    """The moving averages of the extremes of a value of 16 bits, with HEADROOM."""


class STAQuantizer(Quantizer):
    """
    Annotates the linear layers, attentions, normalizations, activations, additions, products of two values and
    embeddings of a graph.

    `is_qat` requests fake quantization with moving averages, for `prepare_qat_pt2e`. `ranges` is the method for the
    range of an 8-bit value: "extremes", or "error" for torchao's HistogramObserver, which minimizes the squared error.

    Raises ValueError for another `ranges`.
    """

    def __init__(self, *, is_qat: bool = False, ranges: str = "extremes") -> None:
        super().__init__()
        if ranges not in ("extremes", "error"):
            raise ValueError(f"unknown ranges {ranges!r}: they are taken from 'extremes' or by 'error'")
        self._is_qat = is_qat
        narrow: Any = ErrorObserver if ranges == "error" else NarrowObserver
        moving: Any = MovingNarrowObserver
        narrow = moving if is_qat else narrow
        stream = MovingStreamObserver if is_qat else StreamObserver
        self._specs = {
            Form.INPUT: self._spec(torch.int8, torch.per_tensor_affine, narrow),
            Form.OPERAND: self._spec(torch.int8, torch.per_tensor_symmetric, narrow),
            Form.STREAM: self._spec(torch.int16, torch.per_tensor_symmetric, stream),
        }
        self._stream = self._specs[Form.STREAM]
        self._weight = self._weight_spec()

    def _spec(self, dtype: torch.dtype, qscheme: torch.qscheme, observer: Any) -> QuantizationSpec:
        low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
        if qscheme == torch.per_tensor_symmetric:
            # torchao divides the largest magnitude by half of the number of steps: with one more step below, it would
            # not fit.
            low = -high
        epsilon = SMALLEST_RANGE / (high - low)
        maker: Any = observer.with_args(eps=epsilon)
        if self._is_qat:
            learning: Any = FakeQuantize
            maker = learning.with_args(observer=observer, eps=epsilon)
        return QuantizationSpec(dtype, maker, low, high, qscheme)

    def _weight_spec(self) -> QuantizationSpec:
        observer: Any = PerChannelMinMaxObserver
        maker: Any = observer.with_args(eps=SMALLEST_WEIGHT_SCALE)
        if self._is_qat:
            learning: Any = FakeQuantize
            maker = learning.with_args(observer=MovingAveragePerChannelMinMaxObserver, eps=SMALLEST_WEIGHT_SCALE)
        return QuantizationSpec(torch.int8, maker, -127, 127, torch.per_channel_symmetric, 0)

    def annotate(self, model: GraphModule) -> GraphModule:
        """Annotates every node of `model` that the machine computes; see the class."""
        norms = _spelled_norms(model)
        inside = {node for norm in norms for node in norm.inside}.union(_attention_insides(model))
        takes = {node: taken for norm in norms for node, taken in norm.takes.items()}
        results = {norm.result for norm in norms}
        for node in model.graph.nodes:
            if node in takes or node in results:
                taken = [takes[node]] if node in takes else []
                result = self._result(node) if node in results else None
                self._annotate(node, dict.fromkeys(taken, self._stream), result)
            elif node.op == "placeholder":
                self._annotate_input(node)
            elif node.op == "call_function" and node not in inside:
                self._annotate_call(model, node)
        return model

    def validate(self, model: GraphModule) -> None:
        """Accepts every annotation: all of them are formats of the machine."""

    def _annotate_call(self, model: GraphModule, node: Node) -> None:
        row = _row(node)
        if row is None:
            return
        result = self._result(node)
        operands = _nodes(node.args[: len(row.takes)])
        if row.role is Role.LINEAR:
            x, weight = _nodes(node.args[:2])
            stays = any(_stays_in_accumulators(node, user) for user in _users(node))
            # Query, key and value of one projection each get a scale of their own, at their consumer.
            parted = result is self._specs[Form.OPERAND] and _is_taken_in_parts(node)
            inputs: dict[Node, QuantizationSpecBase] = {x: self._specs[row.form_of(0)], weight: self._weight}
            self._annotate(node, inputs, None if stays or parted else result)
        elif row.role is Role.PRODUCT:
            if not _is_constant(node.args[1]):
                taken: dict[Node, QuantizationSpecBase] = {
                    one: self._specs[_form(node, one)] for one in operands if not _has_role(_source(one), Role.SOFTMAX)
                }
                self._annotate(node, taken, None if _becomes_scores(node) else result)
        elif row.role is Role.ATTENTION:
            attended: dict[Node, QuantizationSpecBase] = {one: self._specs[_form(node, one)] for one in operands}
            self._annotate(node, attended, result)
        elif row.role is Role.EMBEDDING:
            self._annotate(node, {}, _table_spec(model, node))
        elif row.role is Role.ADDITION:
            if _is_float(node):
                terms = [term for term in operands if not _stays_in_accumulators(term, node)]
                self._annotate(node, self._taken(row, terms), result)
        elif row.makes_value and _is_float(node) and len(operands) == len(row.takes):
            self._annotate(node, self._taken(row, operands), result)

    def _taken(self, row: Operator, operands: list[Node]) -> dict[Node, QuantizationSpecBase]:
        """The formats of an operator's operands of one form."""
        return dict.fromkeys(operands, self._specs[row.form_of(0)])

    def _annotate_input(self, node: Node) -> None:
        if _is_float(node) and node.users:
            self._annotate(node, {}, self._stream)

    def _result(self, node: Node) -> QuantizationSpec:
        """The format of a result: the consumers' common one, else 16 bits, from which consumers of 8 derive theirs."""
        always_stream = node.op == "placeholder" or _has_role(node, Role.EMBEDDING)
        return self._specs[stored((_form(*use) for use in _uses(node)), Form.STREAM, always_stream=always_stream)]

    def _annotate(
        self, node: Node, inputs: dict[Node, QuantizationSpecBase], result: QuantizationSpecBase | None
    ) -> None:
        if "quantization_annotation" in node.meta:
            return
        # A value is rounded by its producer first, and not again by its consumer.
        given = {one: spec for one, spec in inputs.items() if _is_float(one) and _rounding(_source(one)) is not spec}
        node.meta["quantization_annotation"] = QuantizationAnnotation(
            input_qspec_map=dict(given), output_qspec=result, allow_implicit_sharing=False, _annotated=True
        )


def _nodes(arguments: Any) -> list[Node]:
    return [argument for argument in arguments if isinstance(argument, Node)]


def _node(argument: Any) -> Node:
    assert isinstance(argument, Node)
    return argument


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _is_constant(argument: Any) -> bool:
    return isinstance(argument, Node) and argument.op == "get_attr"


def _rounding(node: Node) -> QuantizationSpecBase | None:
    """The rounding format of the result of `node`; None for no rounding."""
    annotation: Any = node.meta.get("quantization_annotation")
    return None if annotation is None else annotation.output_qspec


def _row(node: Node) -> Operator | None:
    """The row of the operator that `node` calls, in place or not; None if there is none."""
    target: Any = node.target
    if not isinstance(target, OpOverload):
        return None
    return row_of_overload(target.name())


def _has_role(node: Node, *roles: Role) -> bool:
    row = _row(node)
    return row is not None and row.role in roles


def _is_view(node: Node) -> bool:
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], Node):
        return False
    if _has_role(node, Role.CONVERSION):
        # It only rearranges if it converts float32 to float32.
        return _is_float(node) and _is_float(node.args[0])
    return node.target is operator.getitem or _has_role(node, *VIEWS)


def _uses(node: Node) -> list[tuple[Node, Node]]:
    """Consumers of `node` seen through rearrangements, each with its operand: `node`, or its last rearrangement."""
    found: list[tuple[Node, Node]] = []
    for user in node.users:
        if _is_view(user):
            found += _uses(user)
        elif user.target is not aten._assert_tensor_metadata.default:
            found.append((user, node))
    return found


def _users(node: Node) -> list[Node]:
    """Consumers of `node`, seen through rearrangements."""
    return [user for user, _ in _uses(node)]


def _form(user: Node, operand: Node) -> Form:
    """Form in which `user` accepts `operand`."""
    row = _row(user)
    if row is None or operand not in user.args:
        return Form.STREAM
    in_attention = row.role is Role.PRODUCT and (_becomes_scores(user) or _weighs_values(user))
    return Form.OPERAND if in_attention else row.form_of(user.args.index(operand))


def _is_taken_in_parts(node: Node) -> bool:
    """True if there are rearrangements of `node` that leave a part of it out."""
    views = [user for user in node.users if _is_view(user)]
    return any(_size(view) != _size(node) or _is_taken_in_parts(view) for view in views)


def _size(node: Node) -> int | None:
    """Number of elements of `node`; None for a list of tensors."""
    value = node.meta.get("val")
    return value.numel() if isinstance(value, torch.Tensor) else None


def _source(node: Node) -> Node:
    """Node that `node` rearranges."""
    while _is_view(node):
        node = _node(node.args[0])
    return node


def _stays_in_accumulators(term: Node, addition: Node) -> bool:
    """True if `term` of `addition` is a linear layer without other consumers, beside a rounded term."""
    if not _has_role(addition, Role.ADDITION) or not _is_only_added(term, addition):
        return False
    terms = _nodes(addition.args[:2])
    rivals = [other for other in terms if _source(other) is not _source(term)]
    if not rivals:
        return False
    # Of two added linear layers, the first stays.
    return not any(_is_only_added(rival, addition) for rival in rivals) or _source(terms[0]) is _source(term)


def _is_only_added(term: Node, addition: Node) -> bool:
    source = _source(term)
    return _has_role(source, Role.LINEAR) and _users(source) == [addition]


def _table_spec(model: GraphModule, node: Node) -> QuantizationSpecBase | None:
    """The format of the rows of an embedding table: 16 bits with the scale that the whole table needs."""
    table = _node(node.args[0])
    if table.op != "get_attr":
        return None
    values = operator.attrgetter(str(table.target))(model)
    largest = max(float(values.detach().abs().max()), SMALLEST_RANGE)
    limits = torch.iinfo(torch.int16)
    return FixedQParamsQuantizationSpec(
        torch.int16, largest / limits.max, 0, -limits.max, limits.max, torch.per_tensor_symmetric
    )


def _becomes_scores(node: Node) -> bool:
    """True if all uses of the product `node` lead to a softmax."""
    return any(True for _ in _until_softmax(node))


def _weighs_values(node: Node) -> bool:
    """True if the product `node` is one of the weights of a softmax with values."""
    return any(_has_role(_source(operand), Role.SOFTMAX) for operand in _nodes(node.args))


def _until_softmax(node: Node) -> Iterator[Node]:
    """The nodes from the product `node` to the softmax of its scores; none if they go elsewhere."""
    path: list[Node] = []
    current = node
    while len(current.users) == 1:
        (current,) = current.users
        if current.target is not operator.getitem and not _has_role(current, *SCORES):
            return
        path.append(current)
        if _has_role(current, Role.SOFTMAX):
            yield from path
            return


def _attention_insides(model: GraphModule) -> Iterator[Node]:
    """Nodes between the two products of spelled-out attentions."""
    for node in model.graph.nodes:
        if _has_role(node, Role.PRODUCT):
            yield from _until_softmax(node)


@dataclass(frozen=True)
class _SpelledNorm:
    """A spelled-out RMSNorm: `x * rsqrt(mean(x ** 2) + eps)`, and a weight times that."""

    takes: dict[Node, Node]
    """The two operations on x, its square and its product with the reciprocal root, with their operands."""
    result: Node
    """The product with the weight, or with the reciprocal root if there is no weight."""
    inside: frozenset[Node]
    """Nodes in between, none of which the machine rounds."""


def _spelled_norms(model: GraphModule) -> list[_SpelledNorm]:
    return [norm for node in model.graph.nodes if (norm := _spelled_norm(node)) is not None]


def _spelled_norm(root: Node) -> _SpelledNorm | None:
    """The norm with the reciprocal square root `root`; None if there is none."""
    chain = [root]
    for names in (
        ["aten.rsqrt"],
        ["aten.add.Tensor"],
        ["aten.mean.dim"],
        ["aten.pow.Tensor_Scalar", "aten.mul.Tensor"],
    ):
        if (row := _row(chain[-1])) is None or row.name not in names:
            return None
        chain.append(_source(_node(chain[-1].args[0])))
    square, users = chain[3], _users(root)
    scaled = users[0] if len(users) == 1 and _has_role(users[0], Role.MULTIPLICATION) else None
    factors = [] if scaled is None else [one for one in _nodes(scaled.args) if _source(one) is chain[4]]
    if scaled is None or len(factors) != 1:
        return None
    takes = {square: _node(square.args[0]), scaled: factors[0]}
    users = _users(scaled)
    if len(users) == 1 and _has_role(users[0], Role.MULTIPLICATION) and any(map(_is_constant, users[0].args)):
        return _SpelledNorm(takes, users[0], frozenset({*chain[:4], scaled}))
    return _SpelledNorm(takes, scaled, frozenset(chain[:4]))
