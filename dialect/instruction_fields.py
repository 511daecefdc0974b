"""
The part of an operation's instruction that does not depend on where things lie: sizes, types and flags.

The emitter adds registers and semaphores to it, the interpreter executes it on arrays.
"""

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import IntegerType, Signedness
from xdsl.ir import Attribute, SSAValue

from sta.dialect import sta

Fields = dict[str, int | str]


def element_name(element: Attribute) -> str:
    """
    The instruction set's name of an element type: s8, u8, s16 or s32.
    """
    integer = cast(IntegerType, element)
    sign = "u" if integer.signedness.data == Signedness.UNSIGNED else "s"
    return f"{sign}{integer.width.data}"


def instruction_of(op: sta.UnitOp) -> tuple[str, Fields]:
    """
    The mnemonic of the instruction that an operation stands for, and the fields that are no registers or semaphores.

    Raises ValueError for an operation that stands for none.
    """
    match op:
        case sta.SyncOp():
            return "sync", {"unit": op.unit.data}
        case sta.LoadOp():
            return "ld", {**_copied(op.source), "space": sta.space_of(op.destination)}
        case sta.StoreOp():
            return "st", _copied(op.destination)
        case sta.GatherOp():
            return "gather", _copied(op.destination)
        case sta.ProductOp():
            return "mm", _product(op)
        case sta.SoftmaxOp():
            return "softmax", _softmax(op)
        case sta.MapOp():
            return "map", _map(op)
        case sta.NormOp():
            outputs = (op.destination is not None) + 2 * (op.copy is not None)
            flags = {"kind": op.kind.data, "outputs": outputs, "statistics": int(op.statistics is not None)}
            return "norm", _sizes(op.source) | flags
        case sta.ShiftOp():
            return "shift", _sizes(op.acc)
        case _:
            raise ValueError(f"{op.name} is no instruction")


def _element(value: SSAValue) -> str:
    return element_name(sta.memref_of(value).element_type)


def _sizes(value: SSAValue, second: str = "columns") -> Fields:
    rows, columns = sta.memref_of(value).get_shape()
    return {"rows": rows, second: columns}


def _copied(value: SSAValue) -> Fields:
    """
    The sizes of what DMA moves; one axis is one row.
    """
    shape = sta.memref_of(value).get_shape()
    return {"rows": shape[0] if len(shape) == 2 else 1, "row_bytes": shape[-1] * sta.element_bytes(value)}


def _product(op: sta.ProductOp) -> Fields:
    pattern, plane = op.pattern.pattern, None if op.plane is None else op.plane.data
    # Of 16-bit data the high bytes carry the sign.
    a_type = "u8" if plane == "low" else f"{_element(op.a)[0]}8"
    return _sizes(op.a, "depth") | {
        "columns": sta.memref_of(op.acc).get_shape()[1],
        "n": pattern.n,
        "m": pattern.m,
        "encoding": op.pattern.encoding.data,
        "b_space": sta.space_of(op.b),
        "b_transposed": int(op.transposed is not None),
        "accumulate": int(op.accumulate is not None),
        "a_type": a_type,
        "a_wide": int(plane is not None),
        "scores": int(op.scores is not None),
    }


def _softmax(op: sta.SoftmaxOp) -> Fields:
    return _sizes(op.scores, "keys") | {
        "has_mask": int(op.mask is not None),
        "causal": int(op.causal is not None),
        "p_bits": str(8 * sta.element_bytes(op.destination)),
        "mode": op.mode.data,
    }


def _map(op: sta.MapOp) -> Fields:
    source = _element(op.source)
    if sta.space_of(op.source) == "acc":
        source = "acc" if op.wide is None else "acc_wide"
    has_residual = op.residual is not None and op.normalize is None
    return _sizes(op.destination) | {
        "source_type": source,
        "destination_type": _element(op.destination),
        "residual_type": _element(op.residual) if op.residual is not None and has_residual else "none",
        "has_table": int(op.table is not None),
        "per_channel": int(op.per_channel is not None),
        "normalize": int(op.normalize is not None),
        "statistics": int(op.statistics is not None),
        "multiply": int(op.multiply is not None),
    }
