"""The options of a compile that its program keeps."""

from __future__ import annotations

from typing import Any, cast

from sta.dialect.ir.samples import Samples
from sta.passes.options import Options
from sta.passes.options import options as all_options


def decisive_options(options: Options, samples: Samples) -> dict[str, Any]:
    """
    Returns the options that decide about the program, for JSON, without those at their default.

    Instead of samples it has their number.
    """
    default = Options()
    found: dict[str, Any] = {}
    for name, option in all_options().items():
        value = getattr(options, name)
        if value != getattr(default, name) and (option.decided is not None or name == "passes"):
            found[name] = value
    if options.sparsity is not None:
        patterns = [*options.sparsity.patterns, *filter(None, [options.sparsity.pattern])]
        found["sparsity"] = patterns if options.sparsity.patterns else options.sparsity.pattern
    counts = {name: len(samples.of(name)) for name in options.samples if name in found}
    found |= {name: f"{number} sample{'s' * (number != 1)}" for name, number in counts.items()}
    lists = {name: list(cast("tuple[str]", value)) for name, value in found.items() if isinstance(value, tuple)}
    return {**found, **lists}
