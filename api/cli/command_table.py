"""All commands: what each is for, and the arguments that it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sta.api.cli.argument_parser import Parser


class Command(NamedTuple):
    """A command: ``execute`` of the module of its name in ``sta.api.cli.commands`` does its work."""

    summary: str
    add_arguments: Callable[[Parser], None]


def _add_compile_arguments(parser: Parser) -> None:
    from sta.api.cli.compile_options import add_options

    _add_model(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE.sta",
        help="the compiled program (default: the model's name with .sta, in the current folder)",
    )
    add_options(parser)
    parser.add_argument(
        "--explain", action="store_true", help="show each layer's tiling and the reason; with --json also memory maps"
    )
    parser.add_argument("--timing", action="store_true", help="show the time of every pass")
    _add_json(parser)


def _add_model(parser: Parser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL.pt2|MODEL.onnx|DIR|NN-PASS.mlir",
        help="a program saved with torch.export.save, an ONNX model, the directory of a Hugging Face model, with "
        "config.json and safetensors, or a file of --dump-ir",
    )


def _add_check_arguments(parser: Parser) -> None:
    from sta.api.cli.compile_options import add_options

    parser.description = (
        "Check whether a model compiles, without calibration data: list everything that is missing, and end with the "
        "exit code 1, or show what the program would cost."
    )
    _add_model(parser)
    names = ("target", "task", "seq", "batch", "sparsity", "softmax", "probability_bits", "int16_inputs")
    add_options(parser, names)
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
        "-o", "--output", metavar="FILE.npz|DIR", help="where to write the outputs by name, float32; for a folder one"
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
    parser.add_argument("--code", action="store_true", help="show the instructions only: --section code")
    parser.add_argument("--section", metavar="NAME", action="append", help="show this section only; can be given again")
    parser.add_argument(
        "--module",
        metavar="GLOB",
        action="append",
        help="show only instructions of these modules and what is in them",
    )
    parser.add_argument("--json", action="store_true", help="write JSON instead, which `sta asm` does not read")


def _add_where_arguments(parser: Parser) -> None:
    parser.add_argument(
        "program", metavar="FILE.sta", nargs="?", help="the program; only a line of a dump can do without"
    )
    parser.add_argument(
        "place",
        metavar="PLACE",
        help="a line of a dump (NN-pass.mlir:LINE), an instruction (@ADDRESS), a line of the model's source "
        "(FILE.py:LINE), a module path, for all that is in it (encoder.layer.0), or a pattern ('encoder.*.query')",
    )
    _add_json(parser)


def _add_asm_arguments(parser: Parser) -> None:
    parser.add_argument("source", metavar="FILE.s", help="assembly as `sta objdump` writes it")
    parser.add_argument("-o", "--output", metavar="FILE.sta", required=True, help="the program")
    _add_json(parser)


def _add_debug_arguments(parser: Parser) -> None:
    parser.add_argument("program", metavar="FILE.sta", help="a compiled program")
    parser.add_argument("--inputs", metavar="FILE.npz|DIR", required=True, help="the inputs of the run, by name")
    _add_sample(parser)
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
    parser.add_argument(
        "--pruned",
        action="store_true",
        help="compare with the model after the compile's pruning: what is left is the compiler's, not the pruning's",
    )
    _add_json(parser)


def _add_report_arguments(parser: Parser) -> None:
    parser.add_argument("program", metavar="FILE.sta", help="a compiled program")
    parser.add_argument("other", metavar="FILE.sta", nargs="?", help="a program to compare with")
    parser.add_argument("-o", "--output", metavar="FILE.html", required=True, help="the report")
    parser.add_argument("--inputs", metavar="FILE.npz|DIR", help="inputs by name: run on these, and show the outputs")
    _add_sample(parser)
    parser.add_argument(
        "--ir", metavar="DIR", help="a folder of `sta compile --dump-ir DIR`: show the IR of every pass"
    )
    parser.add_argument("--diff", metavar="FILE.json", help="output of `sta diff --json`: show what operations lose")
    _add_json(parser)


def _add_sample(parser: Parser) -> None:
    parser.add_argument("--sample", metavar="N", type=int, help="which of the runs that the inputs are of, from 1")


def _add_info_arguments(parser: Parser) -> None:
    parser.add_argument("program", metavar="FILE.sta", help="a compiled program")
    _add_json(parser)


def _add_targets_arguments(parser: Parser) -> None:
    parser.add_argument(
        "target", metavar="NAME|FILE.yaml", nargs="?", help="show this machine, after it has been checked"
    )
    _add_json(parser)


def _add_help_arguments(parser: Parser) -> None:
    parser.add_argument("topic", metavar="COMMAND", nargs="?", help="the command to explain")


def _add_opt_files(parser: Parser) -> None:
    """The arguments of `sta opt` that are files; it reads its arguments itself."""
    parser.add_argument("module", metavar="FILE.mlir", nargs="?")
    parser.add_argument("-o", "--output-file")
    parser.add_argument("--weights", metavar="FILE.safetensors")
    parser.add_argument("--save-weights", metavar="FILE.safetensors")
    parser.add_argument("--sta-target", metavar="NAME|FILE.yaml")


def _add_completion_arguments(parser: Parser) -> None:
    from sta.api.cli.completion import SHELLS

    parser.description = (
        "Print the script with which a shell completes commands, options and files; for bash, once and for all: "
        "sta completion bash > ~/.local/share/bash-completion/completions/sta"
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def _add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


COMMANDS = {
    "compile": Command("compile a model to a program", _add_compile_arguments),
    "check": Command("say whether a model compiles, what is missing, and the cost", _add_check_arguments),
    "quantize": Command("quantize a model", _add_quantize_arguments),
    "run": Command("run a program", _add_run_arguments),
    "opt": Command("run passes on a module of the torch, nm or sta dialect", _add_opt_files),
    "gui": Command("try out passes on a module in a window of the terminal", _add_gui_arguments),
    "objdump": Command("show everything in a program, as assembly", _add_objdump_arguments),
    "asm": Command("assemble a program", _add_asm_arguments),
    "debug": Command("step through a run, look at values", _add_debug_arguments),
    "diff": Command("compare a run with the float model, operation by operation", _add_diff_arguments),
    "where": Command("show source, instructions and cycles of a module or a line", _add_where_arguments),
    "report": Command("write a page about a program, for a browser", _add_report_arguments),
    "info": Command("show what a program is: inputs, outputs, cost, how it was made", _add_info_arguments),
    "targets": Command("list the machines that come with the toolchain, or show one", _add_targets_arguments),
    "version": Command("show the versions of the toolchain and of what it uses", _add_json),
    "completion": Command("print a shell's script for completion", _add_completion_arguments),
    "help": Command("explain a command", _add_help_arguments),
}
"""All commands by name."""


def parser_of(name: str) -> Parser:
    """Returns the parser of a command."""
    command = COMMANDS[name]
    parser = Parser(prog=f"sta {name}", description=command.summary.capitalize() + ".")
    add_command_arguments(parser, command)
    return parser


def add_command_arguments(parser: Parser, command: Command) -> None:
    """Adds the arguments of a command, and those that every command takes."""
    command.add_arguments(parser)
    add_global_arguments(parser)


def add_global_arguments(parser: Parser) -> None:
    """Adds what every command takes, before its name or behind it."""
    parser.add_argument("--debug", action="store_true", help="show the Python traceback of an error")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="no progress, and nothing about a file that is written but warnings"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show every stage, and all columns of tables, however narrow"
    )
