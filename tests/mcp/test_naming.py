"""Names of tools as clients see them, and the way back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auralink.mcp.naming import MAX_LENGTH, connection_name_from, is_connection_name, own_name, public_name, split

STORED = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
"""What the database takes for a connection's name."""
CONNECTIONS = st.text().map(connection_name_from)
TOOLS = st.text(min_size=1, max_size=100) | st.from_regex(r"[A-Za-z0-9_-]{1,80}", fullmatch=True)


@given(st.text())
def test_any_text_makes_a_connection_name_that_can_be_stored(text: str) -> None:
    name = connection_name_from(text)
    assert is_connection_name(name)
    assert STORED.fullmatch(name)


@given(CONNECTIONS)
def test_a_connection_name_stays_what_it_is(name: str) -> None:
    assert connection_name_from(name) == name


@pytest.mark.parametrize("name", ["", "A", "a b", "_a", "a_", "a__b", "-a", "ä", "a" * 32, "a\n", "a.b"])
def test_what_would_be_mistaken_is_no_connection_name(name: str) -> None:
    assert not is_connection_name(name)


@given(CONNECTIONS, TOOLS)
def test_every_model_vendor_takes_a_public_name(connection: str, tool: str) -> None:
    name = public_name(connection, tool)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
    assert len(name) <= MAX_LENGTH


@given(CONNECTIONS, st.lists(TOOLS, min_size=1, max_size=8, unique=True))
def test_the_way_back_leads_to_the_same_tool(connection: str, tools: list[str]) -> None:
    for tool in tools:
        parts = split(public_name(connection, tool))
        assert parts is not None
        assert parts[0] == connection
        assert own_name(connection, parts[1], tools) == tool


def test_a_plain_name_is_kept_and_a_long_or_odd_one_ends_in_a_hash() -> None:
    assert public_name("wiki", "ask_question") == "wiki__ask_question"
    assert re.fullmatch(r"wiki__read_file-[0-9a-f]{8}", public_name("wiki", "read.file"))
    assert len(public_name("wiki", "x" * 100)) == MAX_LENGTH


def test_names_that_differ_only_in_what_is_cut_or_replaced_stay_apart() -> None:
    tools = ["a.b", "a/b", "a_b", "a b", "x" * 99, "x" * 100, "x" * 98 + "y"]
    assert len({public_name("c", tool) for tool in tools}) == len(tools)


def test_a_tool_that_looks_shortened_cannot_pass_for_the_shortened_one() -> None:
    shortened = public_name("c", "read.file").removeprefix("c__")
    assert public_name("c", shortened) != public_name("c", "read.file")


@pytest.mark.parametrize("name", ["", "tool", "__tool", "c__", "c_tool"])
def test_what_is_no_public_name_is_none(name: str) -> None:
    assert split(name) is None


def test_a_tool_may_have_the_separator_in_its_name() -> None:
    assert split(public_name("c", "a__b")) == ("c", "a__b")
