"""Operators over windows of axes, spelled with products, sums and maxima: convolutions, pooling, resampling."""

from sta.spec.operators.operator import Operator, Role

_SPELLINGS = {
    "convolution": "convolution",
    "batch norm": "batch_norm _native_batch_norm_legit_no_training",
    "average pool": "avg_pool1d avg_pool2d avg_pool3d",
    "adaptive average pool": (
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d"
    ),
    "maximum pool": "max_pool1d max_pool2d max_pool2d_with_indices max_pool3d",
    "patches": "im2col",
    "nearest": "upsample_nearest1d upsample_nearest1d.vec upsample_nearest2d upsample_nearest2d.vec",
    "linear": "upsample_linear1d upsample_linear1d.vec upsample_bilinear2d upsample_bilinear2d.vec",
    "cubic": "upsample_bicubic2d upsample_bicubic2d.vec",
    "fourier": "fft_fftn fft_fft",
}
"""Operators that passes (`torch-decompose-convolutions`, `torch-decompose-resampling`) make of others."""

_REMEDIES = {
    "convolution": "its kernel and bias must be constants",
    "batch norm": "supported in evaluation mode, with statistics and parameters that are constants",
    "maximum pool": "dilated windows must lie in the input",
    "fourier": "the real part of a transform of float values is supported",
}

OPERATORS = tuple(
    Operator(f"aten.{name}", Role.SPELLED, spelling=spelling, remedy=_REMEDIES.get(spelling, ""))
    for spelling, names in _SPELLINGS.items()
    for name in names.split()
)
