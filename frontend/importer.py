"""
From an exported program to a module of the `torch` dialect, through torch-mlir.

torch-mlir lowers the program's graph to its own `torch` dialect, folds shape arithmetic and removes non-values; its
generic text is parsed into xDSL. Weights stay out of the text: a hook replaces each by a `dense_resource` of one byte
that is named after the parameter.
"""
# pyright: basic, reportAttributeAccessIssue=false
# torch-mlir has no type stubs.

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp, UnregisteredOp
from xdsl.dialects.func import ReturnOp
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import ParseError, VerifyException

from sta.dialect.interpreters.torch import FOREIGN_OPERATOR, operation_name
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import ROOT, describe
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.unicode_strings import UnicodeParser
from sta.dialect.ir.weight_store import WeightStore
from sta.dialect.torch import VTensorType, name_attributes, operator_class, sizes_of
from sta.frontend.chosen_rows import keep_all_rows
from sta.frontend.complex_numbers import split_complex_numbers
from sta.frontend.errors import ModelError
from sta.frontend.experts.densify import densify_experts
from sta.frontend.graph_builder import PLACE, erase_assertions
from sta.frontend.padding import leave_out_padding
from sta.frontend.program import quiet
from sta.spec.operators.registry import operators, parts_of
from sta.spec.outside import OPERATORS, OutsideError, find_addition

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

_OTHER_NAMES = {
    "aten::concat": "cat",
    "aten::concatenate": "cat",
    "aten::divide": "div",
    "aten::multiply": "mul",
    "aten::negative": "neg",
    "aten::subtract": "sub",
    "aten::true_divide": "div",
}
"""Operators that PyTorch defines as others, with the same overloads."""

_SIZE_OF_NUMBERS = "the size of its result depends on numbers, and every size must be known: leave it to the host"


@dataclass(frozen=True)
class RawImport:
    """Import of a program by torch-mlir: a verified module, and the arrays that its literals name."""

    module: ModuleOp
    weights: WeightStore


def import_program(program: ExportedProgram, input_names: list[str], output_names: list[str]) -> RawImport:
    """
    Imports `program`, which is not changed.

    The function is called `main`; its arguments and results carry their names as `sta.name`. Raises ModelError for
    dynamic shapes, empty inputs, a model that changes its buffers, and anything that torch-mlir cannot import.
    """
    _check_static(program)
    _check_flow(program)
    try:
        module, weights = _imported(program)
    except TorchMlirError:
        # torch-mlir decomposes what no row knows. Where that fails, it stays as it is, to be folded or refused by name.
        module, weights = _imported(program, whole=True)
    _adopt_known_operators(module)
    _name_values(module, input_names, output_names)
    return RawImport(module, weights)


class TorchMlirError(ModelError):
    """A model that torch-mlir cannot import, in its words or in those of the reader of its text."""


def _imported(program: ExportedProgram, whole: bool = False) -> tuple[ModuleOp, WeightStore]:
    """The verified module of `program`, and its arrays; with `whole` no operator without a row is decomposed."""
    decomposed = _decomposed(program)
    _leave_out_idle_changes(decomposed)
    # Only a functional program shows its changes.
    _check_pure(decomposed)
    erase_assertions(decomposed)
    split_complex_numbers(decomposed)
    keep_all_rows(decomposed)
    densify_experts(decomposed)
    leave_out_padding(decomposed)
    names = _literal_names(decomposed)
    _alias_listed_state(decomposed)
    weights = WeightStore()
    text = _torch_mlir_text(decomposed, names, weights, whole)
    return _parse(text), weights


def _check_static(program: ExportedProgram) -> None:
    import torch

    inputs = set(program.graph_signature.user_inputs)
    if not inputs:
        raise ModelError("the model has no inputs, so that there is nothing to compile: its outputs are constants")
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op != "placeholder" or node.name not in inputs or not isinstance(value, torch.Tensor):
            continue
        sizes = ", ".join(str(size) for size in value.shape)
        if any(isinstance(size, int) and size == 0 for size in value.shape):
            raise ModelError(f"input {node.name!r} is empty, its sizes are [{sizes}]: give one with elements")
        if any(not isinstance(size, int) for size in value.shape):
            raise ModelError(
                f"input {node.name!r} has dynamic sizes [{sizes}], and only static shapes can be compiled: "
                "export the model without dynamic_shapes"
            )


_BRANCHES = ("associative_scan", "cond", "map_impl", "scan", "switch", "while_loop")
"""Operators whose parts run or do not run, or run again, by the values that they find."""


