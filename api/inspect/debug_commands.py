"""Commands of the debugger and their answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sta.api.cli.tables import count, print_table
from sta.api.inspect.debug_session import AtInstruction, AtModule, AtUnit, AtWrite, Session, Watch
from sta.backend.instruction_text import print_instruction
from sta.runtime.analysis.schedule import Schedule
from sta.runtime.memory import Memories
from sta.runtime.validate import Port
from sta.runtime.values.model_values import Value
from sta.spec.instructions.definition import UNITS
from sta.spec.suggestion import suggestion

Array = NDArray[Any]

SPACES = ("spad", "wbuf", "acc", "dram")
LIST_LINES = 5
"""Instructions that `list` shows before and after the next one."""
UNWRITTEN = "--"
"""Sign for an element, or the two digits of a byte, that no instruction has written yet."""
DUMP_BYTES = 64
MOST_DUMPED = 1 << 16
_REFERENCE = re.compile(r"(?P<name>[^\[\]]*?)(?:#(?P<number>\d+))?(?:\[(?P<slices>[^\[\]]*)\])?")
_SLICE = re.compile(r"\s*(-?\d*)\s*(:\s*(-?\d*)\s*)?")


class CommandError(ValueError):
    """A command cannot be carried out; the message has the reason and the remedy."""


class Quit(Exception):
    """The user leaves."""


class Command(NamedTuple):
    """One command: its arguments, and its function."""

    usage: str
    summary: str
    execute: Callable[[Debugger, str], None]
    completes: str = ""
    """Kind of its argument, for completion: ``value``, ``path`` or ``command``."""


class Shown(NamedTuple):
    """A value, port or buffer."""

    title: str
    state: str
    """Its progress in the run, in words; empty if there is nothing to say."""
    place: tuple[str, int, int]
    """The memory that it lies in, and the bytes start..end-1 that have all of it."""
    read: Callable[[Memories], Array]
    """Returns the integers that a memory holds."""
    real: Callable[[Array], NDArray[np.float64]] | None
    """Returns the real numbers of integers; None where the compiler did not say."""
    stale: Callable[[], NDArray[np.bool_]] | None = None
    """Returns the elements that a value before it left in the buffer; None where it has no elements to come."""


@dataclass
class Debugger:
    """Carries out commands on a session, and prints."""

    session: Session

    def execute(self, line: str) -> None:
        """
        Carries out one line; an empty line and a comment, which starts with ``#``, do nothing.

        Raises:
            CommandError: there is no such command, or its argument is wrong.
            ProgramError: an instruction failed.
            Quit: the command was ``quit``.
        """
        word, _, argument = line.strip().partition(" ")
        if not word or word.startswith("#"):
            return
        name = ALIASES.get(word, word)
        if name not in COMMANDS:
            raise CommandError(f"unknown command {word!r}{suggestion(word, COMMANDS)}; `help` lists all")
        COMMANDS[name].execute(self, argument.strip())

    def completions(self, line: str) -> list[str]:
        """Returns the completions of the last word of a line."""
        word, space, argument = line.lstrip().partition(" ")
        if not space:
            return [name for name in COMMANDS if name.startswith(word)]
        command = COMMANDS.get(ALIASES.get(word, word))
        candidates: Iterable[str] = ()
        if command is not None and command.completes == "value":
            candidates = self.names()
        elif command is not None and command.completes == "path":
            candidates = (*self.paths(), "unit", "write")
        elif command is not None and command.completes == "command":
            candidates = COMMANDS
        return sorted({candidate for candidate in candidates if candidate.startswith(argument.strip())})

    def paths(self) -> list[str]:
        """Returns the paths of all modules that have instructions."""
        return sorted({path for _, path, _ in self.session.program.container.debug["instructions"] if path})

    def names(self) -> list[str]:
        """Returns the names by which values and buffers can be printed, inputs and outputs first."""
        ports = [port.signature.name for port in self._ports()]
        buffers = [buffer.name for buffer in self.session.buffers]
        return list(dict.fromkeys([*ports, *(self.name_of(value) for value in self.session.values), *buffers]))

    def _ports(self) -> list[Port]:
        valid = self.session.program.valid
        return [*valid.inputs, *valid.outputs]

    def name_of(self, value: Value) -> str:
        """Returns the name of a value: the module's path, with a number where the module makes several."""
        same = [other for other in self.session.values if other.name == value.name]
        return value.name if len(same) == 1 else f"{value.name}#{same.index(value) + 1}"

    def show_place(self) -> None:
        """Prints the position of the run: loops, module, and the next instruction."""
        session, run = self.session, self.session.run.walk
        loops = " ".join(f"{at + 1}/{of}" for at, of in zip(run.counters, run.step.counts, strict=True))
        position = f"{count(run.position)} of {count(session.total)}"
        print("  ".join(part for part in (position, loops and f"loops {loops}", session.path) if part))
        print(f"=> {run.step.pc:>5}  {print_instruction(run.step.instruction)}")
        if session.schedule is not None:
            print(self._time(session.schedule, run.position))

    def _time(self, schedule: Schedule, position: int) -> str:
        """Returns when the instruction at a position is executed, and what the units do meanwhile."""
        start, end = int(schedule.start[position]), int(schedule.end[position])
        path = self.session.program.container.module_path
        own = int(schedule.unit[position])
        others = {
            work.unit: f"{work.unit} @{work.pc} {path(work.pc)} to {count(work.end)}"
            for work in self.session.work(start)
        }
        shown = [others.get(unit, f"{unit} idle") for number, unit in enumerate(UNITS) if number != own]
        return f"   cycles {count(start)} to {count(end)} of {count(schedule.cycles)}; meanwhile {', '.join(shown)}"

    def value(self, text: str) -> Shown:
        """Returns the value, input, output or buffer named by a text."""
        match = _REFERENCE.fullmatch(text)
        if match is None or not match["name"]:
            raise CommandError(f"{text!r} names no value: NAME, NAME#2 or NAME[0, :4]; `values` lists all")
        for port in self._ports():
            if port.signature.name == match["name"]:
                return self._port(port, match["slices"])
        value = self._named(match["name"], match["number"])

        def read(memories: Memories) -> Array:
            return _sliced(value.read(memories), match["slices"])

        def stale() -> NDArray[np.bool_]:
            return _sliced(self.session.stale(value), match["slices"])

        is_complete = self.session.run.walk.step.pc > value.last
        scale = "" if value.scale is None else f", scale {value.scale:.6g}, zero point {value.zero_point}"
        what = f"{self.name_of(value)}: {value.operation}" if value.operation else f"{value.name}: {value.space}"
        return Shown(
            f"{what}, {_shape(value.shape, value.dtype)}{scale}",
            self._state(value),
            (value.space, value.offset, value.end),
            read,
            None if value.scale is None else value.real,
            None if is_complete else stale,
        )

    def _port(self, port: Port, slices: str | None) -> Shown:
        signature, session = port.signature, self.session

        def read(memories: Memories) -> Array:
            return _sliced(memories.port(port).copy(), slices)

        def real(integers: Array) -> NDArray[np.float64]:
            return signature.decode(integers).astype(np.float64)

        is_real = signature.kind == "quantized"
        scale = f", scale {signature.scale:.6g}, zero point {signature.zero_point}" if is_real else ""
        is_open = port in session.program.valid.outputs and session.run.walk.position < session.total
        return Shown(
            f"{signature.name}: {_shape(signature.shape, np.dtype(signature.device_dtype))}{scale}",
            "not complete before the end of the run" if is_open else "",
            ("dram", port.address, port.address + port.bytes),
            read,
            real if is_real else None,
        )

    def _named(self, name: str, number: str | None) -> Value:
        same = [value for value in self.session.values if value.name == name]
        # A buffer that holds values has the name of its module; buffers of tiles have names of their own.
        same = same or [buffer for buffer in self.session.buffers if buffer.name == name][:1]
        if not same:
            hint = suggestion(name, self.names())
            raise CommandError(f"no value is called {name!r}{hint}; `values` lists all")
        if number is None and len(same) > 1:
            known = ", ".join(f"{self.name_of(value)} ({value.operation})" for value in same)
            raise CommandError(f"{name!r} has several values: {known}")
        position = int(number or 1)
        if not 1 <= position <= len(same):
            raise CommandError(f"{name!r} has {len(same)} values, there is no #{position}")
        return same[position - 1]

    def _state(self, value: Value) -> str:
        """Returns the state of a value in its buffer: whether the buffer holds it now."""
        pc = self.session.run.walk.step.pc
        if not value.operation:
            return "" if value.first <= pc <= value.last else "not in use now"
        if pc <= value.first:
            return "not written yet"
        if pc <= value.last:
            return "being written"
        reused = any(
            other.space == value.space and other.offset == value.offset and value.last < other.first < pc
            for other in self.session.values
        )
        return "its buffer has been written again since" if reused else ""


