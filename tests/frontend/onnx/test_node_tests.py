"""ONNX's own tests of operators that the front end spells with others: right, or refused by name."""

from pathlib import Path

import pytest

from benchmarks.onnx_nodes import WAYS, cases, outcome

OPERATORS = (
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "Gemm",
    "GlobalMaxPool",
    "HardSigmoid",
    "InstanceNormalization",
    "LpNormalization",
    "MatMul",
    "MaxPool",
    "Mean",
    "Min",
    "PRelu",
    "Pad",
    "ReduceL1",
    "ReduceLogSum",
    "ReduceMax",
    "ReduceSumSquare",
    "Selu",
    "Resize",
    "RotaryEmbedding",
    "Slice",
    "Softsign",
    "Tile",
)
ALLOWED = {"right", "refused"}


@pytest.mark.parametrize("operator", OPERATORS)
def test_tests_of_onnx_are_right_or_refused(tmp_path: Path, operator: str) -> None:
    found = {way: [outcome(case, way, tmp_path) for _, case in cases([operator])] for way in WAYS}
    assert {ends for ended in found.values() for ends, _ in ended} <= ALLOWED, found
    # What has constant operands beside its first compiles at least once.
    assert any(ends == "right" for ends, _ in found["first at run time"]), found
