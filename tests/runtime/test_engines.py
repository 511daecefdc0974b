"""Which engine runs, with and without the native one."""

import subprocess
import sys

import pytest

from sta.runtime import engines


@pytest.fixture
def without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the native engine look as if it had not been compiled."""
    monkeypatch.setattr(engines, "native_is_built", lambda: False)
    engines.warn_of_slowness.cache_clear()


def test_it_is_built_here() -> None:
    # Whoever tests the project has a compiler; what is not built is not tested.
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
def test_without_it_native_is_an_error() -> None:
    with pytest.raises(ValueError, match="the native engine is not built; install the project where"):
        engines.chosen("native")


def test_programs_load_without_it() -> None:
    code = "import sys; sys.modules['sta.runtime._native'] = None; import sta; sta.load; import sta.runtime.engines"
    subprocess.run([sys.executable, "-c", code], check=True)
