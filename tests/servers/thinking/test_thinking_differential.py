"""Our sequential-thinking server beside the reference server: the same calls, the same answers."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from mcp import Client

from auralink.auth.principal import acting_as
from auralink.core.db import Database
from auralink.servers.thinking.server import build_server
from auralink.servers.thinking.service import Thinking
from tests.conftest import MakePrincipal
from tests.differential import Step, answer, bare_schema, play
from tests.node import reference_server

pytestmark = pytest.mark.needs_node

BRANCHES = ["a", "b", "10", "9", "01", "4294967294", "4294967295", "-1", "", "Über", "a b"]
integers = st.integers(1, 12)
numbers = st.one_of(integers, integers.map(str), st.sampled_from([" 7 ", "0x10", "1e1", "3.0", 2.0, True]))
bad_numbers = st.sampled_from([0, -1, 1.5, "x", "", "1.5", False, 2**53, "Infinity", None])
booleans = st.one_of(st.booleans(), st.sampled_from(["true", "FALSE", "False"]))
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def _arguments(counts: st.SearchStrategy[Any], flags: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"thought": texts, "nextThoughtNeeded": flags, "thoughtNumber": counts, "totalThoughts": counts},
        optional={
            "isRevision": flags,
            "revisesThought": counts,
            "branchFromThought": counts,
            "branchId": st.sampled_from(BRANCHES),
            "needsMoreThoughts": flags,
            "unknown": st.integers(),
        },
    )


good = _arguments(numbers, booleans)
any_at_all = _arguments(st.one_of(numbers, bad_numbers), st.one_of(booleans, st.sampled_from(["yes", 1, None])))
steps = st.lists(st.tuples(st.just("sequentialthinking"), st.one_of(good, good, any_at_all)), min_size=1, max_size=8)


async def test_the_same_thoughts_have_the_same_answers(database: Database, make_principal: MakePrincipal) -> None:
    """The reference keeps one history for its whole life, so ours keeps one thread for all the sequences."""
    async with (
        Client(reference_server("server-sequential-thinking", DISABLE_THOUGHT_LOGGING="true")) as reference,
        Client(build_server(Thinking(database))) as ours,
    ):
        principal = make_principal()

        async def compare(sequence: Sequence[Step]) -> None:
            with acting_as(principal):
                for step in sequence:
                    expected, got = await answer(reference, step), await answer(ours, step)
                    if expected["error"]:
                        assert got["error"], step
                        assert "Invalid arguments for tool sequentialthinking" in expected["text"]
                        assert "Invalid arguments for tool sequentialthinking" in got["text"]
                    else:
                        assert got == expected, step

        await play(steps, compare)


async def test_the_tool_is_that_of_the_reference(database: Database) -> None:
    async with (
        Client(reference_server("server-sequential-thinking")) as reference,
        Client(build_server(Thinking(database))) as ours,
    ):
        theirs, own = (await reference.list_tools()).tools, (await ours.list_tools()).tools
    assert [tool.name for tool in own] == [tool.name for tool in theirs]
    assert bare_schema(own[0].input_schema) == bare_schema(theirs[0].input_schema)
    assert bare_schema(own[0].output_schema) == bare_schema(theirs[0].output_schema)
