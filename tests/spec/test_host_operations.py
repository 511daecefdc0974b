"""Operations of the host prologue: meanings as PyTorch has them, types, and every refusal."""
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# The oracles are functions of tensors with arguments of many kinds.

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sta.spec.host_operations import HOST_DTYPES, HOST_OPERATIONS, HostFault, HostType
from tests.support.random_prologues import RandomPrologue

Arguments = Mapping[str, Any]
ORACLE: dict[str, Callable[..., Any]] = {
    "number": lambda value, dtype: torch.tensor(value, dtype=getattr(torch, dtype)),
    "convert": lambda x, dtype: x.to(getattr(torch, dtype)),
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "floor_divide": torch.floor_divide,
    "remainder": torch.remainder,
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    "and": torch.bitwise_and,
    "or": torch.bitwise_or,
    "xor": torch.bitwise_xor,
    "not": torch.bitwise_not,
    "equal": torch.eq,
    "less": torch.lt,
    "less_equal": torch.le,
    "select": torch.where,
    "reshape": lambda x, shape: x.reshape(shape),
    "expand": lambda x, shape: x.expand(shape),
    "permute": lambda x, axes: x.permute(axes),
    "slice": lambda x, axis, start, stop, step: x[(slice(None),) * axis + (slice(start, stop, step),)],
    "reverse": lambda x, axes: x.flip(axes),
    "concatenate": lambda *x, axis: torch.cat(x, axis),
    "sum": lambda x, axes: x.sum(axes, keepdim=True, dtype=x.dtype) if axes else x,
    "amax": lambda x, axes: x.amax(axes, keepdim=True) if axes else x,
    "amin": lambda x, axes: x.amin(axes, keepdim=True) if axes else x,
    "argmax": lambda x, axis: x.to(torch.int64).argmax(axis, keepdim=True),
    "cumsum": lambda x, axis: x.cumsum(axis, dtype=x.dtype),
    "take": lambda x, indices, axis: x.index_select(axis, indices.reshape(-1).long()).reshape(
        (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    ),
    "gather": lambda x, indices, axis: x.gather(axis, indices.long()),
}
"""PyTorch's spelling of each operation."""


def test_every_operation_has_an_oracle() -> None:
    assert set(ORACLE) == set(HOST_OPERATIONS)


def agrees(name: str, operands: list[Any], attributes: Arguments) -> None:
    """Compares a result and its type with PyTorch's."""
    kinds = [HostType(one.shape, one.dtype.name) for one in operands]
    kind = HOST_OPERATIONS[name].result(kinds, attributes)
    found = HOST_OPERATIONS[name].compute(operands, attributes)
    expected = ORACLE[name](*(torch.from_numpy(one.copy()) for one in operands), **attributes).numpy()
    assert found.dtype == expected.dtype
    assert (found.shape, found.dtype.name) == (kind.shape, kind.dtype)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(60))
def test_operations_mean_what_pytorch_means(seed: int) -> None:
    drawn = RandomPrologue(seed, 25)
    values: list[Any] = list(drawn.numbers().values())
    for step in drawn.steps:
        operands = [values[number] for number in step.operands]
        if step.operation not in HOST_OPERATIONS:
            kind = HostType(tuple(step.attributes["shape"]), "int64")
            values.append(drawn.tables[: kind.nbytes].view(np.int64).reshape(kind.shape))
            continue
        try:
            values.append(HOST_OPERATIONS[step.operation].compute(operands, step.attributes))
        except HostFault:
            # PyTorch refuses the same, by an error of its own for each.
            with pytest.raises((RuntimeError, IndexError)):
                agrees_by_torch(step.operation, operands, step.attributes)
            return
        agrees(step.operation, operands, step.attributes)


def agrees_by_torch(name: str, operands: list[Any], attributes: Arguments) -> None:
    """Runs PyTorch's spelling of an operation."""
    ORACLE[name](*(torch.from_numpy(one.copy()) for one in operands), **attributes)


@given(arrays(np.int8, (2, 3)), arrays(np.int8, (3,)), st.sampled_from(["add", "subtract", "multiply", "maximum"]))
def test_integers_wrap_around(left: Any, right: Any, name: str) -> None:
    agrees(name, [left, right], {})


