"""
The host prologue: what a model computes from integers and bools, taken out of `main`.

Everything that depends on integer and bool inputs and on constants alone, and whose operators the host knows
(`sta.spec.operators.on_host`), can run before the machine starts. Where the rest of the model reads such a value, as
indices of an embedding, as a mask of attention, or as numbers to compute with, it becomes an argument of `main`, and
the function `prologue` makes it. Indices and masks that are an input but for views stay as they are: the machine reads
the input. An input that nothing reads is an argument of the prologue only, and may hold any numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr, TensorType, f32, i1
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue, Use
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from sta.dialect import torch
from sta.dialect.host import HOST_CLASSES, TableOp, host_type
from sta.dialect.interpreters.torch import input_names, operation_name
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import PROLOGUE, main_function, prologue_function
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of, operations_of
from sta.passes.rewriting.uses_through_views import VIEWS
from sta.spec.host_operations import HOST_OPERATIONS, HostType
from sta.spec.operators.on_host import HOST_RULES, Host, HostValue, results_of
from sta.spec.operators.operator import Role

Array = NDArray[Any]

_NUMBERS = "numbers"
"""The way in which an operation reads integers as floats."""
_ON_THE_WAY = VIEWS | torch.ToDtypeOp | torch.LogicalNotOp


@dataclass(frozen=True)
class _Value:
    """A value of the prologue."""

    value: SSAValue
    kind: HostType


class _Builder:
    """Steps of the prologue, at its end."""

    def __init__(self, block: Block, store: WeightStore) -> None:
        self._block = block
        self._store = store
        self._tables: dict[str, _Value] = {}
        self._made: dict[tuple[object, ...], _Value] = {}
        """Results by operation, operands and attributes: nothing is computed twice."""
        self.current: Operation | None = None
        """The operation of the model that is being spelled."""

    def apply(self, name: str, operands: Sequence[HostValue], attributes: Mapping[str, Any]) -> _Value:
        """The result of an operation. Raises ValueError for operands and attributes that do not fit."""
        kind = HOST_OPERATIONS[name].result([one.kind for one in operands], attributes)
        values = [one.value for one in operands if isinstance(one, _Value)]
        key = (name, *values, *((key, str(value)) for key, value in attributes.items()))
        if key not in self._made:
            assert self.current is not None
            source = "" if not operands else operation_name(self.current).removeprefix("torch.")
            self._made[key] = self._insert(HOST_CLASSES[name].create_on(values, attributes, kind, source), kind)
        return self._made[key]

    def table(self, array: Array) -> _Value:
        """The value of constants, which go into the store under a new name."""
        return self.named_table(self._store.put_unique("host_table", array), array)

    def named_table(self, name: str, array: Array) -> _Value:
        """The value of constants that are in the store."""
        if name not in self._tables:
            kind = HostType(array.shape, array.dtype.name)
            self._tables[name] = self._insert(TableOp(name, kind), kind)
        return self._tables[name]

    def constant(self, value: HostValue) -> Array | None:
        """The numbers of a value that does not depend on an input; None for another."""
        assert isinstance(value, _Value)
        owner = value.value.owner
        return self._store.get(owner.store_name) if isinstance(owner, TableOp) else None

    def _insert(self, operation: Any, kind: HostType) -> _Value:
        assert self.current is not None
        operation.location = self.current.location
        self._block.add_op(operation)
        return _Value(operation.result, kind)


def _host_type(value: SSAValue) -> HostType | None:
    """The type of a value on the host; None for floats, and for a tensor without elements."""
    if not isinstance(value.type, torch.VTensorType):
        return None
    try:
        return HostType(value.type.sizes, torch.numpy_dtype(value.type.element_type).name)
    except ValueError:
        return None


class _Extraction:
    """The extraction of the prologue of one module."""

    def __init__(self, module: ModuleOp, store: WeightStore) -> None:
        self._module = module
        self._store = store
        self._main = main_function(module)
        self._names = input_names(self._main)
        self._inputs = list(self._main.body.block.args)
        self._attributes = self._main.arg_attrs
        masks = [torch.HOLDS_MASK in entry.data for entry in self._attributes or ()]
        self._read = [_read(value, mask) for value, mask in zip(self._inputs, masks, strict=True)]
        self._block = Block(arg_types=self._read)
        self._builder = _Builder(self._block, store)
        self._host = Host(self._builder)
        self._values: dict[SSAValue, _Value] = {}
        self._computed: dict[tuple[SSAValue, str], BlockArgument] = {}
        self._floats: dict[BlockArgument, SSAValue] = {}
        self._results: list[tuple[str, SSAValue]] = []
        for argument, own in zip(self._inputs, self._block.args, strict=True):
            own.name_hint = argument.name_hint
            if (kind := _host_kind(own.type)) is not None:
                self._values[argument] = _Value(own, kind)

    def run(self) -> None:
        """Takes the prologue out of `main`, if there is anything to take."""
        operations = operations_of(self._module)
        for operation in operations:
            self._follow(operation)
        for operation in operations:
            for index in range(len(operation.operands)):
                self._replace(Use(operation, index))
        erase_dead(self._module)
        unread = [one for one in self._inputs if one in self._values and one.first_use is None]
        if not self._results and not unread:
            return
        for argument in unread:
            self._main.body.block.erase_arg(argument)
        self._finish([name for name, one in zip(self._names, self._inputs, strict=True) if one not in unread])

    # --- Values of the host ---

    def _follow(self, operation: Operation) -> None:
        """Spells `operation` on the host, if it has values of the host and a rule."""
        rule = HOST_RULES.get(operation_name(operation).removeprefix("torch."))
        kinds = [_host_type(result) for result in operation.results]
        if rule is None or not kinds or any(kind is None for kind in kinds):
            return
        self._builder.current = operation
        try:
            arguments = [self._argument(operand) for operand in operation.operands]
            found = results_of(rule, self._host, kinds[0], arguments)
        except (ValueError, LookupError):
            # What the host cannot do stays, and is reported with all other unsupported operations.
            return
        if [one.kind for one in found] == kinds:
            made = [one for one in found if isinstance(one, _Value)]
            self._values.update(zip(operation.results, made, strict=True))

    def _argument(self, operand: SSAValue) -> Any:
        """A value of the host, a Python constant, or a list of those; raises LookupError for anything else."""
        if operand in self._values:
            return self._values[operand]
        if torch.is_constant(operand):
            return torch.constant_of(operand)
        if isinstance(operand.owner, torch.ListConstructOp):
            return [self._argument(element) for element in operand.owner.elements]
        literal = literal_of(operand)
        if literal is None or _host_type(operand) is None:
            raise LookupError("a value that is computed from floats")
        self._values[operand] = self._constant(literal)
        return self._values[operand]

    def _constant(self, literal: torch.LiteralOp) -> _Value:
        array = literal.array(self._store)
        if literal.resource is not None:
            return self._builder.named_table(literal.resource, array)
        number = self._host.number(array.reshape(-1)[0].item(), array.dtype.name)
        value = self._host.expand(number, array.shape)
        assert isinstance(value, _Value)
        return value

    # --- Their uses by the machine ---

    def _replace(self, use: Use) -> None:
        """Lets the machine read a value of the host as an argument of `main`."""
        operation, value = use.operation, use.operation.operands[use.index]
        if value not in self._values or isinstance(value.owner, torch.LiteralOp):
            return
        if any(result in self._values for result in operation.results):
            return
        way = _way(use)
        if way is None or (way != _NUMBERS and _is_direct(use)):
            return
        self._builder.current = operation
        argument = self._argument_of(value, way, operation)
        if way == _NUMBERS and _takes_floats_only(operation):
            operation.operands[use.index] = self._as_float(argument)
            return
        operation.operands[use.index] = argument
        operation.attributes.pop(torch.MASK_ERROR, None)

    def _argument_of(self, value: SSAValue, way: str, operation: Operation) -> BlockArgument:
        """The argument of `main` for a value that is read in one way."""
        own = self._values[value]
        if way == "mask":
            own = self._mask(own, operation)
        elif way == "indices" and own.kind.is_bool:
            own = self._converted(own, "int64")
        elif way == _NUMBERS and _takes_floats_only(operation):
            own = self._whole(own, operation)
        if (own.value, way) in self._computed:
            return self._computed[own.value, way]
        element = torch.element_type_of(np.dtype(own.kind.dtype))
        block = self._main.body.block
        argument = block.insert_arg(torch.VTensorType(own.kind.shape, element), len(block.args))
        self._results.append((self._free_name(".".join(filter(None, [module_path(operation), way]))), own.value))
        self._computed[own.value, way] = argument
        return argument

    def _whole(self, own: _Value, operation: Operation) -> _Value:
        """Numbers in the shape of the result, where no other operand has it."""
        full = torch.sizes_of(operation.results[0])
        tensors = [one for one in operation.operands if isinstance(one.type, torch.VTensorType)]
        if any(torch.sizes_of(one) == full for one in tensors):
            return own
        value = self._host.expand(own, full)
        assert isinstance(value, _Value)
        return value

    def _mask(self, own: _Value, operation: Operation) -> _Value:
        """A mask of bools with four axes, and one element for each key."""
        assert isinstance(operation, torch.ScaledDotProductAttentionOp)
        shape = (*(1,) * (4 - len(own.kind.shape)), *own.kind.shape)
        keys = torch.sizes_of(operation.key)[-2]
        value = self._host.expand(self._host.reshape(self._converted(own, "bool"), shape), (*shape[:-1], keys))
        assert isinstance(value, _Value)
        return value

    def _converted(self, own: _Value, dtype: str) -> _Value:
        value = self._host.convert(own, dtype)
        assert isinstance(value, _Value)
        return value

    def _as_float(self, argument: BlockArgument) -> SSAValue:
        """The integers of an argument as floats, made at the beginning."""
        if argument in self._floats:
            return self._floats[argument]
        first = self._main.body.block.first_op
        assert first is not None
        builder = TorchBuilder(first, self._store)
        false = builder.boolean(False)
        number = builder.integer(torch.dtype_number(np.dtype(np.float32)))
        kind = torch.VTensorType(torch.sizes_of(argument), f32)
        operands = [argument, number, false, false, builder.none()]
        self._floats[argument] = builder.aten(torch.ToDtypeOp, operands, kind)
        return self._floats[argument]

    def _free_name(self, name: str) -> str:
        taken = {*self._names, *(known for known, _ in self._results)}
        numbered = (name if number == 1 else f"{name}_{number}" for number in range(1, len(taken) + 2))
        return next(one for one in numbered if one not in taken)

    # --- The functions ---

    def _finish(self, kept: list[str]) -> None:
        """Adds the function `prologue`, and names the arguments of `main`: those kept, and those computed."""
        names = [name for name, _ in self._results]
        self._main.update_function_type()
        self._main.arg_attrs = torch.name_attributes([*kept, *names])
        values = [value for _, value in self._results]
        self._block.add_op(ReturnOp(*values))
        types = ([argument.type for argument in self._block.args], [value.type for value in values])
        function = FuncOp(
            PROLOGUE,
            types,
            Region(self._block),
            arg_attrs=self._input_attributes(),
            res_attrs=torch.name_attributes(names),
        )
        function.location = self._main.location
        Rewriter.insert_op(function, InsertPoint.before(self._main))
        erase_dead(self._module)

    def _input_attributes(self) -> ArrayAttr[DictionaryAttr]:
        """The attributes of the inputs; of floats that are read as bools, their dtype as well."""
        entries: list[DictionaryAttr] = []
        for argument, entry, read in zip(self._inputs, self._attributes or (), self._read, strict=True):
            dtype = torch.numpy_dtype(torch.tensor_type(argument).element_type).name
            is_other = read != _read(argument, False)
            entries.append(
                DictionaryAttr({**entry.data, **({torch.HOST_DTYPE: StringAttr(dtype)} if is_other else {})})
            )
        return ArrayAttr(entries)


def _read(value: SSAValue, holds_mask: bool) -> Attribute:
    """The type in which the prologue reads an input: floats that hold a mask as bools."""
    tensor = torch.tensor_type(value)
    return TensorType(i1 if holds_mask and tensor.is_float else tensor.element_type, tensor.sizes)


def _host_kind(type_: Attribute) -> HostType | None:
    try:
        return host_type(type_)
    except ValueError:
        return None


def _way(use: Use) -> str | None:
    """The way in which an operation that stays on the machine reads integers; None for one that has none."""
    operation = use.operation
    if isinstance(operation, torch.EmbeddingOp):
        return "indices" if use.index == 1 else None
    if isinstance(operation, torch.ScaledDotProductAttentionOp):
        return "mask" if use.index == 3 and torch.tensor_type(operation.query).rank == 4 else None
    results = operation.results
    makes_floats = bool(results) and isinstance(kind := results[0].type, torch.VTensorType) and kind.is_float
    return _NUMBERS if makes_floats else None


def _is_direct(use: Use) -> bool:
    """True if the machine reads an input itself: as indices through views, or as a mask that is folded."""
    if torch.MASK_ERROR in use.operation.attributes:
        return False
    value = use.operation.operands[use.index]
    while isinstance(value.owner, _ON_THE_WAY):
        if isinstance(value.owner, torch.LogicalNotOp) and isinstance(use.operation, torch.EmbeddingOp):
            return False
        value = value.owner.operands[0]
    return isinstance(value, BlockArgument)


def _takes_floats_only(operation: Operation) -> bool:
    """True if integers among its operands stand for floats, and are no conditions."""
    row = torch.find_row(operation)
    return row is not None and row.role in (Role.ADDITION, Role.MULTIPLICATION, Role.SCALING)


def extract_prologue(module: ModuleOp, store: WeightStore) -> None:
    """Extracts the host prologue of `module`, which has none yet, in place."""
    if prologue_function(module) is None:
        _Extraction(module, store).run()


@dataclass(frozen=True)
class TorchExtractProloguePass(ModulePass):
    """Takes what a model computes from integers and bools out of `main`, for the host to compute beforehand."""

    name = "torch-extract-prologue"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; tables go into the context's weight store."""
        extract_prologue(op, weights_of(ctx))
