"""
Builds the native engine, `sta.runtime._native`; everything else is in pyproject.toml.

The extension is optional: where it cannot be built, programs run on the reference engine. All files are compiled for
the plainest processor of their kind; the kernels for others say so themselves, and are chosen when a program runs.
"""

from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup

# In a source distribution the links of `src/sta` are the folders themselves.
FOLDER = Path("src/sta/runtime/native")

ParallelCompile("MAX_JOBS", default=2).install()

setup(
    ext_modules=[
        Pybind11Extension(
            "sta.runtime._native",
            sorted(path.as_posix() for path in FOLDER.rglob("*.cpp")),
            depends=sorted(path.as_posix() for path in FOLDER.rglob("*.h")),
            include_dirs=[FOLDER.as_posix()],
            cxx_std=20,
            extra_compile_args=["-O3", "-pthread"],
            extra_link_args=["-pthread"],
            optional=True,
        )
    ]
)