@given(arrays(np.int64, (2, 3)), arrays(np.int64, (3,), elements=st.integers(1, 9)), st.booleans())
def test_quotients_are_rounded_down(left: Any, right: Any, negative: bool) -> None:
    for name in ("floor_divide", "remainder"):
        agrees(name, [left, -right if negative else right], {})


@pytest.mark.parametrize("index", [-1, 3])
@pytest.mark.parametrize("name", ["take", "gather"])
def test_an_index_outside_is_a_fault(name: str, index: int) -> None:
    with pytest.raises(HostFault, match=rf"{index} at \[1\] is no index of 0\.\.2"):
        HOST_OPERATIONS[name].compute([np.arange(3), np.array([0, index])], {"axis": 0})


@pytest.mark.parametrize("name", ["floor_divide", "remainder"])
def test_a_division_by_zero_is_a_fault(name: str) -> None:
    with pytest.raises(HostFault, match="divides by zero"):
        HOST_OPERATIONS[name].compute([np.arange(3), np.array([1, 0, 1])], {})


INT, BOOL = HostType((2, 3), "int64"), HostType((2, 3), "bool")


@pytest.mark.parametrize(
    ("name", "operands", "attributes", "message"),
    [
        ("add", [INT], {}, "takes 2 operands, not 1"),
        ("concatenate", [], {"axis": 0}, "one operand at least"),
        ("add", [INT, INT], {"axis": 0}, "has the attributes"),
        ("cumsum", [INT], {"axis": True}, "'axis' is no integer"),
        ("sum", [INT], {"axes": [0.5]}, "'axes' is no list of integers"),
        ("convert", [INT], {"dtype": "float32"}, "'dtype' is no dtype"),
        ("add", [INT, HostType((2, 3), "int32")], {}, "operands of one dtype"),
        ("add", [INT, HostType((2, 2), "int64")], {}, "do not broadcast"),
        ("add", [BOOL, BOOL], {}, "integers are expected, not bools"),
        ("select", [INT, INT, INT], {}, "bools are expected"),
        ("number", [], {"value": 300, "dtype": "uint8"}, "300 is no number of dtype uint8"),
        ("number", [], {"value": 2, "dtype": "bool"}, "2 is no number of dtype bool"),
        ("reshape", [INT], {"shape": [5]}, "do not fill"),
        ("reshape", [INT], {"shape": [-1]}, "axes with elements"),
        ("expand", [INT], {"shape": [3, 3]}, "not expand|not broadcast"),
        ("permute", [INT], {"axes": [0, 0]}, "given twice"),
        ("permute", [INT], {"axes": [1]}, "no order"),
        ("sum", [INT], {"axes": [2]}, "no axis 2"),
        ("sum", [BOOL], {"axes": [0]}, "integers are expected"),
        ("slice", [INT], {"axis": 1, "start": 0, "stop": 4, "step": 1}, "no positions 0 to 4"),
        ("slice", [INT], {"axis": 1, "start": 0, "stop": 3, "step": 0}, "no positions"),
        ("slice", [INT], {"axis": 1, "start": 2, "stop": 2, "step": 1}, "no positions"),
        ("concatenate", [INT, BOOL], {"axis": 0}, "do not fit together"),
        ("take", [INT, BOOL], {"axis": 0}, "indices are integers"),
        ("gather", [INT, HostType((1, 3), "int64")], {"axis": 1}, "shape of the values"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, operands: list[HostType], attributes: Arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HOST_OPERATIONS[name].result(operands, attributes)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((0,), "int64"), ((1,) * 33, "int64"), ((2,), "float32"), ((1 << 63,), "bool")]
)
def test_types_of_other_values_are_refused(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(ValueError, match="a value"):
        HostType(shape, dtype)


@pytest.mark.parametrize("dtype", HOST_DTYPES)
def test_a_type_knows_its_bytes(dtype: str) -> None:
    assert HostType((2, 3), dtype).nbytes == np.zeros((2, 3), dtype).nbytes
