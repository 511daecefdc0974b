"""``sta debug``: a run of a program, step by step. Needs NumPy only; on a terminal, prompt_toolkit as well."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sta.api.cli.argument_parser import UsageError, about
from sta.api.cli.progress import Progress
from sta.api.files.run_files import read_sample
from sta.api.inspect.debug_commands import CommandError, Debugger, Quit
from sta.api.inspect.debug_session import Session
from sta.runtime import load
from sta.runtime.errors import ProgramError
from sta.runtime.program import POISON

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

PROMPT = "(sta) "
HISTORY = ".sta_debug_history"
"""The file in the home directory with the history of commands."""


def execute(arguments: Namespace) -> None:
    """
    Runs the command.

    Raises:
        OSError: a file cannot be read.
        ValueError: the program or the inputs cannot be used, or a command that was not typed at a terminal failed.
    """
    if arguments.standard_input_is_read and arguments.command is None:
        raise UsageError("standard input is a file here: give the commands with --command")
    with about(arguments.program):
        program = load(arguments.program)
        program.check()
    inputs = read_sample(program, Path(arguments.inputs), arguments.sample)
    progress = _StageProgress()
    session = Session(program, inputs, POISON, progress.report)
    progress.total = session.total
    debugger = Debugger(session)
    if arguments.command is None and sys.stdin.isatty():
        _converse(debugger, progress)
        return
    lines = sys.stdin if arguments.command is None else arguments.command
    try:
        for line in lines:
            _carry_out(debugger, line, progress)
    except Quit:
        return


class _StageProgress:
    """Progress of the present command."""

    def __init__(self) -> None:
        self.total = 1
        self.shown: Progress | None = None

    def report(self, position: int) -> None:
        """Receives the position of the run."""
        if self.shown is not None:
            self.shown.report("run", position / max(self.total, 1))


def _carry_out(debugger: Debugger, line: str, progress: _StageProgress) -> None:
    with Progress() as progress.shown:
        debugger.execute(line)


def _converse(debugger: Debugger, progress: _StageProgress) -> None:
    """Reads commands at a terminal until the user leaves; errors end nothing."""
    debugger.show_place()
    for line in _typed(_prompt(debugger)):
        try:
            _carry_out(debugger, line, progress)
        except Quit:
            return
        except (CommandError, ProgramError) as error:
            print(error)
        except KeyboardInterrupt:
            print("interrupted")
            debugger.show_place()


def _typed(prompt: PromptSession[str]) -> Iterator[str]:
    """Iterates over the typed lines; an empty line repeats the last one."""
    line = ""
    while True:
        try:
            line = prompt.prompt(PROMPT).strip() or line
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        yield line


def _prompt(debugger: Debugger) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import FileHistory

    class Completions(Completer):
        """Completes commands and their names."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            """Iterates over the completions of the word before the cursor."""
            line = document.text_before_cursor
            argument = line.lstrip().partition(" ")[2].lstrip()
            start = -len(argument) if " " in line.lstrip() else -len(line.lstrip())
            for text in debugger.completions(line):
                yield Completion(text, start)

    history: Any = FileHistory(str(Path.home() / HISTORY))
    return PromptSession(history=history, completer=Completions(), complete_while_typing=False)
