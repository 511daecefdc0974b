"""docs/options.md: the options of a compile. `python -m sta.api.cli.options_page` prints the page."""

from __future__ import annotations

from collections.abc import Generator

from sta.passes.options import Keywords, Option, options

_HEAD = """# Options of a compile

Keywords of `sta.compile`, and options of `sta compile`. `make docs` writes this page from `sta.passes.options`, where
each is defined.

| keyword | command line | default | meaning |
|---|---|---|---|"""

_TAIL = """
The command has `-o FILE.sta`, `--explain`, `--timing` and `--json` besides: `sta compile --help`."""


def page() -> str:
    """Returns the page."""
    assert list(Keywords.__annotations__) == list(options())
    rows = [_row(option) for option in options().values()]
    return "\n".join([_HEAD, *rows, _TAIL])


def _row(option: Option) -> str:
    spelt = ", ".join(_spellings(option)) or "-"
    default = "-" if callable(option.default) else f"`{option.default!r}`"
    return f"| `{option.name}` | {spelt} | {default} | {option.help.replace('|', chr(92) + '|')} |"


def _spellings(option: Option) -> Generator[str]:
    for flag in option.without:
        yield f"`{flag}`"
    if option.command_line is not None:
        metavar = str(option.command_line.get("metavar", "")).replace("|", "\\|")
        yield f"`{option.flag} {metavar}`" if metavar else f"`{option.flag}`"


if __name__ == "__main__":
    print(page())
