"""The compile context and module paths."""

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, NameLoc, StringAttr, UnknownLoc

from sta.dialect import torch
from sta.dialect.ir.context import CompileContext, weights_of
from sta.dialect.ir.location import describe, module_path, named, source_line
from tests.support.torch_modules import parse, printed

NAMED_LITERAL = """
func.func @main() -> !torch.vtensor<[2],f32> {
  %0 = torch.vtensor.literal(dense_resource<layer.weight> : tensor<2xf32>) : !torch.vtensor<[2],f32>
  %1 = torch.vtensor.literal(dense_resource<layer.weight> : tensor<2xf32>) : !torch.vtensor<[2],f32>
  func.return %0 : !torch.vtensor<[2],f32>
}
"""


def test_resource_names_survive_every_parse_of_a_process() -> None:
    for _ in range(3):
        module = parse(NAMED_LITERAL)
        names = [operation.resource for operation in module.walk() if isinstance(operation, torch.LiteralOp)]
        assert names == ["layer.weight", "layer.weight"]


def test_dialects_are_loaded_when_they_are_needed() -> None:
    context = CompileContext()
    assert list(context.loaded_dialects) == []
    parse(NAMED_LITERAL, context)
    assert {dialect.name for dialect in context.loaded_dialects} == {"builtin", "func", "torch"}


def test_the_target_is_sta_base_unless_given() -> None:
    assert CompileContext().target.name == "sta-base"


def test_a_plain_context_has_no_weights() -> None:
    context = CompileContext()
    assert weights_of(context) is context.weights
    with pytest.raises(ValueError, match="CompileContext"):
        weights_of(Context())


def test_a_clone_has_a_store_of_its_own() -> None:
    context = CompileContext()
    clone = context.clone()
    assert clone.weights is not context.weights


def test_module_path_and_source_line() -> None:
    operation = torch.ConstantIntOp(1)
    assert (module_path(operation), source_line(operation), describe(operation)) == ("", "", "unknown place")
    line = FileLineColLoc(StringAttr("model.py"), IntAttr(12), IntAttr(0))
    operation.location = line
    assert describe(operation) == "model.py:12"
    operation.location = named("encoder.layer.0", line)
    assert module_path(operation) == "encoder.layer.0"
    assert describe(operation) == "encoder.layer.0 (model.py:12)"
    operation.location = NameLoc(StringAttr("pooler"), UnknownLoc())
    assert describe(operation) == "pooler"


def test_locations_survive_text() -> None:
    text = NAMED_LITERAL.replace("f32>\n  %1", 'f32> loc("layer"("m.py":3:0))\n  %1')
    module = parse(printed(parse(text), locations=True))
    first = next(operation for operation in module.walk() if isinstance(operation, torch.LiteralOp))
    assert describe(first) == "layer (m.py:3)"
