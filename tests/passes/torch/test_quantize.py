"""Quantization: formats by the policy, one for each value, and little noise."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from xdsl.ir import BlockArgument, Operation, SSAValue

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import main_function
from sta.dialect.torch import si8, si16
from sta.frontend.model import ImportedModel, import_model
from sta.passes.quantization.calibrate import calibrate
from sta.passes.rewriting.uses_through_views import VIEWS
from sta.passes.torch.quantize import TorchQuantizePass, affine, hoist_roundings, symmetric
from sta.spec.integers import HEADROOM, SMALLEST_RANGE
from sta.spec.norm import EPSILON_LIMIT, quantize_norm_parameters
from tests.support.torch_modules import (
    FLOAT_PASSES,
    encoder,
    outputs_of,
    parse,
    signal_to_noise,
    through_float_passes,
)

PRODUCERS = (
    dialect.LinearOp
    | dialect.AddTensorOp
    | dialect.LayerNormOp
    | dialect.ElementwiseOperation
    | dialect.ScaledDotProductAttentionOp
    | dialect.EmbeddingOp
)


def quantized(model: nn.Module, *inputs: Any, int16_inputs: tuple[str, ...] = ()) -> ImportedModel:
    imported = import_model(model.eval(), inputs)
    context = CompileContext(imported.weights)
    for rewrite in FLOAT_PASSES:
        rewrite(imported.module, context.weights)
    calibrate(imported.module, context, [imported.example_inputs])
    TorchQuantizePass(int16_inputs).apply(context, imported.module)
    imported.module.verify()
    return imported


def source(value: SSAValue) -> SSAValue:
    """Value that `value` rearranges."""
    while isinstance(value.owner, VIEWS):
        value = value.owner.operands[0]
    return value


def rounding(value: SSAValue) -> dialect.FakeQuantizeOp:
    owner = source(value).owner
    assert isinstance(owner, dialect.FakeQuantizeOp), f"{value} is not rounded"
    return owner


def check_contract(imported: ImportedModel) -> None:
    """Checks the assumptions of the conversion to integers."""
    function = main_function(imported.module)
    for argument in function.body.block.args:
        if dialect.tensor_type(argument).is_float and argument.first_use is not None:
            assert [one.storage for one in roundings(argument)] == [si16]
    for operation in function.body.block.ops:
        check_operands(operation)
        if isinstance(operation, PRODUCERS):
            check_result(operation)


def roundings(value: SSAValue) -> list[dialect.FakeQuantizeOp]:
    users = [use.operation for use in value.uses]
    assert all(isinstance(user, dialect.FakeQuantizeOp) for user in users)
    return [user for user in users if isinstance(user, dialect.FakeQuantizeOp)]


def check_result(operation: Operation) -> None:
    """A producer's result is rounded once, directly on it; a linear layer may be added as it is instead."""
    users = [use.operation for use in operation.results[0].uses]
    if isinstance(operation, dialect.LinearOp) and not isinstance(users[0], dialect.FakeQuantizeOp):
        value = operation.results[0]
        while not isinstance(user := next(iter(value.uses)).operation, dialect.AddTensorOp):
            assert value.has_one_use()
            assert isinstance(user, VIEWS)
            value = user.results[0]
        other = user.other if source(user.input) is operation.results[0] else user.input
        assert rounding(other).storage == si16
        return
    assert len(roundings(operation.results[0])) == 1


def check_operands(operation: Operation) -> None:
    if isinstance(operation, dialect.LinearOp):
        assert rounding(operation.input).storage == si8
        assert isinstance(operation.weight.owner, dialect.LiteralOp)
    elif isinstance(operation, dialect.ScaledDotProductAttentionOp):
        for part in (operation.query, operation.key, operation.value):
            assert (rounding(part).storage, rounding(part).zero_point.value.data) == (si8, 0)
    elif isinstance(operation, dialect.AddTensorOp):
        kinds = [source(side).owner for side in (operation.input, operation.other)]
        rounded = [kind for kind in kinds if isinstance(kind, dialect.FakeQuantizeOp)]
        assert rounded
        assert all(kind.storage == si16 for kind in rounded)
    elif isinstance(operation, dialect.LayerNormOp | dialect.ElementwiseOperation):
        assert rounding(operation.operands[0]).storage == si16
    elif operation.name == "func.return":
        assert all(rounding(value).storage == si16 for value in operation.operands)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_encoders_follow_the_contract_with_little_noise(norm_first: bool, activation: str) -> None:
    torch.manual_seed(3)  # pyright: ignore[reportUnknownMemberType]
    model = encoder(norm_first, activation=activation, layers=2)
    inputs = {"src": np.random.default_rng(0).normal(size=(2, 7, 24)).astype(np.float32)}
    imported, context = through_float_passes(model, inputs)
    calibrate(imported.module, context, [inputs])
    TorchQuantizePass().apply(context, imported.module)
    check_contract(imported)
    result = run_torch(imported.module, context, inputs)["output"]
    assert signal_to_noise(outputs_of(model, inputs)["output"], result) > 30


