"""Places of operations in text, also of those that passes have made of them."""

import pytest

from sta.dialect import sta
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.reader import IrError, IrText, parse_ir, read_ir

TEXT = """builtin.module {
  func.func @main(%x: tensor<4xsi8>) -> tensor<4xsi8> {
    %0 = nm.view %x : tensor<4xsi8> -> tensor<2x2xsi8> loc("first"("model.py":7:0))
    %1 = nm.view %0 : tensor<2x2xsi8> -> tensor<4xsi8> loc("second"("model.py":8:0))
    func.return %1 : tensor<4xsi8> loc("second"("model.py":8:0))
  }
}
"""


def test_what_is_no_ir_at_all() -> None:
    with pytest.raises(IrError, match=r"^index\.json:1:1: an operation is expected\n\{\n\^$"):
        parse_ir("{\n}\n", "index.json", CompileContext())


def read() -> IrText:
    context = CompileContext()
    return read_ir(TEXT, "m.mlir", context, context.weights)


def test_an_operation_that_a_pass_has_made_is_shown_where_it_comes_from() -> None:
    text = read()
    made = sta.SyncOp("mm")
    assert str(text.error(made, "wrong")) == "wrong"
    made.location = next(op.location for op in text.places if op.name == "func.return")
    line = '    %1 = nm.view %0 : tensor<2x2xsi8> -> tensor<4xsi8> loc("second"("model.py":8:0))'
    assert str(text.error(made, "wrong")) == f"m.mlir:4:5: wrong\n{line}\n    ^^"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("second (model.py:8): wrong", 4),
        ("target tiny: second: wrong", 4),
        ("second: func.return takes something else", 5),
        ("third: wrong", None),
        ("the second: wrong", None),
    ],
)
def test_a_message_is_shown_at_the_module_that_it_begins_with(message: str, line: int | None) -> None:
    shown = read().placed(message)
    assert (shown is None) == (line is None)
    assert line is None or str(shown).startswith(f"m.mlir:{line}:5: {message}\n")
