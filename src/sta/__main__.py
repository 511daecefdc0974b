"""The `sta` command: `sta`, or `python -m sta`."""

import os
import sys
from typing import NoReturn


def command() -> NoReturn:
    """Runs the command line and ends the process; an interrupt ends it in the same words from the first import on."""
    try:
        if "_ARGCOMPLETE" in os.environ:
            from sta.api.cli.completion import complete

            complete()
        from sta.api.cli.command_line import command

        command()
    except KeyboardInterrupt:
        print("sta: error: interrupted", file=sys.stderr, flush=True)
        os._exit(130)


if __name__ == "__main__":
    command()
