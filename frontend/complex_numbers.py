"""
Complex numbers in exported programs, as pairs of real ones.

Each node whose value is complex becomes two of its real and imaginary parts, up to where the model takes the parts
again. A rotary embedding in complex spelling is then one in real numbers. What has no rule here stays as it is, with
all that it reads, and is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sta.frontend.graph_builder import Argument, GraphBuilder, NotRewritten, erase_dead, name_of, sizes_of, tensor_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node
    from typing_extensions import TypeIs

Real: TypeAlias = "Node | float"


@dataclass(frozen=True)
class Pair:
    """A complex value, or a constant."""

    real: Real
    imaginary: Real


Rule = Callable[[GraphBuilder, "Node", Sequence[Argument]], "Pair | Node"]
"""Makes the value of a node from its arguments, of which the complex ones are pairs. Raises NotRewritten."""

_RULES: dict[str, Rule] = {}


def split_complex_numbers(program: ExportedProgram) -> None:
    """Rewrites the graph of a functional program in place; its state holds every tensor that the graph refers to."""
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    if not any(map(_is_complex, nodes)):
        return
    builder = GraphBuilder(program)
    pairs: dict[Node, Pair] = {}
    state = _complex_state(program)
    for node in nodes:
        builder.current = node
        for read in node.all_input_nodes:
            if read in state and read not in pairs:
                pairs[read] = _parts_of(builder, builder.constant(state[read]))
        try:
            value = _value_of(builder, node, pairs)
        except NotRewritten:
            continue
        if isinstance(value, Pair):
            pairs[node] = _whole(builder, node, value)
        elif value is not None:
            node.replace_all_uses_with(value)
    erase_dead(program.graph.nodes)


def _complex_state(program: ExportedProgram) -> Mapping[Node, Tensor]:
    """The placeholders of complex parameters, buffers and constants, with their parts along a last axis."""
    import torch

    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    found: dict[Node, Tensor] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names and _is_complex(node):
            tensor = program.state_dict[names[node.name]]
            found[node] = torch.view_as_real(tensor.detach().resolve_conj()).contiguous()
    return found


def _value_of(builder: GraphBuilder, node: Node, pairs: Mapping[Node, Pair]) -> Pair | Node | None:
    """The value of a node that reads or makes complex numbers; None for others, and for those without a rule."""
    if not _is_complex(node) and not any(map(_is_complex, node.all_input_nodes)):
        return None
    rule = _RULES.get(name_of(node))
    arguments = [_argument(one, pairs) for one in node.args]
    return None if rule is None else rule(builder, node, arguments)


def _whole(builder: GraphBuilder, node: Node, value: Pair) -> Pair:
    """The pair of a node with parts of the node's shape: a part may be a number, or lack the other's axes."""
    sizes, dtype = sizes_of(node), tensor_of(node).dtype.to_real()

    def part(of: Real) -> Node:
        if _is_number(of):
            return builder.call("full.default", sizes, float(of), dtype=dtype)
        return builder.expand(of, sizes)

    return Pair(part(value.real), part(value.imaginary))


def _argument(given: Argument, pairs: Mapping[Node, Pair]) -> Argument:
    from torch.fx import Node

    if isinstance(given, list | tuple):
        return [_argument(one, pairs) for one in given]  # pyright: ignore[reportUnknownVariableType]  # arguments
    if isinstance(given, complex):
        return Pair(given.real, given.imag)
    if not isinstance(given, Node) or not _is_complex(given):
        return given
    if given not in pairs:
        raise NotRewritten("a complex value without a rule")
    return pairs[given]


def _is_complex(node: Node) -> bool:
    import torch

    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_complex()


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update((name, rule) for name in names)
        return rule

    return register


# --- In and out ---


def _parts_of(builder: GraphBuilder, node: Node) -> Pair:
    """The pair whose parts lie along the last axis of a real value."""
    return Pair(builder.call("select.int", node, -1, 0), builder.call("select.int", node, -1, 1))


@_rule("view_as_complex.default")
def _view_as_complex(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair:
    return _parts_of(builder, arguments[0])


@_rule("view_as_real.default")
def _view_as_real(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Node:
    value = arguments[0]
    return builder.call("stack.default", [value.real, value.imaginary], -1)


@_rule("complex.default")
def _complex(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair:
    return Pair(arguments[0], arguments[1])


@_rule("polar.default")
def _polar(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair:
    length, angle = arguments
    cosine, sine = builder.call("cos.default", angle), builder.call("sin.default", angle)
    return Pair(_times(builder, length, cosine), _times(builder, length, sine))


@_rule("real.default")
def _real(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Node:
    return arguments[0].real


@_rule("imag.default")
def _imaginary(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Node:
    return arguments[0].imaginary


@_rule("abs.default")
def _length(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Node:
    return builder.call("sqrt.default", _squared_length(builder, arguments[0]))


def _squared_length(builder: GraphBuilder, value: Pair) -> Real:
    squares = _times(builder, value.real, value.real), _times(builder, value.imaginary, value.imaginary)
    return _plus(builder, *squares)


@_rule("_to_copy.default")
def _to_copy(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair | Node:
    """Parts of the precision of the result; of a complex number as a real one its real part."""
    value, dtype = arguments[0], tensor_of(node).dtype

    def part(of: Argument) -> Node:
        kind = dtype.to_real()
        return of if tensor_of(of).dtype == kind else builder.call("_to_copy.default", of, dtype=kind)

    if not isinstance(value, Pair):
        return Pair(part(value), builder.call("zeros_like.default", part(value)))
    if not dtype.is_complex:
        return part(value.real)
    return Pair(part(value.real), part(value.imaginary))


# --- Parts by themselves ---


@_rule(
    "_unsafe_view.default",
    "alias.default",
    "cat.default",
    "clone.default",
    "cumsum.default",
    "detach.default",
    "expand.default",
    "flip.default",
    "gather.default",
    "index.Tensor",
    "index_select.default",
    "mean.dim",
    "neg.default",
    "permute.default",
    "repeat.default",
    "reshape.default",
    "resolve_conj.default",
    "select.int",
    "slice.Tensor",
    "squeeze.dim",
    "squeeze.dims",
    "stack.default",
    "sum.dim_IntList",
    "t.default",
    "transpose.int",
    "unsqueeze.default",
    "view.default",
)
def _of_each_part(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair:
    """The same of either part, for what is linear in the numbers."""
    real, imaginary = (
        builder.call_target(node.target, *(_part(one, name) for one in arguments), **node.kwargs)
        for name in ("real", "imaginary")
    )
    return Pair(real, imaginary)


def _part(argument: Argument, name: str) -> Argument:
    if isinstance(argument, list):
        return [_part(one, name) for one in argument]  # pyright: ignore[reportUnknownVariableType]  # arguments
    return getattr(argument, name) if isinstance(argument, Pair) else argument


@_rule("_conj.default", "conj.default", "_conj_physical.default", "conj_physical.default")
def _conjugate(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair:
    value = arguments[0]
    return Pair(value.real, builder.call("neg.default", value.imaginary))


# --- Arithmetic ---


@_rule("add.Tensor", "add.Scalar")
def _sum(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair:
    left, right = map(_pair, arguments)
    return _added(builder, node, left, right, 1.0)


@_rule("sub.Tensor", "sub.Scalar")
def _difference(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair:
    left, right = map(_pair, arguments)
    return _added(builder, node, left, right, -1.0)


@_rule("rsub.Tensor", "rsub.Scalar")
def _difference_from(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair | Node:
    return _difference(builder, node, arguments[::-1])


def _added(builder: GraphBuilder, node: Node, left: Pair, right: Pair, sign: float) -> Pair:
    if node.kwargs:
        raise NotRewritten("a sum of multiples")
    real = _plus(builder, left.real, _times(builder, right.real, sign))
    return Pair(real, _plus(builder, left.imaginary, _times(builder, right.imaginary, sign)))


@_rule("mul.Tensor", "mul.Scalar")
def _product(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair:
    left, right = map(_pair, arguments)
    return _multiplied(builder, left, right)


@_rule("div.Tensor", "div.Scalar")
def _quotient(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair:
    """The product with the divisor's conjugate, divided by its squared length."""
    left, right = map(_pair, arguments)
    if not isinstance(arguments[1], Pair):
        return Pair(_over(builder, left.real, right.real), _over(builder, left.imaginary, right.real))
    product = _multiplied(builder, left, Pair(right.real, _times(builder, right.imaginary, -1.0)))
    length = _squared_length(builder, right)
    return Pair(_over(builder, product.real, length), _over(builder, product.imaginary, length))