class Stream(nn.Module):
    """A value that both kinds take, and two linear layers that are added."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.left, self.right, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> Any:
        n = self.norm(x)
        both = self.left(n) + self.right(n)
        return both + n, self.last(both[:, :2].transpose(0, 1))


def test_a_value_that_both_kinds_take_is_rounded_twice() -> None:
    imported = quantized(Stream(), torch.randn(2, 4, 6))
    check_contract(imported)
    norm = next(one for one in imported.module.walk() if isinstance(one, dialect.LayerNormOp))
    (primary,) = roundings(norm.result)
    assert primary.storage == si16
    chained = [use.operation for use in primary.result.uses if isinstance(use.operation, dialect.FakeQuantizeOp)]
    assert [one.storage for one in chained] == [si8]
    # One 8-bit value serves both layers.
    assert {type(use.operation) for use in chained[0].result.uses} == {dialect.LinearOp}
    assert len(list(chained[0].result.uses)) == 2


def test_one_of_two_added_linear_layers_stays_in_the_accumulators() -> None:
    imported = quantized(Stream(), torch.randn(2, 4, 6))
    additions = [one for one in imported.module.walk() if isinstance(one, dialect.AddTensorOp)]
    first = next(one for one in additions if isinstance(one.input.owner, dialect.LinearOp))
    assert isinstance(first.other.owner, dialect.FakeQuantizeOp)


def test_a_16_bit_input_is_the_stream_itself() -> None:
    imported = quantized(Stream(), torch.randn(2, 4, 6), int16_inputs=("left", "la*"))
    norm = next(one for one in imported.module.walk() if isinstance(one, dialect.LayerNormOp))
    (primary,) = roundings(norm.result)
    linears = {module_path(one): one for one in imported.module.walk() if isinstance(one, dialect.LinearOp)}
    assert linears["left"].input is primary.result
    assert [rounding(linears[path].input).storage for path in ("left", "right", "last")] == [si16, si8, si16]
    # Nothing but the layer that was not named takes 8 bits.
    narrow = [one for one in imported.module.walk() if isinstance(one, dialect.FakeQuantizeOp) and one.storage == si8]
    assert len(narrow) == 1


def test_a_glob_that_fits_no_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no linear layer has a module path that matches 'lest'; did you mean 'l"):
        quantized(Stream(), torch.randn(2, 4, 6), int16_inputs=("left", "lest"))


class Tables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.offset = nn.Parameter(torch.linspace(-2.0, 1.0, 12).view(3, 4))
        self.query = nn.Parameter(torch.randn(1, 2, 5, 2))

    def forward(self, ids: torch.Tensor) -> Any:
        hidden = self.words(ids) + self.offset
        heads = hidden.view(1, 3, 2, 2).transpose(1, 2)
        return hidden, nn.functional.scaled_dot_product_attention(self.query, heads, heads)


def test_tables_and_constants_have_scales_of_their_own() -> None:
    model = Tables()
    imported = quantized(model, torch.tensor([[1, 2, 3]]))
    check_contract(imported)
    table = next(one for one in imported.module.walk() if isinstance(one, dialect.EmbeddingOp))
    largest = float(model.words.weight.detach().abs().max())
    (rounded,) = roundings(table.result)
    assert (rounded.storage, rounded.scale.value.data) == (si16, np.float32(largest / 32767))
    literals = [one for one in imported.module.walk() if isinstance(one, dialect.LiteralOp)]
    offset = next(one for one in literals if one.resource == "offset")
    assert [one.scale.value.data for one in roundings(offset.result)] == [np.float32(2 / 32767)]
    query = next(one for one in literals if one.resource == "query")
    assert [one.storage for one in roundings(query.result)] == [si8]


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dead = nn.Linear(4, 4)
        nn.init.zeros_(self.dead.weight)
        nn.init.zeros_(self.dead.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.dead(x)) + x


def test_a_value_that_is_always_zero_has_a_valid_scale() -> None:
    imported = quantized(Constant(), torch.ones(2, 4))
    check_contract(imported)
    context = CompileContext(imported.weights)
    np.testing.assert_allclose(run_torch(imported.module, context, imported.example_inputs)["output"], 1, atol=1e-4)


@pytest.mark.parametrize(("width", "eps"), [(3, 1e-5), (3, 1e30), (3, 0.1), (700, 1e-5), (8192, 1.0)])
def test_the_input_of_a_norm_has_a_scale_in_which_epsilon_fits(width: int, eps: float) -> None:
    imported = quantized(nn.LayerNorm(width, eps=eps), torch.zeros(1, width))
    check_contract(imported)
    (primary,) = roundings(main_function(imported.module).body.block.args[0])
    scale = primary.scale.value.data
    ones = np.ones(width)
    _, _, epsilon, _ = quantize_norm_parameters(ones, ones, scale, 1.0, eps, width)
    # No coarser than it has to be.
    assert EPSILON_LIMIT // 4 < epsilon < EPSILON_LIMIT or scale == np.float32(SMALLEST_RANGE / 32767)


def test_a_table_with_a_number_that_no_sample_met() -> None:
    model = Tables()
    model.words.weight.data[8, 0] = float("nan")
    with pytest.raises(ValueError, match=r"^words .*: its table holds numbers that are not finite"):
        quantized(model, torch.tensor([[1, 2, 3]]))


def test_an_uncalibrated_module_is_refused() -> None:
    imported = import_model(nn.Linear(3, 3), (torch.ones(1, 3),))
    with pytest.raises(ValueError, match="calibrate the module before"):
        TorchQuantizePass().apply(CompileContext(imported.weights), imported.module)


class Wide(nn.Module):
    """Nothing but a residual stream of 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(24)

    def forward(self, src: torch.Tensor) -> torch.Tensor:
        return self.norm(src + nn.functional.gelu(src)) + src


