"""Operators of the table in use: functions from a value ``[batch, rows, columns]`` of any sizes to one of its shape."""
# pyright: basic
# PyTorch leaves many of its functions without types.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Function = Callable[[Tensor], Tensor]

aten: Any = torch.ops.aten
"""Overloads that no other spelling reaches; without types."""


def _between(x: Tensor, low: float, high: float) -> Tensor:
    """Numbers inside of an interval, for functions that have values nowhere else."""
    return low + (high - low) * torch.sigmoid(x)


def _signs(x: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


def _images(x: Tensor) -> Tensor:
    """``[batch, 1, rows, columns]``."""
    return x.unsqueeze(1)


FUNCTIONS: dict[str, Function] = {
    "abs": torch.abs,
    "acos": lambda x: torch.acos(_between(x, -0.9, 0.9)),
    "acosh": lambda x: torch.acosh(_between(x, 1.1, 3)),
    "asin": lambda x: torch.asin(_between(x, -0.9, 0.9)),
    "asinh": torch.asinh,
    "atan": torch.atan,
    "atanh": lambda x: torch.atanh(_between(x, -0.9, 0.9)),
    "ceil": torch.ceil,
    "celu": functional.celu,
    "clamp": lambda x: x.clamp(-0.5, 0.75),
    "clamp_max": lambda x: torch.clamp_max(x, 0.25),
    "clamp_min": lambda x: torch.clamp_min(x, -0.25),
    "cos": torch.cos,
    "cosh": lambda x: torch.cosh(_between(x, -2, 2)),
    "elu": functional.elu,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "exp": lambda x: torch.exp(_between(x, -3, 2)),
    "exp2": lambda x: torch.exp2(_between(x, -3, 2)),
    "expm1": lambda x: torch.expm1(_between(x, -3, 2)),
    "floor": torch.floor,
    "fmod": lambda x: torch.fmod(x, 0.75),
    "gelu": functional.gelu,
    "hardsigmoid": functional.hardsigmoid,
    "hardswish": functional.hardswish,
    "hardtanh": functional.hardtanh,
    "leaky_relu": functional.leaky_relu,
    "log": lambda x: torch.log(_between(x, 0.1, 3)),
    "log10": lambda x: torch.log10(_between(x, 0.1, 3)),
    "log1p": lambda x: torch.log1p(_between(x, -0.5, 3)),
    "log2": lambda x: torch.log2(_between(x, 0.1, 3)),
    "log_sigmoid": functional.logsigmoid,
    "mish": functional.mish,
    "nan_to_num": torch.nan_to_num,
    "neg": torch.neg,
    "pow of a number": lambda x: torch.pow(1.5, _between(x, -2, 2)),
    "pow with a number": lambda x: _between(x, 0.1, 2) ** 1.5,
    "pow with a tensor": lambda x: torch.pow(_between(x, 0.5, 2), _between(x, -1, 1)),
    "prelu": lambda x: functional.prelu(x, torch.tensor([0.2])),
    "reciprocal": lambda x: torch.reciprocal(_between(x, 0.5, 3)),
    "relu": functional.relu,
    "relu6": functional.relu6,
    "remainder": lambda x: torch.remainder(x, 0.75),
    "round": torch.round,
    "round to decimals": lambda x: torch.round(x, decimals=1),
    "rsqrt": lambda x: torch.rsqrt(_between(x, 0.2, 3)),
    "selu": functional.selu,
    "sgn": torch.sgn,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": functional.silu,
    "sin": torch.sin,
    "sinh": lambda x: torch.sinh(_between(x, -2, 2)),
    "softplus": functional.softplus,
    "sqrt": lambda x: torch.sqrt(_between(x, 0.1, 3)),
    "square": torch.square,
    "tan": lambda x: torch.tan(_between(x, -1, 1)),
    "tanh": torch.tanh,
    "threshold": lambda x: functional.threshold(x, 0.1, -0.25),
    "trunc": torch.trunc,
}

ARITHMETIC: dict[str, Function] = {
    "add a number": lambda x: x + 0.5,
    "divide by a number": lambda x: x / 1.5,
    "divide by a value": lambda x: x / (1 + x.square()),
    "divide by a number and round down": lambda x: torch.div(x, 0.5, rounding_mode="floor"),
    "divide by a value and round": lambda x: torch.div(x, _between(x, 1, 2), rounding_mode="trunc"),
    "divide and round down": lambda x: x // _between(x, 0.5, 2),
    "floor_divide by a number": lambda x: aten.floor_divide(x, 0.5),
    "fmod of a value": lambda x: torch.fmod(x, _between(x, 0.5, 2)),
    "maximum of rows": lambda x: torch.maximum(x, x[:, :1]),
    "minimum of columns": lambda x: torch.minimum(x, x[..., :1]),
    "multiply by a row": lambda x: x * x[:, :1],
    "remainder of a value": lambda x: torch.remainder(x, _between(x, 0.5, 2)),
    "subtract a number": lambda x: x - 0.5,
    "subtract a value": lambda x: x.tanh() - x[..., :1],
    "subtract from a number": lambda x: 1 - x,
    "subtract in another order": lambda x: torch.rsub(x.tanh(), x),
}

CHOICES: dict[str, Function] = {
    "eq": lambda x: (x.floor() == x.floor()[..., :1]).to(x.dtype),
    "ge": lambda x: (x >= x[..., :1]).to(x.dtype),
    "le": lambda x: (x <= x[:, :1]).to(x.dtype),
    "lt": lambda x: (x < x[..., :1]).to(x.dtype),
    "triangles": lambda x: x.tril() - x.triu(1) / 2,
    "gt": lambda x: (x > x[:, :1]).to(x.dtype),
    "ne": lambda x: (x.floor() != x.floor()[..., :1]).to(x.dtype),
    "comparison with numbers": lambda x: sum(
        (one.to(x.dtype) for one in (x >= 0.1, x > 0.2, x <= 0.3, x < 0.4, x.floor() == 0, x.floor() != 1)), x
    ),
    "logic": lambda x: (
        torch.logical_and(x > 0, x < 1).to(x.dtype)
        + torch.logical_or(x > 1, x < -1).to(x.dtype)
        + torch.logical_xor(x > 0.5, x < 0.75).to(x.dtype)
        + torch.logical_not(x > 0.25).to(x.dtype)
    ),
    "bits": lambda x: (
        ((x > 0) & (x < 1)).to(x.dtype)
        + ((x > 1) | (x < -1)).to(x.dtype)
        + ((x > 0.5) ^ (x < 0.75)).to(x.dtype)
        + (~(x > 0.25)).type_as(x)
    ),
    "masked_fill": lambda x: x.masked_fill(x > 0.5, 0.5),
    "masked_fill with a tensor": lambda x: x.masked_fill(x > 0.5, torch.tensor(0.5)),
    "where": lambda x: torch.where(x > 0.1, x, x.tanh()),
    "where, numbers": lambda x: (
        torch.where(x > 0.1, 0.5, -0.5) + torch.where(x > 0, x, 0.25) + torch.where(x > 1, 1.0, x)
    ),
}

MOVEMENTS: dict[str, Function] = {
    "broadcast": lambda x: x[:, :1].broadcast_to(x.shape) + x[..., :1].expand_as(x) + x[:, :, -1:].expand(x.shape),
    "cat": lambda x: torch.cat((x[:, 1:], x[:, :1]), 1),
    "chunk": lambda x: torch.cat(x.chunk(2, -1)[::-1], -1),
    "constant_pad_nd": lambda x: functional.pad(x, (1, 0, 0, 1), value=0.5)[:, 1:, :-1],
    "flatten": lambda x: x.flatten(1).unflatten(1, x.shape[1:]),
    "flip": lambda x: x.flip(1, 2),
    "gather": lambda x: x.gather(2, torch.zeros(x.shape, dtype=torch.long)),
    "index": lambda x: x[:, torch.arange(x.shape[1] - 1, -1, -1)],
    "index_select": lambda x: x.index_select(1, torch.arange(x.shape[1])),
    "movedim": lambda x: x.movedim(1, 2).swapaxes(1, 2).movedim(0, 1).swapdims(0, 1),
    "permute": lambda x: x.permute(1, 0, 2).transpose(0, 1).contiguous(),
    "repeat": lambda x: x.repeat(1, 2, 1)[:, ::2].repeat_interleave(2, 2)[..., ::2],
    "reshape": lambda x: aten.alias(
        aten._unsafe_view(x.reshape(-1, 1).squeeze(1), x.shape).view(x.shape).clone().detach()
    ),
    "roll": lambda x: x.roll((1, 1), (1, 2)),
    "select": lambda x: x.select_scatter(x[:, 0].tanh(), 1, 0),
    "slice": lambda x: x.slice_scatter(x[:, ::2].tanh(), 1, 0, step=2),
    "split": lambda x: torch.cat(x.split(2, 1)[::-1], 1),
    "split_with_sizes": lambda x: torch.cat(x.split([1, x.shape[2] - 1], 2)[::-1], 2),
    "squeeze": lambda x: x.unsqueeze(0).squeeze(0).unsqueeze(1).unsqueeze(1).squeeze((1, 2)) + x[:1, :1, :1].squeeze(),
    "t": lambda x: x[0].t().t().unsqueeze(0).expand(x.shape),
    "unbind": lambda x: torch.stack(x.unbind(1)[::-1], 1),
    "unfold": lambda x: x.unfold(1, 1, 1)[..., 0],
}

REDUCTIONS: dict[str, Function] = {
    "amax": lambda x: x - x.amax(-1, keepdim=True),
    "amin": lambda x: x - x.amin(1, keepdim=True),
    "cumsum": lambda x: x.tanh().cumsum(1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x - x.logsumexp(-1, keepdim=True),
    "max": lambda x: x - x.max(),
    "max of an axis": lambda x: x - x.max(-1, keepdim=True).values,
    "mean": lambda x: x - x.mean(),
    "mean of an axis": lambda x: x - x.mean(1, keepdim=True),
    "min": lambda x: x - x.min(),
    "min of an axis": lambda x: x - x.min(1, keepdim=True).values,
    "norm": lambda x: x / (1 + x.norm(dim=-1, keepdim=True)) + 0.01 * x.norm(),
    "softmax": lambda x: x.softmax(-1),
    "std": lambda x: x / (1 + x.std(-1, keepdim=True, correction=0)) + x.std(correction=0),
    "sum": lambda x: x - 0.01 * x.sum(),
    "sum of an axis": lambda x: x - 0.1 * x.sum(-1, keepdim=True),
    "var": lambda x: x / (1 + x.var(1, keepdim=True, correction=0)) + x.var(correction=0),
    "vector_norm": lambda x: x / (1 + torch.linalg.vector_norm(x, dim=-1, keepdim=True)),
}

PRODUCTS: dict[str, Function] = {
    "addmm": lambda x: torch.addmm(x[0], x[0] / 8, x[0].t() @ x[0] / 8).expand(x.shape),
    "baddbmm": lambda x: torch.baddbmm(x, x, x.mT @ x / 64),
    "bmm": lambda x: torch.bmm(torch.bmm(x, x.mT) / 64, x),
    "dot": lambda x: x * torch.dot(x[0, 0], x[0, 0]) / 64,
    "matmul": lambda x: x @ (x.mT @ x) / 64,
    "mm": lambda x: (torch.mm(x[0], x[0].t()) @ x[0] / 64).expand(x.shape),
    "mv": lambda x: x * torch.mv(x[0], x[0, 0]).unsqueeze(-1) / 64,
    "scaled_dot_product_attention": lambda x: functional.scaled_dot_product_attention(x, x, x),
}

LAYERS: dict[str, Function] = {
    "adaptive_avg_pool1d": lambda x: x - functional.adaptive_avg_pool1d(x, 1),
    "adaptive_avg_pool2d": lambda x: x - functional.adaptive_avg_pool2d(_images(x), 1).squeeze(1),
    "adaptive_avg_pool3d": lambda x: x - functional.adaptive_avg_pool3d(_images(_images(x)), 1)[:, 0, 0],
    "avg_pool1d": lambda x: functional.avg_pool1d(x, 3, 1, 1),
    "avg_pool2d": lambda x: functional.avg_pool2d(_images(x), 3, 1, 1).squeeze(1),
    "avg_pool3d": lambda x: functional.avg_pool3d(_images(_images(x)), (1, 3, 3), 1, (0, 1, 1))[:, 0, 0],
    "batch_norm": lambda x: functional.batch_norm(
        _images(x), torch.tensor([0.1]), torch.tensor([1.5]), torch.tensor([0.5]), torch.tensor([0.2])
    ).squeeze(1),
    "convolution": lambda x: functional.conv2d(_images(x), torch.ones(1, 1, 3, 3) / 9, padding=1).squeeze(1),
    "fft": lambda x: torch.fft.fft(torch.fft.fftn(x, dim=(1, 2)), dim=-1).real / x.shape[1] / x.shape[2],
    "group_norm": lambda x: functional.group_norm(_images(x), 1).squeeze(1),
    "im2col": lambda x: functional.unfold(_images(x), 1).view(x.shape),
    "instance_norm": lambda x: functional.instance_norm(torch.cat((x, -x), -1))[..., : x.shape[-1]],
    "layer_norm": lambda x: functional.layer_norm(torch.cat((x, 1 - x), -1), (2 * x.shape[-1],))[..., : x.shape[-1]],
    "linear": lambda x: functional.linear(x, torch.eye(x.shape[-1]).flip(0), torch.full((x.shape[-1],), 0.1)),
    "max_pool1d": lambda x: functional.max_pool1d(x, 3, 1, 1),
    "max_pool2d": lambda x: functional.max_pool2d(_images(x), 3, 1, 1).squeeze(1),
    "max_pool3d": lambda x: functional.max_pool3d(_images(_images(x)), 3, 1, 1)[:, 0, 0],
    "rms_norm": lambda x: functional.rms_norm(x, x.shape[-1:], eps=1e-5),
    "upsample_bicubic2d": lambda x: functional.interpolate(_images(x), scale_factor=2.0, mode="bicubic")[
        :, 0, ::2, ::2
    ],
    "upsample_bilinear2d": lambda x: functional.interpolate(_images(x), scale_factor=2.0, mode="bilinear")[
        :, 0, ::2, ::2
    ],
    "upsample_linear1d": lambda x: functional.interpolate(x, scale_factor=2.0, mode="linear")[..., ::2],
    "upsample_nearest1d": lambda x: functional.interpolate(x, scale_factor=2.0)[..., ::2],
    "upsample_nearest2d": lambda x: functional.interpolate(_images(x), scale_factor=2.0)[:, 0, ::2, ::2],
}

OVERLOADS: dict[str, Function] = {
    "_adaptive_avg_pool2d": lambda x: x - aten._adaptive_avg_pool2d.default(_images(x), [1, 1]).squeeze(1),
    "_adaptive_avg_pool3d": lambda x: x - aten._adaptive_avg_pool3d.default(_images(_images(x)), [1, 1, 1])[:, 0, 0],
    "_log_softmax": lambda x: aten._log_softmax.default(x, -1, False),
    "_native_batch_norm_legit_no_training": lambda x: aten._native_batch_norm_legit_no_training.default(
        _images(x), torch.tensor([1.5]), torch.tensor([0.5]), torch.tensor([0.2]), torch.tensor([2.0]), 0.1, 1e-5
    )[0].squeeze(1),
    "_softmax": lambda x: aten._softmax.default(x, 1, False),
    "_to_copy": lambda x: aten._to_copy.default(x > 0, dtype=torch.float32),
    "bitwise": lambda x: aten.bitwise_xor.Tensor(aten.bitwise_and.Tensor(x > 0, x < 1), x > 0.5).to(x.dtype),
    "collapse": lambda x: torch.ops.prims.collapse.default(x, 1, 2).view(x.shape),
    "contiguous": lambda x: aten.contiguous.default(x),
    "dropout": lambda x: aten.dropout.default(x, 0.5, False),
    "floor_divide.Scalar": lambda x: aten.floor_divide.Scalar(x, 0.5),
    "max_pool2d_with_indices": lambda x: aten.max_pool2d_with_indices.default(_images(x), [3, 3], [1, 1], [1, 1])[
        0
    ].squeeze(1),
    "native_group_norm": lambda x: aten.native_group_norm.default(
        _images(x), None, None, x.shape[0], 1, x.shape[1] * x.shape[2], 1, 1e-5
    )[0].squeeze(1),
    "norm.Scalar": lambda x: x + 0.01 * aten.norm.Scalar(x, 2),
    "norm.ScalarOpt_dim": lambda x: x + 0.1 * aten.norm.ScalarOpt_dim(x, 2, [-1], True),
    "std": lambda x: x + aten.std.default(torch.cat((x, -x), -1), False) + aten.std.dim(x, [1], False, True),
    "upsample_bicubic2d": lambda x: aten.upsample_bicubic2d.default(_images(x), [2 * x.shape[1], x.shape[2]], False)[
        :, 0, ::2
    ],
    "upsample_bilinear2d": lambda x: aten.upsample_bilinear2d.default(_images(x), [2 * x.shape[1], x.shape[2]], True)[
        :, 0, ::2
    ],
    "upsample_linear1d": lambda x: aten.upsample_linear1d.default(x, [2 * x.shape[2]], False)[..., ::2],
    "upsample_nearest1d": lambda x: aten.upsample_nearest1d.default(x, [2 * x.shape[2]])[..., ::2],
    "upsample_nearest2d": lambda x: aten.upsample_nearest2d.default(_images(x), [2 * x.shape[1], x.shape[2]])[
        :, 0, ::2
    ],
    "var": lambda x: x + aten.var.default(torch.cat((x, -x), -1), False) + aten.var.dim(x, [1], False, True),
}
"""Overloads that PyTorch's own functions do not call."""

OPERATIONS = (
    FUNCTIONS
    | ARITHMETIC
    | CHOICES
    | MOVEMENTS
    | REDUCTIONS
    | PRODUCTS
    | LAYERS
    | {f"overload {name}": function for name, function in OVERLOADS.items()}
)
"""Everything above, by name."""
