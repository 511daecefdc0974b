"""
Functions of each element that are joined with others, and with numbers, into one table (`torch.pointwise`).

A reference gives NaN or an infinity where the function has no value; the table has the nearest value there.
"""

import math
from collections.abc import Callable

import numpy as np

from sta.spec.operators.elementwise import pointwise
from sta.spec.operators.operator import Attribute, Constant, Onnx, Operator, Reference, Role
from sta.spec.tables import Float64Array, RealFunction


def extended(function: Callable[[float], float]) -> RealFunction:
    """A function of Python floats on arrays: NaN outside its domain, infinite where it is larger than any float64."""

    def evaluate(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return math.inf
        except (ValueError, ZeroDivisionError):
            return math.nan

    return pointwise(evaluate)


_exp = extended(math.exp)
_expm1 = extended(math.expm1)
_log1p = extended(math.log1p)
_tanh = extended(math.tanh)
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
"""Of Klambauer et al. 2017, as PyTorch rounds them."""


def _logarithm(function: Callable[[float], float]) -> RealFunction:
    finite = extended(function)
    return lambda x: np.where(x == 0, -np.inf, finite(x))


def reciprocal(x: Float64Array) -> Float64Array:
    """``1 / x``."""
    return np.divide(1.0, x)


def rsqrt(x: Float64Array) -> Float64Array:
    """``1 / sqrt(x)``."""
    return reciprocal(np.sqrt(x))


def clamp(
    x: Float64Array,
    min: float | None = None,
    max: float | None = None,
) -> Float64Array:
    """``min(max(x, min), max)``; None is no limit."""
    x = x if min is None else np.maximum(x, min)
    return x if max is None else np.minimum(x, max)


def power(x: Float64Array | float, exponent: Float64Array | float) -> Float64Array:
    """``x ** exponent``, broadcast."""

    def raised(base: float, exponent: float) -> float:
        if base == 0 and exponent < 0:
            return math.inf
        try:
            return math.pow(base, exponent)
        except OverflowError:
            return -math.inf if base < 0 and exponent % 2 == 1 else math.inf
        except ValueError:
            return math.nan

    return np.asarray(np.vectorize(raised, otypes=[np.float64])(x, exponent), np.float64)


def softplus(x: Float64Array, beta: float = 1, threshold: float = 20) -> Float64Array:
    """``log(1 + exp(beta * x)) / beta``; x where beta * x is above `threshold`."""
    scaled = x * beta
    return np.where(scaled > threshold, x, (np.maximum(scaled, 0.0) + _log1p(_exp(-np.abs(scaled)))) / beta)


def log_sigmoid(x: Float64Array) -> Float64Array:
    """``-log(1 + exp(-x))``."""
    return np.minimum(x, 0.0) - _log1p(_exp(-np.abs(x)))


def elu(x: Float64Array, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Float64Array:
    """``scale * (x if x > 0 else alpha * (exp(input_scale * x) - 1))`` (Clevert et al. 2016)."""
    return scale * np.where(x > 0, x, alpha * _expm1(np.minimum(x, 0.0) * input_scale))


def celu(x: Float64Array, alpha: float = 1) -> Float64Array:
    """``max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)`` (Barron 2017)."""
    return np.where(x > 0, x, alpha * _expm1(np.minimum(x, 0.0) / alpha))


def selu(x: Float64Array) -> Float64Array:
    """The scaled ELU (Klambauer et al. 2017)."""
    return elu(x, _SELU_ALPHA, _SELU_SCALE)


def leaky_relu(x: Float64Array, negative_slope: float = 0.01) -> Float64Array:
    """``x if x > 0 else negative_slope * x``."""
    return np.where(x > 0, x, x * negative_slope)


def hardtanh(x: Float64Array, min_val: float = -1, max_val: float = 1) -> Float64Array:
    """``min(max(x, min_val), max_val)``."""
    return clamp(x, min_val, max_val)


def relu6(x: Float64Array) -> Float64Array:
    """``min(max(x, 0), 6)``."""
    return clamp(x, 0.0, 6.0)


def clamp_max(x: Float64Array, limit: float) -> Float64Array:
    """``min(x, limit)``."""
    return np.minimum(x, limit)


def hardsigmoid(x: Float64Array) -> Float64Array:
    """``min(max(x + 3, 0), 6) / 6``."""
    return clamp(x + 3.0, 0.0, 6.0) / 6.0


def mish(x: Float64Array) -> Float64Array:
    """``x * tanh(softplus(x))`` (Misra 2019)."""
    return x * _tanh(softplus(x))


def threshold(x: Float64Array, threshold: float, value: float) -> Float64Array:
    """``x if x > threshold else value``."""
    return np.where(x > threshold, x, value)


def prelu(x: Float64Array, weight: Float64Array | float) -> Float64Array:
    """``x if x > 0 else weight * x``, for one weight."""
    return np.where(x > 0, x, np.multiply(x, weight))


def rounded(x: Float64Array, decimals: int = 0) -> Float64Array:
    """`x` rounded to `decimals` digits, a half to the even one."""
    return np.round(x, decimals)


def nan_to_num(
    x: Float64Array, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Float64Array:
    """`x` with numbers in the place of NaN (0 by default) and infinities (by default the largest of float32)."""
    largest = float(np.finfo(np.float32).max)
    numbers = (
        0.0 if nan is None else nan,
        largest if posinf is None else posinf,
        -largest if neginf is None else neginf,
    )
    return np.nan_to_num(x, nan=numbers[0], posinf=numbers[1], neginf=numbers[2])


def _function(
    name: str,
    reference: Reference,
    summary: str,
    *,
    onnx: Onnx | None = None,
    domain: tuple[float, float] = (-math.inf, math.inf),
    examples: tuple[tuple[Constant, ...], ...] = ((),),
    spelling: str = "",
    kept: bool = True,
) -> Operator:
    return Operator(
        f"aten.{name}",
        Role.FUNCTION,
        summary,
        reference=reference,
        onnx=onnx,
        domain=domain,
        examples=examples,
        spelling=spelling,
        kept=kept,
    )


_POSITIVE, _WITHIN_ONE = (0.0, math.inf), (-1.0, 1.0)

OPERATORS = (
    _function("abs", np.abs, "the magnitude of x", onnx=Onnx("Abs")),
    _function("neg", np.negative, "-x", onnx=Onnx("Neg"), kept=False),
    _function("sign", np.sign, "-1, 0 or 1: the sign of x", onnx=Onnx("Sign"), kept=False),
    _function("sgn", np.sign, "-1, 0 or 1: the sign of x", kept=False),
    _function("floor", np.floor, "the largest integer that is not above x", onnx=Onnx("Floor")),
    _function("ceil", np.ceil, "the smallest integer that is not below x", onnx=Onnx("Ceil")),
    _function("trunc", np.trunc, "x without its fraction", kept=False),
    _function("round", np.rint, "the nearest integer, of two the even one", onnx=Onnx("Round")),
    _function("round.decimals", rounded, "x rounded to a number of digits", examples=((1,),), kept=False),
    _function("exp", _exp, "e to the power of x", onnx=Onnx("Exp"), kept=False),
    _function("exp2", extended(lambda x: math.pow(2.0, x)), "2 to the power of x", kept=False),
    _function("expm1", _expm1, "exp(x) - 1"),
    _function("log", _logarithm(math.log), "the natural logarithm", onnx=Onnx("Log"), domain=_POSITIVE),
    _function("log2", _logarithm(math.log2), "the logarithm to base 2", domain=_POSITIVE),
    _function("log10", _logarithm(math.log10), "the logarithm to base 10", domain=_POSITIVE),
    _function("log1p", _log1p, "log(1 + x)", domain=(-1.0, math.inf)),
    _function("sqrt", np.sqrt, "the square root", onnx=Onnx("Sqrt"), domain=_POSITIVE, kept=False),
    _function("rsqrt", rsqrt, "one over the square root", domain=_POSITIVE, kept=False),
    _function("reciprocal", reciprocal, "1 / x", onnx=Onnx("Reciprocal"), domain=_POSITIVE, kept=False),
    _function("square", np.square, "x * x", kept=False),
    _function(
        "pow.Tensor_Scalar",
        power,
        "x to the power of a number",
        domain=_POSITIVE,
        examples=((2,), (3.0,), (-0.5,)),
        kept=False,
    ),
    _function("sin", extended(math.sin), "the sine", onnx=Onnx("Sin")),
    _function("cos", extended(math.cos), "the cosine", onnx=Onnx("Cos")),
    _function("tan", extended(math.tan), "the tangent", onnx=Onnx("Tan"), domain=(-1.5, 1.5)),
    _function("asin", extended(math.asin), "the inverse sine", onnx=Onnx("Asin"), domain=_WITHIN_ONE),
    _function("acos", extended(math.acos), "the inverse cosine", onnx=Onnx("Acos"), domain=_WITHIN_ONE),
    _function("atan", extended(math.atan), "the inverse tangent", onnx=Onnx("Atan")),
    _function("sinh", extended(math.sinh), "the hyperbolic sine", onnx=Onnx("Sinh")),
    _function("cosh", extended(math.cosh), "the hyperbolic cosine", onnx=Onnx("Cosh")),
    _function("asinh", extended(math.asinh), "the inverse hyperbolic sine", onnx=Onnx("Asinh")),
    _function(
        "acosh", extended(math.acosh), "the inverse hyperbolic cosine", onnx=Onnx("Acosh"), domain=(1.0, math.inf)
    ),
    _function("atanh", extended(math.atanh), "the inverse hyperbolic tangent", onnx=Onnx("Atanh"), domain=_WITHIN_ONE),
    _function("erf", extended(math.erf), "the error function", onnx=Onnx("Erf"), kept=False),
    _function("erfc", extended(math.erfc), "one minus the error function", kept=False),
    _function(
        "softplus",
        softplus,
        "log(1 + exp(beta * x)) / beta",
        onnx=Onnx("Softplus", (1.0, 20.0)),
        examples=((1.0, 20.0), (2.0, 3.0)),
    ),
    _function("log_sigmoid", log_sigmoid, "-log(1 + exp(-x))"),
    _function(
        "elu",
        elu,
        "scale * (x if x > 0 else alpha * (exp(input_scale * x) - 1)) (Clevert et al. 2016)",
        onnx=Onnx("Elu", (Attribute("alpha", 1.0), 1, 1)),
        examples=((1.0, 1, 1), (0.5, 2.0, 1.5)),
    ),
    _function(
        "celu",
        celu,
        "the ELU of a continuous slope (Barron 2017)",
        onnx=Onnx("Celu", (Attribute("alpha", 1.0),)),
        examples=((0.5,),),
        kept=False,
    ),
    _function("selu", selu, "the scaled ELU (Klambauer et al. 2017)", kept=False),
    _function(
        "leaky_relu",
        leaky_relu,
        "x if x > 0 else negative_slope * x",
        onnx=Onnx("LeakyRelu", (Attribute("alpha", 0.01),)),
        examples=((0.01,), (0.3,)),
    ),
    _function(
        "prelu",
        prelu,
        "x if x > 0 else weight * x, for one weight",
        examples=((np.array([0.25]),),),
        spelling="weighted",
    ),
    _function("hardtanh", hardtanh, "min(max(x, min_val), max_val)", examples=((-1.0, 1.0), (0.5, 2.0))),
    _function("relu6", relu6, "min(max(x, 0), 6)", kept=False),
    _function("hardsigmoid", hardsigmoid, "min(max(x + 3, 0), 6) / 6"),
    _function("mish", mish, "x * tanh(softplus(x)) (Misra 2019)", onnx=Onnx("Mish")),
    _function("threshold", threshold, "x if x > threshold else value", examples=((0.5, -1.0),), kept=False),
    _function("clamp", clamp, "x within two limits", examples=((-1.0, 2.0), (None, 1.5)), kept=False),
    _function("clamp_min", clamp, "x from a lower limit on", examples=((0.5,),), kept=False),
    _function("clamp_max", clamp_max, "x up to an upper limit", examples=((0.5,),), kept=False),
    _function(
        "nan_to_num", nan_to_num, "x with numbers in the place of NaN and infinities", examples=((0.0, 1.0, -1.0),)
    ),
    _function("remainder.Scalar", np.mod, "what x leaves divided by a number, of its sign", examples=((1.5,),)),
    _function("fmod.Scalar", np.fmod, "what x leaves divided by a number, of the sign of x", examples=((1.5,),)),
)
"""``kept=False`` where recognition of norms and attention knows what torch-mlir makes of it, or what it leaves."""
