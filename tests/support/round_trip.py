"""Printing a module and parsing it again."""

from __future__ import annotations

from io import StringIO

from xdsl.parser import Parser
from xdsl.printer import Printer

from sta.dialect.ir.text import print_with_locations
from tests.support.nm_builder import Case

FORMS = ("pretty", "generic", "with locations")


def text_of(case: Case, form: str) -> str:
    """Returns a module's text in one of `FORMS`."""
    if form == "with locations":
        return print_with_locations(case.module)
    text = StringIO()
    Printer(stream=text, print_generic_format=form == "generic").print_op(case.module)
    return text.getvalue()


def check_round_trip(case: Case) -> None:
    """Fails unless every form of a module's text is parsed back to the same module, and printed the same again."""
    for form in FORMS:
        text = text_of(case, form)
        parsed = Parser(case.context, text).parse_module()
        parsed.verify()
        assert parsed.is_structurally_equivalent(case.module), f"the {form} text is parsed to something else"
        assert text_of(Case(parsed, case.context, {}), form) == text
