"""The `nm` dialect: refusals of its verifier, and round trips of its text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import TensorType, f32
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.test_value import create_ssa_value

from sta.dialect import nm
from sta.spec.integers import IDENTITY_SCALE
from sta.spec.nm_format import Pattern
from tests.support.nm_builder import NmBuilder
from tests.support.pipeline_check import apply
from tests.support.round_trip import check_round_trip
from tests.support.transformers import Transformer, transformers

NM_PASSES = (
    "nm-sink-views",
    "nm-choose-encoding",
    "nm-fold-attention-layout",
    "nm-fuse-epilogues",
    "nm-fuse-norm-copies",
    "nm-raise-norms",
)


@settings(deadline=None, max_examples=3)
@given(transformers(longest=5, widest=8))
def test_text_comes_back_after_every_pass(model: Transformer) -> None:
    case = model.case()
    check_round_trip(case)
    for name in NM_PASSES:
        apply(case.module, case.context, name)
        check_round_trip(case)


def test_every_operation_comes_back() -> None:
    builder = NmBuilder()
    x = builder.stream("x", (2, 5, 8))
    gamma = builder.weight("gamma", np.ones(8), nm.si32)
    norm = builder.add(nm.NormOp(x, gamma, gamma, "rms", 1, 20, (5, 6, -7)))
    assert norm.copy is not None
    q = builder.view(norm.copy, 2, 1, 5, 8)
    attention = builder.attention((q, q, q), builder.mask("m", (2, 1, 1, 5)), True, nm.si16, (2, 0, 1, 3))
    weight = builder.weight("w w", np.zeros((4, 8)), nm.si8, nm.PatternAttr(Pattern(2, 4), "index"))
    acc = builder.add(nm.ProductOp(norm.copy, weight)).result
    scaled = builder.scaled_channels(acc, 0.01, 'odd "name"')
    ids = builder.argument("ids", (3,), nm.si32, np.zeros(3), "index", 5)
    rows = builder.add(nm.GatherOp(builder.weight("rows", np.zeros((5, 4)), nm.si16), ids)).result
    total = builder.sum(scaled, builder.rescale(builder.slice(rows, 0, 1, 2), 0.5, -3))
    case = builder.case(attention, builder.clamp(builder.table(total, "t"), nm.ui8, 9))
    check_round_trip(case)
    apply(case.module, case.context, "nm-fuse-epilogues")
    check_round_trip(case)


@given(st.integers(1, 32).flatmap(lambda m: st.tuples(st.integers(1, m), st.just(m))), st.sampled_from(nm.ENCODINGS))
def test_a_pattern_is_dense_exactly_if_stored_dense(pattern: tuple[int, int], encoding: str) -> None:
    n, m = pattern
    if (n == m) == (encoding == "dense"):
        attribute = nm.PatternAttr(Pattern(n, m), encoding)
        assert attribute.pattern == Pattern(n, m)
        return
    with pytest.raises(VerifyException, match=f"a {n}:{m} weight cannot be stored as '{encoding}'"):
        nm.PatternAttr(Pattern(n, m), encoding)


def test_a_weight_without_pattern_is_dense() -> None:
    weight = NmBuilder().weight("w", np.zeros((4, 8)), nm.si8)
    assert nm.pattern_of(weight) == (Pattern(1, 1), "dense")


def value(shape: tuple[int, ...], element: Attribute = nm.si16) -> SSAValue:
    """A value of some tensor type."""
    return create_ssa_value(TensorType(element, shape))


def rescale(bias: int = 0, multiplier: int = 1, shift: int = 2) -> Operation:
    """A rescaling with possibly broken numbers."""
    return nm.RescaleOp(value((2, 3)), bias, multiplier, shift)


def norm(width: int = 3, epsilon: int = 1, shift: int = 20, copy: tuple[int, int, int] | None = None) -> Operation:
    """A norm with possibly broken numbers."""
    gamma, beta = value((width,), nm.si32), value((width,), nm.si32)
    return nm.NormOp(value((2, width)), gamma, beta, "layer", epsilon, shift, copy)


def mapped(
    residual: SSAValue | None = None, table: SSAValue | None = None, combine: str = "add", **scalars: int
) -> Operation:
    """A map with possibly broken operands and numbers."""
    properties = nm.epilogue_properties(combine=combine)
    properties |= {name: nm.integer(number) for name, number in scalars.items()}
    scale = (0, *IDENTITY_SCALE)
    return nm.MapOp(value((2, 3)), scale, table, residual, properties, TensorType(nm.si8, (2, 3)))


def scaled_table(multiplier: int, shift: int) -> Operation:
    """A map whose table has a possibly broken scale."""
    properties = nm.epilogue_properties(table_scale=(multiplier, shift))
    return nm.MapOp(value((2, 3)), (0, *IDENTITY_SCALE), None, None, properties, TensorType(nm.si8, (2, 3)))


def attention(
    q: tuple[int, ...] = (1, 2, 5, 4),
    k: tuple[int, ...] = (1, 2, 6, 4),
    v: tuple[int, ...] = (1, 2, 6, 4),
    mask: tuple[int, ...] | None = None,
    zero_point: int = 0,
    bits: int = 8,
    chunk: int | None = None,
    bias: tuple[int, ...] | None = None,
) -> Operation:
    """An attention with possibly broken shapes and softmax."""
    operands = (value(q, nm.si8), value(k, nm.si8), value(v, nm.si8))
    masked = None if mask is None else value(mask, nm.ui8)
    biased = None if bias is None else (value(bias, nm.si16), (1, 2))
    return nm.AttentionOp(
        operands, masked, (1, 2), (1, 2, zero_point), False, nm.si8, bits=bits, chunk=chunk, bias=biased
    )


def rotated(x: SSAValue | None = None, sines: SSAValue | None = None, width: int = 4) -> Operation:
    """A rotation with possibly broken operands."""
    table = value((2, 4))
    return nm.RotateOp(x or table, (table, sines or table), "half", width, (1, 2), nm.si8)


BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "float": (lambda: nm.TableOp(value((2,), f32), value((513,))), "element type f32 is none of si8, ui8, si16, si32"),
    "no axis": (lambda: nm.ViewOp(value((1,)), ()), "has no axis or no elements"),
    "no element": (lambda: nm.ViewOp(value((3, 0)), (0,)), "has no axis or no elements"),
    "bias": (lambda: rescale(bias=2**31), "the bias 2147483648 does not fit int32"),
    "multiplier": (lambda: rescale(multiplier=2**31), r"multiplier 2147483648 is outside \[0, 2\^31\)"),
    "shift": (lambda: rescale(shift=1), r"shift 1 is outside \[2, 62\]"),
    "clamp": (lambda: nm.ClampOp(value((2,), nm.si32), -(2**40), nm.si8), "the zero point .* does not fit int32"),
    "norm too long": (lambda: norm(width=8193), "a row of 8193 is longer than 8192"),
    "epsilon": (lambda: norm(epsilon=0), "epsilon must be at least 1"),
    "large epsilon": (lambda: norm(epsilon=2**61), "epsilon must be below"),
    "norm shift": (lambda: norm(shift=64), r"shift 64 is outside \[0, 63\]"),
    "copy scale": (lambda: norm(copy=(1, 63, 0)), r"shift 63 is outside \[2, 62\]"),
    "copy zero point": (lambda: norm(copy=(1, 2, 2**31)), "the copy's zero point 2147483648 does not fit int32"),
    "map zero point": (lambda: mapped(zero_point=2**31), "the zero point 2147483648 does not fit int32"),
    "residual bias": (lambda: mapped(residual_bias=-(2**32)), "the residual bias -4294967296 does not fit int32"),
    "table scale": (lambda: scaled_table(1, 0), r"shift 0 is outside \[2, 62\]"),
    "unsigned residual": (lambda: mapped(value((2, 3), nm.ui8)), "the residual must be si8 or si16 or si32, got ui8"),
    "residual": (lambda: mapped(value((3, 3))), r"the residual of shape \(3, 3\) does not broadcast to \(2, 3\)"),
    "combination": (
        lambda: mapped(value((2, 3)), combine="divide"),
        "combination 'divide' is none of add, multiply, subtract",
    ),
    "nothing to combine": (lambda: mapped(combine="maximum"), "there is nothing to combine by 'maximum'"),
    "narrow residual": (lambda: mapped(value((2, 2))), r"the residual of shape \(2, 2\) does not broadcast"),
    "short table": (lambda: mapped(table=value((256,))), r"the table must have 513 entries, got shape \(256,\)"),
    "five axes": (lambda: attention(q=(1, 1, 2, 5, 4), k=(1, 1, 2, 6, 4), v=(1, 1, 2, 6, 4)), "must have four axes"),
    "values": (lambda: attention(v=(1, 2, 7, 4)), "do not belong together"),
    "odd rotation": (lambda: rotated(width=3), "from 2 to all 4, not 3"),
    "rotated bytes": (lambda: rotated(value((2, 4), nm.ui8)), "the operand must be si8 or si16, got ui8"),
    "narrow sines": (lambda: rotated(sines=value((2, 1))), "the sines must have all 4 elements of the last axis"),
    "long sines": (lambda: rotated(sines=value((3, 4))), r"the sines of shape \(3, 4\) does not broadcast"),
    "attention bias": (lambda: attention(bias=(1, 2, 5, 1)), r"a bias of shape \(1, 2, 5, 1\) does not broadcast"),
    "heads": (lambda: attention(q=(1, 3, 5, 4)), "do not belong together"),
    "more heads of keys": (lambda: attention(q=(1, 1, 5, 4)), "do not belong together"),
    "bits": (lambda: attention(bits=12), "exponentials have 8 or 16 bits, not 12"),
    "chunk": (lambda: attention(chunk=0), "a chunk of 0 keys"),
    "keys": (lambda: attention(k=(1, 2, 65794, 4), v=(1, 2, 65794, 4)), "65794 keys; .* 8 bits at most 65793"),
    "keys of 16 bits": (lambda: attention(k=(1, 2, 32769, 4), v=(1, 2, 32769, 4), bits=16), "16 bits at most 32768"),
    "mask": (
        lambda: attention(mask=(1, 2, 5, 1)),
        r"a mask of shape \(1, 2, 5, 1\) does not broadcast to \(1, 2, 5, 6\)",
    ),
    "mask axes": (lambda: attention(mask=(5, 6)), r"a mask of shape \(5, 6\) does not broadcast"),
    "attention zero point": (lambda: attention(zero_point=2**31), "the zero point 2147483648 does not fit int32"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_verifier_refuses(name: str) -> None:
    build, message = BROKEN[name]
    with pytest.raises(VerifyException, match=message):
        build().verify()


def test_the_verifier_accepts_the_limits() -> None:
    rescale(2**31 - 1, 2**31 - 1, 62).verify()
    norm(8192, 2**61 - 1, 63, (0, 2, -(2**31))).verify()
    mapped(value((1, 3)), value((513,)), zero_point=-(2**31)).verify()
    attention(mask=(1, 1, 1, 6)).verify()
    attention(v=(1, 2, 6, 8), bias=(1, 2, 1, 6)).verify()
