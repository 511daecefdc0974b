"""The keywords of `sta.compile`, as `help` and editors of notebooks show them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from textwrap import wrap
from typing import ParamSpec, TypeVar

from sta.passes.options import Keywords, options

P = ParamSpec("P")
T = TypeVar("T")

_PLACE = "\n        **keywords: the options, each a keyword:\n"
_WIDTH = 120


def describe_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """
    Returns a function that accepts `Keywords` with its full signature and docstring: a parameter and a paragraph for
    each option, where the docstring has the line for `**keywords`.
    """
    signature = inspect.signature(function)
    given = [one for one in signature.parameters.values() if one.kind != inspect.Parameter.VAR_KEYWORD]
    annotations = [annotation.__forward_arg__ for annotation in Keywords.__annotations__.values()]
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=annotation)
        for (name, option), annotation in zip(options().items(), annotations, strict=True)
    ]
    function.__dict__["__signature__"] = signature.replace(parameters=[*given, *keywords])
    # Python drops docstrings on request.
    if function.__doc__:
        head, place, rest = function.__doc__.partition(_PLACE)
        assert place
        function.__doc__ = "\n".join([head, *(_paragraph(name) for name in options()), rest])
    return function


def _paragraph(name: str) -> str:
    text = f"{name}: {options()[name].help}."
    return "\n".join(wrap(text, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 12, break_on_hyphens=False))