def _shape(shape: Sequence[int], dtype: np.dtype[Any]) -> str:
    return f"{' x '.join(map(str, shape))} {dtype.name}"


def _sliced(array: Array, text: str | None) -> Array:
    """Returns the part of an array for ``0, :4``."""
    if text is None:
        return array
    parts: list[int | slice] = []
    for part in text.split(","):
        match = _SLICE.fullmatch(part)
        if match is None or not part.strip():
            raise CommandError(f"{part.strip()!r} is no index: write 3, :4 or 2:8, one for each axis")
        start, colon, stop = match.groups()
        parts.append(slice(int(start) if start else None, int(stop) if stop else None) if colon else int(start))
    try:
        return array[tuple(parts)]
    except IndexError:
        raise CommandError(f"[{text}] is outside of {_shape(array.shape, array.dtype)}") from None


def _number(text: str, what: str, default: int | None = None) -> int:
    if not text and default is not None:
        return default
    try:
        number = int(text, 0)
    except ValueError:
        raise CommandError(f"{what} is {text!r}, expected a number") from None
    if number < 0:
        raise CommandError(f"{what} is {number}, expected 0 or more")
    return number


def _range(debugger: Debugger, words: Sequence[str]) -> tuple[str, int, int]:
    """Returns memory, start and end of ``spad 0x100 64``."""
    space = words[0]
    if space not in SPACES:
        raise CommandError(f"unknown memory {space!r}{suggestion(space, SPACES)}; known: {', '.join(SPACES)}")
    if len(words) not in (2, 3):
        raise CommandError(f"say where: {space} ADDRESS [BYTES]")
    start, size = _number(words[1], "the address"), _number(words[2] if len(words) > 2 else "1", "the size")
    there = debugger.session.program.valid.memories[space]
    if not size or start + size > there:
        raise CommandError(f"{space} has bytes 0..{there - 1:#x}, not {start:#x}..{start + max(size, 1) - 1:#x}")
    return space, start, start + size


