"""
The host prologue of a program: operations on its integer and bool inputs that run before the machine starts.

Values are numbered: the inputs first, then the result of each step. A step is one of the operations of
`sta.spec.host_operations`, or `table`, which reads constants. The results become inputs of the machine's program. No
step reads floats; inputs of floats stand in the list only because it is that of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from sta.spec.host_operations import HOST_DTYPES, HOST_OPERATIONS, HostFault, HostType, is_integer, is_integers
from sta.spec.signature import NO_DEVICE, TensorSignature

Array: TypeAlias = NDArray[Any]
Json: TypeAlias = dict[str, Any]

TABLE = "table"
"""The step that reads constants: attributes `offset` (in the section of tables), `shape` and `dtype`."""
MOST_STEPS = 1 << 14
"""Steps of a prologue."""
_STEP_KEYS = ("operation", "operands", "path", "source")


@dataclass(frozen=True)
class HostInput:
    """An input of the model."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    holds_mask: bool = False
    """True if only 0 and 1 are accepted; floats are read as bools then."""

    @property
    def kind(self) -> HostType | None:
        """The type of its value; None for floats, which no step reads."""
        if self.dtype in HOST_DTYPES:
            return HostType(self.shape, self.dtype)
        return HostType(self.shape, "bool") if self.holds_mask else None

    @property
    def signature(self) -> TensorSignature:
        """The signature of an input that does not get to the machine as it is."""
        return TensorSignature(self.name, self.shape, self.dtype, NO_DEVICE, "host", limit=2 if self.holds_mask else 0)


@dataclass(frozen=True)
class HostStep:
    """One operation on values that are known by their numbers."""

    operation: str
    operands: tuple[int, ...]
    attributes: Mapping[str, Any]
    path: str = ""
    """Module path of the model."""
    source: str = ""
    """Operator of the model that it belongs to."""

    def __str__(self) -> str:
        """`cumsum %3 axis=1`."""
        operands = [f"%{number}" for number in self.operands]
        attributes = [f"{name}={value}" for name, value in sorted(self.attributes.items())]
        return " ".join([self.operation, *operands, *attributes])


