"""
The compiler's pipeline, as one readable list.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from xdsl.passes import ModulePass

PassFactory = Callable[[], type[ModulePass]]

FLOAT_PIPELINE = (
    "torch-fold-quantization",
    "torch-fold-constants",
    "torch-canonicalize-views",
    "torch-recognize-norms",
    "torch-round-attention",
    "torch-recognize-attention",
    "torch-fold-masks",
    "torch-broadcast-constants",
    "torch-fold-constants",
    "torch-canonicalize-views",
)
"""
On the imported module; what it computes stays, up to the rounding of floats.
"""

INTEGER_PIPELINE = (
    "nm-sink-views",
    "nm-choose-encoding",
    "nm-fold-attention-layout",
    "nm-fuse-epilogues",
    "nm-fuse-norm-copies",
    "nm-raise-norms",
    "convert-nm-to-sta",
    "sta-allocate",
    "sta-synchronize",
)
"""
From the first integer module on; not a bit changes.
"""

_CLASSES = {
    "torch-fold-quantization": "TorchFoldQuantizationPass",
    "torch-fold-constants": "TorchFoldConstantsPass",
    "torch-canonicalize-views": "TorchCanonicalizeViewsPass",
    "torch-round-attention": "TorchRoundAttentionPass",
    "torch-fold-masks": "TorchFoldMasksPass",
    "torch-broadcast-constants": "TorchBroadcastConstantsPass",
    "torch-recognize-norms": "TorchRecognizeNormsPass",
    "torch-recognize-attention": "TorchRecognizeAttentionPass",
    "torch-prune": "TorchPrunePass",
    "torch-check-supported": "TorchCheckSupportedPass",
    "torch-quantize": "TorchQuantizePass",
    "torch-choose-softmax": "TorchChooseSoftmaxPass",
    "convert-torch-to-nm": "ConvertTorchToNmPass",
    "nm-sink-views": "NmSinkViewsPass",
    "nm-choose-encoding": "NmChooseEncodingPass",
    "nm-fold-attention-layout": "NmFoldAttentionLayoutPass",
    "nm-fuse-epilogues": "NmFuseEpiloguesPass",
    "nm-fuse-norm-copies": "NmFuseNormCopiesPass",
    "nm-raise-norms": "NmRaiseNormsPass",
    "convert-nm-to-sta": "ConvertNmToStaPass",
    "sta-allocate": "StaAllocatePass",
    "sta-synchronize": "StaSynchronizePass",
}


def _factory(name: str) -> PassFactory:
    def load() -> type[ModulePass]:
        return getattr(import_module(f"sta.passes.{name.replace('-', '_')}"), _CLASSES[name])

    return load


def pass_registry() -> dict[str, PassFactory]:
    """
    Every pass by its name, imported when it is asked for: pass `foo-bar` is class `FooBarPass` in `foo_bar.py`.
    """
    return {name: _factory(name) for name in _CLASSES}


def dialect_taken_by(name: str) -> str | None:
    """
    The dialect of the modules that a pass of ours works on; None for another pass.
    """
    return name.removeprefix("convert-").partition("-")[0] if name in _CLASSES else None
