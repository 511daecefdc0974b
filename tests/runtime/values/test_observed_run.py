"""Every value of a run is observed as written, and later operations read its replacement."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from xdsl.dialects import func
from xdsl.interpreter import Interpreter, PythonValues
from xdsl.ir import Operation, SSAValue

from sta.api.compiler.compilation import Compilation, compile_model
from sta.dialect import nm
from sta.dialect.interpreters.nm import NmFunctions
from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.quantized_value import meaning_of
from sta.runtime.reference import ReferenceEngine
from sta.runtime.values.model_values import Value, values_of
from sta.runtime.values.observed_run import run_values
from sta.runtime.values.value_writes import ValueWrites, output_values, value_writes
from sta.spec.target import Target, load_target

Array = NDArray[Any]
POISON = 0x5A


class Functional(nn.Module):
    """Everything in one module, so that paths do not tell values apart."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(40, 24) / 5)
        self.second = nn.Parameter(torch.randn(24, 40) / 5)

    def forward(self, src: torch.Tensor) -> torch.Tensor:
        functional = nn.functional
        for _ in range(2):
            hidden = functional.gelu(functional.linear(src, self.first))
            src = functional.layer_norm(src + functional.linear(hidden, self.second), (24,))
        return src


def layer() -> nn.Module:
    """An encoder layer whose sizes are no multiples of a tile's."""
    return nn.TransformerEncoderLayer(60, 3, 150, 0.0, "gelu", batch_first=True)


SMALL = load_target("sta-small")
TINY = dataclasses.replace(SMALL, sram_bytes=32768)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Target]] = {
    "layer": (layer, (2, 37, 60), SMALL),
    "functional": (Functional, (1, 300, 24), SMALL),
    "dram": (Functional, (1, 300, 24), TINY),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Compilation, dict[str, Array]]:
    """A compiled model, and host inputs."""
    make, shape, target = CASES[request.param]
    torch.manual_seed(3)  # pyright: ignore[reportUnknownMemberType]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compilation = compile_model(make().eval(), {"src": torch.randn(shape)}, target=target)
    return compilation, {"src": np.random.default_rng(5).standard_normal(shape).astype(np.float32)}


def key_of(path: str, operation: str, meaning: Any, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    return path, operation, meaning.source, meaning.scale, meaning.zero_point, dtype


def interpreted(
    compilation: Compilation, inputs: dict[str, Array], replacements: dict[tuple[Any, ...], Array]
) -> dict[tuple[Any, ...], Array]:
    """
    Results of operations of the last `nm` module, flat, by the debug map's description of a value; replacements take
    the place of results.
    """
    module, program = compilation.integer_module, compilation.program
    assert module is not None
    assert program is not None
    interpreter = Interpreter(module)
    interpreter.register_implementations(NmFunctions(compilation.context.weights))
    function: func.FuncOp = main_function(module)
    known: dict[SSAValue, Any] = dict(
        zip(function.body.block.args, program.encode_inputs(inputs).values(), strict=True)
    )
    found: dict[tuple[Any, ...], Array] = {}
    for op in function.body.block.ops:
        if isinstance(op, func.ReturnOp):
            continue
        results: PythonValues = interpreter.run_op(op, tuple(known[operand] for operand in op.operands))
        for value, result in zip(op.results, results, strict=True):
            known[value] = result
            meaning = None if isinstance(op, nm.View) else meaning_of(value)
            if meaning is None:
                continue
            key = key_of(module_path(cast(Operation, op)), op.name, meaning, result.dtype)
            assert key not in found, key
            found[key] = result.reshape(-1)
            if key in replacements:
                known[value] = replacements[key].reshape(result.shape)
    return found


def prepared(compilation: Compilation) -> tuple[ReferenceEngine, ValueWrites, dict[int, tuple[Any, ...]]]:
    """The engine, when values are written, and for each what the debug map says of it."""
    program = compilation.program
    assert program is not None
    values: list[Value] = values_of(program.container)
    writes = value_writes(program.valid, [*values, *output_values(program.valid)])
    keys = {index: key_of(value.name, value.operation, value, value.dtype) for index, value in enumerate(values)}
    return ReferenceEngine(program.valid), writes, keys


def test_values_are_those_of_the_interpreter(case: tuple[Compilation, dict[str, Array]]) -> None:
    compilation, inputs = case
    engine, writes, keys = prepared(compilation)
    program = compilation.program
    assert program is not None
    seen = run_values(engine, writes, program.encode_inputs(inputs), {}, POISON, lambda done: None)
    assert seen.keys() == set(range(len(writes.values)))
    expected = interpreted(compilation, inputs, {})
    for index, key in keys.items():
        assert np.array_equal(seen[index], expected[key]), key
    outputs = program.run(inputs).raw
    for index in range(len(keys), len(writes.values)):
        assert np.array_equal(seen[index], outputs[writes.values[index].source].reshape(-1))


def test_a_replaced_value_is_what_later_operations_read(case: tuple[Compilation, dict[str, Array]]) -> None:
    compilation, inputs = case
    engine, writes, keys = prepared(compilation)
    program = compilation.program
    assert program is not None
    random = np.random.default_rng(7)
    # Nothing like what the program computes: an operation that read anything else would show it.
    replacements = {
        index: random.integers(-90, 90, writes.addresses[index].size).astype(writes.values[index].dtype)
        for index in keys
    }
    seen = run_values(engine, writes, program.encode_inputs(inputs), replacements, POISON, lambda done: None)
    expected = interpreted(compilation, inputs, {keys[index]: array for index, array in replacements.items()})
    for index, key in keys.items():
        assert np.array_equal(seen[index], expected[key]), key
