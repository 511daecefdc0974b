"""Settings of all tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from sta.runtime.engines import native_is_built
from sta.spec.outside import warn_once
from tests.support.packages import Lay, lay_package

# Time limits fail on a busy machine, not on a wrong result; no example is so slow or large that it must be refused.
settings.register_profile(
    "toolchain", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("toolchain")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets programs run on the reference engine where the native one is not built, although warnings are errors."""
    if native_is_built():
        return
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:the native engine is not built"))


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