def _bytes(debugger: Debugger, space: str, start: int, end: int) -> Callable[[Memories], Array]:
    """Returns the function that reads bytes of a memory."""
    base = debugger.session.program.container.writable_base

    def read(memories: Memories) -> Array:
        if space != "dram":
            return getattr(memories, space)[start:end]
        gap = np.zeros(base - len(memories.constants), np.uint8)
        parts = (memories.constants, gap, memories.writable)
        begins = (0, len(memories.constants), base)
        return np.concatenate(
            [part[max(start - at, 0) : max(end - at, 0)] for part, at in zip(parts, begins, strict=True)]
        )

    return read


def _break(debugger: Debugger, argument: str) -> None:
    words = argument.split()
    if not words:
        raise CommandError("say where: break PC, break PATH, break unit NAME or break write SPACE ADDRESS [BYTES]")
    session = debugger.session
    if words[0] == "unit":
        unit = words[1] if len(words) == 2 else ""
        if unit not in UNITS:
            raise CommandError(f"unknown unit {unit!r}{suggestion(unit, UNITS)}; known: {', '.join(UNITS)}")
        number = session.add(AtUnit(unit))
    elif words[0] == "write":
        if len(words) < 2:
            raise CommandError("say where: break write SPACE ADDRESS [BYTES]")
        number = session.add(AtWrite(*_range(debugger, words[1:])))
    elif argument[0].isdigit():
        number = session.add(AtInstruction(_instruction(debugger, argument)))
    else:
        paths = debugger.paths()
        if not any(fnmatchcase(path, argument) for path in paths):
            hint = suggestion(argument, paths) if paths else "; the program has no debug map of modules"
            raise CommandError(f"no module's path matches {argument!r}{hint}")
        number = session.add(AtModule(argument))
    print(f"{number}: {session.stops[number]}")


