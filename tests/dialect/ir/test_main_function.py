"""The function of a module that is the model."""

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Region

from sta.dialect.ir.main_function import machine_functions, main_function, prologue_function


@pytest.mark.parametrize(("names", "expected"), [(["helper", "main"], "main"), (["model", "helper"], "model")])
def test_the_model_is_called_main_or_comes_first(names: list[str], expected: str) -> None:
    module = ModuleOp([FuncOp(name, ([], []), Region()) for name in names])
    assert main_function(module).sym_name.data == expected


def test_a_module_without_functions_has_no_model() -> None:
    with pytest.raises(ValueError, match="the module holds no function"):
        main_function(ModuleOp([]))


def test_what_the_host_runs_is_not_the_model() -> None:
    module = ModuleOp([FuncOp(name, ([], []), Region()) for name in ("prologue", "model")])
    assert main_function(module).sym_name.data == "model"
    assert [one.sym_name.data for one in machine_functions(module)] == ["model"]
    found = prologue_function(module)
    assert found is not None
    assert found.sym_name.data == "prologue"
    assert prologue_function(ModuleOp([])) is None
