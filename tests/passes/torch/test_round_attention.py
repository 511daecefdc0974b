"""Roundings inside attention: some are removed, some move, and moving changes no number."""

from typing import Any

import numpy as np
import pytest
import torch

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.torch.recognize_attention import recognize_attention
from sta.passes.torch.round_attention import round_attention
from tests.support.torch_modules import overloads, parse

KIND = "!torch.vtensor<[1,2,5,5],f32>"


def attention(scaling: str = "mul", factor: float = 0.5, *, scores_leave: bool = False) -> Any:
    """Attention of x to itself; the query is scaled and rounded, and so are the scores and the weights."""
    results = f"{KIND}, {KIND}" if scores_leave else KIND
    returned = "%out, %rounded" if scores_leave else "%out"
    return parse(f"""
    builtin.module {{
      func.func @main(%x: {KIND} {{sta.name = "x"}}) -> ({results}) {{
        %factor = torch.constant.float {factor:.17e}
        %axis = torch.constant.int -1
        %none = torch.constant.none
        %key = torch.fake_quantize %x to si8 scale 3.125000e-02 zero_point 3 : {KIND}
        %scaled = torch.aten.{scaling}.Scalar %x, %factor : {KIND}, !torch.float -> {KIND}
        %query = torch.fake_quantize %scaled to si8 scale 1.562500e-02 zero_point -9 : {KIND}
        %scores = torch.aten.matmul %query, %key : {KIND}, {KIND} -> {KIND}
        %rounded = torch.fake_quantize %scores to si8 scale 1.250000e-01 zero_point 0 : {KIND}
        %weights = torch.aten.softmax.int %rounded, %axis, %none : {KIND}, !torch.int, !torch.none -> {KIND}
        %narrow = torch.fake_quantize %weights to si8 scale 3.906250e-03 zero_point -128 : {KIND}
        %out = torch.aten.matmul %narrow, %key : {KIND}, {KIND} -> {KIND}
        func.return {returned} : {results}
      }}
    }}""")


def formats(module: Any) -> list[tuple[float, int]]:
    found = [operation for operation in module.walk() if isinstance(operation, dialect.FakeQuantizeOp)]
    return [(operation.scale.value.data, operation.zero_point.value.data) for operation in found]


@pytest.mark.parametrize(("scaling", "factor", "step"), [("mul", 0.5, 2**-5), ("div", 0.5, 2**-7)])
def test_only_query_key_and_value_are_rounded(scaling: str, factor: float, step: float) -> None:
    module, store = attention(scaling, factor), WeightStore()
    round_attention(module, store)
    module.verify()
    assert formats(module) == [(2**-5, 3), (step, -9)]
    recognize_attention(module, store)
    assert [name for name in overloads(module) if name in ("matmul", "mul.Scalar", "softmax.int")] == []
    found = next(op for op in module.walk() if isinstance(op, dialect.ScaledDotProductAttentionOp))
    assert dialect.number_of(found.scale) == (factor if scaling == "mul" else 1 / factor)


def test_a_rounding_that_moved_gives_the_same_numbers() -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 5, 5)).astype(np.float32)
    module, store = attention(), WeightStore()
    round_attention(module, store)
    context = CompileContext(store)
    # The factor is a power of two: not even float32 rounds differently.
    seen: dict[str, Any] = {}

    def observe(value: Any, result: Any, operands: Any) -> None:
        seen[value.owner.name] = result

    run_torch(module, context, {"x": x}, observe)
    tensor = torch.tensor(x)
    expected = torch.fake_quantize_per_tensor_affine(tensor * 0.5, 2**-6, -9, -128, 127)
    assert torch.equal(seen["torch.aten.mul.Scalar"], expected)


def test_scores_that_are_used_elsewhere_stay_rounded() -> None:
    module = attention(scores_leave=True)
    round_attention(module, WeightStore())
    assert (2**-3, 0) in formats(module)


def test_a_softmax_that_weighs_nothing_stays_rounded() -> None:
    module = parse(f"""
    builtin.module {{
      func.func @main(%x: {KIND} {{sta.name = "x"}}) -> {KIND} {{
        %axis = torch.constant.int -1
        %none = torch.constant.none
        %weights = torch.aten.softmax.int %x, %axis, %none : {KIND}, !torch.int, !torch.none -> {KIND}
        %narrow = torch.fake_quantize %weights to si8 scale 3.906250e-03 zero_point -128 : {KIND}
        func.return %narrow : {KIND}
      }}
    }}""")
    round_attention(module, WeightStore())
    assert formats(module) == [(2**-8, -128)]


@pytest.mark.parametrize("factor", [-0.5, 0.0])
def test_only_positive_factors_move(factor: float) -> None:
    module = attention("mul", factor)
    round_attention(module, WeightStore())
    assert formats(module) == [(2**-5, 3), (2**-6, -9)]