def _instruction(debugger: Debugger, text: str) -> int:
    pc = _number(text, "the instruction")
    steps = debugger.session.program.valid.steps
    if pc >= len(steps):
        raise CommandError(f"there is no instruction {pc}, the last is {len(steps) - 1}")
    name = steps[pc].instruction.name
    if not steps[pc].is_executed:
        raise CommandError(f"instruction {pc} is a {name}, whose effect is part of the next instruction: break there")
    return pc


def _watch(debugger: Debugger, argument: str) -> None:
    words = argument.split()
    if not words:
        raise CommandError("say what: watch NAME or watch SPACE ADDRESS [BYTES]")
    session = debugger.session
    if words[0] in SPACES:
        where = _range(debugger, words)
        number = session.add(Watch(argument, *where, _bytes(debugger, *where)))
    else:
        shown = debugger.value(argument)
        number = session.add(Watch(argument, *shown.place, shown.read))
    print(f"{number}: {session.stops[number]}")


def _breakpoints(debugger: Debugger, argument: str) -> None:
    for number, stop in debugger.session.stops.items():
        print(f"{number}: {stop}")


def _delete(debugger: Debugger, argument: str) -> None:
    stops = debugger.session.stops
    number = _number(argument, "the breakpoint")
    if number not in stops:
        raise CommandError(f"there is no breakpoint {number}; `breakpoints` lists all")
    del stops[number]


def _stopped(debugger: Debugger, reasons: Iterable[str]) -> None:
    for reason in reasons:
        print(reason)
    debugger.show_place()


def _continue(debugger: Debugger, argument: str) -> None:
    _stopped(debugger, debugger.session.run_until())


def _step(debugger: Debugger, argument: str) -> None:
    session = debugger.session
    for _ in range(_number(argument, "the number of steps", 1)):
        if session.run.walk.is_at_end:
            print("the program has ended")
            break
        debugger.show_place()
        for line in session.written():
            print(f"   {line}")
    debugger.show_place()


def _tile(debugger: Debugger, argument: str) -> None:
    session = debugger.session
    reasons: list[str] = []
    for _ in range(_number(argument, "the number of tiles", 1)):
        here = (session.path, session.run.walk.counters)
        reasons = session.run_until(lambda place, here=here: (place.path, place.walk.counters) != here)
        if reasons:
            break
    _stopped(debugger, reasons)


def _layer(debugger: Debugger, argument: str) -> None:
    session = debugger.session
    reasons: list[str] = []
    for _ in range(_number(argument, "the number of layers", 1)):
        path = session.path
        reasons = session.run_until(lambda place, path=path: place.path != path)
        if reasons:
            break
    _stopped(debugger, reasons)


def _back(debugger: Debugger, argument: str) -> None:
    steps = _number(argument, "the number of steps", 1)
    debugger.session.go_to(max(debugger.session.run.walk.position - steps, 0))
    debugger.show_place()


def _reverse(debugger: Debugger, argument: str) -> None:
    _stopped(debugger, debugger.session.back_to_stop())


