"""Display of programs, results and IR in a notebook."""

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, StringAttr
from xdsl.dialects.test import Test
from xdsl.parser import Parser

from sta.api.inspect import notebook
from sta.api.inspect.notebook import module_html
from sta.runtime import html


def test_tables_are_escaped() -> None:
    shown = html.table([["<b>", "1"]], ["a&b", "c"], "x < y")
    assert "<b>x &lt; y</b>" in shown
    assert "&lt;b&gt;" in shown
    assert "a&amp;b" in shown
    assert "<th" in shown


def test_a_module_is_counted_and_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    context = Context()
    context.load_dialect(Builtin)
    context.load_dialect(Test)
    module = Parser(context, '"test.op"() {a = "<script>"} : () -> ()\n"test.op"() : () -> ()').parse_module()
    assert module.body.block.first_op is not None
    assert module.body.block.first_op.attributes["a"] == StringAttr("<script>")
    shown = module_html(module)
    assert "3 operations: test.op 2, builtin.module 1" in shown
    assert "<script>" not in shown
    monkeypatch.setattr(notebook, "MOST_CHARACTERS", 10)
    assert "more characters" in module_html(module)
