"""Modules from text that may have been edited: errors are shown at their place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, UnknownLoc
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.parser import UnresolvedOperand
from xdsl.utils.exceptions import DiagnosticException, ParseError, VerifyException
from xdsl.utils.lexer import Input, Span

from sta.dialect import host, nm, sta, torch
from sta.dialect.interpreters.nm import tensor_dtype
from sta.dialect.ir.location import module_path
from sta.dialect.ir.text import named_array
from sta.dialect.ir.unicode_strings import UnicodeParser
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.nm_format import satisfies
from sta.spec.suggestion import suggestion

LONGEST_LINE = 100
"""Characters shown of a line; of a longer one those around the place."""


_REFUSALS = (ValueError, AssertionError, LookupError, TypeError, AttributeError, NotImplementedError)
"""Exceptions of xDSL, besides its own errors, for attributes and operations that it refuses."""


_STRING = re.compile(r'//[^\n]*|"(?:[^"\\\n\v\f]|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*"|"')
"""A comment, a whole string, or a quotation mark that begins none."""


_MODULE = re.compile(r"(?:target \S+: )?([^\s:]+)(?:: | \()")
"""Beginning of a message that names a module of the model."""


class IrError(ValueError):
    """A text is no module: the message is `file:line:column: fault`, then the line with the place marked."""


def show(span: Span, message: str) -> str:
    """Returns the place, the message, and the line with the place marked."""
    content = span.input.content
    begin = content.rfind("\n", 0, span.start) + 1
    number, column = content.count("\n", 0, span.start) + 1, span.start - begin + 1
    line = content[begin:].partition("\n")[0]
    width = max(min(span.end, span.start + len(line) - column + 1) - span.start, 1)
    start = max(0, min(column - 1 - LONGEST_LINE // 2, len(line) - LONGEST_LINE))
    shown = line[start : start + LONGEST_LINE].replace("\t", " ")
    before, after = "…" if start else "", "…" if start + LONGEST_LINE < len(line) else ""
    mark = " " * (len(before) + column - 1 - start) + "^" * min(width, LONGEST_LINE // 2)
    place = f"{span.input.name}:{number}:{column}"
    return f"{place}: {' '.join(message.split())}\n{before}{shown}{after}\n{mark}"


class PlacedParser(UnicodeParser):
    """A parser that knows the place of every operation, and of the first use of every value used before definition."""

    def __init__(self, context: Context, text: str, name: str) -> None:
        super().__init__(context, text, name)
        self.places: dict[Operation, Span] = {}
        self.early: dict[str, Span] = {}
        self._begins: list[int] = []

    def parse_operation(self) -> Operation:
        start, end = self.pos, self._current_token.span.end
        self._begins.append(start)
        operation = super().parse_operation()
        self._begins.pop()
        self.places[operation] = self._span(start, end)
        return operation

    def _get_op_by_name(self, name: str) -> type[Operation]:
        found = self.ctx.get_optional_op(name, dialect_stack=self._parser_state.dialect_stack)
        if found is not None:
            return found
        known = [operation.name for dialect in self.ctx.loaded_dialects for operation in dialect.operations]
        start = self.lexer.input.content.find(name, self._begins[-1])
        raise ParseError(self._span(start, start + len(name)), f"unknown operation {name!r}{suggestion(name, known)}")

    def resolve_operand(self, operand: UnresolvedOperand, type: Attribute) -> SSAValue:  # pyright: ignore[reportIncompatibleMethodOverride] - generic in the type
        if operand.operand_name not in self.ssa_values:
            self.early.setdefault(operand.operand_name, operand.span)
        return super().resolve_operand(operand, type)

    def parse_module(self, allow_implicit_module: bool = True) -> ModuleOp:
        """Raises ParseError, also at the first use of a value that is never defined."""
        try:
            return super().parse_module(allow_implicit_module)
        except ParseError as error:
            undefined = next(iter(self.forward_ssa_references), None)
            if undefined is None or not error.msg.startswith("values used but not defined"):
                raise
            hint = suggestion(f"%{undefined}", [f"%{name}" for name in self.ssa_values])
            raise ParseError(self.early[undefined], f"%{undefined} is used here and defined nowhere{hint}") from error

    def here(self) -> Span:
        """The present place."""
        return self._span(self.pos, self._current_token.span.end)

    def _span(self, start: int, end: int) -> Span:
        return Span(start, end, self.lexer.input)


@dataclass
class IrText:
    """A module, and the places of its operations in its text."""

    module: ModuleOp
    places: dict[Operation, Span]

    def error(self, operation: Operation, message: str) -> IrError:
        """The error of an operation, or of one that passes have made of it."""
        place = self.places.get(operation) or self._origin(operation)
        return IrError(message if place is None else show(place, message))

    def placed(self, message: str) -> IrError | None:
        """
        The error of a pass, whose message begins with a module of the model. Its place is the first operation of that
        module of a kind that the message names, or else that computes something. None if the module has no operation.
        """
        named = _MODULE.match(message)
        own = [] if named is None else [op for op in self.places if module_path(op) == named[1]]
        if not own:
            return None
        return self.error(min(own, key=lambda op: (op.name not in message, not op.operands)), message)

    def _origin(self, operation: Operation) -> Span | None:
        """The place of the first operation from the same place of the model, preferably one of the same name."""
        if isinstance(operation.location, UnknownLoc):
            return None
        same = [read for read in self.places if read.location == operation.location]
        same.sort(key=lambda read: read.name != operation.name)
        return self.places[same[0]] if same else None


def read_ir(text: str, name: str, context: Context, weights: WeightStore) -> IrText:
    """
    Parses and verifies a module of our dialects, and checks the arrays that it names.

    Raises IrError for the first fault.
    """
    read = parse_ir(text, name, context)
    verify(read)
    for operation in read.module.walk():
        if (array := named_array(operation)) is not None:
            _check_array(read, operation, array, weights)
    return read


def parse_ir(text: str, name: str, context: Context, ordered: bool = True) -> IrText:
    """Parses a module, with values defined before their use if it is to be `ordered`; raises IrError."""
    _check_strings(text, name)
    if not text.strip():
        raise IrError(f"{name} is empty: a module is expected")
    parser = PlacedParser(context, text, name)
    try:
        module = parser.parse_module()
    except ParseError as error:
        place = Span(error.span.start, error.span.end, parser.lexer.input)
        unread = error.msg.startswith("Could not parse entire input")
        raise IrError(show(place, "an operation is expected" if unread else error.msg)) from error
    except RecursionError as error:
        raise IrError(show(parser.here(), "nested too deeply")) from error
    except (VerifyException, *_REFUSALS) as error:
        # Attributes and operations do not raise errors of parsing for their arguments.
        reason = str(error).strip() or "cannot be read here"
        raise IrError(show(parser.here(), reason)) from error
    for value, place in parser.early.items() if ordered else ():
        raise IrError(show(place, f"%{value} is used here and defined below: define a value before it is used"))
    return IrText(module, parser.places)


def _check_strings(text: str, name: str) -> None:
    """Raises IrError for a string that does not end: xDSL's lexer takes time exponential in its length to see it."""
    for found in _STRING.finditer(text):
        if found.group() == '"':
            place = Span(found.start(), found.end(), Input(text, name))
            raise IrError(show(place, "a string begins here and does not end on this line, or holds an unknown escape"))