def _check_flow(program: ExportedProgram) -> None:
    """Raises ModelError for control flow on values, and for outputs whose sizes are values."""
    import torch

    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.HigherOrderOperator) and node.target._name in _BRANCHES:
            raise ModelError(
                f"torch.{node.target._name} in {node_module_path(node)} cannot be compiled: its parts run by the "
                "values that it finds; compute every branch and choose with torch.where, or write out a loop's steps"
            )
    for node in program.graph.output_node().all_input_nodes:
        value = node.meta.get("val")
        sizes = value.shape if isinstance(value, torch.Tensor) else ()
        if any(not isinstance(size, int) for size in sizes):
            name = str(node.target).removesuffix(".default")
            raise _refusal(name, _place_of(node), _SIZE_OF_NUMBERS)


def _check_pure(program: ExportedProgram) -> None:
    signature = program.graph_signature
    parameters = list(signature.parameters_to_mutate.values())
    if parameters:
        raise ModelError(
            f"the model changes {', '.join(parameters)} when it runs, and only models without state can be compiled: "
            "an embedding with max_norm scales its rows while it reads them (scale them once, and leave max_norm out), "
            "and what a first run prepares is best prepared by a run before the export"
        )
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        raise ModelError(
            f"the model changes {', '.join(changed)} when it runs, and only models without state can be compiled: "
            "export it in evaluation mode and without caches (use_cache=False)"
        )


def _leave_out_idle_changes(program: ExportedProgram) -> None:
    """Drops changes of state that leave the numbers as they are: a weight divided by a power of two that is one."""
    signature = program.graph_signature
    state = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    changed = {**signature.parameters_to_mutate, **signature.buffers_to_mutate}
    output = program.graph.output_node()
    results: Any = output.args[0]
    kept = [
        (node, spec)
        for node, spec in zip(results, signature.output_specs, strict=True)
        if spec.target is None
        or spec.target not in changed.values()
        or not _is_idle(node, program.state_dict[spec.target], state, program)
    ]
    output.args = (tuple(node for node, _ in kept),)
    signature.output_specs = [spec for _, spec in kept]


def _is_idle(node: Node, before: Any, state: Mapping[str, str], program: ExportedProgram) -> bool:
    """True if `node`, the new value of some state, is made of state alone and equals the value `before`."""
    import torch

    def value_of(one: Node) -> Any:
        if one.op == "placeholder":
            return program.state_dict[state[one.name]]
        arguments, keywords = torch.fx.map_arg((one.args, one.kwargs), value_of)
        function: Any = one.target
        return function(*arguments, **keywords)

    pending = [node]
    for one in pending:
        if one.op != "call_function" and one.name not in state:
            return False
        pending += [source for source in one.all_input_nodes if source not in pending]
    return torch.equal(value_of(node), before)


def _decomposed(program: ExportedProgram) -> ExportedProgram:
    """A functional copy of `program` that torch-mlir can import: its state holds every tensor the graph refers to."""
    import torch

    overloads = {node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)}
    compositions: Any = {one: parts for one in overloads if (parts := parts_of(one.name())) is not None}
    for one in overloads:
        if (name := _OTHER_NAMES.get(one._schema.name)) is not None:
            compositions[one] = getattr(getattr(torch.ops.aten, name), one._overloadname)
        if one._schema.name == "aten::meshgrid":
            compositions[one] = _meshgrid
    try:
        with quiet():
            copy = program.run_decompositions(compositions)
    except OutsideError as error:
        # Behind the first line PyTorch adds the node, and a link to a tool of its own.
        raise ModelError(str(error).partition("\n")[0]) from error
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"PyTorch cannot make the exported program functional: {reason}") from error
    # torch-mlir looks buffers up in the state only, and buffers that are not persistent are constants.
    constants = {name: value for name, value in copy.constants.items() if hasattr(value, "numel")}
    copy._state_dict = {**constants, **copy.state_dict}
    return copy


def _meshgrid(tensors: Any, indexing: str = "ij") -> list[Any]:
    """The grids of `tensors` as views of them, of which torch-mlir makes values without types."""
    axes = list(range(len(tensors)))
    if indexing == "xy":
        axes[:2] = axes[1::-1]
    sizes = [tensors[axis].numel() for axis in axes]
    return [
        tensor.reshape([-1 if axis == own else 1 for own in axes]).expand(sizes) for axis, tensor in enumerate(tensors)
    ]


