"""Products on a systolic array: SCALE-Sim's cycles, and the prediction from their shapes."""

from __future__ import annotations

import csv
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shapes import Product

DATAFLOWS = ("os", "ws", "is")
"""Dataflows, by the operand that stays in place: outputs, weights, inputs."""
# Saves no traces: they would take gigabytes, and the option for it on its own command line has no effect.
_RUN = """
import sys
from scalesim.scale_sim import scalesim
configuration, topology, layout, results = sys.argv[1:]
simulation = scalesim(
    save_disk_space=True, verbose=False, config=configuration, topology=topology, layout=layout, input_type_gemm=True
)
simulation.run_scale(results)
"""
# The memories do not matter: bandwidth is calculated, as large as the array needs it.
_CONFIGURATION = """
[general]
run_name = run
[architecture_presets]
ArrayHeight = {size}
ArrayWidth = {size}
IfmapSramSzkB = 512
FilterSramSzkB = 512
OfmapSramSzkB = 512
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = False
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


@dataclass(frozen=True)
class Systolic:
    """
    Cycles of a product on a square systolic array of `size` x `size` processing elements, by its shape.

    The array works in folds, one after the other: parts of the operands that it holds at a time. It streams the third
    dimension through each fold, after filling its pipelines, and drains them before the next one.
    """

    size: int
    dataflow: str

    def folds(self, product: Product) -> int:
        """Folds of one product."""
        held = {"os": (product.m, product.n), "ws": (product.k, product.n), "is": (product.k, product.m)}
        first, second = held[self.dataflow]
        return -(-first // self.size) * -(-second // self.size)

    def streaming(self, product: Product) -> int:
        """Cycles in which operands enter the array, in all folds."""
        return self.folds(product) * {"os": product.k, "ws": product.m, "is": product.n}[self.dataflow]

    def filling(self, product: Product) -> int:
        """Cycles for filling and draining the pipelines, and loading the operand that stays, in all folds."""
        loading = 0 if self.dataflow == "os" else self.size
        return self.folds(product) * (loading + 2 * self.size - 2)

    def reported(self, product: Product) -> int:
        """SCALE-Sim's cycles: the number of the last one, counted from 0."""
        return self.streaming(product) + self.filling(product) - 1


class SimulatorError(ValueError):
    """SCALE-Sim cannot be run."""


def simulate(simulator: Path, size: int, dataflow: str, products: Sequence[Product]) -> list[int]:
    """
    Returns the cycles that SCALE-Sim reports for products, each simulated alone on a square array.

    Raises SimulatorError if `simulator` is no Python that has SCALE-Sim.
    """
    with tempfile.TemporaryDirectory() as folder:
        configuration, topology, layout = (Path(folder, name) for name in ("scale.cfg", "products.csv", "layout.csv"))
        configuration.write_text(_CONFIGURATION.format(size=size, dataflow=dataflow))
        rows = [f"{product.kind}, {product.m}, {product.n}, {product.k}," for product in products]
        topology.write_text("\n".join(["Layer, M, N, K,", *rows, ""]))
        layout.write_text("Layer,\n")
        files = [str(path) for path in (configuration, topology, layout, folder)]
        try:
            done = subprocess.run([simulator, "-W", "ignore", "-c", _RUN, *files], capture_output=True, text=True)
        except OSError as error:
            raise SimulatorError(f"cannot run {simulator}: {error}") from error
        if done.returncode:
            raise SimulatorError(f"{simulator} cannot run SCALE-Sim: {done.stderr.strip().splitlines()[-1]}")
        with open(Path(folder, "run", "COMPUTE_REPORT.csv")) as report:
            return [int(row[" Total Cycles"]) - int(row[" Stall Cycles"]) for row in csv.DictReader(report)]
