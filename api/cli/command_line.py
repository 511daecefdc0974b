"""
The ``sta`` command.

Results go to standard output, progress, warnings and errors to standard error. The exit code is 0, or 1 with one ``sta:
error:`` message for unusable input, or 2 for a wrong call of a command.

Only the modules that the command needs are imported: running a program needs NumPy, compiling one torch and xDSL as
well.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import traceback
import warnings
from argparse import Action, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, NoReturn, TextIO

from sta.api.cli.argument_parser import Parser, UsageError, check_options
from sta.spec.suggestion import suggestion

_DESCRIPTION = "Compile Transformers to STA microcode, and run it bit-exactly."


_EXTRAS = {"vl_convert": "report", "textual": "gui", "pyclip": "gui", "prompt_toolkit": "cli", "rich": "cli"}
"""Extras by the packages that they bring, for packages outside of `compile`."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a full disk or quota, and of a file that is too large; a file is named."""


class _Command(NamedTuple):
    """A command: ``execute`` of the module of its name in ``sta.api.cli.commands`` does its work."""

    summary: str
    add_arguments: Callable[[Parser], None]


def _add_compile_arguments(parser: Parser) -> None:
    from sta.api.cli.compile_options import add_options

    parser.add_argument(
        "model",
        metavar="MODEL.pt2|MODEL.onnx|NN-PASS.mlir",
        help="a program saved with torch.export.save, an ONNX model, or a file of --dump-ir",
    )
    parser.add_argument("-o", "--output", metavar="FILE.sta", required=True, help="the compiled program")
    add_options(parser)
    parser.add_argument(
        "--explain", action="store_true", help="show each layer's tiling and the reason; with --json also memory maps"
    )
    parser.add_argument("--timing", action="store_true", help="show the time of every pass")
    _add_json(parser)


def _add_quantize_arguments(parser: Parser) -> None:
    parser.description = (
        "Quantize a float model after training, with PyTorch's export quantization (PT2E): `sta compile` accepts "
        "the result and keeps its scales. Without SmoothQuant, GPTQ and 16-bit inputs, which float models get from "
        "`sta compile --calibration`."
    )
    parser.add_argument("model", metavar="MODEL.pt2", help="a program saved with torch.export.save")
    parser.add_argument(
        "--calibration",
        metavar="FILE.npz",
        required=True,
        help="inputs by name, first axis the samples, for the ranges of activations",
    )
    parser.add_argument("-o", "--output", metavar="FILE.pt2", required=True, help="the quantized program")
    parser.add_argument(
        "--ranges",
        metavar="HOW",
        choices=("extremes", "error"),
        default="extremes",
        help="ranges of 8-bit values: extremes (default), or error, which minimizes the squared error",
    )
    _add_json(parser)


def _add_gui_arguments(parser: Parser) -> None:
    parser.add_argument("module", metavar="FILE.mlir", nargs="?", help="a module, for one a file of --dump-ir")


def _add_inputs_of_runs(parser: Parser) -> None:
    parser.add_argument(
        "--inputs",
        metavar="FILE.npz|DIR",
        required=True,
        help="the inputs by name; for many runs with one more leading axis, or a folder of such files",
    )


def _add_run_arguments(parser: Parser) -> None:
    parser.add_argument("program", metavar="FILE.sta", help="a compiled program")
    _add_inputs_of_runs(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE.npz|DIR", required=True, help="the outputs by name, float32; for a folder one"
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        default="auto",
        help="auto, native, reference, or both, which compares all state that they leave (default: auto)",
    )
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="threads of the processor (default: 1)")
    parser.add_argument(
        "--check-races", action="store_true", help="stop unless semaphores and fences order all conflicting accesses"
    )
    parser.add_argument("--profile", action="store_true", help="show where the time goes, by module of the model")
    parser.add_argument(
        "--profile-depth",
        metavar="N",
        type=int,
        help="profile modules as one that agree in the first N parts of their paths",
    )
    parser.add_argument(
        "--trace", metavar="FILE.json", help="write a trace for ui.perfetto.dev; compressed if it ends in .gz"
    )
    _add_json(parser)


def _add_objdump_arguments(parser: Parser) -> None:
    parser.add_argument("program", metavar="FILE.sta", help="a compiled program")
    parser.add_argument("-o", "--output", metavar="FILE.s", help="where to write (default: standard output)")
    parser.add_argument("--json", action="store_true", help="write JSON instead, which `sta asm` does not read")


def _add_where_arguments(parser: Parser) -> None:
    parser.add_argument(
        "place",
        metavar="PLACE",
        help="a line of a dump (NN-pass.mlir:LINE), an instruction (@ADDRESS), a line of the model's source "
        "(FILE.py:LINE), or a pattern for module paths ('encoder.layer.0.*')",
    )
    parser.add_argument(
        "program", metavar="FILE.sta", nargs="?", help="the program; only a line of a dump can do without"
    )
    _add_json(parser)


def _add_asm_arguments(parser: Parser) -> None:
    parser.add_argument("source", metavar="FILE.s", help="assembly as `sta objdump` writes it; - for standard input")
    parser.add_argument("-o", "--output", metavar="FILE.sta", required=True, help="the program")
    _add_json(parser)


def _add_debug_arguments(parser: Parser) -> None:
    parser.add_argument("program", metavar="FILE.sta", help="a compiled program")
    parser.add_argument("--inputs", metavar="FILE.npz", required=True, help="the inputs of the run, by name")
    parser.add_argument(
        "--command",
        metavar="COMMAND",
        action="append",
        help="carry out a command of the debugger, and end; can be given again (`--command help` lists all)",
    )


