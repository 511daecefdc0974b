"""
Masks, broadcasts and attributes drawn at random: each is right, against PyTorch or onnxruntime, or refused with a word.

`python -m tests.oracles.float_cases --cases 10000` prints how many were right and how many refused, and ends with an
error if one was wrong. What is compared is the module behind the float passes, as its interpreter runs it: what becomes
of it on the machine is compared elsewhere.
"""
# pyright: basic
# onnx and onnxruntime have no types that pyright could check.

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as attend

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.model_errors import UnsupportedOperationsError
from sta.frontend.model import ImportedModel, import_model
from sta.passes.quantization.mask_depth import MaskDepths
from sta.passes.torch.check_supported import check_supported
from sta.passes.torch.fold_quantization import QuantizationError, fold_quantization
from tests.support.torch_modules import FLOAT_PASSES

BATCH, HEADS, ROWS, WIDTH = 2, 2, 5, 4
LEAST = torch.finfo(torch.float32).min
FEWEST_DECIBELS = 60.0
FEWEST_ROUNDED = 20.0
"""A number next to a tie may be rounded to its neighbour."""

Make = Callable[[Tensor], Tensor]
"""The bool mask [batch or 1, 1, rows, keys] that is made of an input [batch, keys]."""


@dataclass
class Tally:
    """Outcomes of the cases."""

    right: int = 0
    refused: int = 0
    invalid: int = 0
    """Models that PyTorch or onnxruntime does not run."""
    wrong: list[str] = field(default_factory=list)

    def judge(self, case: str, reference: Any, result: Any, fewest: float) -> None:
        """Counts a case that was not refused."""
        if reference.shape == result.shape and _decibels(reference, result) >= fewest:
            self.right += 1
        else:
            self.wrong.append(case)

    @property
    def cases(self) -> int:
        """Number of the cases."""
        return self.right + self.refused + self.invalid + len(self.wrong)


