"""Ranges that follow from roundings: no value ever leaves them, and none is set without grounds."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.weight_store import WeightStore
from sta.dialect.torch import BOUND, tensor_type
from sta.passes.quantization.bound_ranges import bound_ranges
from sta.passes.quantization.calibrate import range_of
from sta.passes.rewriting.torch_operations import operations_of
from tests.support.torch_modules import parse

KIND, VECTOR = "!torch.vtensor<[3,4],f32>", "!torch.vtensor<[4],f32>"


def program(store: WeightStore, activation: str, rounded: bool = True) -> Any:
    generator = np.random.default_rng(0)
    for name, size in (("w", (4, 4)), ("b", (4,)), ("g", (4,))):
        store.put(name, generator.normal(size=size).astype(np.float32))
    matrix = "!torch.vtensor<[4,4],f32>"
    vector = f"tensor<4xf32>) : {VECTOR}"
    start = f"%q = torch.fake_quantize %x to si8 scale 5.000000e-02 zero_point 40 : {KIND}" if rounded else ""
    text = f"""
    builtin.module {{
      func.func @main(%x: {KIND} {{sta.name = "x"}}) -> {KIND} {{
        {start}
        %w = torch.vtensor.literal(dense_resource<w> : tensor<4x4xf32>) : {matrix}
        %b = torch.vtensor.literal(dense_resource<b> : {vector}
        %g = torch.vtensor.literal(dense_resource<g> : {vector}
        %one = torch.constant.int 1
        %four = torch.constant.int 4
        %eps = torch.constant.float 1.000000e-05
        %false = torch.constant.bool false
        %text = torch.constant.str "none"
        %shape = torch.prim.ListConstruct %four : (!torch.int) -> !torch.list<int>
        %s = torch.aten.linear %q, %w, %b : {KIND}, {matrix}, {VECTOR} -> {KIND}
        %a = {activation}
        %t = torch.aten.add.Tensor %q, %b, %one : {KIND}, {VECTOR}, !torch.int -> {KIND}
        %m = torch.aten.mul.Tensor %t, %a : {KIND}, {KIND} -> {KIND}
        %n = torch.aten.layer_norm %m, %shape, %g, %b, %eps, %false
          : {KIND}, !torch.list<int>, {VECTOR}, {VECTOR}, !torch.float, !torch.bool -> {KIND}
        %r = torch.aten.add.Tensor %n, %m, %one : {KIND}, {KIND}, !torch.int -> {KIND}
        func.return %r : {KIND}
      }}
    }}"""
    return parse(text if rounded else text.replace("%q", "%x"))


ACTIVATIONS = {
    "gelu": f"torch.aten.gelu %s, %text : {KIND}, !torch.str -> {KIND}",
    **{name: f"torch.aten.{name} %s : {KIND} -> {KIND}" for name in ("relu", "tanh", "silu", "sigmoid")},
}


def float_values(module: Any) -> list[Any]:
    results = [operation.results[0] for operation in operations_of(module) if operation.results]
    kinds = [value for value in results if "vtensor" in str(value.type)]
    return [value for value in kinds if tensor_type(value).sizes == (3, 4)]


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 3.0, 100.0]))
@settings(max_examples=20)
def test_no_value_leaves_its_range(activation: str, seed: int, size: float) -> None:
    store = WeightStore()
    module = program(store, ACTIVATIONS[activation])
    values = float_values(module)
    assert len(values) == 7
    assert bound_ranges(module, store, values) == []
    x = (np.random.default_rng(seed).normal(size=(3, 4)) * size).astype(np.float32)

    def observe(value: Any, result: Any, operands: Any) -> None:
        if value in values:
            interval = range_of(main_function(module), value, BOUND)
            assert interval is not None
            low, high = interval
            # float32 sums of a few numbers.
            slack = 1e-5 * max(abs(low), abs(high))
            assert low - slack <= float(result.min())
            assert float(result.max()) <= high + slack

    run_torch(module, CompileContext(store), {"x": x}, observe)


def test_what_depends_on_a_value_that_is_not_rounded_has_no_range() -> None:
    store = WeightStore()
    module = program(store, ACTIVATIONS["relu"], rounded=False)
    values = float_values(module)
    # All but the normalized value, which has a range whatever it is made of.
    assert len(bound_ranges(module, store, values)) == len(values) - 1
