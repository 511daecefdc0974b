"""Tables, and the page that holds them."""

import pytest

from benchmarks.page import PAGE, replace_section, table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(["a", "long"], [["xyz", "1"], ["", "23456"]]).splitlines() == [
        "| a   |  long |",
        "| --- | ----: |",
        "| xyz |     1 |",
        "|     | 23456 |",
    ]


def test_a_section_is_replaced_and_nothing_else() -> None:
    page = "before\n<!-- begin x -->\nold\n<!-- end x -->\nafter\n<!-- begin y -->\nkept\n<!-- end y -->\n"
    new = replace_section(page, "x", "new\n")
    assert new == page.replace("\nold\n", "\n\nnew\n\n")
    assert replace_section(new, "x", "new") == new


@pytest.mark.parametrize(
    "page",
    ["", "<!-- begin x -->", "<!-- end x --><!-- begin x -->", "<!-- begin x --><!-- end x --><!-- end x -->"],
)
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        replace_section(page, "x", "new")


def test_the_page_has_a_place_for_both_benchmarks() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in ("schedule", "scale-sim"):
        assert replace_section(text, name, "new") != text
