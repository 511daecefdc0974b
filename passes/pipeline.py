"""
The compiler's pipeline, as one readable list.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

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

_FOLDERS = {"torch": "torch-", "nm": "nm-", "sta": "sta-", "lowering": ""}
"""
The folders with passes, and what a pass of each is called besides the name of its file.
"""


@cache
def _modules() -> dict[str, str]:
    """
    The module of every pass, by the pass's name: `torch-foo-bar` is `torch/foo_bar.py`, `convert-x-to-y` is
    `lowering/convert_x_to_y.py`.
    """
    found: dict[str, str] = {}
    for folder, prefix in _FOLDERS.items():
        pattern = "[!_]*.py" if prefix else "convert_*.py"
        for path in sorted((Path(__file__).parent / folder).glob(pattern)):
            found[prefix + path.stem.replace("_", "-")] = f"sta.passes.{folder}.{path.stem}"
    return found


def _factory(name: str, module: str) -> PassFactory:
    def load() -> type[ModulePass]:
        return getattr(import_module(module), name.title().replace("-", "") + "Pass")

    return load


def pass_registry() -> dict[str, PassFactory]:
    """
    Every pass by its name, imported when it is asked for: pass `foo-bar` is class `FooBarPass`.
    """
    return {name: _factory(name, module) for name, module in _modules().items()}


def dialect_taken_by(name: str) -> str | None:
    """
    The dialect of the modules that a pass of ours works on; None for another pass.
    """
    return name.removeprefix("convert-").partition("-")[0] if name in _modules() else None
