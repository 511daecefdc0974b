"""
The STA toolchain: compile Transformers to STA microcode, run it bit-exactly.

`sta.compile` needs the `compile` extra (torch, torch-mlir, xDSL); `sta.load` and running a program need NumPy only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sta.api.compiler.compilation import compile
    from sta.api.compiler.verdict import check
    from sta.runtime import Program, Result, load

__all__ = ["Program", "Result", "__version__", "check", "compile", "load", "load_ipython_extension"]

__version__: str
"""The version of the installed package."""


def load_ipython_extension(shell: Any) -> None:
    """Implementation of `%load_ext sta`: notebooks show IR as text that can be folded."""
    from sta.api.inspect.notebook import show_modules

    show_modules(shell)


def __getattr__(name: str) -> Any:
    if name == "compile":
        from sta.api.compiler.compilation import compile

        return compile
    if name == "check":
        from sta.api.compiler.verdict import check

        return check
    if name in ("Program", "Result", "load"):
        import sta.runtime

        return getattr(sta.runtime, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("sta-toolchain")
    raise AttributeError(f"module 'sta' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names of the package: what is imported on first use is among them, what Python sets in a module is not."""
    return sorted(__all__)