def _alias_listed_state(program: ExportedProgram) -> None:
    """
    Lets `program` take parameters and buffers in lists through an alias.

    torch-mlir puts the tensors themselves in their place, and refuses lists of tensors and values.
    """
    import torch

    graph = program.graph
    placeholders = {node for node in graph.nodes if node.op == "placeholder"}
    placeholders -= {node for node in placeholders if node.name in program.graph_signature.user_inputs}
    for node in [node for node in graph.nodes if node.op == "call_function"]:
        listed = [one for part in node.args if isinstance(part, list | tuple) for one in part]
        for state in dict.fromkeys(one for one in listed if one in placeholders):
            with graph.inserting_before(node):
                alias = graph.call_function(torch.ops.aten.alias.default, (state,))
            alias.meta = {**state.meta, **{key: node.meta[key] for key in PLACE if key in node.meta}}
            node.replace_input_with(state, alias)


def _literal_names(program: ExportedProgram) -> dict[int, tuple[str, str]]:
    """
    The resource name and the name of every parameter, buffer and constant, by the identity of its tensor; tied ones
    share one.
    """
    names: dict[int, tuple[str, str]] = {}
    taken: set[str] = set()
    for parameter, tensor in [*program.state_dict.items(), *program.constants.items()]:
        if id(tensor) in names:
            continue
        name = resource_name(parameter)
        while name in taken:
            name += "_"
        taken.add(name)
        names[id(tensor)] = (name, parameter)
    return names


def resource_name(parameter: str) -> str:
    """The name of `parameter` as an identifier of MLIR: `0.weight`, which is none, becomes `_0.weight`."""
    name = re.sub(r"[^\w$.]", "_", parameter, flags=re.ASCII)
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


def _array(name: str, tensor: Any) -> np.ndarray:
    """The memory of `tensor` as an array."""
    import torch

    if tensor.layout != torch.strided:
        raise ModelError(
            f"{name} is a sparse tensor: store it with to_dense(); zeros in N:M patterns are found in dense weights"
        )
    try:
        return tensor.detach().cpu().contiguous().numpy()
    except (TypeError, RuntimeError) as error:
        raise ModelError(f"{name} cannot be read as an array of numbers: {error}") from error


def _torch_mlir_text(
    program: ExportedProgram, names: dict[int, tuple[str, str]], weights: WeightStore, whole: bool = False
) -> str:
    """torch-mlir's generic text of `program`, with locations; puts the tensors it names into `weights`."""
    import torch
    from torch_mlir import ir
    from torch_mlir.dialects import torch as torch_mlir_dialect
    from torch_mlir.extras import fx_importer
    from torch_mlir.passmanager import PassManager

    resources: dict[str, Any] = {}
    # A tensor is known by its identity, which another would get if it were gone: of bools torch-mlir makes copies.
    seen: list[torch.Tensor] = []
    taken = {name for name, _ in names.values()}
    free = (name for name in (f"constant_{number}" for number in count()) if name not in taken)

    class Hooks(fx_importer.FxImporterHooks):
        def resolve_literal(self, gni, literal, info):
            if not isinstance(literal, torch.Tensor) or literal.numel() <= 1:
                return None
            seen.append(literal)
            if id(literal) not in names:
                number = next(free)
                names[id(literal)] = (number, number)
            name, parameter = names[id(literal)]
            # MLIR would rename a second resource of the same name.
            if name not in resources:
                weights.put(name, _array(parameter, literal))
                kind = fx_importer._create_mlir_tensor_type(literal.dtype, literal.size())
                resources[name] = ir.DenseResourceElementsAttr.get_from_buffer(np.zeros(1, np.uint8), name, kind)
            result = gni._cc.tensor_to_vtensor_type(literal)
            attributes = {"value": resources[name]}
            return ir.Operation.create("torch.vtensor.literal", results=[result], attributes=attributes).result

    class Locations(fx_importer.ContextCache):
        def get_node_location(self, node):
            return _location(ir, context, node)

    context = ir.Context()
    context.allow_unregistered_dialects = True
    torch_mlir_dialect.register_dialect(context)
    diagnostics: list[str] = []
    context.attach_diagnostic_handler(lambda diagnostic: diagnostics.append(diagnostic.message) or True)
    importer = fx_importer.FxImporter(context=context, hooks=Hooks())
    importer._cc = Locations(context, py_attr_tracker=importer._py_attr_tracker)
    kept = ",".join(name for name, row in operators().items() if row.kept)
    pipeline = f"torchdynamo-export-to-torch-backend-pipeline{{backend-legal-ops={kept} extra-library=}}"
    try:
        with quiet(), context:
            importer.import_frozen_program(program, func_name="main")
            _hide_unknown_operators(ir, importer.module, whole)
            PassManager.parse(f"builtin.module({pipeline})").run(importer.module.operation)
    except ModelError:
        raise
    except Exception as error:
        for message in (*diagnostics, str(error)):
            if (refusal := _of_diagnostic(message)) is not None:
                raise refusal from error
        reason = "\n  ".join(diagnostics) or str(error)
        raise TorchMlirError(f"torch-mlir cannot import the model:\n  {reason}") from error
    text = importer.module.operation.get_asm(enable_debug_info=True, print_generic_op_form=True, use_local_scope=True)
    return _store_special_numbers(text, weights)