def test_what_is_half_as_large_again_as_on_any_sample_does_not_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Wide().eval()
    inputs = {"src": np.random.default_rng(0).normal(size=(2, 7, 24)).astype(np.float32)}
    larger = {"src": 1.5 * inputs["src"]}
    decibels: list[float] = []
    for headroom in (1.0, HEADROOM):
        monkeypatch.setattr("sta.passes.torch.quantize.HEADROOM", headroom)
        imported, context = through_float_passes(model, inputs)
        calibrate(imported.module, context, [inputs])
        TorchQuantizePass().apply(context, imported.module)
        result = run_torch(imported.module, context, larger)["output"]
        decibels.append(signal_to_noise(outputs_of(model, larger)["output"], result))
    assert decibels[0] < 40 < 75 < decibels[1]


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_formats_hold_their_range(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    for storage, limit in ((si8, 127), (si16, 32767)):
        kind = symmetric(storage, low, high)
        assert kind.zero_point == 0
        assert max(abs(low), abs(high)) <= kind.scale * (limit + 0.01)
        assert kind.scale == np.float32(kind.scale)
    kind = affine(low, high)
    assert -128 <= kind.zero_point <= 127
    # Zero is represented exactly; the ends of the range to half a step.
    for number in (low, high, 0.0):
        assert (-128 - kind.zero_point - 0.51) * kind.scale <= number <= (127 - kind.zero_point + 0.51) * kind.scale


def test_inputs_are_rounded_where_they_come_in() -> None:
    imported = quantized(nn.Sequential(nn.Linear(4, 4)), torch.ones(2, 4))
    (argument,) = main_function(imported.module).body.block.args
    assert isinstance(argument, BlockArgument)
    (primary,) = roundings(argument)
    (narrow,) = roundings(primary.result)
    assert (primary.storage, narrow.storage) == (si16, si8)


def test_roundings_behind_rearrangements_are_put_where_the_value_is_made() -> None:
    module = parse("""
    builtin.module {
      func.func @main(%x: !torch.vtensor<[2,3],f32>) -> !torch.vtensor<[3,2],f32> {
        %one = torch.constant.int 1
        %zero = torch.constant.int 0
        %order = torch.prim.ListConstruct %one, %zero : (!torch.int, !torch.int) -> !torch.list<int>
        %y = torch.aten.relu %x : !torch.vtensor<[2,3],f32> -> !torch.vtensor<[2,3],f32>
        %p = torch.aten.permute %y, %order : !torch.vtensor<[2,3],f32>, !torch.list<int> -> !torch.vtensor<[3,2],f32>
        %r = torch.fake_quantize %p to si8 scale 5.000000e-01 zero_point 3 : !torch.vtensor<[3,2],f32>
        func.return %r : !torch.vtensor<[3,2],f32>
      }
    }""")
    hoist_roundings(module)
    module.verify()
    found = [operation for operation in module.walk() if isinstance(operation, dialect.FakeQuantizeOp)]
    assert [type(operation.input.owner) for operation in found] == [dialect.operator_class("aten.relu")]
    assert isinstance(next(iter(found[0].result.uses)).operation, dialect.PermuteOp)
