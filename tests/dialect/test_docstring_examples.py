"""Every operation's docstring example is in the lit test of examples, where it is parsed and printed as it stands."""

from __future__ import annotations

import pytest
from xdsl.ir import Dialect

from tests.support.docstring_examples import DIALECTS, lit_test, path_of


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_lit_test_holds_the_examples_of_the_docstrings(dialect: Dialect) -> None:
    committed = path_of(dialect).read_text(encoding="utf-8")
    assert committed == lit_test(dialect), "run: python -m tests.support.docstring_examples"