def _goto(debugger: Debugger, argument: str) -> None:
    debugger.session.go_to(_number(argument, "the position"))
    debugger.show_place()


def _print(debugger: Debugger, argument: str) -> None:
    shown = debugger.value(argument)
    _show(debugger, shown, shown.real)


def _integers(debugger: Debugger, argument: str) -> None:
    _show(debugger, debugger.value(argument), None)


def _show(debugger: Debugger, shown: Shown, real: Callable[[Array], NDArray[np.float64]] | None) -> None:
    integers, undefined = shown.read(debugger.session.run.memories), debugger.session.undefined(shown.read)
    if shown.stale is not None:
        undefined = undefined | shown.stale()
    number = int(np.count_nonzero(undefined))
    if number:
        missing = f"{count(number)} of {count(undefined.size)} elements are not written, {UNWRITTEN} in their places"
    else:
        missing = ""
    states = "; ".join(state for state in (shown.state, missing) if state)
    print(shown.title + (f" ({states})" if states else ""))
    print(_text(integers if real is None else real(integers), undefined))


def _matching(known: Sequence[Value], argument: str, what: str) -> list[Value]:
    """Items of a list whose name matches a pattern of the shell; all of them without one."""
    pattern = argument or "*"
    found = [one for one in known if fnmatchcase(one.name, pattern)]
    if not found:
        others = f"`{what}s` lists all" if known else f"the program has no debug map of {what}s"
        raise CommandError(f"no {what}'s name matches {pattern!r}; {others}")
    return found


def _buffers(debugger: Debugger, argument: str) -> None:
    rows = [
        [
            buffer.name,
            f"{buffer.space} {buffer.offset:#x}",
            " x ".join(map(str, buffer.shape)),
            buffer.dtype.name,
            f"{buffer.first}..{buffer.last}",
        ]
        for buffer in _matching(debugger.session.buffers, argument, "buffer")
    ]
    print_table(["buffer", "place", "shape", "type", "in use"], rows)


