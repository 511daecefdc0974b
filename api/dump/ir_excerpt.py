"""Excerpt of IR: the operations of one module of the model, as a module of IR of its own."""

from __future__ import annotations

from fnmatch import fnmatchcase

from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region, SSAValue

from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import main_function


def module_paths(module: ModuleOp) -> list[str]:
    """The module paths of all operations, in the order in which they first occur."""
    return list(dict.fromkeys(path for operation in module.walk() if (path := module_path(operation))))


def excerpt(module: ModuleOp, glob: str) -> ModuleOp:
    """
    The operations of the function whose module path matches a pattern of the shell, or that hold such operations.

    Operands from other operations are the arguments, results used by others the results.
    """
    function = main_function(module)
    kept = [operation for operation in function.body.block.ops if _matches(operation, glob)]
    inside = {value for operation in kept for value in operation.results}
    arguments = list(
        dict.fromkeys(
            operand
            for operation in kept
            for nested in operation.walk()
            for operand in nested.operands
            if operand not in inside and not _is_nested(operand, function.body.block)
        )
    )
    results = [value for operation in kept for value in operation.results if _used_elsewhere(value, kept)]
    block = Block(arg_types=[value.type for value in arguments])
    values: dict[SSAValue, SSAValue] = dict(zip(arguments, block.args, strict=True))
    for operation in kept:
        block.add_op(operation.clone(values))
    block.add_op(func.ReturnOp(*(values[value] for value in results)))
    types = ([value.type for value in arguments], [value.type for value in results])
    return ModuleOp([func.FuncOp(function.sym_name.data, types, Region(block))])


def _matches(operation: Operation, glob: str) -> bool:
    if isinstance(operation, func.ReturnOp):
        return False
    return any(fnmatchcase(module_path(nested), glob) for nested in operation.walk())


def _is_nested(value: SSAValue, block: Block) -> bool:
    """True if a value is defined in a region inside the block: a loop's counter, or a value of its body."""
    owner = value.owner
    if isinstance(owner, Block):
        return owner is not block
    return owner.parent is not block


def _used_elsewhere(value: SSAValue, kept: list[Operation]) -> bool:
    inside = set(kept)
    return any(not (inside & {use.operation, *_ancestors(use.operation)}) for use in value.uses)


def _ancestors(operation: Operation) -> list[Operation]:
    parent = operation.parent_op()
    return [] if parent is None else [parent, *_ancestors(parent)]
