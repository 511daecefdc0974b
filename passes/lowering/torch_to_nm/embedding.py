"""Embeddings: rows of a constant table of 16 bits."""

from __future__ import annotations

from xdsl.ir import BlockArgument

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage
from sta.passes.lowering.torch_to_nm.lowering import Lowering
from sta.passes.quantization.integer_weights import quantize_symmetric
from sta.passes.rewriting.torch_operations import beyond_host, literal_of
from sta.passes.rewriting.uses_through_views import VIEWS


def refusal(operation: torch.EmbeddingOp) -> str | None:
    """An embedding reads a constant table at positions that are an input, or that the host computes."""
    if literal_of(operation.weight) is None:
        return "its table must be a constant"
    value = operation.indices
    while isinstance(value.owner, VIEWS | torch.ToDtypeOp):
        value = value.owner.operands[0]
    if isinstance(value, BlockArgument):
        return None
    return f"its indices are made with {beyond_host(value)}, which the host does not compute: pass them as an input"


def gather(conversion: Conversion, op: torch.EmbeddingOp, storage: Storage) -> Quantized:
    """The rows of the table, rounded to the format of the result."""
    table = conversion.array(op.weight)
    assert table is not None
    values = conversion.constant(f"{table[0]}@int16", quantize_symmetric(table[1], storage.scale), nm.si16)
    rows = conversion.emit(nm.GatherOp(values, conversion.quantized(op.indices).value)).result
    return Quantized(rows, storage.scale)


LOWERINGS = (Lowering(torch.EmbeddingOp, refusal, gather),)