@_rule("reciprocal.default")
def _reciprocal(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair | Node:
    return _quotient(builder, node, [1.0, arguments[0]])


@_rule("exp.default")
def _exponential(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Pair:
    value = arguments[0]
    cosine, sine = builder.call("cos.default", value.imaginary), builder.call("sin.default", value.imaginary)
    length = builder.call("exp.default", value.real)
    return Pair(_times(builder, length, cosine), _times(builder, length, sine))


def _multiplied(builder: GraphBuilder, left: Pair, right: Pair) -> Pair:
    crossed = _times(builder, left.imaginary, right.imaginary)
    real = _minus(builder, _times(builder, left.real, right.real), crossed)
    turned = _times(builder, left.imaginary, right.real)
    return Pair(real, _plus(builder, _times(builder, left.real, right.imaginary), turned))


def _pair(argument: Argument) -> Pair:
    return argument if isinstance(argument, Pair) else Pair(argument, 0.0)


# --- Real numbers, of which some are constants ---


def _is_number(value: Real) -> TypeIs[float]:
    return isinstance(value, int | float)


def _times(builder: GraphBuilder, left: Real, right: Real) -> Real:
    if _is_number(left):
        return left * right if _is_number(right) else _times(builder, right, left)
    if right == 0 or right == 1:
        return left if right == 1 else 0.0
    return _called(builder, "mul", left, right)


def _over(builder: GraphBuilder, left: Real, right: Real) -> Real:
    if _is_number(left):
        return 0.0 if left == 0 else _times(builder, builder.call("reciprocal.default", right), left)
    return _called(builder, "div", left, right)


def _plus(builder: GraphBuilder, left: Real, right: Real) -> Real:
    if _is_number(left):
        return left + right if _is_number(right) else _plus(builder, right, left)
    return left if right == 0 else _called(builder, "add", left, right)


def _minus(builder: GraphBuilder, left: Real, right: Real) -> Real:
    if _is_number(left) or _is_number(right):
        return _plus(builder, left, _times(builder, right, -1.0))
    return _called(builder, "sub", left, right)


def _called(builder: GraphBuilder, name: str, left: Node, right: Real) -> Node:
    return builder.call(f"{name}.{'Scalar' if _is_number(right) else 'Tensor'}", left, right)
