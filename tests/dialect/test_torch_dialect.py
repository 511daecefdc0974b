"""The torch dialect: round trips of its text, and refusals of its verifiers."""
# ruff: noqa: E501 - a line of IR is an operation

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, TensorType, f32, i1
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.utils.test_value import create_ssa_value

from sta.dialect import torch
from sta.dialect.ir.weight_store import WeightStore
from tests.support.torch_modules import parse, printed

LAYER = """
func.func @main(%x: !torch.vtensor<[1,4,6],f32>, %ids: !torch.vtensor<[1,4],si64>) -> !torch.vtensor<[1,4,6],f32> {
  %w = torch.vtensor.literal(dense_resource<w> : tensor<6x6xf32>) : !torch.vtensor<[6,6],f32>
  %table = torch.vtensor.literal(dense_resource<table> : tensor<9x6xf32>) : !torch.vtensor<[9,6],f32>
  %none = torch.constant.none
  %one = torch.constant.int 1
  %six = torch.constant.int 6
  %false = torch.constant.bool false
  %eps = torch.constant.float 9.9999999999999998E-13
  %tanh = torch.constant.str "tanh"
  %cpu = torch.constant.device "cpu"
  %shape = torch.prim.ListConstruct %six : (!torch.int) -> !torch.list<int>
  %e = torch.aten.embedding %table, %ids, %one, %false, %false : !torch.vtensor<[9,6],f32>, !torch.vtensor<[1,4],si64>, !torch.int, !torch.bool, !torch.bool -> !torch.vtensor<[1,4,6],f32>
  %n = torch.aten.layer_norm %e, %shape, %none, %none, %eps, %false : !torch.vtensor<[1,4,6],f32>, !torch.list<int>, !torch.none, !torch.none, !torch.float, !torch.bool -> !torch.vtensor<[1,4,6],f32>
  %l = torch.aten.linear %n, %w, %none : !torch.vtensor<[1,4,6],f32>, !torch.vtensor<[6,6],f32>, !torch.none -> !torch.vtensor<[1,4,6],f32>
  %g = torch.aten.gelu %l, %tanh : !torch.vtensor<[1,4,6],f32>, !torch.str -> !torch.vtensor<[1,4,6],f32>
  %q = torch.fake_quantize %g to si8 scale 2.500000e-02 zero_point -3 : !torch.vtensor<[1,4,6],f32>
  %a = torch.aten.add.Tensor %x, %q, %one : !torch.vtensor<[1,4,6],f32>, !torch.vtensor<[1,4,6],f32>, !torch.int -> !torch.vtensor<[1,4,6],f32>
  %indices = torch.prim.ListConstruct %ids : (!torch.vtensor<[1,4],si64>) -> !torch.list<vtensor>
  %more = torch.prim.ListConstruct %ids : (!torch.vtensor<[1,4],si64>) -> !torch.list<optional<vtensor<[1,4],si64>>>
  %parts = torch.aten.chunk %a, %six, %one : !torch.vtensor<[1,4,6],f32>, !torch.int, !torch.int -> !torch.list<vtensor>
  %p:2 = torch.prim.ListUnpack %parts : !torch.list<vtensor> -> !torch.vtensor<[1,2,6],f32>, !torch.vtensor<[1,2,6],f32>
  func.return %a : !torch.vtensor<[1,4,6],f32>
}
"""


@pytest.mark.parametrize("generic", [False, True])
def test_round_trip(generic: bool) -> None:
    module = parse(LAYER)
    again = parse(printed(module, generic=generic))
    assert again.is_structurally_equivalent(module)


@given(st.floats(min_value=1e-30, max_value=1e30), st.integers(-128, 127))
def test_scales_survive_text_exactly(scale: float, zero_point: int) -> None:
    text = LAYER.replace("scale 2.500000e-02 zero_point -3", f"scale {scale:.17e} zero_point {zero_point}")
    again = parse(printed(parse(text)))
    operation = next(operation for operation in again.walk() if isinstance(operation, torch.FakeQuantizeOp))
    assert operation.scale.value.data == scale
    assert operation.zero_point.value.data == zero_point


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tensor<9x6xf32>", "tensor<6x9xf32>", "the result a"),
        ("scale 2.500000e-02", "scale -1.0", "must be positive"),
        ("zero_point -3", "zero_point 128", "zero point outside"),
        ("to si8 scale", "to si16 scale", "symmetric"),
        ("to si8 scale", "to si32 scale", "si8 or si16"),
        ("ListConstruct %six", "ListConstruct %one", "does not end in"),
    ],
)
def test_verifiers_refuse(old: str, new: str, message: str) -> None:
    assert old in LAYER
    with pytest.raises(VerifyException, match=message):
        parse(LAYER.replace(old, new))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!torch.vtensor<[?,2],f32>", "dynamic sizes are not supported"),
        ("!torch.vtensor<[2],index>", "cannot have elements of type index"),
        ("!torch.vtensor<[-2],f32>", "integer"),
    ],
)
def test_types_refuse(text: str, message: str) -> None:
    with pytest.raises((ParseError, VerifyException), match=message):
        parse(f"func.func private @main({text})")


