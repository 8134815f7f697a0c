"""What `find_tools` takes for the same word."""

import pytest

from auralink.mcp.downstream.finding import _has_form_of, _words


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("payments", "pay"),
        ("pay", "payments"),
        ("queries", "query"),
        ("files", "readFile"),
        ("searching", "web_search"),
        ("creation", "create_entities"),
        ("entity", "create_entities"),
        ("stopped", "stop"),
        ("summaries", "summarise"),
        ("notes", "note"),
    ],
)
def test_another_form_of_a_word_is_found(word: str, text: str) -> None:
    assert _has_form_of(word, set(_words(text)))


@pytest.mark.parametrize(
    ("word", "text"), [("notes", "not now"), ("is", "this"), ("string", "strong"), ("ring", "rich"), ("s", "")]
)
def test_another_word_is_not(word: str, text: str) -> None:
    assert not _has_form_of(word, set(_words(text)))
