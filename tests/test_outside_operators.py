"""Operators of other packages: the whole toolchain has them, and those that cannot be used leave the rest as it is."""

import subprocess
import sys
from pathlib import Path

from tests.support.packages import lay_package

ROWS = '''
import numpy as np
from sta.spec.operators.elementwise import elementwise

def squared_relu(x, factor=1.0):
    """factor * max(x, 0) ** 2."""
    return factor * np.maximum(x, 0.0) ** 2

def softsign(x):
    return x / (1.0 + np.abs(x))

SQUARED = elementwise("acme.squared_relu", squared_relu, "factor * max(x, 0) ** 2", curvature=2.0)
MISH = elementwise("aten.mish", lambda x: x * np.tanh(np.logaddexp(0.0, x)), "x * tanh(softplus(x))", curvature=0.6)
'''

MODEL = """
import warnings
import numpy as np
import torch
from torch import nn

@torch.library.custom_op("acme::squared_relu", mutates_args=())
def squared_relu(x: torch.Tensor, factor: float) -> torch.Tensor:
    return factor * torch.relu(x) ** 2

@squared_relu.register_fake
def shape_of(x, factor):
    return torch.empty_like(x)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)
    def forward(self, x):
        return x + self.second(nn.functional.mish(torch.ops.acme.squared_relu(self.first(x), 0.5)))

torch.manual_seed(0)
model = Model().eval()
x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
"""

COMPILES = """
import sta
from sta.api.compiler.compilation import compile_model
from sta.api.inspect.operators_page import page
from sta.compress.quantize_program import quantize_program
from sta.frontend.model import import_model
from sta.frontend.forward_names import input_names
from sta.passes.torch.check_supported import supported_operators

names = [operation.name for operation in import_model(model, {"x": x}).module.walk()]
assert "torch.acme.squared_relu" in names and "torch.aten.mish" in names, names
program = sta.compile(model, {"x": x}, calibration={"x": x[None]}, check=True)
expected = model(torch.tensor(x)).detach().numpy()
assert np.abs(program.run({"x": x}).outputs["output"] - expected).max() < 0.05
assert supported_operators().count("squared_relu") == 1
assert "`acme.squared_relu`" in page()

exported = torch.export.export(model, (), {"x": torch.tensor(x)}, strict=False)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantized = quantize_program(exported, input_names(exported), [{"x": x}])
compilation = compile_model(quantized)
assert compilation.quantization is None, "every value has a format"
assert np.abs(compilation.program.run({"x": x}).outputs["output"] - expected).max() < 0.05
print("compiled")
"""

RUNS = """
import numpy as np
from xdsl.parser import Parser
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext

TEXT = '''
func.func @main(%x: !torch.vtensor<[3],f32> {sta.name = "x"}) -> (!torch.vtensor<[3],f32> {sta.name = "y"}) {
  %two = torch.constant.float 2.000000e+00
  %y = torch.acme.squared_relu %x, %two : !torch.vtensor<[3],f32>, !torch.float -> !torch.vtensor<[3],f32>
  func.return %y : !torch.vtensor<[3],f32>
}
'''
context = CompileContext()
module = Parser(context, TEXT).parse_module()
module.verify()
print(run_torch(module, context, {"x": np.array([-1.0, 2.0, 3.0], np.float32)})["y"].tolist())
"""

BAD = """
import numpy as np
from sta.spec.operators.elementwise import elementwise
from sta.spec.operators.operator import Operator, Role

RELU = elementwise("aten.relu", np.abs, "another relu", curvature=0.0)
BARE = Operator("bolt.bare", Role.ELEMENTWISE)
UFUNC = elementwise("bolt.ufunc", np.arctan, "arctan", curvature=0.0)
OTHER = elementwise("bolt.other", np.abs, "abs", curvature=0.0)
"""


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs code where the packages in `folder` are installed."""
    head = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    return subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, check=False)


def test_an_operator_of_another_package_compiles(tmp_path: Path) -> None:
    entries = {"acme.squared_relu": "SQUARED", "aten.mish": "MISH"}
    lay_package(tmp_path, "acme-operators", ROWS, {"sta.operators": entries})
    result = run(tmp_path, MODEL + COMPILES)
    assert result.stdout.splitlines()[-1:] == ["compiled"], result.stderr


def test_a_dump_with_such_an_operator_runs_where_pytorch_does_not_have_it(tmp_path: Path) -> None:
    lay_package(tmp_path, "acme-operators", ROWS, {"sta.operators": {"acme.squared_relu": "SQUARED"}})
    result = run(tmp_path, RUNS)
    assert result.stdout.splitlines()[-1:] == ["[0.0, 8.0, 18.0]"], result.stderr


def test_without_its_package_an_operator_is_one_that_cannot_be_compiled(tmp_path: Path) -> None:
    code = "import sta\ntry:\n    sta.compile(model, {'x': x})\nexcept ValueError as error:\n    print(error)\n"
    result = run(tmp_path, MODEL + code)
    assert "acme.squared_relu" in result.stdout, result.stderr


def test_what_cannot_be_used_is_left_out_with_one_warning_that_names_its_package(tmp_path: Path) -> None:
    entries = {"aten.relu": "RELU", "bolt.bare": "BARE", "bolt.another": "OTHER", "plain": "OTHER", "bolt.none": "NONE"}
    entries["bolt.ufunc"] = "UFUNC"
    lay_package(tmp_path, "bolt-operators", BAD, {"sta.operators": entries})
    lay_package(tmp_path, "crash-operators", "raise RuntimeError('no licence')", {"sta.operators": {"crash.x": "X"}})
    code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from sta.dialect.torch import operator_class
    from sta.spec.operators.registry import operators
    operators()
for warning in caught:
    print(warning.message)
assert operators()["aten.relu"].reference(-1.0) == 0.0
assert operator_class("aten.relu").name == "torch.aten.relu"
assert "bolt.bare" not in operators() and "crash.x" not in operators()
"""
    result = run(tmp_path, code)
    assert result.returncode == 0, result.stderr
    bolt = "of package bolt-operators"
    assert sorted(result.stdout.splitlines()) == [
        f"operator 'aten.relu' {bolt}: the toolchain has one of this name; it is left out",
        f"operator 'bolt.another' {bolt}: bolt_operators:OTHER: its row is that of 'bolt.other': the entry point must "
        "have the operator's name; it is left out",
        f"operator 'bolt.bare' {bolt}: bolt_operators:BARE: it has no reference: give it the function on float64 "
        "arrays; it is left out",
        f"operator 'bolt.none' {bolt}: loading bolt_operators:NONE failed (AttributeError: module 'bolt_operators' has "
        "no attribute 'NONE'); it is left out",
        f"operator 'bolt.ufunc' {bolt}: bolt_operators:UFUNC: its reference takes where, casting, order, dtype, subok, "
        "signature by keyword: give it a function of the array and the operator's arguments; it is left out",
        "operator 'crash.x' of package crash-operators: loading crash_operators:X failed (RuntimeError: no licence); "
        "it is left out",
        f"operator 'plain' {bolt}: bolt_operators:OTHER: its name must be that of an operator: namespace.operator, or "
        "namespace.operator.overload; it is left out",
    ]