def _decibels(reference: Any, result: Any) -> float:
    noise = float(np.square(reference.astype(np.float64) - result).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    return float("inf") if noise == 0 else 10 * np.log10(signal / noise) if signal else -float("inf")


# --- Masks, and constants of PyTorch ---


class Mask(nn.Module):
    """Attention whose mask is drawn: an expression of an input and constants, and how it is applied."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self.text, self.make = _expression(draw, 3)
        self.number = draw.choice([-1e9, LEAST, float("-inf"), -1e4, -100.0, -30.0, -10.0])
        self.form = draw.choice(["bool", "chosen", "filled", "product", "spelled add", "spelled fill", "spelled where"])
        self.gain = draw.choice([1.0, 1.0, 4.0, 40.0])

    def extra_repr(self) -> str:
        return f"{self.text}, {self.form} {self.number:g}, gain {self.gain}"

    def admitted(self, m: Tensor) -> Tensor:
        """The keys that count."""
        return self.make(m).expand(BATCH, HEADS, ROWS, ROWS)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        query, mask = x * self.gain, self.make(m)
        scores = query @ x.mT / WIDTH**0.5
        match self.form:
            case "bool":
                return attend(query, x, x, attn_mask=mask)
            case "chosen":
                return attend(query, x, x, attn_mask=torch.where(mask, 0.0, self.number))
            case "filled":
                added = torch.zeros(BATCH, HEADS, ROWS, ROWS).masked_fill(~mask, self.number)
                return attend(query, x, x, attn_mask=added)
            case "product":
                added = (1.0 - mask.float()) * max(self.number, LEAST)
                return attend(query, x, x, attn_mask=added)
            case "spelled add":
                return (scores + torch.where(mask, 0.0, self.number)).softmax(-1) @ x
            case "spelled fill":
                return scores.masked_fill(~mask, self.number).softmax(-1) @ x
            case _:
                return torch.where(mask, scores, self.number).softmax(-1) @ x


def _expression(draw: random.Random, depth: int) -> tuple[str, Make]:
    """A mask, and its text."""
    if depth == 0 or draw.random() < 0.25:
        return _atom(draw)
    (first, left), (second, right) = (_expression(draw, depth - 1) for _ in range(2))
    condition, choose = _expression(draw, 0)
    return draw.choice(
        [
            (f"({first} & {second})", lambda m: left(m) & right(m)),
            (f"({first} | {second})", lambda m: left(m) | right(m)),
            (f"({first} == {second})", lambda m: left(m) == right(m)),
            (f"({first} * {second})", lambda m: (left(m).long() * right(m).long()).bool()),
            (f"({first} + {second} > 1)", lambda m: left(m).long() + right(m).long() > 1),
            (f"~{first}", lambda m: ~left(m)),
            (f"where({condition}, {first}, {second})", lambda m: torch.where(choose(m), left(m), right(m))),
            (
                f"{first}.fill({condition})",
                lambda m: left(m).expand(BATCH, HEADS, ROWS, ROWS).masked_fill(choose(m), True),
            ),
        ]
    )


_KEY: Make = lambda m: m[:, None, None, :]  # noqa: E731 - a row of the table below
_ROW: Make = lambda m: m[:, None, :, None]  # noqa: E731


def _atom(draw: random.Random) -> tuple[str, Make]:
    number = draw.randrange(3)
    sizes = draw.choice(
        [(ROWS,), (ROWS, 1), (ROWS, ROWS), (1, 1, ROWS, ROWS), (BATCH, 1, 1, ROWS), (1, HEADS, ROWS, 1)]
    )
    constant = torch.rand(sizes, generator=torch.Generator().manual_seed(draw.randrange(1 << 30))) < 0.8
    triangle = torch.ones(ROWS, ROWS).tril().bool()
    return draw.choice(
        [
            ("keys != 0", lambda m: _KEY(m) != 0),
            ("keys", lambda m: _KEY(m).bool()),
            ("keys == 0", lambda m: _KEY(m) == 0),
            (f"keys == {number}", lambda m: _KEY(m).long() == number),
            (f"keys < {number}", lambda m: _KEY(m).long() < number),
            ("rows", lambda m: _ROW(m).bool()),
            ("keys == rows", lambda m: _KEY(m) == _ROW(m)),
            ("keys <= rows", lambda m: _KEY(m).long() <= _ROW(m).long()),
            ("keys * rows", lambda m: (_KEY(m).long() * _ROW(m).long()) > 0),
            ("first key", lambda m: _KEY(m)[..., :1].bool()),
            ("triangle", lambda m: triangle),
            ("triangle", lambda m: triangle),
            ("everything", lambda m: torch.ones(ROWS, ROWS).bool()),
            (f"constant {list(sizes)}", lambda m: constant),
        ]
    )


class Constants(nn.Module):
    """Sums and products with constants of any shape and type."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self.steps: list[tuple[str, Tensor, float]] = []
        for _ in range(draw.randint(1, 3)):
            axes = (BATCH, HEADS, ROWS, WIDTH)[draw.randrange(5) :]
            sizes = [draw.choice([1, size]) for size in axes]
            numbers = torch.randn(sizes, generator=torch.Generator().manual_seed(draw.randrange(1 << 30))) * 3
            dtype = draw.choice([torch.float32, torch.int64, torch.int8, torch.bool])
            self.steps.append((draw.choice(["add", "mul", "radd", "rmul", "alpha"]), numbers.to(dtype), 2.0))

    def extra_repr(self) -> str:
        return ", ".join(f"{kind} {one.dtype} {list(one.shape)}" for kind, one, _ in self.steps)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        for kind, constant, factor in self.steps:
            match kind:
                case "add":
                    x = x + constant
                case "radd":
                    x = constant + x
                case "mul":
                    x = x * constant
                case "rmul":
                    x = constant * x
                case _:
                    x = torch.add(x, constant, alpha=factor) if constant.dtype == torch.float32 else x + constant
        return x


class Cases(nn.Module):
    """Many cases in one model, so that it is exported once: the module path of an operation is that of its case."""

    def __init__(self, cases: list[nn.Module]) -> None:
        super().__init__()
        self.cases = nn.ModuleList(cases)

    def forward(self, x: Tensor, m: Tensor) -> tuple[Tensor, ...]:
        return tuple(case(x, m) for case in self.cases)


def judge_pytorch(draw: random.Random, count: int, tally: Tally) -> None:
    """Judges `count` cases of PyTorch, which are one model."""
    numbers = np.random.default_rng(draw.randrange(1 << 30))
    is_bool = draw.random() < 0.5
    samples = [drawn_sample(numbers, is_bool) for _ in range(3)]
    drawn: list[nn.Module] = [draw.choice([Mask, Mask, Mask, Constants])(draw) for _ in range(count)]
    cases = [case for case in drawn if _runs(case, samples[0])]
    tally.invalid += count - len(cases)
    model = Cases(cases).eval()
    imported = import_model(model, {name: torch.from_numpy(array) for name, array in samples[0].items()})
    for rewrite in FLOAT_PASSES:
        rewrite(imported.module, imported.weights)
    refused = _refused(imported, samples)
    for index, case in enumerate(cases):
        if index in refused:
            tally.refused += 1
            continue
        expected, found = (
            np.stack([part for sample in samples for part in run(sample, index)])
            for run in (
                lambda sample, i: _by_pytorch(cases[i], sample),
                lambda sample, i: _by_ours(imported, sample, i),
            )
        )
        counts = np.stack([part for sample in samples for part in counted_rows(case, sample)])
        tally.judge(repr(case), expected[counts], found[counts], FEWEST_DECIBELS)


def drawn_sample(numbers: Any, is_bool: bool) -> dict[str, Any]:
    """An input of the cases, and its mask."""
    x = numbers.normal(size=(BATCH, HEADS, ROWS, WIDTH)).astype(np.float32)
    m = numbers.integers(0, 2, (BATCH, ROWS))
    return {"x": x, "m": m.astype(bool) if is_bool else m}


def _runs(case: nn.Module, sample: dict[str, Any]) -> bool:
    """True if shapes fit, and the result has the shape of the input."""
    try:
        return _by_pytorch(case, sample).shape == sample["x"].shape
    except (RuntimeError, IndexError):
        return False


def _by_pytorch(case: nn.Module, sample: dict[str, Any]) -> Any:
    with torch.no_grad():
        return case(torch.from_numpy(sample["x"]), torch.from_numpy(sample["m"])).numpy()


def _by_ours(imported: ImportedModel, sample: dict[str, Any], index: int) -> Any:
    given = {name: sample[name] for name in imported.input_names}
    return list(run_torch(imported.module, CompileContext(imported.weights), given).values())[index]


def counted_rows(case: nn.Module, sample: dict[str, Any]) -> Any:
    """The rows to be compared: an input may leave a row without a key, where PyTorch has no zero (docs/numerics.md)."""
    if not isinstance(case, Mask):
        return np.ones((BATCH, HEADS, ROWS), np.bool_)
    m = torch.from_numpy(sample["m"])
    has_key = case.admitted(m).any(-1)
    # Those that no input can give a key count.
    every = [torch.tensor(bits, dtype=m.dtype).expand(BATCH, ROWS) for bits in _bits()]
    ever = torch.stack([case.admitted(one).any(-1) for one in every]).any(0)
    return (has_key | ~ever).numpy()


def _bits() -> Iterator[list[int]]:
    return ([number >> place & 1 for place in range(ROWS)] for number in range(1 << ROWS))


def _refused(imported: ImportedModel, samples: list[dict[str, Any]]) -> set[int]:
    """The cases that the compiler refuses, with a reason: by their form, or by the scores of the samples."""
    errors: list[UnsupportedOperationsError] = []
    try:
        check_supported(imported.module)
    except UnsupportedOperationsError as error:
        errors.append(error)
    depths = MaskDepths()

    def observe(value: Any, result: Any, operands: Any) -> None:
        if isinstance(value.owner, dialect.ScaledDotProductAttentionOp):
            query, key, _, mask, _, causal, scale, *_ = operands
            depths.update(value.owner, query, key, mask, causal, WIDTH**-0.5 if scale is None else scale)

    for sample in samples:
        given = {name: sample[name] for name in imported.input_names}
        run_torch(imported.module, CompileContext(imported.weights), given, observe)
    try:
        depths.check()
    except UnsupportedOperationsError as error:
        errors.append(error)
    paths = [one.module_path for error in errors for one in error.operations]
    return {int(path.split(".")[1].split(" ")[0]) for path in paths if path.startswith("cases.")}


# --- ONNX ---


class Graph:
    """A chain of nodes, drawn."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.numbers = np.random.default_rng(draw.randrange(1 << 30))
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.sizes = [draw.choice([1, 2, 4]) for _ in range(draw.randint(1, 3))] + [4]
        self.first = list(self.sizes)
        self.rounds = False

    def constant(self, array: Any) -> str:
        """A constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def normal(self, *sizes: int) -> str:
        """A float constant of these sizes."""
        return self.constant(self.numbers.normal(size=sizes).astype(np.float32))

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node behind the last one."""
        names = [f"v{len(self.nodes)}_{index}" for index in range(outputs)]
        source = f"{self.nodes[-1].output[-1]}" if self.nodes else "x"
        node: Any = helper.make_node(kind, [source, *inputs], names, **_given(**attributes))
        node.name = f"n{len(self.nodes)}"
        self.nodes.append(node)
        return names[-1]

    def shape(self) -> list[int]:
        """The shape of a constant that may broadcast to the value."""
        sizes = [self.draw.choice([1, size]) for size in self.sizes]
        return sizes[self.draw.randrange(len(sizes) + 1) :]

    def axis(self) -> int:
        """An axis of the value, from either end."""
        return self.draw.randrange(-len(self.sizes), len(self.sizes))

    def maybe(self, *values: Any) -> Any:
        """One of `values`, or no attribute."""
        return self.draw.choice([None, *values])


def _given(**attributes: Any) -> dict[str, Any]:
    """The attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}