def verify(read: IrText) -> None:
    """Verifies every operation, and then the module; raises IrError for the first fault."""
    for operation in read.module.walk():
        _verify(read, operation, nested=False)
    _verify(read, read.module, nested=True)


def _verify(read: IrText, operation: Operation, nested: bool) -> None:
    try:
        operation.verify(verify_nested_ops=nested)
        _verify_annotations(operation)
    except RecursionError as error:
        raise read.error(operation, "nested too deeply") from error
    except (VerifyException, DiagnosticException, *_REFUSALS) as error:
        reason = str(error).strip().removeprefix("Operation does not verify: ")
        raise read.error(operation, f"{operation.name}: {reason or 'does not verify'}") from error


def _verify_annotations(operation: Operation) -> None:
    """Raises ValueError for a malformed attribute of the operation, or of a function's arguments."""
    torch.expect_annotations(operation.attributes)
    arguments = operation.arg_attrs if isinstance(operation, FuncOp) else None
    for attributes in arguments or ():
        torch.expect_annotations(attributes.data)


def _check_array(read: IrText, operation: Operation, name: str, weights: WeightStore) -> None:
    if name not in weights:
        hint = suggestion(name, weights.names())
        raise read.error(operation, f"the weight store holds no array called {name!r}{hint}")
    array = weights.get(name)
    wanted = _expected_array(operation)
    given = f"{array.nbytes} bytes" if isinstance(operation, sta.ConstantOp) else f"{array.dtype}{list(array.shape)}"
    if given != wanted:
        raise read.error(operation, f"{name!r} is {given} in the weight store, expected {wanted}")
    pattern = nm.tensor_of(operation.result).encoding if isinstance(operation, nm.WeightOp) else None
    if isinstance(pattern, nm.PatternAttr) and not satisfies(array, pattern.pattern):
        raise read.error(
            operation, f"{name!r} has groups with more than {pattern.pattern.n} non-zeros, expected {pattern.pattern}"
        )


def _expected_array(operation: Operation) -> str:
    match operation:
        case nm.WeightOp():
            return f"{tensor_dtype(operation.result)}{list(nm.tensor_of(operation.result).get_shape())}"
        case host.TableOp():
            kind = host.host_type(operation.result.type)
            return f"{kind.dtype}{list(kind.shape)}"
        case torch.LiteralOp():
            type_ = operation.result.type
            return f"{torch.numpy_dtype(type_.element_type)}{list(type_.sizes)}"
        case _:
            return f"{sta.buffer_bytes(operation.results[0])} bytes"
