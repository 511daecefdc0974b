"""Compile options: defined once, in every form in which users meet them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import sta
from sta.api.cli.argument_parser import Parser
from sta.api.cli.compile_options import add_options, keywords_of
from sta.api.cli.options_page import page
from sta.passes.option_values import METHODS, Sparsity
from sta.passes.options import Keywords, Options, options
from sta.spec.target import load_target

ROOT = Path(__file__).parents[2]


def parsed(*arguments: str) -> Keywords:
    parser = Parser()
    add_options(parser)
    return keywords_of(parser.parse_args(arguments))


def test_keywords_and_options_are_the_same() -> None:
    assert list(Keywords.__annotations__) == list(options())


def test_the_signature_and_the_docstring_have_every_option() -> None:
    parameters = inspect.signature(sta.compile).parameters
    assert list(parameters) == ["model", "example_inputs", *options()]
    text = " ".join((sta.compile.__doc__ or "").split())
    for name, option in options().items():
        assert parameters[name].default is option.default
        assert parameters[name].kind == inspect.Parameter.KEYWORD_ONLY
        assert f"{name}: {' '.join(option.help.split())}." in text


def test_the_page_is_what_make_docs_writes() -> None:
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == page() + "\n", "run `make docs`"


def test_the_command_line_without_options_is_the_defaults() -> None:
    given = parsed()
    assert Options.of(**given) == Options()


def test_values_of_the_command_line() -> None:
    given = parsed(
        *("--target", "sta-small", "--sparsity", "2:4", "--softmax", "row", "--probability-bits", "16"),
        *("--int16-inputs", "a.*", "--int16-inputs", "b", "--min-sqnr", "30", "--no-smoothing", "--check"),
        *("--dump-ir", "ir", "--only", "a.*"),
    )
    found = Options.of(**given)
    assert found == Options(
        target=load_target("sta-small"),
        sparsity=Sparsity("2:4"),
        softmax="row",
        probability_bits="16",
        int16_inputs=("a.*", "b"),
        min_sqnr=30.0,
        methods=METHODS[1:],
        check=True,
        dump_ir=Path("ir"),
        only="a.*",
    )


def test_samples_are_given_by_calibration_and_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    path.touch()
    given = parsed("--evaluation", str(path))
    given["calibration"] = {"x": 1}
    assert Options.of(**given).samples == {"calibration": {"x": 1}, "evaluation": path}
    assert Options().samples == {}
    with pytest.raises(TypeError, match=r"^evaluation is a mapping from input name to array, .*, not int$"):
        Options.of(evaluation=1)  # pyright: ignore[reportArgumentType] - what is refused
    with pytest.raises(OSError, match="missing"):
        Options.of(evaluation=tmp_path / "missing.npz")


def test_every_option_of_the_command_line_has_a_keyword() -> None:
    parser = Parser(add_help=False)
    add_options(parser)
    spelt = {name for option in options().values() for name in (option.flag, *option.without)}
    assert set(parser.options) <= spelt
    assert spelt - set(parser.options) == {"--methods", "--progress", "--report"}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sparsty": "2:4"}, re.escape("unexpected keyword argument 'sparsty'; did you mean 'sparsity'?")),
        ({"passes": "acme"}, "passes is a list of names, not str"),
        ({"methods": ["smooth"]}, "unknown calibration method 'smooth', .*; did you mean 'smoothing'"),
        ({"softmax": "rows"}, "unknown softmax 'rows', it is one of auto, row, online; did you mean 'row'"),
        ({"probability_bits": 12}, "unknown width of probabilities '12', it is one of auto, 8, 16"),
        ({"min_sqnr": -1}, "min_sqnr is a number of decibels from 0 on, not -1"),
    ],
)
def test_keywords_that_are_wrong(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Options.of(**keywords)
