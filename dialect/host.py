"""
The `host` dialect: the host prologue of a model, in the function `prologue` of a module.

Its arguments are the inputs of the model. Its results, by their names, are arguments of `main`; the other arguments of
`main` are inputs of the model. One operation of the dialect is one of `sta.spec.host_operations`, whose definition
gives operands, attributes and meaning; what follows from the type of the result is no attribute here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import (
    DenseArrayBase,
    DictionaryAttr,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    i64,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Dialect, Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import ConstantLike, Pure
from xdsl.utils.exceptions import VerifyException

from sta.dialect import torch
from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import prologue_function
from sta.dialect.ir.verification import expect
from sta.dialect.ir.weight_store import WeightStore
from sta.dialect.nm import INTEGERS, integer_values, integers
from sta.spec.host_operations import HOST_OPERATIONS, HostOperation, HostType
from sta.spec.host_prologue import TABLE, HostInput, HostPrologue, HostStep

Array = NDArray[Any]

_TABLE_ALIGNMENT = 8
"""Of tables in the container: that of their widest elements."""


def tensor_type(kind: HostType) -> TensorType[Attribute]:
    """The type of a value."""
    return TensorType(torch.element_type_of(np.dtype(kind.dtype)), kind.shape)


def host_type(type_: Attribute) -> HostType:
    """The type of a value. Raises ValueError for one that no value of a prologue has."""
    if not isinstance(type_, TensorType):
        raise ValueError(f"a tensor is expected, not {type_}")
    tensor = cast("TensorType[Attribute]", type_)
    return HostType(tensor.get_shape(), torch.numpy_dtype(tensor.get_element_type()).name)


@irdl_op_definition
class TableOp(IRDLOperation):
    """
    Constants, held by the weight store under their name.

    ```mlir
    %0 = host.table @position_ids : tensor<512xsi64>
    ```
    """

    name = f"host.{TABLE}"

    table = prop_def(SymbolRefAttr)
    """Name in the weight store."""
    result = result_def(TensorType)

    traits = traits_def(Pure(), ConstantLike())

    assembly_format = "$table attr-dict `:` type($result)"

    def __init__(self, table: str, kind: HostType) -> None:
        super().__init__(properties={"table": SymbolRefAttr(table)}, result_types=[tensor_type(kind)])

    @property
    def store_name(self) -> str:
        """Name in the weight store."""
        return self.table.root_reference.data

    def verify_(self) -> None:
        _verified(self.result)


class HostOp(IRDLOperation):
    """
    One operation of `sta.spec.host_operations`.

    ```mlir
    %1 = host.cumsum %0 axis 1 of "aten.cumsum" : (tensor<2x4xsi64>) -> tensor<2x4xsi64>
    ```
    """

    inputs = var_operand_def(TensorType)
    result = result_def(TensorType)

    source = opt_prop_def(StringAttr)
    """Operator of the model that it belongs to."""

    traits = traits_def(Pure())

    @classmethod
    def create_on(
        cls, inputs: Sequence[SSAValue], attributes: Mapping[str, Any], kind: HostType, source: str
    ) -> HostOp:
        """The operation on `inputs`, with a result of type `kind`."""
        given = {name: _attribute(value) for name, value in attributes.items() if name in cls.own_attributes()}
        properties = {**given, **({"source": StringAttr(source)} if source else {})}
        return cls(operands=[list(inputs)], properties=properties, result_types=[tensor_type(kind)])

    @classmethod
    def definition(cls) -> HostOperation:
        """Operands, attributes and meaning."""
        return HOST_OPERATIONS[cls.name.removeprefix("host.")]

    @classmethod
    def own_attributes(cls) -> list[str]:
        """The attributes that do not follow from the type of the result."""
        return [name for name in cls.definition().attributes if name not in _OF_RESULT]

    def attribute_values(self) -> dict[str, Any]:
        """All attributes, as the definition of the operation takes them."""
        kind = host_type(self.result.type)
        of_result = {name: getattr(kind, name) for name in self.definition().attributes if name in _OF_RESULT}
        return {**of_result, **{name: _number(self.properties[name]) for name in self.own_attributes()}}

    @property
    def operator(self) -> str:
        """Operator of the model that it belongs to; empty if that is not known."""
        return "" if self.source is None else self.source.data

    def verify_(self) -> None:
        kind = _verified(self.result)
        try:
            given = [host_type(value.type) for value in self.inputs]
            expected = self.definition().result(given, self.attribute_values())
        except ValueError as error:
            raise VerifyException(str(error)) from error
        expect(kind == expected, f"the result is {expected}, not {kind}")


_OF_RESULT = ("dtype", "shape")
"""Attributes of definitions that are the type of the result."""
_PROPERTIES = {"integer": IntegerAttr.constr(i64), "integers": INTEGERS}


def _verified(value: SSAValue) -> HostType:
    try:
        return host_type(value.type)
    except ValueError as error:
        raise VerifyException(str(error)) from error


def _attribute(value: Any) -> Attribute:
    return IntegerAttr(value, i64) if isinstance(value, int) else integers(value)


def _number(attribute: Attribute) -> int | tuple[int, ...]:
    if isinstance(attribute, DenseArrayBase):
        return integer_values(cast("DenseArrayBase[IntegerType]", attribute))
    return cast("IntegerAttr[IntegerType]", attribute).value.data


def _class_of(definition: HostOperation) -> type[HostOp]:
    """The class of an operation, by its definition."""
    members: dict[str, Any] = {
        "name": f"host.{definition.name}",
        "__doc__": f"{definition.summary[:1].upper()}{definition.summary[1:]}.",
    }
    shown: list[str] = []
    for name, kind in definition.attributes.items():
        if name not in _OF_RESULT:
            members[name] = prop_def(_PROPERTIES[kind])
            shown.append(f"`{name}` ${name} ")
    types = "attr-dict `:` functional-type($inputs, $result)"
    members["assembly_format"] = f"$inputs {''.join(shown)}(`of` $source^)? {types}"
    identifier = "".join(word.capitalize() for word in definition.name.split("_"))
    made: Any = type(f"{identifier}Op", (HostOp,), members)
    return irdl_op_definition(made)


HOST_CLASSES: Mapping[str, type[HostOp]] = {name: _class_of(one) for name, one in HOST_OPERATIONS.items()}
"""The operations of the dialect by the names of their definitions."""

HOST = Dialect("host", [TableOp, *HOST_CLASSES.values()], [])


def model_inputs(module: ModuleOp) -> list[HostInput] | None:
    """The inputs of the model, in their order, of a module with a prologue; None for one without."""
    function = prologue_function(module)
    return None if function is None else _inputs(function)


def _inputs(function: FuncOp) -> list[HostInput]:
    arguments = function.body.block.args
    names = _names(function.arg_attrs, len(arguments))
    return [
        HostInput(name, *_given(value, entry), torch.HOLDS_MASK in entry.data)
        for name, value, entry in zip(names, arguments, function.arg_attrs or (), strict=True)
    ]


def _given(value: SSAValue, entry: DictionaryAttr) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of an input of the model, which is read as `value`."""
    type_: Attribute = value.type
    if not isinstance(type_, TensorType):
        raise ValueError("an argument of another type than a tensor")
    tensor = cast("TensorType[Attribute]", type_)
    dtype = entry.data.get(torch.HOST_DTYPE)
    own = torch.numpy_dtype(tensor.get_element_type()).name
    return tensor.get_shape(), dtype.data if isinstance(dtype, StringAttr) else own