@dataclass(frozen=True)
class HostPrologue:
    """
    A checked prologue.

    Raises `ValueError` for operands that are no values before a step, operations or attributes that do not fit, a
    table outside of `tables`, and results of the same name.
    """

    inputs: tuple[HostInput, ...]
    steps: tuple[HostStep, ...]
    results: tuple[tuple[str, int], ...]
    """Names of results, and the numbers of their values."""
    tables: NDArray[np.uint8]
    """The bytes of all tables, little endian."""
    types: tuple[HostType | None, ...] = field(init=False, compare=False)
    """Types of values by number; None for inputs of floats."""

    def __post_init__(self) -> None:
        names = [one.name for one in self.inputs]
        results = [name for name, _ in self.results]
        for given in (names, results):
            if len(set(given)) != len(given):
                raise ValueError("two inputs or two results have the same name")
        if set(names) & set(results):
            raise ValueError(f"a result has the name of an input: {sorted(set(names) & set(results))[0]!r}")
        types = [one.kind for one in self.inputs]
        for position, step in enumerate(self.steps):
            try:
                types.append(self._type(step, types))
            except ValueError as error:
                raise ValueError(f"step {position}: {error}") from None
        for name, value in self.results:
            if not 0 <= value < len(types) or types[value] is None:
                raise ValueError(f"the result {name!r} is {value}, which is no value of integers or bools")
        object.__setattr__(self, "types", tuple(types))

    def _type(self, step: HostStep, types: Sequence[HostType | None]) -> HostType:
        operands = [types[number] if 0 <= number < len(types) else None for number in step.operands]
        known = [kind for kind in operands if kind is not None]
        if len(known) != len(operands):
            raise ValueError(f"its operands {list(step.operands)} are no values of integers or bools before it")
        if step.operation == TABLE:
            return self._table_type(step)
        if step.operation not in HOST_OPERATIONS:
            raise ValueError(f"unknown operation {step.operation!r}")
        return HOST_OPERATIONS[step.operation].result(known, step.attributes)

    def _table_type(self, step: HostStep) -> HostType:
        if step.operands or set(step.attributes) != {"offset", "shape", "dtype"}:
            raise ValueError(f"a {TABLE} has no operands, and the attributes offset, shape and dtype")
        offset, shape, dtype = (step.attributes[name] for name in ("offset", "shape", "dtype"))
        if not is_integer(offset) or not is_integers(shape) or not isinstance(dtype, str):
            raise ValueError(f"the attributes of a {TABLE} are an integer, a list of integers, and a dtype")
        kind = HostType(tuple(shape), dtype)
        if offset < 0 or offset % np.dtype(dtype).itemsize or offset + kind.nbytes > len(self.tables):
            raise ValueError(f"bytes {offset}..{offset + kind.nbytes - 1} are no {TABLE} of {len(self.tables)} bytes")
        return kind

    @property
    def nbytes(self) -> int:
        """Bytes of all values of a run, and so the most that it takes."""
        return sum(kind.nbytes for kind in self.types if kind is not None)

    def result_type(self, name: str) -> HostType:
        """Returns the type of the result called `name`."""
        found = self.types[dict(self.results)[name]]
        assert found is not None
        return found

    def sources(self, value: int) -> list[str]:
        """Returns the names of the inputs that the value numbered `value` depends on, in the inputs' order."""
        pending, seen = [value], set[int]()
        while pending:
            number = pending.pop()
            if number not in seen:
                seen.add(number)
                pending += [] if number < len(self.inputs) else self.steps[number - len(self.inputs)].operands
        return [one.name for number, one in enumerate(self.inputs) if number in seen]

    def described(self, name: str) -> str:
        """Returns the inputs behind the result called `name`, as messages name them."""
        return named_inputs(self.sources(dict(self.results)[name]))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """
        Computes the results, by name, for arrays by the names of the inputs; arrays of floats are not read.

        Raises `ValueError`, naming the inputs, for numbers without a result: an index outside of a table.
        """
        values: dict[int, Array] = {
            number: np.asarray(inputs[one.name]).astype(kind.dtype, copy=False)
            for number, one in enumerate(self.inputs)
            if (kind := one.kind) is not None
        }
        last = {operand: position for position, step in enumerate(self.steps) for operand in step.operands}
        last.update((number, len(self.steps)) for _, number in self.results)
        for position, step in enumerate(self.steps):
            number = len(self.inputs) + position
            values[number] = self._computed(number, step, [values[operand] for operand in step.operands])
            for operand in dict.fromkeys((*step.operands, number)):
                if last.get(operand, position) <= position:
                    del values[operand]
        return {name: np.ascontiguousarray(values[number]) for name, number in self.results}

    def _computed(self, number: int, step: HostStep, operands: Sequence[Array]) -> Array:
        if step.operation == TABLE:
            return self._table(step)
        try:
            return HOST_OPERATIONS[step.operation].compute(operands, step.attributes)
        except HostFault as error:
            place = f" in {step.path}" if step.path else ""
            what = step.source or step.operation
            raise ValueError(f"{named_inputs(self.sources(number))}: {what}{place}: {error}") from None

    def _table(self, step: HostStep) -> Array:
        kind = self._table_type(step)
        offset: int = step.attributes["offset"]
        data = self.tables[offset : offset + kind.nbytes].view(np.dtype(kind.dtype).newbyteorder("<"))
        return data.astype(kind.dtype, copy=False).reshape(kind.shape)

    def encode(self, ports: Sequence[TensorSignature], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """
        Returns the integers of the machine's inputs `ports`, by name, for the model's inputs by name.

        Raises `ValueError`, naming an input of the model, for arrays that do not fit.
        """
        readable = [one.signature for one in self.inputs if one.kind is not None]
        computed = self.run({one.name: one.encode(inputs[one.name]) for one in readable})
        encoded: dict[str, Array] = {}
        for port in ports:
            if port.name not in computed:
                encoded[port.name] = port.encode(inputs[port.name])
                continue
            try:
                encoded[port.name] = port.encode(computed[port.name])
            except ValueError as error:
                problem = str(error).removeprefix(f"input {port.name!r}: ")
                raise ValueError(f"{self.described(port.name)}, of which {port.name!r} is made: {problem}") from None
        return encoded

    def to_json(self) -> Json:
        """Returns the prologue, without the bytes of tables, as a dictionary that JSON can hold."""
        return {
            "inputs": [
                {"name": one.name, "shape": list(one.shape), "dtype": one.dtype, "holds_mask": one.holds_mask}
                for one in self.inputs
            ],
            "steps": [
                {
                    "operation": step.operation,
                    "operands": list(step.operands),
                    "path": step.path,
                    "source": step.source,
                    **{name: _plain(value) for name, value in step.attributes.items()},
                }
                for step in self.steps
            ],
            "results": [{"name": name, "value": number} for name, number in self.results],
        }

    @staticmethod
    def from_json(section: object, tables: NDArray[np.uint8]) -> HostPrologue:
        """Returns the prologue that `to_json` described; raises `ValueError` for anything else."""
        if not isinstance(section, dict) or set(cast(Json, section)) != {"inputs", "steps", "results"}:
            raise ValueError("not an object of 'inputs', 'steps' and 'results'")
        lists = cast(Json, section)
        for key, entries in lists.items():
            if not isinstance(entries, list) or not all(isinstance(one, dict) for one in cast("list[object]", entries)):
                raise ValueError(f"{key!r} is not a list of objects")
        if len(lists["steps"]) > MOST_STEPS:
            raise ValueError(f"{len(lists['steps'])} steps, at most {MOST_STEPS} are allowed")
        inputs = tuple(_input(entry) for entry in lists["inputs"])
        steps = tuple(_step(position, entry) for position, entry in enumerate(lists["steps"]))
        return HostPrologue(inputs, steps, tuple(_result(entry) for entry in lists["results"]), tables)


def named_inputs(names: Sequence[str]) -> str:
    """Returns `input 'ids'`, or `inputs 'ids' and 'mask'`."""
    quoted = [repr(name) for name in names]
    if len(quoted) < 2:
        return f"input {quoted[0]}" if quoted else "a constant"
    return f"inputs {', '.join(quoted[:-1])} and {quoted[-1]}"


def _plain(value: object) -> object:
    """An attribute as JSON has it."""
    return list(cast("tuple[int, ...]", value)) if isinstance(value, tuple) else value


def _input(entry: Json) -> HostInput:
    name, shape, dtype, holds_mask = (entry.get(key) for key in ("name", "shape", "dtype", "holds_mask"))
    texts = isinstance(name, str) and isinstance(dtype, str)
    if len(entry) != 4 or not texts or not is_integers(shape) or not isinstance(holds_mask, bool):
        raise ValueError(f"an input has a name, a shape, a dtype and holds_mask, unlike {name!r}")
    return HostInput(str(name), tuple(cast("list[int]", shape)), str(dtype), holds_mask)


def _step(position: int, entry: Json) -> HostStep:
    operation, operands, path, source = (entry.get(key) for key in _STEP_KEYS)
    texts = all(isinstance(text, str) for text in (operation, path, source))
    if not texts or not isinstance(operands, list) or not all(map(is_integer, cast("list[object]", operands))):
        raise ValueError(f"step {position}: an operation, operands, a path and a source are expected")
    attributes = {key: value for key, value in entry.items() if key not in _STEP_KEYS}
    return HostStep(str(operation), tuple(cast("list[int]", operands)), attributes, str(path), str(source))


def _result(entry: Json) -> tuple[str, int]:
    name, value = entry.get("name"), entry.get("value")
    if len(entry) != 2 or not isinstance(name, str) or not is_integer(value):
        raise ValueError("a result has a name and the number of a value")
    assert isinstance(value, int)
    return name, value
