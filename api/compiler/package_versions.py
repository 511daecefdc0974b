"""The versions of the packages that a program is made by."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("sta-toolchain", "torch", "torch-mlir", "xdsl", "onnx", "numpy")
"""Packages that numbers or code of a program may depend on."""


def versions() -> dict[str, str]:
    """Returns the version of each of `PACKAGES` that is installed."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
