"""The page and the picture of the architecture are what the code says."""

from tests.support.architecture import PAGE, PICTURE, page, picture


def test_the_page_is_the_one_that_the_code_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "`make docs` writes it"


def test_the_picture_is_the_one_that_the_code_makes() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), "`make docs` writes it"
