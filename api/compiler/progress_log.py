"""Progress of compiles in the log of the standard library."""

from __future__ import annotations

import logging

from sta.passes.options import StageProgress

LOG = logging.getLogger("sta.compile")
"""Info: each stage when it begins, and the program at the end. Debug: how much of a stage is done."""


def logged(report: StageProgress) -> StageProgress:
    """Returns a callback that writes progress into the log, and passes it on."""
    last = ""

    def report_and_log(stage: str, done: float | None) -> None:
        nonlocal last
        if stage != last:
            LOG.info("%s", stage)
        if done is not None:
            LOG.debug("%s %.0f%%", stage, 100 * done)
        last = stage
        report(stage, done)

    return report_and_log


def both(first: StageProgress, second: StageProgress) -> StageProgress:
    """Returns a callback that calls two others."""

    def report(stage: str, done: float | None) -> None:
        first(stage, done)
        second(stage, done)

    return report