def _store_special_numbers(text: str, weights: WeightStore) -> str:
    """
    Puts tensors of a number that is not finite into `weights`, and names them in `text`.

    MLIR writes such a number (the -inf of a mask) as its bits, which xDSL reads as an integer.
    """

    def name_tensor(match: re.Match[str]) -> str:
        bits, shape, element = match.group("bits"), match.group("shape"), match.group("element")
        sizes = [int(size) for size in shape.split("x") if size]
        number = np.array(int(bits, 16), np.uint32 if element == "f32" else np.uint64)
        array = np.full(sizes, number.view(np.float32 if element == "f32" else np.float64))
        name = f"special_{bits[2:]}_{shape}{element}"
        weights.put(name, array)
        return f"dense_resource<{name}> : tensor<{shape}{element}>"

    pattern = r"dense<(?P<bits>0x[0-9A-Fa-f]+)> : tensor<(?P<shape>(?:\d+x)*)(?P<element>f32|f64)>"
    return re.sub(pattern, name_tensor, text)


def _hide_unknown_operators(ir: Any, module: Any, whole: bool) -> None:
    """
    Replaces `torch.operator`, in which torch-mlir wraps unknown operators, and at which its pipeline stops.

    With `whole` also the operators that torch-mlir knows, but no row does. Whether such an operator folds away, or is
    reported with all other unsupported ones, is decided later.
    """
    found: list[Any] = []
    known = operators()

    def visit(operation: Any) -> Any:
        name = operation.name
        if name == "torch.operator":
            found.append((operation, operation.attributes["name"]))
            return ir.WalkResult.ADVANCE
        is_operator = name.startswith("torch.aten.") and len(operation.results) > 0
        if whole and is_operator and name.removeprefix("torch.") not in known:
            found.append((operation, ir.StringAttr.get(name, context=module.context)))
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    for operation, name in found:
        foreign = ir.Operation.create(
            FOREIGN_OPERATOR,
            results=[result.type for result in operation.results],
            operands=list(operation.operands),
            attributes={"name": name},
            loc=operation.location,
            ip=ir.InsertionPoint(operation),
        )
        for before, after in zip(operation.results, foreign.results, strict=True):
            before.replace_all_uses_with(after)
        operation.erase()


def _adopt_known_operators(module: ModuleOp) -> None:
    """Replaces the stand-ins of operators that torch-mlir does not know but a row does: operators of other packages."""
    for operation in list(module.walk()):
        name = operation_name(operation).removeprefix("torch.")
        if not isinstance(operation, UnregisteredOp) or name not in operators() or len(operation.results) != 1:
            continue
        kept = operator_class(name).with_operands(operation.operands, operation.results[0].type)
        kept.location = operation.location
        try:
            kept.verify()
        except VerifyException as error:
            raise ModelError(
                str(find_addition(OPERATORS, name).refusal(f"its row does not fit a model: {error}"))
            ) from error
        Rewriter.replace_op(operation, kept)


def _location(ir: Any, context: Any, node: Node) -> Any:
    """The module path of `node` as a named location with the model's own source line."""
    return ir.Location.name(node_module_path(node), _source_location(ir, context, node), context=context)


