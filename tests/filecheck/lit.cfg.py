"""Configuration of lit for the tests of dialects and passes: `// RUN:` lines with `sta opt` and `filecheck`."""
# pyright: basic, reportUndefinedVariable=false, reportMissingImports=false
# ruff: noqa: F821 - lit defines `config` and `lit_config`

import sys
from pathlib import Path

import lit.formats

here = Path(__file__).parent

config.name = "sta"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir"]
config.test_source_root = str(here)
config.test_exec_root = str(here.parents[1] / "build" / "filecheck")
# The commands of the environment that lit itself runs in.
config.environment["PATH"] = str(Path(sys.executable).parent) + ":" + config.environment["PATH"]
for script in ("make_weights", "show_weights"):
    config.substitutions.append((f"%{script}", f"{sys.executable} {here / script}.py"))
