"""Modules as text: the output of xDSL's printer, even if texts of another module are reused."""

from io import StringIO

from xdsl.dialects.builtin import Float64Type, FloatAttr, ModuleOp, StringAttr, UnitAttr
from xdsl.printer import Printer

from sta.dialect import torch
from sta.dialect.ir.location import named
from sta.dialect.ir.text import AttributeTexts, print_with_arrays

NAMES = ["layer.0", 'a "quoted" \\ name', "schräg.ö", "line\nbreak", "tab\t", "", "loc(", "nul\0"]


def module_of(*names: str) -> ModuleOp:
    operations: list[torch.ConstantIntOp] = []
    for number, name in enumerate(names):
        operation = torch.ConstantIntOp(number)
        operation.location = named(name, named("source", operation.location))
        operation.attributes["a.name"] = StringAttr(name)
        operation.attributes["positive"] = FloatAttr(0.0, Float64Type())
        operation.attributes["negative"] = FloatAttr(-0.0, Float64Type())
        operation.attributes["nothing"] = UnitAttr()
        operations.append(operation)
    return ModuleOp(list(operations))


def printed_by_xdsl(module: ModuleOp) -> str:
    stream = StringIO()
    Printer(stream, print_debuginfo=True).print_op(module)
    return stream.getvalue() + "\n"


def test_the_text_is_that_of_the_printer_of_xdsl() -> None:
    texts = AttributeTexts()
    for names in (NAMES, NAMES[::-1], NAMES[2:4]):
        module = module_of(*names)
        assert print_with_arrays(module, texts)[0] == printed_by_xdsl(module)
        # And again, with all texts known.
        assert print_with_arrays(module, texts)[0] == printed_by_xdsl(module)
