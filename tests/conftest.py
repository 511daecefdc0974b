"""Settings of all tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before `sta`: what other packages of this environment add is none of the tests', here and in every process they start.
from tests.support.ours_alone import sitecustomize  # isort: skip
from sta.runtime.engines import native_is_built
from sta.spec.outside import warn_once
from tests.support.packages import Lay, lay_package

# Time limits fail on a busy machine, not on a wrong result; no example is so slow or large that it must be refused.
settings.register_profile(
    "toolchain", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("toolchain")

OURS_ALONE = str(Path(sitecustomize.__file__).parent)
if OURS_ALONE not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (OURS_ALONE, os.environ.get("PYTHONPATH"))))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Lets tests calibrate with one sample or with ones, and programs run on the reference engine where the native one is
    not built, although warnings are errors.
    """
    accepted = ["a single calibration sample", "calibration data: "]
    if not native_is_built():
        accepted.append("the native engine is not built")
    for item in items:
        for message in accepted:
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{message}"))


@pytest.fixture
def lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lay]:
    """Lays packages into a folder that Python looks into, and takes what was loaded of them away again."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    before = set(sys.modules)
    warn_once.cache_clear()
    yield lambda name, source, entries: lay_package(site, name, source, entries)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and Path(str(sys.modules[name].__file__)).parent == site:
            del sys.modules[name]
