"""Values that are functions of one other value, element by element: their argument, and the expression they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import f32
from xdsl.ir import Operation, SSAValue

from sta.dialect import torch
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.torch_operations import literal_of
from sta.spec.operators.expression import Call, Constant, Expression, Variable, X


class PointwiseValues:
    """Arguments of the values of a module, found when they are first asked for."""

    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._numbers: dict[SSAValue, float | int | bool | None] = {}
        self._arguments: dict[SSAValue, SSAValue | None] = {}

    def argument_of(self, value: SSAValue) -> SSAValue | None:
        """
        The float32 value of which `value` is a function, element by element, as far back as possible; it may be
        `value` itself. None for constants, and for what depends on integer inputs.
        """
        pending = [value]
        # Without recursion: chains are as long as the model is deep.
        while pending:
            current = pending[-1]
            open_operands = [one for one in self._operands(current) if one not in self._arguments]
            if open_operands and current not in self._arguments:
                pending += open_operands
                continue
            self._arguments.setdefault(current, self._derived(current))
            pending.pop()
        return self._arguments[value]

    def is_function(self, value: SSAValue) -> bool:
        """True if `value` is a function of another value."""
        return self.argument_of(value) not in (None, value)

    def number_of(self, value: SSAValue) -> float | int | bool | None:
        """The number that every element of the constant tensor `value` is; None if there is no such number."""
        if value not in self._numbers:
            self._numbers[value] = self._number(value)
        return self._numbers[value]

    def calls_of(self, value: SSAValue) -> list[Operation]:
        """The operations that make `value` of its argument, operands before their users."""
        argument = self.argument_of(value)
        found: dict[Operation, None] = {}

        def collect(current: SSAValue) -> None:
            if current is argument or current.owner in found:
                return
            pending: list[tuple[SSAValue, bool]] = [(current, False)]
            while pending:
                one, is_done = pending.pop()
                owner = one.owner
                assert isinstance(owner, Operation)
                if is_done:
                    found.setdefault(owner)
                elif owner not in found:
                    pending.append((one, True))
                    pending += [
                        (operand, False) for operand in reversed(self._operands(one)) if operand is not argument
                    ]

        collect(value)
        return list(found)

    def expression_of(self, value: SSAValue) -> Expression:
        """The expression of a function of another value."""
        argument = self.argument_of(value)
        assert argument is not None
        variables: dict[SSAValue, Variable] = {argument: X}
        calls: list[Call] = []
        for operation in self.calls_of(value):
            call = Call(
                operation.name.removeprefix("torch."),
                tuple(self._written(operand, variables) for operand in operation.operands),
            )
            if call not in calls:
                calls.append(call)
            variables[operation.results[0]] = Variable(calls.index(call) + 1)
        return Expression(tuple(calls))

    def _written(self, operand: SSAValue, variables: Mapping[SSAValue, Variable]) -> Variable | Constant:
        if operand in variables:
            return variables[operand]
        return _frozen(torch.constant_of(operand)) if torch.is_constant(operand) else self.number_of(operand)

    def _number(self, value: SSAValue) -> float | int | bool | None:
        literal = literal_of(value)
        if literal is None:
            return None
        array = literal.array(self._store)
        first = array.reshape(-1)[:1]
        # NaN is no number to compare with; it spoils whatever it meets anyway.
        return first[0].item() if array.size and array.dtype.kind in "fib" and bool((array == first[0]).all()) else None

    def _operands(self, value: SSAValue) -> list[SSAValue]:
        """The operands whose arguments decide on the argument of `value`."""
        owner = value.owner
        row = torch.find_row(owner) if isinstance(owner, Operation) else None
        if row is None or not row.is_pointwise:
            return []
        assert isinstance(owner, Operation)
        return [
            one
            for one in owner.operands
            if not torch.is_constant(one) and literal_of(one) is None and isinstance(one.type, torch.VTensorType)
        ]

    def _derived(self, value: SSAValue) -> SSAValue | None:
        kind = value.type
        if literal_of(value) is not None or not isinstance(kind, torch.VTensorType):
            return None
        itself = value if kind.element_type == f32 else None
        operands = self._operands(value)
        arguments = {self._arguments[one] for one in operands}
        if len(arguments) != 1 or (argument := next(iter(arguments))) is None or not self._fits(value, argument):
            return itself
        return argument

    def _fits(self, value: SSAValue, argument: SSAValue) -> bool:
        """True if the other operands of what makes `value` are numbers, and nothing is broadcast but they."""
        owner = value.owner
        assert isinstance(owner, Operation)
        kind = torch.tensor_type(value)
        if kind.sizes != torch.sizes_of(argument) or (kind.is_float and kind.element_type != f32):
            return False
        return all(
            torch.is_constant(one) or one in self._arguments_of(owner) or self.number_of(one) is not None
            for one in owner.operands
        )

    def _arguments_of(self, owner: Operation) -> Sequence[SSAValue]:
        return self._operands(owner.results[0])


def _frozen(constant: torch.Constant) -> Constant:
    return tuple(map(_frozen, constant)) if isinstance(constant, list) else constant
