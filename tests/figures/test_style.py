import html

import pytest

from pipeline.figures.style import plain

WORDS = [
    "<b>x</b>",
    "&amp;",
    "&",
    "a < b > c",
    "%{x}",
    "%{{y}}",
    "$x$",
    "$$",
    "%&#123;x}",
    "plain",
    "",
]


@pytest.mark.parametrize("word", WORDS)
def test_what_a_browser_decodes_is_the_word(word):
    assert html.unescape(plain(word)) == word


@pytest.mark.parametrize("word", WORDS)
def test_no_tag_field_or_formula_is_left(word):
    assert not {"<", ">", "$"} & {*plain(word)}
    assert "%{" not in plain(word)


@pytest.mark.parametrize("word", ["קח", "וואָס", "a קח", "سلام"])
def test_what_is_read_from_the_right_stands_apart(word):
    assert plain(word) == f"\u2068{word}\u2069"


@pytest.mark.parametrize("word", ["cat", "猫", "été", "12"])
def test_what_is_read_from_the_left_is_itself(word):
    assert plain(word) == word
