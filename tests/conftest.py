"""Settings of all property tests."""

from hypothesis import HealthCheck, settings

# Time limits fail on a busy machine, not on a wrong result; no example is so slow or large that it must be refused.
settings.register_profile(
    "toolchain", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("toolchain")