def _gemm(graph: Graph) -> None:
    inner, outer = graph.sizes[-1], graph.draw.choice([1, 2, 4])
    transposed = graph.maybe(0, 1)
    weight = graph.normal(*((outer, inner) if transposed else (inner, outer)))
    rows = graph.sizes[0]
    shape = graph.draw.choice([(), (1,), (outer,), (1, outer), (rows, 1), (rows, outer), (1, 1), (rows,)])
    bias = [graph.normal(*shape)] if graph.draw.random() < 0.8 else []
    rare = graph.draw.random() < 0.2
    others = {"alpha": graph.maybe(0.5), "beta": graph.maybe(0.5), "transA": graph.maybe(0, 1)} if rare else {}
    graph.add("Gemm", weight, *bias, transB=transposed, **others)
    graph.sizes[-1] = outer


def _matmul(graph: Graph) -> None:
    outer = graph.draw.choice([1, 2, 4])
    graph.add("MatMul", graph.normal(graph.sizes[-1], outer))
    graph.sizes[-1] = outer


def _binary(graph: Graph) -> None:
    graph.add(graph.draw.choice(["Add", "Mul", "Div"]), graph.normal(*graph.shape()))


def _norm(graph: Graph) -> None:
    operands = [graph.normal(*graph.shape()) for _ in range(graph.draw.randint(1, 2))]
    axis = graph.maybe(-1, len(graph.sizes) - 1, 0)
    graph.add("LayerNormalization", *operands, axis=axis, epsilon=graph.maybe(0.5), stash_type=graph.maybe(1, 10))


