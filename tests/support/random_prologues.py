"""Random host prologues: steps with whatever operands and attributes fit."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

import numpy as np

from sta.backend.container import Container
from sta.spec.host_operations import HOST_DTYPES, HOST_OPERATIONS, HostType
from sta.spec.host_prologue import TABLE, HostInput, HostPrologue, HostStep

SIZES = (1, 1, 2, 3, 4)
MOST_ELEMENTS = 256


class RandomPrologue:
    """Steps drawn one after the other."""

    def __init__(self, seed: int, steps: int) -> None:
        self._random = random.Random(seed)
        count = self._random.randint(1, 3)
        self.inputs = [HostInput(f"input {number}", self._shape(), self._dtype()) for number in range(count)]
        self.tables = np.array([self._random.randint(0, 2) for _ in range(64)], "<i8").view(np.uint8)
        self.steps: list[HostStep] = []
        self.types = [HostType(one.shape, one.dtype) for one in self.inputs]
        while len(self.steps) < steps:
            self._try()

    def _shape(self) -> tuple[int, ...]:
        return tuple(self._random.choice(SIZES) for _ in range(self._random.randint(0, 3)))

    def _dtype(self) -> str:
        return self._random.choice((*HOST_DTYPES, "int64", "int64", "bool"))

    def _try(self) -> None:
        """Adds a step if one that is drawn makes sense."""
        name = self._random.choice((TABLE, *HOST_OPERATIONS))
        if name == TABLE:
            shape = self._shape()
            self.add(HostStep(TABLE, (), {"offset": 0, "shape": shape, "dtype": "int64"}))
            return
        operation = HOST_OPERATIONS[name]
        count = self._random.randint(1, 3) if operation.operands is None else operation.operands
        operands = tuple(self._random.randrange(len(self.types)) for _ in range(count))
        first = self.types[operands[0]] if operands else HostType((), "int64")
        attributes = {key: self._attribute(key, kind, first) for key, kind in operation.attributes.items()}
        try:
            kind = operation.result([self.types[operand] for operand in operands], attributes)
        except ValueError:
            return
        if kind.elements <= MOST_ELEMENTS:
            self.add(HostStep(name, operands, attributes, "layer", f"aten.{name}"))

    def _attribute(self, key: str, kind: str, operand: HostType) -> Any:
        rank = len(operand.shape)
        if kind == "dtype":
            return self._dtype()
        if key == "axes":
            return tuple(self._random.sample(range(rank), rank if self._random.random() < 0.6 else min(rank, 1)))
        if key == "shape":
            flat = (operand.elements,) if self._random.random() < 0.5 else (*operand.shape, 1)
            return flat if self._random.random() < 0.5 else (2, *operand.shape)
        return self._random.randint(0, 2 if key == "axis" else 3)

    def add(self, step: HostStep) -> int:
        """Adds a step; returns the number of its value."""
        self.steps.append(step)
        prologue = HostPrologue(tuple(self.inputs), tuple(self.steps), (), self.tables)
        kind = prologue.types[-1]
        assert kind is not None
        self.types.append(kind)
        return len(self.types) - 1

    def filled(self, shape: tuple[int, ...]) -> int:
        """The number of an int64 value of `shape` that depends on the last one."""
        last = len(self.types) - 1
        flat = self.add(HostStep("reshape", (last,), {"shape": (self.types[last].elements,)}))
        number = self.add(HostStep("convert", (flat,), {"dtype": "int64"}))
        total = self.add(HostStep("sum", (number,), {"axes": (0,)}))
        scalar = self.add(HostStep("reshape", (total,), {"shape": ()}))
        return self.add(HostStep("expand", (scalar,), {"shape": shape}))

    def prologue(self, results: tuple[tuple[str, int], ...]) -> HostPrologue:
        """The checked prologue with these results."""
        return HostPrologue(tuple(self.inputs), tuple(self.steps), results, self.tables)

    def numbers(self) -> dict[str, Any]:
        """Small numbers for the inputs."""
        made = np.random.default_rng(self._random.randrange(1 << 30))
        return {one.name: made.integers(0, 3, one.shape).astype(one.dtype) for one in self.inputs}


def with_prologue(container: Container, seed: int) -> Container:
    """The container, whose inputs are made by a random prologue."""
    drawn = RandomPrologue(seed, 6)
    signature: Any = container.signature
    inputs: list[Any] = [{**port, "host_dtype": "int64"} for port in signature["inputs"] if math.prod(port["shape"])]
    results = tuple((port["name"], drawn.filled(tuple(port["shape"]))) for port in inputs)
    prologue = drawn.prologue(results)
    return dataclasses.replace(
        container,
        signature={**signature, "inputs": inputs},
        prologue=prologue.to_json(),
        tables=prologue.tables,
    )
