"""The options of a compile that its program keeps."""

from __future__ import annotations

from typing import Any, cast

from sta.dialect.ir.samples import Samples
from sta.passes.options import Options
from sta.passes.options import options as all_options


def decisive_options(options: Options, samples: Samples) -> dict[str, Any]:
    """
    Returns the options that say what the program is, for JSON to hold; those at their default are left out.

    In place of calibration data stands how many samples they are.
    """
    default = Options()
    found: dict[str, Any] = {}
    for name, option in all_options().items():
        value = getattr(options, name)
        if value != getattr(default, name) and (option.decided is not None or name == "passes"):
            found[name] = value
    if options.sparsity is not None:
        found["sparsity"] = options.sparsity.pattern or list(options.sparsity.patterns)
    if "calibration" in found:
        found["calibration"] = f"{len(samples.calibration)} samples"
    lists = {name: list(cast("tuple[str]", value)) for name, value in found.items() if isinstance(value, tuple)}
    return {**found, **lists}
