"""``sta opt``: xDSL's driver with our dialects and passes, a weight store and a target."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import IO

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import parse_pipeline
from xdsl.utils.exceptions import ArgSpecParseError, DiagnosticException, ParseError
from xdsl.xdsl_opt_main import xDSLOptMain

from sta.api.cli.argument_parser import Parser, UsageError, check_options, print_help, raise_usage_error
from sta.api.cli.terminal import WIDTH, columns
from sta.api.compiler.pass_errors import explain_failures
from sta.api.dump.ir_dump import INDEX, Dump
from sta.api.files.output_file import check_output, write_text
from sta.backend.new_file import new_files
from sta.dialect.interpreters.any_level import level_of
from sta.dialect.ir.context import DEFAULT_TARGET, CompileContext
from sta.dialect.ir.location import has_locations
from sta.dialect.ir.reader import IrText, parse_ir, verify
from sta.dialect.ir.text import named_array, print_with_locations
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.pipeline import dialect_taken_by
from sta.spec.suggestion import suggestion
from sta.spec.target import Target, load_target


class _KeptText(StringIO):
    """A text stream that stays readable when the driver has closed its output."""

    def close(self) -> None:
        """Does nothing."""


def _add_context_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", metavar="FILE.safetensors", help="the arrays that the module names (default: those of the dump)"
    )
    parser.add_argument(
        "--sta-target",
        metavar="NAME|FILE.yaml",
        help=f"the machine that passes compile for (default: {DEFAULT_TARGET}, or that of the dump)",
    )


def _context(arguments: Sequence[str]) -> tuple[CompileContext, Dump | None]:
    """The context with the weights and the target of a command line, and their dump."""
    parser = Parser(add_help=False)
    _add_context_arguments(parser)
    chosen, others = parser.parse_known_args(arguments)
    dump = _dump_of(others)
    try:
        named = None if chosen.sta_target is None else load_target(chosen.sta_target)
    except ValueError as error:
        raise UsageError(str(error)) from error
    weights = None if chosen.weights is None else WeightStore.open(chosen.weights)
    if dump is None:
        return CompileContext(weights, named or load_target(DEFAULT_TARGET)), None
    context = CompileContext(weights or dump.weights(), named or Target.from_json(dump.target))
    return context, dump if weights is None else None


def _dump_of(arguments: Sequence[str]) -> Dump | None:
    """The dump whose directory holds one of the given files; None if there is none."""
    for argument in arguments:
        path = Path(argument)
        if path.suffix == ".mlir" and path.is_file() and (path.parent / INDEX).is_file():
            return Dump.read(path.parent)
    return None


class OptimizerDriver(xDSLOptMain):
    """
    Parses a module, runs passes on it and prints it.

    The context (``CompileContext``) gives passes the module's arrays and the target.
    """

    ctx: CompileContext

    def __init__(self, arguments: Sequence[str]) -> None:
        """
        Reads the command line.

        Raises:
            UsageError: an option or pass does not exist; with a suggestion.
            ValueError: the weights or the target cannot be read.
        """
        self._given = list(arguments)
        self._written = _KeptText()
        self._running: ModulePass | None = None
        self._level = ""
        """The dialect of the module before the pass."""
        self._text: IrText | None = None
        self._context, self._dump = _context(arguments)
        self._named: set[str] = set()
        super().__init__(
            "Run passes on a module of the torch, nm or sta dialect, or of any dialect of xDSL, and print it; "
            "-t sta-asm prints the instructions of a module that sta-allocate and sta-synchronize have been run on.",
            arguments,
        )
        self._debuginfo: bool | None = self.args.print_debuginfo

    def register_all_dialects(self) -> None:
        """Registers xDSL's dialects and ours; ours know the names of arrays."""
        from xdsl.universe import Universe

        self.ctx = self._context
        ours = set(self.ctx.registered_dialect_names)
        for name, dialect in Universe.get_multiverse().all_dialects.items():
            if name not in ours:
                self.ctx.register_dialect(name, dialect)
        # The printer asks it for the arrays that literals name, also if a pass made the first literal.
        self.ctx.load_registered_dialect("builtin")

    def register_all_frontends(self) -> None:
        """Reads MLIR, and shows errors at their place, unless errors are under test."""
        super().register_all_frontends()
        parse = self.available_frontends["mlir"]

        def parse_mlir(file: IO[bytes]) -> ModuleOp:
            module = parse(file) if self._is_for_xdsl() else self._read(file)
            # Locations lead to the model: a module with locations is printed with them.
            self.args.print_debuginfo = has_locations(module) if self._debuginfo is None else self._debuginfo
            return module

        self.available_frontends["mlir"] = parse_mlir

    def _is_for_xdsl(self) -> bool:
        given = self.args
        return (
            given.split_input_file or given.parsing_diagnostics or given.verify_diagnostics or given.no_implicit_module
        )

    def _read(self, file: IO[bytes]) -> ModuleOp:
        read = parse_ir(file.read().decode(), self.get_input_name(), self.ctx, ordered=False)
        if not self.args.disable_verify:
            verify(read)
        self._text = read
        return read.module

    def register_all_arguments(self, arg_parser: argparse.ArgumentParser) -> None:
        """Adds our options, and finds unknown ones before xDSL's parser does."""
        arg_parser.prog = "sta opt"
        arg_parser.error = raise_usage_error
        arg_parser.print_help = lambda file=None: print_help(arg_parser)
        self._add_arguments(arg_parser)
        if {"-h", "--help"} & set(self._given):
            self._describe_passes(arg_parser)
        # A parser that knows the spellings, for suggestions.
        shadow = Parser()
        self._add_arguments(shadow)
        check_options(self._given, shadow.options)

    def _describe_passes(self, parser: argparse.ArgumentParser) -> None:
        """Has the help list our passes first, with a line for each, and those of xDSL where they are asked for."""
        ours = [name for name in self.available_passes if dialect_taken_by(name) is not None]
        width = max(map(len, ours))
        room = max((columns() or 2 * WIDTH) - width - 4, WIDTH // 3)
        lines = [f"  {name:<{width}}  {_summary(self.available_passes[name](), room)}" for name in ours]
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.description = "\n".join(
            [textwrap.fill(parser.description or "", columns() or 2 * WIDTH), "", "passes:", *lines]
        )
        others = ", ".join(sorted(set(self.available_passes) - set(ours)))
        for action in parser._actions:  # pyright: ignore[reportPrivateUsage] - argparse has no other way
            if action.dest == "passes":
                action.help = f"passes to run, with commas between them: those above, or of others: {others}"

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().register_all_arguments(parser)
        # xDSL's own option asks for them everywhere.
        parser.set_defaults(print_debuginfo=None)
        parser.add_argument(
            "--no-print-debuginfo",
            dest="print_debuginfo",
            action="store_false",
            default=None,
            help="leave out the locations, which otherwise are printed of a module that came with some",
        )
        _add_context_arguments(parser)
        parser.add_argument("--save-weights", metavar="FILE.safetensors", help="where to write them after the passes")

    def setup_pipeline(self) -> None:
        """Makes the list of passes."""
        self._check_passes()
        try:
            super().setup_pipeline()
        except ValueError as error:
            raise UsageError(f"argument --passes: {_last_line(error)}") from error
        after = self.pipeline.callback

        def between(previous: ModulePass | None, module: ModuleOp, following: ModulePass | None) -> None:
            self._running, self._level = following, _level(module)
            if after is not None:
                after(previous, module, following)

        self.pipeline = replace(self.pipeline, callback=between)

    def _check_passes(self) -> None:
        try:
            specs = list(parse_pipeline(self.args.passes))
        except ArgSpecParseError as error:
            reason = f'{_last_line(error)}; write pass{{option=1}}, and text in quotes: pass{{option="2:4"}}'
            raise UsageError(f"argument --passes: {reason}") from error
        for spec in specs:
            if spec.name not in self.available_passes:
                raise UsageError(f"unknown pass {spec.name!r}{suggestion(spec.name, self.available_passes)}")
            options = [field.name.replace("_", "-") for field in fields(self.available_passes[spec.name]())]
            for option in spec.parameters:
                if option.replace("_", "-") not in options:
                    known = f"; known: {', '.join(options)}" if options else "; it has none"
                    raise UsageError(f"pass {spec.name} has no option {option!r}{suggestion(option, options) or known}")

    def apply_passes(self, prog: ModuleOp) -> None:
        """
        Runs the passes.

        Raises:
            ValueError: one failed; of what is no message of its own, as where passes are left out, names the pass.
        """
        try:
            with explain_failures(lambda: "the input" if self._running is None else f"pass {self._running.name}"):
                super().apply_passes(prog)
        except (ValueError, DiagnosticException) as error:
            running = self._running
            taken = None if running is None else dialect_taken_by(running.name)
            if running is not None and self._level and taken not in (None, self._level):
                raise ValueError(
                    f"pass {running.name} takes a module of the {taken} dialect, and this is one of {self._level}: see "
                    "docs/dialects.md for the order of passes"
                ) from error
            shown = None if self._text is None else self._text.placed(str(error))
            if shown is None:
                raise
            raise shown from error

    def prepare_output(self) -> IO[str]:
        """The output file, written when everything has gone well."""
        return sys.stdout if self.args.output_file is None else self._written

    def run(self) -> None:
        """Does the work; raises the errors of parser, verifiers and passes."""
        given = self.args.input_file
        sources = [] if given in (None, "-") else [Path(given)]
        for path in (self.args.output_file, self.args.save_weights):
            if path is not None:
                check_output(Path(path), *sources)
        # Whatever the file is called, its contents are IR.
        self.args.frontend = self.args.frontend or "mlir"
        super().run()
        with new_files():
            if self.args.output_file is not None:
                write_text(Path(self.args.output_file), self._written.getvalue())
                self._keep_arrays(Path(self.args.output_file))
            if self.args.save_weights is not None:
                self.ctx.weights.save(self.args.save_weights)

    def output_resulting_program(self, prog: ModuleOp) -> str:
        """The text; remembers the arrays that it names."""
        self._named.update(name for operation in prog.walk() if (name := named_array(operation)) is not None)
        given = self.args
        other = given.print_op_generic or given.print_no_properties or given.syntax_highlight or given.target != "mlir"
        if given.print_debuginfo and not other and _level(prog):
            return print_with_locations(prog)
        return super().output_resulting_program(prog)

    def _keep_arrays(self, path: Path) -> None:
        """Adds arrays that passes made of a dump's module to the dump, if the result is written there."""
        if self._dump is None:
            return
        made = sorted(name for name in self._named if name not in self._dump.arrays and name in self.ctx.weights)
        if not made:
            return
        if path.parent.exists() and path.parent.samefile(self._dump.directory):
            self._dump.add({name: self.ctx.weights.get(name) for name in made})
        elif self.args.save_weights is None:
            warnings.warn(
                f"{path} names arrays that the passes have made, {made[0]!r} for one, and nothing keeps them: write it "
                f"to {self._dump.directory}, or give --save-weights",
                stacklevel=2,
            )


def execute(arguments: Sequence[str]) -> int:
    """
    Runs the command and returns its exit code.

    Raises:
        UsageError: an option or pass does not exist.
        ValueError: the input cannot be parsed or verified, or a pass failed; the message shows the place.
        OSError: a file cannot be read or written.
    """
    try:
        OptimizerDriver(arguments).run()
    except ParseError as error:
        raise ValueError(_parse_message(error)) from error
    except DiagnosticException as error:
        raise ValueError(_diagnostic_message(error)) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"the input is not UTF-8 text: {error}") from error
    return 0