def value(*sizes: int) -> torch.SSAValue:
    return create_ssa_value(torch.VTensorType(sizes, f32))


def kind(*sizes: int) -> torch.VTensorType:
    return torch.VTensorType(sizes, f32)


def test_shapes_are_verified() -> None:
    none = torch.ConstantNoneOp().result
    linear = torch.LinearOp.with_operands([value(2, 3), value(4, 5), none], kind(2, 4))
    with pytest.raises(VerifyException, match=r"input \[2, 3\] does not fit weight \[4, 5\]"):
        linear.verify()
    one = torch.ConstantIntOp(1).result
    with pytest.raises(VerifyException, match="do not broadcast"):
        torch.AddTensorOp.with_operands([value(2, 3), value(4, 3), one], kind(2, 3)).verify()
    with pytest.raises(VerifyException, match="cannot be multiplied"):
        torch.MatmulOp.with_operands([value(2, 3), value(4, 3)], kind(2, 3)).verify()
    sizes = torch.ListConstructOp([one], torch.IntType()).result
    with pytest.raises(VerifyException, match="number of elements"):
        torch.ViewOp.with_operands([value(2, 3), sizes], kind(2, 2)).verify()


def test_slice_bounds_are_positions_in_the_axis() -> None:
    minus_two, none, one = torch.ConstantIntOp(-2).result, torch.ConstantNoneOp().result, torch.ConstantIntOp(1).result
    operation = torch.SliceTensorOp.with_operands([value(2, 5), one, minus_two, none, one], kind(2, 2))
    operation.verify()
    assert isinstance(operation, torch.SliceTensorOp)
    assert operation.bounds == (1, 3, 5, 1)


def test_constants_are_told_from_tensors() -> None:
    two, text, none = torch.ConstantIntOp(2).result, torch.ConstantStrOp("none").result, torch.ConstantNoneOp().result
    mixed = torch.ListConstructOp([two, none], torch.OptionalType(torch.IntType())).result
    assert [torch.constant_of(one) for one in (two, text, none, mixed)] == [2, "none", None, [2, None]]
    assert torch.constant_of(torch.ConstantBoolOp(True).result) is True
    assert torch.number_of(two) == 2.0
    assert torch.is_constant(mixed)
    assert not torch.is_constant(torch.ListConstructOp([value(2)], value(2).type).result)
    with pytest.raises(ValueError, match="constant int"):
        torch.integer_of(torch.ConstantBoolOp(True).result)


@pytest.mark.parametrize(
    "array",
    [
        np.array(-3.4028235e38, np.float32),
        np.array([[1, 2, 3]], np.int64),
        np.array([True, False]),
        np.full((2, 2), 0.1, np.float32),
    ],
)
def test_literals_in_the_text_are_exact(array: np.ndarray) -> None:
    kind = torch.VTensorType(array.shape, torch.element_type_of(array.dtype))
    literal = torch.LiteralOp(elements(array), kind)
    line = str(literal).partition("= ")[2]
    text = f"func.func @main() -> {kind} {{\n %0 = {line}\n func.return %0 : {kind}\n}}"
    again = next(operation for operation in parse(text).walk() if isinstance(operation, torch.LiteralOp))
    np.testing.assert_array_equal(again.array(WeightStore()), array)
    assert again.array(WeightStore()).dtype == array.dtype


def elements(array: np.ndarray) -> DenseIntOrFPElementsAttr:
    kind: Any = TensorType(torch.element_type_of(array.dtype), array.shape)
    return DenseIntOrFPElementsAttr.from_list(kind, [one.item() + 0 for one in array.reshape(-1)])


def test_literals_in_the_text_must_be_finite() -> None:
    literal = torch.LiteralOp(elements(np.array(-np.inf, np.float32)), torch.VTensorType((), f32))
    with pytest.raises(VerifyException, match="must be in the weight store"):
        literal.verify()


@pytest.mark.parametrize("number", [np.inf, -np.inf, 1000001.0, 0.1, 5e-324, -0.0, 1e22])
def test_constant_floats_survive_text_exactly(number: float) -> None:
    module = parse(f"func.func @main() {{\n {torch.ConstantFloatOp(number)!s}\n func.return\n}}")
    again = next(operation for operation in module.walk() if isinstance(operation, torch.ConstantFloatOp))
    assert struct.pack("d", again.value.value.data) == struct.pack("d", number)


def test_a_stored_literal_must_be_what_the_operation_says() -> None:
    store = WeightStore()
    store.put("w", np.zeros((2, 2), np.float32))
    assert torch.LiteralOp.named("w", (2, 2), np.dtype(np.float32)).array(store).shape == (2, 2)
    with pytest.raises(ValueError, match="'w' is float32"):
        torch.LiteralOp.named("w", (4,), np.dtype(np.float32)).array(store)


def test_element_types_and_dtypes_correspond() -> None:
    for dtype in (np.bool_, np.int8, np.uint8, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64):
        assert torch.numpy_dtype(torch.element_type_of(np.dtype(dtype))) == dtype
    assert torch.element_type_of(np.dtype(np.bool_)) == i1
    with pytest.raises(ValueError, match="uint16"):
        torch.element_type_of(np.dtype(np.uint16))
