"""
An interpreter of functions that return.

xDSL's own is in a package that imports the interpreters of every dialect: that takes as long as several passes.
"""

from __future__ import annotations

from xdsl.dialects import func
from xdsl.interpreter import (
    Interpreter,
    InterpreterFunctions,
    PythonValues,
    ReturnedValues,
    TerminatorValue,
    impl_callable,
    impl_terminator,
    register_impls,
)


@register_impls
class FuncFunctions(InterpreterFunctions):
    """Implementations of a function with a body, and of its return."""

    @impl_terminator(func.ReturnOp)
    def run_return(
        self, interpreter: Interpreter, op: func.ReturnOp, args: PythonValues
    ) -> tuple[TerminatorValue, PythonValues]:
        """Ends the function with its results."""
        return ReturnedValues(args), ()

    @impl_callable(func.FuncOp)
    def call_func(self, interpreter: Interpreter, op: func.FuncOp, args: PythonValues) -> PythonValues:
        """Runs the body on the arguments."""
        return interpreter.run_ssacfg_region(op.body, args, op.sym_name.data)
