"""Choice of the engine, with and without the native one."""

import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from sta.runtime import engines

COMPILERS = ("c++", "g++", "clang++")


@pytest.fixture
def without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the native engine look as if it had not been compiled."""
    monkeypatch.setattr(engines, "native_is_built", lambda: False)
    for module in ("_native", "native_engine"):
        monkeypatch.setitem(sys.modules, f"sta.runtime.{module}", None)
    engines.warn_of_slowness.cache_clear()


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="there is no C++ compiler")
def test_it_is_built_where_there_is_a_compiler() -> None:
    # What is not built is not tested, and nobody would notice.
    assert engines.native_is_built()
    assert engines.chosen("auto") == engines.chosen("native") == "native"
    assert engines.chosen("reference") == "reference"


@pytest.mark.usefixtures("without_native")
def test_without_it_auto_warns_once() -> None:
    with pytest.warns(UserWarning, match="the native engine is not built") as warned:
        chosen = [engines.chosen("auto") for _ in range(2)]
    assert chosen == ["reference", "reference"]
    assert len(warned) == 1
    assert engines.chosen("reference") == "reference"


@pytest.mark.usefixtures("without_native")
def test_without_it_programs_run_with_one_warning(bench: Any) -> None:
    values = np.arange(-20, 20, dtype=np.int8).reshape(5, 8)
    bench.place(values)
    bench.result(0, values.shape, "int8")
    program = bench.program()
    with pytest.warns(UserWarning, match="the native engine is not built") as warned:
        results = [program.run({}), program.run({}, threads=2), *program.run_batch([{}, {}], threads=2)]
    assert len(warned) == 1
    assert all(np.array_equal(result.raw["y"], values) for result in results)
    assert program.run({}, engine="reference").timing == results[0].timing


@pytest.mark.usefixtures("without_native")
def test_without_it_native_is_an_error() -> None:
    with pytest.raises(ValueError, match="the native engine is not built; install the project where"):
        engines.chosen("native")


def test_programs_load_without_it() -> None:
    code = "import sys; sys.modules['sta.runtime._native'] = None; import sta; sta.load; import sta.runtime.engines"
    subprocess.run([sys.executable, "-c", code], check=True)