def _summary(kind: type[ModulePass], room: int) -> str:
    """The first sentence of a pass's docstring, in a line with room for so many characters."""
    text = " ".join((kind.__doc__ or "").split())
    return textwrap.shorten(re.split(r"(?<=[.;:]) ", text)[0].rstrip(".;:"), room, placeholder=" …")


def _level(module: ModuleOp) -> str:
    """The dialect of a module; "" for one without a function `main`."""
    try:
        return level_of(module)
    except ValueError:
        return ""


def _last_line(error: BaseException) -> str:
    """The message alone: xDSL puts the place before it."""
    return str(error).strip().splitlines()[-1].strip()


def _parse_message(error: ParseError) -> str:
    """The place and the message, then the line with the place marked."""
    place, *context = error.span.print_with_context().rstrip().splitlines()
    return "\n".join([f"{place}: {' '.join(error.msg.split())}", *context])


def _diagnostic_message(error: DiagnosticException) -> str:
    """The message, then its operation in the whole module that xDSL prints."""
    notes = "\n".join(getattr(error, "__notes__", [])).splitlines()
    marks = [position for position, line in enumerate(notes) if re.fullmatch(r"\s*\^+-*", line)]
    return "\n".join([str(error).strip(), *(notes[position - 1] for position in marks[:1] if position)])
