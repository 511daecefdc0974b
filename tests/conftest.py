"""Settings of all tests."""

import pytest
from hypothesis import HealthCheck, settings

from sta.runtime.engines import native_is_built

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