def _text(array: Array, undefined: NDArray[np.bool_]) -> str:
    """Returns numbers as text, with a sign in the place of each that is undefined."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        array = np.where(undefined, np.nan, array)
    elif undefined.any():
        array = np.where(undefined, UNWRITTEN, array.astype(str))
        width = max(map(len, array.reshape(-1).tolist()))
        array = np.char.rjust(array, width)
    with np.printoptions(nanstr=UNWRITTEN, formatter={"numpystr": str} if array.dtype.kind == "U" else None):
        return np.array2string(array, max_line_width=100, threshold=200, edgeitems=3, precision=5)


def _values(debugger: Debugger, argument: str) -> None:
    rows = [
        [
            debugger.name_of(value),
            value.operation,
            " x ".join(map(str, value.shape)),
            value.dtype.name,
            "" if value.scale is None else f"{value.scale:.4g}",
            str(value.zero_point),
            f"{value.space} {value.offset:#x}",
            f"{value.first}..{value.last}",
        ]
        for value in _matching(debugger.session.values, argument, "value")
    ]
    header = ["value", "operation", "shape", "type", "scale", "zero", "place", "written by"]
    print_table(header, rows, numbers=[4, 5])


def _memory(debugger: Debugger, argument: str) -> None:
    words = argument.split()
    if not words:
        raise CommandError("say where: memory SPACE ADDRESS [BYTES]")
    if len(words) == 2:
        start, there = _number(words[1], "the address"), debugger.session.program.valid.memories.get(words[0], 0)
        words.append(str(max(1, min(DUMP_BYTES, there - start))))
    space, start, end = _range(debugger, words)
    if end - start > MOST_DUMPED:
        raise CommandError(f"{end - start} bytes are more than the {MOST_DUMPED} that are shown at once")
    read = _bytes(debugger, space, start, end)
    data, undefined = read(debugger.session.run.memories), debugger.session.undefined(read)
    shown = [UNWRITTEN if unknown else f"{byte:02x}" for byte, unknown in zip(data, undefined, strict=True)]
    for line in range(0, len(shown), 16):
        print(f"{space} {start + line:#08x}  {' '.join(shown[line : line + 16])}")


def _registers(debugger: Debugger, argument: str) -> None:
    run = debugger.session.run.walk
    for name, value in run.registers.items():
        print(f"{name} = {value:#x} ({count(value)})")


def _list(debugger: Debugger, argument: str) -> None:
    lines = _number(argument, "the number of lines", LIST_LINES)
    session = debugger.session
    here, container = session.run.walk.step.pc, session.program.container
    path = None
    for step in session.program.valid.steps[max(here - lines, 0) : here + lines + 1]:
        if container.module_path(step.pc) != path:
            path = container.module_path(step.pc)
            print(f"           {path}:" if path else "           -")
        depth = "  " * step.depth
        print(f"{'=>' if step.pc == here else '  '} {step.pc:>5}  {depth}{print_instruction(step.instruction)}")


def _where(debugger: Debugger, argument: str) -> None:
    debugger.show_place()


def _help(debugger: Debugger, argument: str) -> None:
    if argument and ALIASES.get(argument, argument) not in COMMANDS:
        raise CommandError(f"unknown command {argument!r}{suggestion(argument, COMMANDS)}; `help` lists all")
    chosen = [ALIASES.get(argument, argument)] if argument else list(COMMANDS)
    short = {name: alias for alias, name in ALIASES.items()}
    for name in chosen:
        command = COMMANDS[name]
        alias = f" ({short[name]})" if name in short else ""
        print(f"{command.usage + alias:<48} {command.summary}")


def _quit(debugger: Debugger, argument: str) -> None:
    raise Quit


COMMANDS: dict[str, Command] = {
    "break": Command(
        "break PC|PATH|unit NAME|write SPACE ADDR [BYTES]",
        "stop before an instruction, where a module (a glob) begins, before a unit's work, before a write",
        _break,
        "path",
    ),
    "watch": Command("watch NAME|SPACE ADDR [BYTES]", "stop after a value or bytes have changed", _watch, "value"),
    "breakpoints": Command("breakpoints", "list breakpoints and watchpoints", _breakpoints),
    "delete": Command("delete N", "remove a breakpoint or watchpoint", _delete),
    "continue": Command("continue", "run to the next stop", _continue),
    "step": Command("step [N]", "execute instructions, and say what each has written", _step),
    "tile": Command("tile [N]", "run to the next iteration of the innermost loop, or out of it", _tile),
    "layer": Command("layer [N]", "run to the next module", _layer),
    "back": Command("back [N]", "go back by instructions", _back),
    "reverse": Command("reverse", "go back to the last breakpoint before here", _reverse),
    "goto": Command("goto POSITION", "go to a position, forwards or backwards", _goto),
    "where": Command("where", "show the place and the next instruction", _where),
    "list": Command("list [N]", "disassemble around the next instruction", _list),
    "registers": Command("registers", "show the next instruction's operands", _registers),
    "values": Command("values [GLOB]", "list the model's values that buffers hold", _values, "path"),
    "buffers": Command("buffers [GLOB]", "list all buffers of the program, those of tiles too", _buffers),
    "print": Command(
        "print NAME[SLICES]", "show a value, port or buffer, if it has a scale as real numbers", _print, "value"
    ),
    "integers": Command("integers NAME[SLICES]", "show a value as the machine's integers", _integers, "value"),
    "memory": Command("memory SPACE ADDR [BYTES]", "show bytes", _memory),
    "help": Command("help [COMMAND]", "say what there is", _help, "command"),
    "quit": Command("quit", "leave", _quit),
}
"""All commands by name."""

ALIASES = {
    "b": "break",
    "w": "watch",
    "c": "continue",
    "s": "step",
    "t": "tile",
    "l": "list",
    "p": "print",
    "x": "memory",
    "q": "quit",
    "h": "help",
}
"""Short names, as debuggers have them."""
