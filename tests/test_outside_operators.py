"""Operators of other packages: the whole toolchain has them, and those that cannot be used leave the rest as it is."""

import subprocess
import sys
from pathlib import Path

from tests.support.packages import lay_package

ROWS = '''
import numpy as np
from sta.dialect import torch as dialect
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
import math
import numpy as np
from sta.spec.operators.elementwise import elementwise
from sta.spec.operators.operator import Onnx, Operator, Role

RELU = elementwise("aten.relu", np.abs, "another relu", curvature=0.0)
BARE = Operator("bolt.bare", Role.ELEMENTWISE)
FLAT = Operator("bolt.flat", Role.ELEMENTWISE, reference=np.abs)
UFUNC = elementwise("bolt.ufunc", np.arctan, "arctan", curvature=0.0)
OTHER = elementwise("bolt.other", np.abs, "abs", curvature=0.0)
NUMBER = elementwise("bolt.number", 3, "a number", curvature=0.0)
SCALAR = elementwise("bolt.scalar", lambda x: x.sum(), "a sum", curvature=0.0)
PLAIN = elementwise("bolt.plain", lambda x: math.atan(x), "math.atan", curvature=0.0)
ASKS = elementwise("bolt.asks", lambda x, slope: slope * x, "no example", curvature=0.0)
NORM = Operator("bolt.norm", Role.NORM, "a norm", reference=lambda x: x)
PARTLESS = Operator("bolt.partless", Role.COMPOSITION, "without parts", reference=lambda x: x)
TANH = elementwise("bolt.tanh", lambda x: np.tanh(x), "tanh", onnx=Onnx("Tanh"), curvature=0.0)
CELU = elementwise("bolt.celu", lambda x: x, "celu", onnx=Onnx("Shrink"), curvature=0.0)
SELU = elementwise("bolt.selu", lambda x: x, "celu, too", onnx=Onnx("Shrink"), curvature=0.0)
LEAKY = elementwise(
    "bolt.leaky",
    lambda x, slope=0.01: np.where(x < 0, slope * x, x),
    "leaky",
    onnx=Onnx("ThresholdedRelu"),
    curvature=0.0,
)
GEMM = elementwise("bolt.gemm", lambda x: x, "a product", onnx=Onnx("Gemm"), curvature=0.0)
TWICE = elementwise("both.twice", lambda x: 2 * x, "twice", curvature=0.0)
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
    entries |= {
        f"bolt.{name.lower()}": name
        for name in "FLAT UFUNC NUMBER SCALAR PLAIN ASKS NORM PARTLESS TANH CELU SELU LEAKY GEMM".split()
    }
    entries["both.twice"] = "TWICE"
    lay_package(tmp_path, "nut-operators", BAD, {"sta.operators": {"both.twice": "TWICE"}})
    lay_package(tmp_path, "bolt-operators", BAD, {"sta.operators": entries})
    lay_package(tmp_path, "crash-operators", "raise RuntimeError('no licence')", {"sta.operators": {"crash.x": "X"}})
    code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from sta.dialect.torch import operator_class
    from sta.frontend.onnx.operators import onnx_operators
    from sta.spec.operators.registry import operators
    assert dict(onnx_operators())["Gemm"] != "`bolt.gemm`"
for warning in caught:
    print(warning.message)
assert operators()["aten.relu"].reference(-1.0) == 0.0
assert operator_class("aten.relu").name == "torch.aten.relu"
assert [name for name in operators() if not name.startswith(("aten.", "prims."))] == ["bolt.gemm"]
"""
    result = run(tmp_path, code)
    assert result.returncode == 0, result.stderr
    found = sorted(result.stdout.splitlines())
    assert len(found) == len(WARNINGS)
    for line, (name, package, reason) in zip(found, WARNINGS, strict=True):
        assert line.startswith(f"operator {name!r} of package {package}-operators: "), line
        assert reason in line


WARNINGS = [
    ("aten.relu", "bolt", ": the toolchain has one of this name; it is left out"),
    (
        "bolt.another",
        "bolt",
        "its row is that of 'bolt.other': the entry point must have the operator's name; it is left",
    ),
    ("bolt.asks", "bolt", ":ASKS: its reference fails on the array [-1.0, 0.0, 1.0] (TypeError: "),
    ("bolt.bare", "bolt", ":BARE: it has no reference: give it the function on float64 arrays; it is left out"),
    ("bolt.celu", "bolt", "its ONNX operator 'Shrink' is that of 'bolt.selu' too; both are left out"),
    ("bolt.flat", "bolt", ":FLAT: its curvature is inf: give it the largest magnitude of its second derivative, which"),
    ("bolt.gemm", "bolt", "ONNX operator 'Gemm' has another translation, which is used"),
    (
        "bolt.leaky",
        "bolt",
        ":LEAKY: its ONNX operator 'ThresholdedRelu' gives 0 arguments after the tensor, and its reference takes 1",
    ),
    (
        "bolt.none",
        "bolt",
        ": loading bolt_operators:NONE failed (AttributeError: module 'bolt_operators' has no attribute",
    ),
    (
        "bolt.norm",
        "bolt",
        ":NORM: its role is NORM: packages can add functions of each element (ELEMENTWISE), operators ",
    ),
    ("bolt.number", "bolt", ":NUMBER: it has no reference: give it the function on float64 arrays; it is left out"),
    ("bolt.partless", "bolt", ":PARTLESS: it has no parts: give it the function of PyTorch tensors that calls other"),
    ("bolt.plain", "bolt", ":PLAIN: its reference fails on the array [-1.0, 0.0, 1.0] (TypeError: "),
    ("bolt.scalar", "bolt", ":SCALAR: its reference makes float64[] of float64[3]; it is left out"),
    ("bolt.selu", "bolt", "its ONNX operator 'Shrink' is that of 'bolt.celu' too; both are left out"),
    ("bolt.tanh", "bolt", ":TANH: its ONNX operator 'Tanh' is that of 'aten.tanh'; it is left out"),
    (
        "bolt.ufunc",
        "bolt",
        ":UFUNC: its reference takes where, casting, order, dtype, subok, signature by keyword: give",
    ),
    (
        "both.twice",
        "bolt",
        ": package nut-operators adds one of this name too: uninstall one of them; both are left out",
    ),
    ("crash.x", "crash", ": loading crash_operators:X failed (RuntimeError: no licence); it is left out"),
    (
        "plain",
        "bolt",
        "its name must be that of an operator: namespace.operator, or namespace.operator.overload; it is",
    ),
]
"""Of each row that cannot be used, or not whole: its name, its package, and what the warning says."""


COMPOSED = """
from sta.dialect import torch as dialect
from sta.passes.pipeline import pipeline
from sta.spec.operators.elementwise import elementwise, pointwise
from sta.spec.operators.operator import Operator, Role

def glu(x, dim=-1):
    import torch
    first, second = x.chunk(2, dim)
    return first * torch.sigmoid(second)

def attend(q, k, v):
    import torch
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

GLU = Operator("aten.glu", Role.COMPOSITION, "first half times sigmoid of the second", parts=glu)
ATTEND = Operator("acme.attend", Role.COMPOSITION, "causal attention", parts=attend)
FAILS = Operator("acme.fails", Role.COMPOSITION, "a mistake", parts=lambda x: x.no_such_method())
TWO = elementwise("acme.two", lambda x: x, "has a row of too few arguments", curvature=0.0)
STEEP = elementwise("acme.steep", pointwise(lambda x: 0.0 if x < 2 else 1 / (x - x)), "a pole", curvature=0.0)
"""

COMPOSES = """
import numpy as np
import sta
import torch
from torch import nn
from sta.api.compiler.compilation import compile_model
from sta.api.inspect.operators_page import page

def register(name, schema, function):
    torch.library.define(name, schema)
    torch.library.impl(name, "CompositeExplicitAutograd", function)

def attend(q, k, v):
    return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

register("acme::attend", "(Tensor q, Tensor k, Tensor v) -> Tensor", attend)
register("acme::fails", "(Tensor x) -> Tensor", lambda x: x + 1)
register("acme::two", "(Tensor x, float slope) -> Tensor", lambda x, slope: slope * x)
register("acme::steep", "(Tensor x) -> Tensor", lambda x: x + 1)

class Model(nn.Module):
    def __init__(self, operator):
        super().__init__()
        self.operator, self.first, self.last = operator, nn.Linear(8, 16), nn.Linear(8, 8)
    def forward(self, x):
        return self.last(self.operator(self.first(x)))

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.packed = nn.Linear(8, 24)
    def forward(self, x):
        parts = self.packed(x).view(1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        return torch.ops.acme.attend(*parts).transpose(1, 2).reshape(1, 5, 8)

torch.manual_seed(0)
x = np.random.default_rng(0).normal(size=(1, 5, 8)).astype(np.float32)
for model in (Model(lambda x: nn.functional.glu(x, -1)), Attention()):
    compiled = compile_model(model.eval(), {"x": x}, calibration={"x": x[None]}, check=True)
    expected = model(torch.tensor(x)).detach().numpy()
    assert np.abs(compiled.program.run({"x": x}).outputs["output"] - expected).max() < 0.05
    paths = {row.module_path for row in compiled.program.profile().rows}
    print(sorted(paths))
assert "| `acme.attend` | causal attention |" in page()
for name in ("fails", "two", "steep"):
    operator = getattr(torch.ops.acme, name)
    call = (lambda x: operator(x, 2.0)[..., :8]) if name == "two" else (lambda x: operator(x)[..., :8])
    try:
        sta.compile(Model(call).eval(), {"x": 9 * x}, calibration={"x": 9 * x[None]})
    except ValueError as error:
        print(error)
"""


def test_an_operator_that_is_made_of_others_is_compiled_as_they_are(tmp_path: Path) -> None:
    names = {
        "aten.glu": "GLU",
        "acme.attend": "ATTEND",
        "acme.fails": "FAILS",
        "acme.two": "TWO",
        "acme.steep": "STEEP",
    }
    lay_package(tmp_path, "acme-operators", COMPOSED, {"sta.operators": names})
    result = run(tmp_path, COMPOSES)
    assert result.returncode == 0, result.stderr
    glu, attention, fails, two, steep = result.stdout.splitlines()
    assert "'first'" in glu
    assert "'packed'" in attention
    package = "of package acme-operators: "
    assert fails.startswith(f"operator 'acme.fails' {package}its parts fail (AttributeError: ")
    assert two.startswith(f"operator 'acme.two' {package}its row does not fit a model: takes 0 arguments beside its")
    assert steep.startswith("forward: acme.steep has no value there (ZeroDivisionError: ")


HARD = """
import numpy as np
from sta.spec.operators.elementwise import elementwise
from sta.spec.operators.operator import Onnx

HARD = elementwise(
    "aten.sinc",
    lambda x: np.sinc(x),
    "sin(pi * x) / (pi * x)",
    onnx=Onnx("Shrink"),
    curvature=3.3,
)
"""


def test_a_node_with_an_attribute_that_its_row_does_not_name_is_refused(tmp_path: Path) -> None:
    lay_package(tmp_path, "hard-operators", HARD, {"sta.operators": {"aten.sinc": "HARD"}})
    code = """
import sta
from onnx import TensorProto, helper, save

def compiled(**attributes):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [5, 8]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Shrink", ["x"], ["y"], "hard", **attributes)], "main", [x], [y])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), PATH)
    return sta.compile(PATH, calibration={"x": [[[0.5] * 8] * 5]})

assert compiled().cycles > 0
try:
    compiled(lambd=0.3)
except ValueError as error:
    print(error)
"""
    result = run(tmp_path, f"PATH = {str(tmp_path / 'model.onnx')!r}\n{code}")
    assert result.returncode == 0, result.stderr
    assert "onnx.Shrink in hard: its attribute lambd = 0.3" in result.stdout
