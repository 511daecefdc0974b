"""Suggestions for misspelt words."""

from sta.spec.suggestion import suggestion


def test_the_closest_word_is_suggested() -> None:
    assert suggestion("sotfmax", iter(["soft", "softmax", "map"])) == "; did you mean 'softmax'?"
    assert suggestion("it's", ["its"]) == "; did you mean 'its'?"


def test_nothing_is_suggested_for_words_that_are_like_none() -> None:
    assert suggestion("norm", ["ld", "st"]) == ""
    assert suggestion("norm", []) == ""


def test_words_may_be_less_alike_where_one_is_a_part_of_the_other() -> None:
    assert suggestion("query", ["encoder.layer.0.query"]) == ""
    assert suggestion("query", ["encoder.layer.0.query"], 0.3) == "; did you mean 'encoder.layer.0.query'?"
