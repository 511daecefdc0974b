"""Functions that return."""

import subprocess
import sys

from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, i32
from xdsl.interpreter import Interpreter
from xdsl.ir import Block, Region

from sta.dialect.interpreters.func import FuncFunctions


def test_a_function_returns_what_its_return_names() -> None:
    block = Block(arg_types=[i32, i32])
    block.add_op(func.ReturnOp(block.args[1], block.args[0]))
    swap = func.FuncOp("swap", ((i32, i32), (i32, i32)), Region(block))
    interpreter = Interpreter(ModuleOp([swap]))
    interpreter.register_implementations(FuncFunctions())
    assert interpreter.call_op("swap", (3, 5)) == (5, 3)


def test_the_compiler_imports_none_of_the_interpreters_of_xdsl() -> None:
    code = "import sys, sta.api.compiler.compilation; print('xdsl.interpreters' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
