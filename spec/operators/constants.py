"""Operators computed at compile time, if they depend on no input or only compute a mask."""

from sta.spec.operators.operator import Elements, Operator, Role

_NAMES = (
    "all.dim arange arange.start arange.start_step empty.memory_format fill.Scalar full "
    "full_like mul.int new_ones new_zeros ones ones_like scalar_tensor zeros zeros_like"
).split()

_CHOICE = "leave the choice to the host: return the logits"
_RANDOM = "random numbers cannot be drawn: leave it out (a dropout with training=True ignores the mode of the model)"
_PAIRS = "complex numbers have no integer form beyond sums, products and views: write it with real ones"


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
    *(_constant(name, _CHOICE, kept=True) for name in ("argmax", "argmin", "topk", "sort", "median.dim", "kthvalue")),
    *(_constant(name, _RANDOM) for name in ("bernoulli", "uniform", "rand", "rand_like", "randn", "randn_like")),
    *(_constant(name, _PAIRS) for name in ("view_as_complex", "view_as_real")),
    _constant("native_layer_norm", "layer_norm is supported", kept=True),
)
