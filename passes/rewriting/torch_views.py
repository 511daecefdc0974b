"""Views of a tensor of the `torch` dialect as operators."""

from __future__ import annotations

from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.passes.rewriting.torch_operations import TorchBuilder
from sta.passes.tiling.strided_view import StridedView
from sta.passes.tiling.view_chains import view_chain


def emit_view(builder: TorchBuilder, root: SSAValue, view: StridedView) -> SSAValue | None:
    """The operations that express `view` of the contiguous `root`; None if no chain does."""
    chain = view_chain(view, torch.sizes_of(root))
    if chain is None:
        return None
    value = root
    for axis, (start, end) in enumerate(chain.slices):
        value = builder.slice(value, axis, start, end)
    if list(chain.order) != list(range(len(chain.order))):
        value = builder.permute(builder.view(value, chain.split), chain.order)
    return builder.view(value, chain.sizes)
