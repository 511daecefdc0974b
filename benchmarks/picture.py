"""MAC efficiency and speed-up by sparsity, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.measurement import Measurement
from benchmarks.requirements import required_efficiency, speed_up
from benchmarks.shapes import pattern_name

# The same figures give the same bytes, and text stays text.
STYLE = {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False}


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """Writes the picture of some measurements, in the format of the file's name."""
    # Its stubs leave types open.
    matplotlib: Any = import_module("matplotlib")
    figures: Any = import_module("matplotlib.figure")
    with matplotlib.rc_context(STYLE):
        figure = figures.Figure(figsize=(11, 4.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_efficiency(left, measurements)
        _draw_speed_up(right, measurements)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _by_model(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    models: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        models.setdefault(measurement.encoder.name, []).append(measurement)
    return models


def _draw_efficiency(axes: Any, measurements: Sequence[Measurement]) -> None:
    for name, group in _by_model(measurements).items():
        sparsities = [pattern_name(m.pattern) for m in group]
        (line,) = axes.plot(sparsities, [m.efficiency for m in group], marker="o", markersize=4, label=name)
        required = [(pattern_name(m.pattern), required_efficiency(m)) for m in group]
        for sparsity, bound in required:
            if bound is not None:
                axes.plot(sparsity, bound, marker="_", markersize=18, color=line.get_color())
    axes.set(title="MAC efficiency of the whole model (dashes: required)", xlabel="sparsity", ylim=(0, 1.02))
    axes.grid(axis="y", alpha=0.3)


def _draw_speed_up(axes: Any, measurements: Sequence[Measurement]) -> None:
    for group in _by_model(measurements).values():
        ideal = [float(m.encoder.ideal_speed_up(m.pattern)) for m in group]
        reached = [speed_up(m, group) for m in group]
        pairs = [(x, y) for x, y in zip(ideal, reached, strict=True) if y is not None]
        axes.plot([x for x, _ in pairs], [y for _, y in pairs], marker="o", markersize=4)
    limit = max(float(m.encoder.ideal_speed_up(m.pattern)) for m in measurements)
    axes.plot([1, limit], [1, limit], color="black", linestyle=":", linewidth=1)
    axes.set(title="Speed-up over dense (dotted: ideal)", xlabel="ideal speed-up", ylabel="speed-up")
    axes.grid(alpha=0.3)
