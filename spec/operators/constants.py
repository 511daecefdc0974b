"""Operators computed at compile time, if they depend on no input or only compute a mask."""

from sta.spec.operators.operator import Operator, Role

_NAMES = (
    "__and__.Tensor add.Scalar all.dim arange arange.start arange.start_step bitwise_and.Tensor bitwise_not "
    "bitwise_or.Tensor constant_pad_nd cumsum div.Tensor_mode empty.memory_format eq.Scalar eq.Tensor exp fill.Scalar "
    "full full_like ge.Scalar ge.Tensor gt.Scalar gt.Tensor le.Scalar le.Tensor lift_fresh_copy logical_and logical_or "
    "lt.Scalar lt.Tensor mul.int ne.Scalar ne.Tensor new_ones new_zeros ones ones_like pow.Tensor_Scalar repeat rsqrt "
    "scalar_tensor sqrt sub.Scalar sum.dim_IntList to.device tril triu zeros zeros_like"
).split()

_LOOK_UP = "tables are read with embedding"


def _constant(name: str, remedy: str = "", *, kept: bool = False) -> Operator:
    return Operator(f"aten.{name}", Role.CONSTANT, remedy=remedy, kept=kept)


OPERATORS = (
    *map(_constant, _NAMES),
    _constant("rsub.Scalar", kept=True),
    _constant("cat", "values cannot be concatenated"),
    _constant("convolution", "patches that do not overlap can be cut by the host, and projected with linear"),
    _constant("gather", _LOOK_UP),
    _constant("index.Tensor", _LOOK_UP),
    _constant("index.Tensor_hacked_twin", _LOOK_UP),
    _constant("index_select", _LOOK_UP),
    _constant("mean.dim", "leave pooling to the host: return the last hidden state", kept=True),
    _constant("native_layer_norm", "layer_norm is supported", kept=True),
    _constant("sub.Tensor", "only additions are supported"),
)
