"""Operators computed at compile time, if they depend on no input or only compute a mask."""

from sta.spec.operators.operator import Elements, Operator, Role

_NAMES = (
    "all.dim arange arange.start arange.start_step constant_pad_nd empty.memory_format fill.Scalar full "
    "full_like mul.int new_ones new_zeros ones ones_like scalar_tensor tril triu zeros zeros_like"
).split()

_LOOK_UP = (
    "constant tables are read with embedding (Gather along axis 0 in ONNX), and of a value only constant positions "
    "that make a part or other axes can be taken: let the host choose others, and return the hidden states"
)
_CHOICE = "leave the choice to the host: return the logits"
_RANDOM = "random numbers cannot be drawn: leave it out (a dropout with training=True ignores the mode of the model)"
_PAIRS = "complex numbers have no integer form: write a rotation with cosine and sine"


def _constant(
    name: str,
    remedy: str = "",
    *,
    elements: Elements | None = None,
    kept: bool = False,
) -> Operator:
    return Operator(
        f"aten.{name}",
        Role.CONSTANT,
        remedy=remedy,
        elements=elements,
        kept=kept,
    )


OPERATORS = (
    *map(_constant, _NAMES),
    _constant("lift_fresh_copy", elements=Elements.SAME),
    _constant("to.device", elements=Elements.SAME),
    _constant("repeat", elements=Elements.MOVED),
    _constant(
        "cat",
        "values cannot be concatenated: let the host put a token before the others and pass all as one input, compile "
        "decoders without cache (use_cache=False), and embed positions by adding instead of rotating halves",
    ),
    _constant("roll", "values cannot be rolled: let the host roll the input, and unroll the output", kept=True),
    _constant("flip", "values cannot be reversed: leave it to the host"),
    *(_constant(name, _CHOICE, kept=True) for name in ("argmax", "argmin", "topk", "sort")),
    *(_constant(name, _RANDOM) for name in ("bernoulli", "uniform", "rand", "rand_like", "randn", "randn_like")),
    *(_constant(name, _PAIRS) for name in ("view_as_complex", "view_as_real")),
    _constant("gather", _LOOK_UP, elements=Elements.MOVED),
    _constant("index.Tensor", _LOOK_UP, elements=Elements.MOVED),
    _constant("index.Tensor_hacked_twin", _LOOK_UP, elements=Elements.MOVED),
    _constant("index_select", _LOOK_UP, elements=Elements.MOVED),
    _constant("native_layer_norm", "layer_norm is supported", kept=True),
)