def node_module_path(node: Node) -> str:
    """The path of the innermost module that `node` was traced in: `encoder.layer.0.attention.self`."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return ROOT
    path = list(stack.values())[-1][0]
    path = re.sub(r"^(?:(?:L\['self'\]|L__self__)[._]?|self(?:\.|$))", "", path)
    # A module that is called more than once has the number of the call behind its name.
    return re.sub(r"@\d+", "", path) or ROOT


def _source_location(ir: Any, context: Any, node: Node) -> Any:
    found = _source_line(node)
    return ir.Location.unknown(context=context) if found is None else ir.Location.file(*found, 0, context=context)


def _source_line(node: Node) -> tuple[str, int] | None:
    """The file and line of the model's own code that made `node`; None if it is unknown."""
    frames = re.findall(r'File "([^"]+)", line ([0-9]+)', node.meta.get("stack_trace") or "")
    if not frames:
        return None
    own = [frame for frame in frames if not portable_path(frame[0]).startswith("torch/")]
    file, line = (own or frames)[-1]
    return portable_path(file), int(line)


def _place_of(node: Node) -> str:
    """The module path of `node`, with its line of source where that is known."""
    path, found = node_module_path(node), _source_line(node)
    return path if found is None else f"{path} ({found[0]}:{found[1]})"


def portable_path(file: str) -> str:
    """`file` below site-packages, or its last part: the same on every machine."""
    parts = re.split(r"[\\/]", file)
    for root in ("site-packages", "dist-packages"):
        if root in parts:
            return "/".join(parts[parts.index(root) + 1 :])
    return parts[-1]


def _parse(text: str) -> ModuleOp:
    context = CompileContext()
    # Operators unknown to the dialect are reported together with all other unsupported ones.
    context.allow_unregistered = True
    try:
        module = UnicodeParser(context, text, "<torch-mlir>").parse_module()
    except ParseError as error:
        raise _unreadable(error) from error
    for operation in module.walk():
        try:
            operation.verify(verify_nested_ops=False)
        except VerifyException as error:
            raise _refusal(operation_name(operation), describe(operation), str(error)) from error
    return module


def _unreadable(error: ParseError) -> TorchMlirError:
    """The error for the line of torch-mlir's text at which its reader stops."""
    text, stop = str(error.span.input.content), error.span.start
    line = text[text.rfind("\n", 0, stop) + 1 :].partition("\n")[0]
    operator = re.search(r'"torch\.([\w.]+)"', line)
    if operator is None:
        return TorchMlirError(f"what torch-mlir made of the model cannot be read: {error}")
    return _refusal(operator[1], _place_in(line), _SIZE_OF_NUMBERS if "?" in line else error.msg)


def _of_diagnostic(message: str) -> TorchMlirError | None:
    """The error for what torch-mlir says about one operation; None for other messages."""
    found = re.search(r"'torch\.([\w.]+)' op (.*)", message)
    return None if found is None else _refusal(found[1], _place_in(message), f"torch-mlir says: {found[2]}")


def _place_in(text: str) -> str:
    """The module path and the source line of the first location in a text of torch-mlir."""
    found = re.search(r'"([^"]*)"\((?:"([^"]*)":(\d+):\d+|unknown)\)', text)
    if found is None:
        return "the model"
    return f"{found[1]} ({found[2]}:{found[3]})" if found[2] else found[1]


def _refusal(name: str, place: str, reason: str) -> TorchMlirError:
    return TorchMlirError(f"{name.removeprefix('torch.')} in {place} cannot be compiled: {reason}")


def _name_values(module: ModuleOp, input_names: list[str], output_names: list[str]) -> None:
    """Sets `sta.name` on the arguments and results of `main`, except for those that are no tensors."""
    function = main_function(module)
    block = function.body.block
    if len(input_names) != len(block.args):
        raise ModelError(f"the model has {len(input_names)} inputs ({', '.join(input_names)}), not {len(block.args)}")
    inputs = dict(zip(input_names, block.args, strict=True))
    for name, argument in inputs.items():
        if isinstance(argument.type, VTensorType):
            continue
        # The export has made values that depend on a Python value constant.
        if argument.first_use is not None:
            raise ModelError(f"input {name!r} is no tensor")
        block.erase_arg(argument)
    terminator = block.last_op
    assert isinstance(terminator, ReturnOp)
    kept = [index for index, value in enumerate(terminator.operands) if isinstance(value.type, VTensorType)]
    if not kept:
        raise ModelError("the model returns no tensor: there is nothing to compile")
    for index in kept:
        sizes = sizes_of(terminator.operands[index])
        if 0 in sizes:
            raise ModelError(f"output {output_names[index]!r} is empty, its sizes are {list(sizes)}: leave it out")
    terminator.operands = [terminator.operands[index] for index in kept]
    function.update_function_type()
    function.arg_attrs = name_attributes([name for name, argument in inputs.items() if argument in block.args])
    function.res_attrs = name_attributes([output_names[index] for index in kept])
