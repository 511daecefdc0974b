"""The `sta` dialect: refusals of its verifier, views behind chains of views, and round trips of its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from xdsl.dialects.builtin import DYNAMIC_INDEX, IndexType, MemRefType, i32
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.test_value import create_ssa_value

from sta.dialect import nm, sta
from sta.spec.nm_format import Pattern
from tests.support.nm_builder import PLAIN_TARGET
from tests.support.pipeline_check import LOWERING, apply
from tests.support.round_trip import check_round_trip
from tests.support.sta_builder import DENSE_OPERAND
from tests.support.transformers import Transformer

NM_PASSES = ("nm-sink-views", "nm-choose-encoding", "nm-fuse-epilogues", "nm-fuse-norm-copies", "nm-raise-norms")
BITMAP = nm.PatternAttr(Pattern(2, 4), "bitmap")


MODEL = Transformer(
    target=PLAIN_TARGET,
    batch=2,
    sequence=9,
    heads=2,
    depth=5,
    hidden=20,
    blocks=1,
    sequence_first=False,
    causal=True,
    mask="queries",
    pre_norm=False,
    kind="layer",
    query_key_value="joined",
    embedding=True,
    activation=True,
    patterns=(Pattern(2, 4), Pattern(1, 1)),
    pooled=True,
    seed=3,
)


def test_text_comes_back_after_every_pass() -> None:
    case = MODEL.case()
    apply(case.module, case.context, *NM_PASSES)
    for name in LOWERING:
        apply(case.module, case.context, name)
        check_round_trip(case)


def value(
    shape: Sequence[int], space: str = "spad", element: nm.IntegerType = nm.si8, strides: Sequence[int] | None = None
) -> SSAValue:
    """A value of some memref type."""
    return create_ssa_value(sta.memref(shape, element, space, strides))


def product(
    acc: SSAValue | None = None,
    a: SSAValue | None = None,
    b: SSAValue | None = None,
    pattern: nm.PatternAttr = DENSE_OPERAND,
    transposed: bool = False,
) -> Operation:
    """A tile product with possibly broken operands."""
    return sta.ProductOp(
        acc or value((4, 5), "acc", nm.si32), a or value((4, 6)), b or value((5, 6)), pattern, transposed=transposed
    )


def softmax(
    scores: SSAValue | None = None,
    destination: SSAValue | None = None,
    sums: SSAValue | None = None,
    mask: SSAValue | None = None,
    mode: str = "row",
) -> Operation:
    """A softmax with possibly broken operands."""
    operands = (
        scores or value((4, 5), "acc", nm.si32),
        destination or value((4, 5), "spad", nm.ui8),
        sums or value((4,), "spad", nm.si32),
        value((16,), "wbuf", nm.ui8),
    )
    return sta.SoftmaxOp(operands, mask, False, mode=mode)


def mapped(
    source: SSAValue | None = None,
    destination: SSAValue | None = None,
    parameters: SSAValue | None = None,
    table: SSAValue | None = None,
    residual: SSAValue | None = None,
    *,
    per_channel: bool = False,
    normalize: bool = False,
    statistics: bool = False,
    wide: bool = False,
    combine: str = "add",
) -> Operation:
    """A pass of the vector unit with possibly broken operands."""
    operands = (source or value((4, 5)), destination or value((4, 5)), parameters or value((44,), "wbuf", nm.ui8))
    return sta.MapOp(
        operands,
        table,
        residual,
        per_channel=per_channel,
        normalize=normalize,
        statistics=statistics,
        wide=wide,
        combine=combine,
    )


def rotation(
    source: SSAValue | None = None, cosines: SSAValue | None = None, pairing: str = "half", width: int = 4
) -> Operation:
    """A rotation with possibly broken operands."""
    table = value((4, 5), "spad", nm.si16)
    parameters = value((16,), "wbuf", nm.ui8)
    return sta.RotateOp(source or table, (cosines or table, table), value((4, 5)), parameters, pairing, width)


def norm(
    source: SSAValue | None = None, destination: SSAValue | None = None, copy: SSAValue | None = None
) -> Operation:
    """A norm with possibly broken operands."""
    return sta.NormOp(source or value((4, 5), "spad", nm.si16), value((72,), "wbuf", nm.ui8), destination, copy, "rms")


def view(source: SSAValue, result: SSAValue, offset: int = 0) -> Operation:
    """A view of some type."""
    type_ = sta.memref_of(result)
    return sta.ViewOp(source, (), offset, type_)


def looped(count: int, types: Sequence[object] = (IndexType(),)) -> Operation:
    """A loop with some arguments."""
    block = Block(arg_types=[IndexType() if isinstance(type_, IndexType) else i32 for type_ in types])
    return sta.LoopOp(count, Region(block))


MASK = ("spad", nm.ui8)
BROKEN: dict[str, tuple[Callable[[], Operation], str]] = {
    "space": (lambda: sta.AllocOp("x", MemRefType(nm.si8, [4])), r"names no memory"),
    "element": (lambda: sta.AllocOp("x", MemRefType(i32, [4], memory_space=sta.MEMORIES["spad"])), "is none of si8"),
    "dynamic": (lambda: sta.AllocOp("x", sta.memref((DYNAMIC_INDEX,), nm.si8, "spad")), "has a dynamic shape"),
    "constant on chip": (lambda: sta.ConstantOp("x", "other", sta.memref((4,), nm.si8, "wbuf")), "lives in dram"),
    "class": (lambda: sta.ConstantOp("x", "mine", sta.memref((4,), nm.si8, "dram")), "class 'mine' is none of"),
    "view elsewhere": (lambda: view(value((4,)), value((4,), "acc")), "stays in its memory"),
    "view of type": (lambda: view(value((4,)), value((4,), "spad", nm.ui8)), "keeps the element type"),
    "view before": (lambda: view(value((4,)), value((2,), strides=(1,)), -1), "cannot start before its buffer"),
    "view without strides": (lambda: view(value((4,)), value((2,))), "a view has strides"),
    "negative loop": (lambda: looped(-1), "negative number of times"),
    "loop arguments": (lambda: looped(2, [IndexType(), IndexType()]), "takes the counter"),
    "loop type": (lambda: looped(2, ["i32"]), "takes the counter"),
    "load from chip": (lambda: sta.LoadOp(value((4,)), value((4,))), "reads dram"),
    "load to acc": (lambda: sta.LoadOp(value((4,), "dram"), value((4,), "acc")), "writes spad or wbuf"),
    "load shape": (lambda: sta.LoadOp(value((4,), "dram"), value((5,))), r"must have shape \(4,\), got \(5,\)"),
    "load axes": (lambda: sta.LoadOp(value((1, 1, 4), "dram"), value((1, 1, 4))), "one or two axes"),
    "load type": (lambda: sta.LoadOp(value((4,), "dram"), value((4,), element=nm.ui8)), "keeps the element type"),
    "load columns": (
        lambda: sta.LoadOp(value((2, 4), "dram", strides=(8, 2)), value((2, 4))),
        "rows must be contiguous",
    ),
    "store from wbuf": (lambda: sta.StoreOp(value((4,), "wbuf"), value((4,), "dram")), "reads spad"),
    "store to chip": (lambda: sta.StoreOp(value((4,)), value((4,))), "writes dram"),
    "gather table": (
        lambda: sta.GatherOp(value((4, 3)), value((2,), "spad", nm.si32), value((2, 3))),
        "the table must be in dram",
    ),
    "gather shape": (
        lambda: sta.GatherOp(value((4, 3), "dram"), value((2,), "spad", nm.si32), value((2, 4))),
        r"must have shape \(2, 3\), got \(2, 4\)",
    ),
    "gather type": (
        lambda: sta.GatherOp(value((4, 3), "dram"), value((2,), "spad", nm.si32), value((2, 3), "spad", nm.ui8)),
        "the destination must hold si8, got ui8",
    ),
    "acc type": (lambda: product(acc=value((4, 5), "acc")), "acc must hold si32, got si8"),
    "acc rows": (lambda: product(acc=value((3, 5), "acc", nm.si32)), "acc has 3 rows, a 4"),
    "a on wide": (lambda: product(a=value((4, 6), "spad", nm.si16)), "a must hold si8 or ui8, got si16"),
    "a columns": (lambda: product(a=value((4, 6), strides=(12, 2))), "the last axis of a must be contiguous"),
    "b shape": (lambda: product(b=value((6, 5))), r"b must have shape \(5, 6\), got \(6, 5\)"),
    "b transposed": (lambda: product(transposed=True), r"b must have shape \(6, 5\), got \(5, 6\)"),
    "b sparse in spad": (lambda: product(pattern=BITMAP), "an operand in spad is dense"),
    "b bytes": (lambda: product(b=value((31,), "wbuf", nm.ui8)), r"must have shape \(30,\), got \(31,\)"),
    "b packed, transposed": (
        lambda: product(b=value((30,), "wbuf", nm.ui8), transposed=True),
        "a packed operand is not transposed",
    ),
    "softmax destination": (lambda: softmax(destination=value((4, 5))), "must hold ui8 or ui16, got si8"),
    "softmax sums": (
        lambda: softmax(sums=value((5,), "spad", nm.si32)),
        r"the sums must have shape \(4,\), got \(5,\)",
    ),
    "softmax mode": (lambda: softmax(mode="rows"), "mode 'rows' is none of row, online, online_first"),
    "softmax state": (
        lambda: softmax(mode="online"),
        r"the sums must have shape \(12,\), got \(4,\)",
    ),
    "plane": (
        lambda: sta.ProductOp(
            value((4, 5), "acc", nm.si32), value((4, 6), "spad", nm.ui16), value((5, 6)), DENSE_OPERAND, plane="middle"
        ),
        "plane .* is none of low, high",
    ),
    "plane of bytes": (
        lambda: sta.ProductOp(value((4, 5), "acc", nm.si32), value((4, 6)), value((5, 6)), DENSE_OPERAND, plane="low"),
        "a must hold si16 or ui16, got si8",
    ),
    "shift": (
        lambda: sta.ShiftOp(value((4, 5), "acc", nm.si32), value((5,), "spad", nm.si32)),
        r"the shifts must have shape \(4,\), got \(5,\)",
    ),
    "map wide": (lambda: mapped(wide=True), "wide accumulators come in pairs, in acc"),
    "softmax mask": (lambda: softmax(mask=value((4, 6), *MASK)), r"the mask must have shape \(4, 5\), got \(4, 6\)"),
    "map source": (lambda: mapped(source=value((4, 5), "wbuf")), "a map reads acc or spad"),
    "map shape": (lambda: mapped(destination=value((5, 4))), r"must have shape \(4, 5\), got \(5, 4\)"),
    "map destination": (lambda: mapped(destination=value((4, 5), "acc", nm.si32)), "must be in spad, got acc"),
    "map parameters": (lambda: mapped(parameters=value((44,), "spad", nm.ui8)), "must be in wbuf, got spad"),
    "map table": (lambda: mapped(table=value((513,), "wbuf")), "the table must hold si16, got si8"),
    "rotation": (lambda: rotation(width=6), "from 2 to all 5, not 6"),
    "pairing": (lambda: rotation(pairing="thirds"), "pairing 'thirds' is none of half, interleaved"),
    "rotated type": (lambda: rotation(value((4, 5), "spad", nm.ui8)), "the source must hold si8 or si16, got ui8"),
    "cosines": (lambda: rotation(cosines=value((1, 5), "spad", nm.si16)), "the cosines must have"),
    "map combination": (
        lambda: mapped(residual=value((4, 5)), combine="divide"),
        "combination 'divide' is none of add, multiply",
    ),
    "map without residual": (lambda: mapped(combine="subtract"), "there is nothing to combine by 'subtract'"),
    "map residual": (lambda: mapped(residual=value((4, 5), *MASK)), "must hold si8 or si16 or si32, got ui8"),
    "normalize nothing": (lambda: mapped(normalize=True), "normalize needs sums and scalar scales"),
    "normalize channels": (
        lambda: mapped(residual=value((4,), "spad", nm.si32), normalize=True, per_channel=True),
        "normalize needs sums and scalar scales",
    ),
    "normalize sums": (
        lambda: mapped(residual=value((5,), "spad", nm.si32), normalize=True),
        r"the sums must have shape \(4,\), got \(5,\)",
    ),
    "statistics": (lambda: mapped(statistics=True), "only rows of si16 have statistics"),
    "norm of nothing": (norm, "a norm that writes nothing"),
    "norm copy": (lambda: norm(copy=value((4, 5), "spad", nm.si16)), "must hold si8, got si16"),
    "norm shape": (lambda: norm(destination=value((4, 6), "spad", nm.si16)), r"must have shape \(4, 5\)"),
    "unit": (lambda: sta.SyncOp("alu"), "unit 'alu' is not one of ld, st, mm, sm, vp"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_verifier_refuses(name: str) -> None:
    build, message = BROKEN[name]
    with pytest.raises(VerifyException, match=message):
        build().verify()


def test_the_verifier_accepts_what_is_right() -> None:
    product().verify()
    product(b=value((30,), "wbuf", nm.ui8)).verify()
    product(b=value((5 * (4 + 1),), "wbuf", nm.ui8), pattern=BITMAP).verify()
    softmax(mask=value((4, 5), "spad", nm.ui8, (0, 1))).verify()
    mapped(value((4, 5), "acc", nm.si32), residual=value((4,), "spad", nm.si32), normalize=True).verify()
    norm(destination=value((4, 5), "spad", nm.si16), copy=value((4, 5))).verify()
