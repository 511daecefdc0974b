"""Operators computed at compile time, if they depend on no input or only compute a mask."""

from sta.spec.operators.operator import Elements, Onnx, Operator, Role

_NAMES = (
    "all.dim arange arange.start arange.start_step empty.memory_format fill.Scalar full "
    "full_like mul.int new_ones new_zeros ones ones_like scalar_tensor tril triu zeros zeros_like"
).split()

_COMBINING = (
    "__and__.Tensor __or__.Tensor bitwise_and.Tensor bitwise_not bitwise_or.Tensor div.Tensor_mode eq.Scalar "
    "eq.Tensor erf exp ge.Scalar ge.Tensor gt.Scalar gt.Tensor le.Scalar le.Tensor logical_and logical_or lt.Scalar "
    "lt.Tensor maximum minimum abs log ne.Scalar ne.Tensor neg pow.Tensor_Scalar reciprocal rsqrt sqrt"
).split()
"""Functions of the elements at one position."""

_ONNX = {
    "eq.Tensor": Onnx("Equal", truth=True),
    "exp": Onnx("Exp"),
    "ge.Tensor": Onnx("GreaterOrEqual", truth=True),
    "gt.Tensor": Onnx("Greater", truth=True),
    "le.Tensor": Onnx("LessOrEqual", truth=True),
    "logical_and": Onnx("And", truth=True),
    "logical_or": Onnx("Or", truth=True),
    "lt.Tensor": Onnx("Less", truth=True),
    "neg": Onnx("Neg"),
    "sqrt": Onnx("Sqrt"),
    "sub.Tensor": Onnx("Sub", (1,)),
}
"""ONNX operators that accept the same tensors."""

_CHOICE = "leave the choice to the host: return the logits"
_STATISTICS = "a batch norm is supported in evaluation mode: model.eval()"
_RANDOM = "random numbers cannot be drawn: leave it out (a dropout with training=True ignores the mode of the model)"
_PAIRS = "complex numbers have no integer form: write a rotation with cosine and sine"


def _constant(
    name: str,
    remedy: str = "",
    *,
    elements: Elements | None = None,
    neutral: float | None = None,
    kept: bool = False,
) -> Operator:
    return Operator(
        f"aten.{name}",
        Role.CONSTANT,
        remedy=remedy,
        elements=elements,
        neutral=neutral,
        kept=kept,
        onnx=_ONNX.get(name),
    )


OPERATORS = (
    *map(_constant, _NAMES),
    *(_constant(name, elements=Elements.COMBINED) for name in _COMBINING),
    _constant("add.Scalar", elements=Elements.COMBINED, neutral=0),
    _constant("sub.Scalar", elements=Elements.COMBINED, neutral=0),
    _constant("rsub.Scalar", elements=Elements.COMBINED, kept=True),
    _constant("lift_fresh_copy", elements=Elements.SAME),
    _constant("to.device", elements=Elements.SAME),
    *(_constant(name, _CHOICE, kept=True) for name in ("argmax", "argmin", "topk", "sort")),
    _constant("batch_norm", _STATISTICS, kept=True),
    _constant("_native_batch_norm_legit_no_training", _STATISTICS),
    *(_constant(name, _RANDOM) for name in ("bernoulli", "uniform", "rand", "rand_like", "randn", "randn_like")),
    *(_constant(name, _PAIRS) for name in ("view_as_complex", "view_as_real")),
    _constant("convolution", "patches that do not overlap can be cut by the host, and projected with linear"),
    _constant("native_layer_norm", "layer_norm is supported", kept=True),
    _constant("sub.Tensor", "only additions are supported", elements=Elements.COMBINED),
)
