"""
The page of the supported operators, docs/operators.md: `python -m sta.api.inspect.operators_page` prints it.

Its sources are the rows of the operators, the rules of their lowerings and the rules for ONNX.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import getdoc
from textwrap import fill

from sta.dialect.torch import computing_class
from sta.frontend.onnx.operators import onnx_operators
from sta.passes.lowering.torch_to_nm.lowering import lowering_of_class
from sta.spec.operators.on_host import HOST_RULES
from sta.spec.operators.operator import Operator, Role
from sta.spec.operators.registry import operators, rows_of

HEAD = """\
# Supported operators

Generated from the rows of `spec/operators/` by `make docs`. `sta compile` lists all unsupported operators of a model,
each with its module path. Any operator that depends on no input is supported: it is computed at compile time.
"""

FORMS = """\
The consuming operators determine how a value is stored, for the compiler's quantizer and for `STAQuantizer` alike. If
all consumers accept the same form, the value is rounded to it where it is produced. Otherwise it is rounded to 16 bits
there, and once more for consumers of 8 bits.
"""


def page() -> str:
    """The page in Markdown."""
    sections = (
        _computed(),
        _inside_attention(),
        _spelled(),
        _on_host(),
        _compositions(),
        _views(),
        _refused(),
        _onnx(),
    )
    return "\n".join([HEAD, *(line for section in sections for line in section)])


def _computed() -> list[str]:
    rows = [row for row in rows_of(*Role) if row.makes_value]
    lines = [[f"`{row.name}`", row.summary, _forms(row), _rule(row)] for row in rows]
    return ["## Computed by the machine\n", FORMS, _table(["operator", "computes", "accepts", "supported"], lines)]


def _forms(row: Operator) -> str:
    return ", ".join(dict.fromkeys(form.value for form in row.takes)) or "indices"


def _rule(row: Operator) -> str:
    """Supported form of an operator: the docstring of the rule that refuses other forms."""
    lowering = lowering_of_class(computing_class(row.name))
    return "" if lowering is None else (getdoc(lowering.refusal) or "")


def _inside_attention() -> list[str]:
    rows = rows_of(Role.PRODUCT, Role.SOFTMAX, Role.SCALING, Role.SELECTION)
    return [
        "## Inside spelled-out attention\n",
        "Products, scale, mask and softmax are recognized together. Products with constants are linear layers.\n",
        _listed(rows),
        "",
    ]


def _spelled() -> list[str]:
    return ["## Spelled with others\n", _listed(rows_of(Role.SPELLED)), ""]


def _on_host() -> list[str]:
    return [
        "## Computed by the host\n",
        "On integers and bools that depend on inputs of the model alone, before the machine starts:\n",
        fill(", ".join(f"`{name}`" for name in sorted(HOST_RULES)) + ".", 120),
        "",
    ]


def _compositions() -> list[str]:
    """The operators that packages make of others; nothing where none is installed."""
    lines = [[f"`{row.name}`", row.summary] for row in rows_of(Role.COMPOSITION)]
    return ["## Made of others\n", _table(["operator", "computes"], lines)] if lines else []


def _views() -> list[str]:
    return ["## Rearrangements\n", _listed(rows_of(Role.VIEW, Role.CONVERSION, Role.MASK)), ""]


def _refused() -> list[str]:
    rows = [row for row in operators().values() if row.remedy]
    lines = [[f"`{row.name}`", row.remedy] for row in sorted(rows, key=lambda row: row.name)]
    return ["## Remedies\n", "Where one of these is left in a model:\n", _table(["operator", "remedy"], lines)]


def _onnx() -> list[str]:
    lines = [[f"`{name}`", meaning] for name, meaning in onnx_operators()]
    return ["## ONNX\n", _table(["operator", "becomes"], lines)]


def _listed(rows: Iterable[Operator]) -> str:
    return fill(", ".join(f"`{row.name}`" for row in rows) + ".", 120)


def _table(titles: list[str], lines: list[list[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [titles, ["---"] * len(titles), *cells]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