def _names(attributes: Any, count: int) -> list[str]:
    given = [entry.data.get("sta.name") for entry in attributes or ()]
    names = [name.data for name in given if isinstance(name, StringAttr)]
    if len(names) != count:
        raise ValueError("its arguments and results need names (sta.name)")
    return names


def prologue_of(module: ModuleOp, store: WeightStore) -> HostPrologue | None:
    """
    The prologue of a module, with its tables; None if it has none.

    Raises ValueError for a function `prologue` that is none.
    """
    function = prologue_function(module)
    if function is None:
        return None
    inputs = _inputs(function)
    numbers: dict[SSAValue, int] = {value: number for number, value in enumerate(function.body.block.args)}
    steps: list[HostStep] = []
    tables = _Tables(store)
    results: list[int] = []
    for operation in function.body.block.ops:
        operands = tuple(numbers[value] for value in operation.operands)
        if isinstance(operation, ReturnOp):
            results = list(operands)
            continue
        steps.append(_step(operation, operands, tables))
        numbers[operation.results[0]] = len(numbers)
    named = tuple(zip(_names(function.res_attrs, len(results)), results, strict=True))
    return HostPrologue(tuple(inputs), tuple(steps), named, tables.data())


def _step(operation: Operation, operands: tuple[int, ...], tables: _Tables) -> HostStep:
    path = module_path(operation)
    match operation:
        case TableOp():
            return HostStep(TABLE, (), tables.put(operation), path)
        case HostOp():
            definition = operation.definition()
            return HostStep(definition.name, operands, operation.attribute_values(), path, operation.operator)
        case _:
            raise ValueError(f"{operation.name} is no operation of the host prologue")


class _Tables:
    """The bytes of tables, one behind the other."""

    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._bytes = bytearray()
        self._offsets: dict[str, int] = {}

    def put(self, operation: TableOp) -> dict[str, Any]:
        """Appends a table that is not there yet; returns the attributes of the step that reads it."""
        name, kind = operation.store_name, host_type(operation.result.type)
        if name not in self._offsets:
            self._bytes += bytes(-len(self._bytes) % _TABLE_ALIGNMENT)
            self._offsets[name] = len(self._bytes)
            array = np.ascontiguousarray(self._store.get(name))
            self._bytes += array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        return {"offset": self._offsets[name], "shape": kind.shape, "dtype": kind.dtype}

    def data(self) -> NDArray[np.uint8]:
        return np.frombuffer(bytes(self._bytes), np.uint8)


def device_inputs(module: ModuleOp, store: WeightStore, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """
    The inputs of `main` by name, in the dtypes of the host, for the inputs of the model; those themselves without a
    prologue.

    Raises ValueError for numbers for which the prologue has no result.
    """
    prologue = prologue_of(module, store)
    if prologue is None:
        return dict(inputs)
    return {**inputs, **prologue.run(inputs)}