def _add_diff_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL.pt2", help="the model of the program")
    parser.add_argument("program", metavar="FILE.sta", help="the compiled program")
    _add_inputs_of_runs(parser)
    parser.add_argument(
        "--bisect",
        metavar="DB",
        type=float,
        help="name the first operation whose accumulated SQNR is below this, and whether it is wrong by itself",
    )
    _add_json(parser)


def _add_report_arguments(parser: Parser) -> None:
    parser.add_argument("program", metavar="FILE.sta", help="a compiled program")
    parser.add_argument("other", metavar="OTHER.sta", nargs="?", help="a program to compare with")
    parser.add_argument("-o", "--output", metavar="FILE.html", required=True, help="the report")
    parser.add_argument("--inputs", metavar="FILE.npz", help="inputs by name: run on these, and show the outputs")
    parser.add_argument(
        "--ir", metavar="DIR", help="a folder of `sta compile --dump-ir DIR`: show the IR of every pass"
    )
    parser.add_argument("--diff", metavar="FILE.json", help="output of `sta diff --json`: show what operations lose")
    _add_json(parser)


def _add_nothing(parser: Parser) -> None:
    """For a command that reads its arguments itself."""


def _add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


COMMANDS = {
    "compile": _Command("compile a model to a program", _add_compile_arguments),
    "quantize": _Command("quantize a model", _add_quantize_arguments),
    "run": _Command("run a program", _add_run_arguments),
    "opt": _Command("run passes on a module of the torch, nm or sta dialect", _add_nothing),
    "gui": _Command("try out passes on a module in a window of the terminal", _add_gui_arguments),
    "objdump": _Command("show everything in a program, as assembly", _add_objdump_arguments),
    "asm": _Command("assemble a program", _add_asm_arguments),
    "debug": _Command("step through a run, look at values", _add_debug_arguments),
    "diff": _Command("compare a run with the float model, operation by operation", _add_diff_arguments),
    "where": _Command("show source, instructions and cycles of a module or a line", _add_where_arguments),
    "report": _Command("write a page about a program, for a browser", _add_report_arguments),
    "targets": _Command("list the machines to compile for", _add_json),
}
"""All commands by name."""


class _ShowVersion(Action):
    """Prints the version; a class of its own because looking the version up takes a moment."""

    def __call__(self, parser: ArgumentParser, *arguments: Any) -> None:
        from importlib.metadata import version

        print(f"sta {version('sta-toolchain')}")
        parser.exit()


def _add_global_arguments(parser: Parser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the Python traceback of an error")


def _overview() -> Parser:
    """The parser of the command line up to the command."""
    lines = [f"  {name:<9} {command.summary}" for name, command in COMMANDS.items()]
    parser = Parser(
        prog="sta",
        usage="sta COMMAND ...",
        description=_DESCRIPTION + "\n\ncommands:\n" + "\n".join(lines),
        epilog="`sta COMMAND --help` says more about a command.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    _add_global_arguments(parser)
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    return parser


def _split(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Arguments before the command, the command or "", and arguments after it."""
    for position, argument in enumerate(arguments):
        if not argument.startswith("-"):
            return list(arguments[:position]), argument, list(arguments[position + 1 :])
    return list(arguments), "", []


def _execute(arguments: Sequence[str]) -> int:
    before, name, after = _split(arguments)
    overview = _overview()
    check_options(before, overview.options)
    overview.parse_args(before)
    if not name:
        raise UsageError(f"a command is missing: one of {', '.join(COMMANDS)}")
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}{suggestion(name, COMMANDS)}")
    command = COMMANDS[name]
    execute = import_module(f"sta.api.cli.commands.{name}").execute
    if name == "opt":
        # xDSL's driver has a parser of its own.
        return execute([argument for argument in after if argument != "--debug"])
    parser = Parser(prog=f"sta {name}", description=command.summary.capitalize() + ".")
    command.add_arguments(parser)
    _add_global_arguments(parser)
    check_options(after, parser.options)
    execute(parser.parse_args(after))
    return 0


def _status(arguments: Sequence[str]) -> int:
    """The exit code of a command, even if it shows its help, with which argparse would end the process."""
    try:
        return _execute(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs the command line and returns its exit code.

    Args:
        arguments: what follows ``sta``; those of the process if None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _show_warning
        try:
            status = _status(given)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            # The reader has closed the pipe; Python must not try to write the rest when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except KeyboardInterrupt:
            return _fail("interrupted", 130)
        except UsageError as error:
            command = " ".join(["sta", *(name for name in [_split(given)[1]] if name in COMMANDS)])
            return _fail(f"{error} (see `{command} --help`)", 2)
        except Exception as error:
            if "--debug" in given:
                traceback.print_exc()
            return _fail(_describe(error), 1)


def command() -> NoReturn:
    """
    The installed `sta`: runs the command line and ends the process.

    Tearing down PyTorch and the compiler takes seconds and serves nobody; like mypy and others, the process ends
    without it. It does not collect garbage either: a command needs what it allocates.
    """
    gc.disable()
    # Python has None for a stream that was closed before it began.
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    status = main()
    # A failed write has been reported.
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


def _fail(message: str, status: int) -> int:
    print(f"sta: error: {message}", file=sys.stderr)
    return status


def _describe(error: Exception) -> str:
    """Text of the message for an error."""
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("sta"):
        extra = _EXTRAS.get((error.name or "").partition(".")[0], "compile")
        return f"this needs the package {error.name}: install sta-toolchain[{extra}]"
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or ("standard output" if error.errno in _FULL else None)
        return f"{place}: {error.strerror}" if place else error.strerror
    if isinstance(error, ValueError | OSError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"internal error, please report it with what --debug shows: {reason}"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"sta: warning: {message}", file=sys.stderr)