def _elementwise(graph: Graph) -> None:
    kind = graph.draw.choice(["Gelu", "Relu", "Tanh", "Sigmoid", "HardSwish", "Identity"])
    graph.add(kind, **({"approximate": graph.maybe("none", "tanh")} if kind == "Gelu" else {}))


def _moved(graph: Graph) -> None:
    order = list(range(len(graph.sizes)))
    graph.draw.shuffle(order)
    given = graph.maybe(order)
    graph.add("Transpose", perm=given)
    order = given or list(reversed(range(len(graph.sizes))))
    graph.sizes = [graph.sizes[axis] for axis in order]


def _reshaped(graph: Graph) -> None:
    sizes = graph.draw.choice([[-1], [0, -1], [-1, graph.sizes[-1]], [1, *graph.sizes], graph.sizes[::-1]])
    graph.add("Reshape", graph.constant(np.array(sizes)), allowzero=graph.maybe(0, 1))
    filled = [
        graph.sizes[place] if size == 0 and place < len(graph.sizes) else size for place, size in enumerate(sizes)
    ]
    rest = int(np.prod([size for size in filled if size > 0]))
    graph.sizes = [int(np.prod(graph.sizes)) // max(rest, 1) if size == -1 else size for size in filled]


def _flattened(graph: Graph) -> None:
    axis = graph.maybe(graph.axis(), len(graph.sizes))
    graph.add("Flatten", axis=axis)
    place = 1 if axis is None else axis
    graph.sizes = [int(np.prod(graph.sizes[:place])), int(np.prod(graph.sizes[place:]))]


def _sliced(graph: Graph) -> None:
    axis, step = graph.axis(), graph.draw.choice([1, 1, 1, 2, -1])
    start, end = (graph.draw.choice([-9, -2, -1, 0, 1, 3, 99]) for _ in range(2))
    graph.add("Slice", *(graph.constant(np.array([number])) for number in (start, end, axis, step)))
    graph.sizes[axis] = len(range(graph.sizes[axis])[start:end:step])


def _split(graph: Graph) -> None:
    axis, count = graph.axis(), graph.draw.choice([1, 2, 3])
    size = graph.sizes[axis]
    if graph.draw.random() < 0.5:
        lengths = [size // count] * (count - 1)
        lengths.append(size - sum(lengths))
        graph.add("Split", graph.constant(np.array(lengths)), outputs=count, axis=graph.draw.choice([axis]))
        graph.sizes[axis] = lengths[-1]
        return
    graph.add("Split", outputs=count, axis=axis, num_outputs=graph.draw.choice([count, count, count + 1]))
    part = -(-size // count)
    graph.sizes[axis] = max(size - part * (count - 1), 0)


def _gathered(graph: Graph) -> None:
    axis = graph.axis()
    index = graph.draw.choice([0, -1, 1, 3, 7, -7])
    graph.add("Gather", graph.constant(graph.draw.choice([np.array(index), np.array([index])])), axis=axis)
    graph.sizes[axis] = 1


def _widened(graph: Graph) -> None:
    graph.add("Unsqueeze", graph.constant(np.array([graph.draw.choice([0, -1, 1])])))


def _rounded(graph: Graph) -> None:
    kind = graph.draw.choice(["INT8", "UINT8", "INT16", "UINT16", ""])
    dtype = {"INT8": np.int8, "INT16": np.int16, "UINT16": np.uint16}.get(kind, np.uint8)
    scale = graph.constant(np.full(graph.draw.choice([(), (1,)]), 0.05, np.float32))
    zero = [graph.constant(np.full(graph.constants[scale].shape, 0, dtype))] if graph.draw.random() < 0.4 else []
    named = getattr(TensorProto, kind) if kind and (not zero or graph.draw.random() < 0.5) else None
    axis, block = graph.maybe(0, 1), graph.draw.choice([None, None, 0, 2])
    graph.add("QuantizeLinear", scale, *zero, output_dtype=named, axis=axis, block_size=block)
    graph.add("DequantizeLinear", scale, *zero, axis=graph.maybe(0, 1))
    graph.rounds = True
    if graph.draw.random() < 0.7:
        _integer_product(graph)


def _integer_product(graph: Graph) -> None:
    """A product with a weight of integers, whose scales may belong to either axis."""
    inner, outer = graph.sizes[-1], graph.draw.choice([2, 4])
    integers = graph.constant(graph.numbers.integers(-127, 128, (inner, outer)).astype(np.int8))
    axis = graph.maybe(0, 1)
    count = graph.draw.choice([1, inner if axis == 0 else outer])
    scales = graph.constant(graph.numbers.uniform(0.01, 0.1, count if count > 1 else ()).astype(np.float32))
    source, name = graph.nodes[-1].output[-1], f"w{len(graph.nodes)}"
    graph.nodes.append(helper.make_node("DequantizeLinear", [integers, scales], [name], **_given(axis=axis)))
    graph.nodes.append(
        helper.make_node("MatMul", [source, name], [f"p{len(graph.nodes)}"], name=f"n{len(graph.nodes)}")
    )
    graph.sizes[-1] = outer


_NODES = (
    _gemm,
    _gemm,
    _matmul,
    _binary,
    _binary,
    _norm,
    _norm,
    _elementwise,
    _moved,
    _reshaped,
    _flattened,
    _sliced,
    _split,
    _gathered,
    _widened,
    _rounded,
    _rounded,
)


def judge_onnx(draw: random.Random, folder: Path, tally: Tally) -> None:
    """Judges one ONNX model, which is written into `folder`."""
    graph = Graph(draw)
    for _ in range(draw.randint(1, 3)):
        draw.choice(_NODES)(graph)
    x = graph.numbers.normal(size=graph.first).astype(np.float32)
    path = _saved(graph, folder / "case.onnx")
    reference = _by_onnxruntime(path, x)
    if reference is None or reference.size == 0:
        tally.invalid += 1
        return
    try:
        imported = import_model(path)
        for rewrite in (fold_quantization, *FLOAT_PASSES):
            rewrite(imported.module, imported.weights)
        check_supported(imported.module)
    except (UnsupportedOperationsError, QuantizationError):
        tally.refused += 1
        return
    except ValueError as error:
        if not str(error).startswith(("Gemm node", "LayerNormalization node", "QuantizeLinear node", "Split node")):
            raise
        tally.refused += 1
        return
    (result,) = run_torch(imported.module, CompileContext(imported.weights), {"x": x}).values()
    text = "; ".join(str(helper.printable_node(node)) for node in graph.nodes)
    fewest = FEWEST_ROUNDED if graph.rounds else FEWEST_DECIBELS
    tally.judge(f"{graph.first}: {text}", reference, result, fewest)


def _saved(graph: Graph, path: Path) -> Path:
    value, last = helper.make_tensor_value_info, graph.nodes[-1].output[-1]
    made = helper.make_graph(
        graph.nodes,
        "case",
        [value("x", TensorProto.FLOAT, graph.first)],
        [value(last, TensorProto.FLOAT, [])],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    # The number of axes is what the nodes make it.
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    found = [one for one in (*inferred.graph.value_info, *inferred.graph.output) if one.name == last]
    ranks = [len(one.type.tensor_type.shape.dim) for one in found if one.type.tensor_type.HasField("shape")]
    model.graph.output[0].CopyFrom(
        value(last, TensorProto.FLOAT, [f"s{axis}" for axis in range(max(ranks, default=0))])
    )
    onnx.save(model, path)
    return path


def _by_onnxruntime(path: Path, x: Any) -> Any:
    """Outputs of onnxruntime for the model; None if it refuses it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        return np.asarray(onnxruntime.InferenceSession(path, options).run(None, {"x": x})[0])
    except Exception:  # whatever it raises for what is no model
        return None


def judged(seed: int, cases: int, report: Callable[[Tally], None] = lambda tally: None) -> Tally:
    """Outcomes of at least `cases` cases, half of them of each kind."""
    draw, tally = random.Random(seed), Tally()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        while tally.cases < cases:
            judge_pytorch(draw, 16, tally)
            for _ in range(16):
                judge_onnx(draw, Path(folder), tally)
            report(tally)
    return tally


def main() -> int:
    """Judges as many cases as are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    def report(tally: Tally) -> None:
        print(f"\r{tally.cases} cases", end="", file=sys.stderr, flush=True)

    tally = judged(arguments.seed, arguments.cases, report)
    print(f"\n{tally.right} right, {tally.refused} refused, {tally.invalid} no model, {len(tally.wrong)} wrong")
    print("\n".join(tally.wrong))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
