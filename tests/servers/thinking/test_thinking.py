"""Thoughts outlive the process, belong to a user and a thread, and a model can drive them to a conclusion."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import pytest
from mcp import Client

from auralink.auth.principal import Principal, acting_as
from auralink.core.db import Database
from auralink.servers.thinking import hosted
from auralink.servers.thinking.schemas import Progress, Thought
from auralink.servers.thinking.server import build_server
from auralink.servers.thinking.service import Thinking, in_key_order
from auralink.servers.thinking.solving import Message, NoConclusion, Tool, solve
from tests.conftest import MakePrincipal


@pytest.fixture
def thinking(database: Database) -> Thinking:
    return Thinking(database)


def thought(number: int = 1, total: int = 3, **fields: Any) -> dict[str, Any]:
    return {"thought": f"thought {number}", "thoughtNumber": number, "totalThoughts": total, "nextThoughtNeeded": True, **fields}


async def call(client: Client, arguments: dict[str, Any], **meta: Any) -> dict[str, Any]:
    result = await client.call_tool(
        "sequentialthinking", arguments, meta={f"auralink/{key}": value for key, value in meta.items()}
    )
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


async def test_a_thread_is_remembered_by_the_next_server(thinking: Thinking, database: Database, principal: Principal) -> None:
    with acting_as(principal):
        async with Client(build_server(thinking)) as first:
            await call(first, thought(1, branchFromThought=1, branchId="b"))
        async with Client(build_server(Thinking(database))) as second:
            answer = await call(second, thought(5, 3))
    assert answer["structuredContent"] == {
        "thoughtNumber": 5,
        "totalThoughts": 5,
        "nextThoughtNeeded": True,
        "branches": ["b"],
        "thoughtHistoryLength": 2,
    }


@pytest.mark.promise("P-RLS")
async def test_thoughts_are_seen_by_their_user_only(thinking: Thinking, make_principal: MakePrincipal) -> None:
    owner, stranger = make_principal(), make_principal()
    await thinking.think(owner, "t", Thought.model_validate(thought(branchFromThought=1, branchId="b")))
    assert await thinking.history(stranger, "t") == []
    progress: Progress = await thinking.think(stranger, "t", Thought.model_validate(thought()))
    assert (progress["thoughtHistoryLength"], progress["branches"]) == (1, [])
    await thinking.forget(stranger, "t")
    assert len(await thinking.history(owner, "t")) == 1


async def test_threads_runs_and_the_default_are_apart(thinking: Thinking, principal: Principal) -> None:
    async with Client(build_server(thinking, default_thread="mine")) as client:
        with acting_as(replace(principal, run=uuid4(), attempt=1)):
            of_run = [await call(client, thought()) for _ in range(2)]
        with acting_as(principal):
            named = await call(client, thought(), thread="other")
            default = await call(client, thought())
            refused = await call(client, thought(), thread="")
    assert of_run[1]["structuredContent"]["thoughtHistoryLength"] == 2
    assert named["structuredContent"]["thoughtHistoryLength"] == 1
    assert default["structuredContent"]["thoughtHistoryLength"] == 1
    assert refused["_meta"]["auralink/error"]["code"] == "invalid_thread"


async def test_thoughts_at_the_same_time_all_count(thinking: Thinking, principal: Principal) -> None:
    given = Thought.model_validate(thought())
    lengths = await asyncio.gather(*(thinking.think(principal, "t", given) for _ in range(8)))
    assert sorted(progress["thoughtHistoryLength"] for progress in lengths) == list(range(1, 9))


async def test_a_call_repeated_with_its_idempotency_key_adds_nothing(thinking: Thinking, principal: Principal) -> None:
    with acting_as(principal):
        async with Client(build_server(thinking)) as client:
            first = await call(client, thought(), idempotencyKey="run:1")
            again = await call(client, thought(), idempotencyKey="run:1")
            other = await call(client, thought(2), idempotencyKey="run:2")
    assert again["structuredContent"] == first["structuredContent"]
    assert other["structuredContent"]["thoughtHistoryLength"] == 2


def test_branches_come_in_the_order_of_keys_in_javascript() -> None:
    assert in_key_order(["b", "10", "a", "9", "01", "4294967295"]) == ["9", "10", "b", "a", "01", "4294967295"]


@pytest.fixture
def tool(thinking: Thinking, principal: Principal) -> Tool:
    """The tool of the built-in server, for one user."""

    async def think(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        with acting_as(principal):
            async with Client(build_server(thinking)) as client:
                return await call(client, dict(arguments))

    return think


class Scripted:
    """A model that plays a script of messages and keeps what it was sent."""

    def __init__(self, *script: Message) -> None:
        self._script = list(script)
        self.seen: list[list[Message]] = []
        self.offered: list[bool] = []

    async def __call__(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Message:
        self.seen.append(list(messages))
        self.offered.append(bool(tools))
        return self._script.pop(0)


def calls(*arguments: dict[str, Any] | str) -> Message:
    texts = [given if isinstance(given, str) else orjson.dumps(given).decode() for given in arguments]
    functions = [{"name": "sequentialthinking", "arguments": text} for text in texts]
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"c{n}", "type": "function", "function": f} for n, f in enumerate(functions)],
    }


def says(text: str) -> Message:
    return {"role": "assistant", "content": text}


async def test_a_model_thinks_revises_branches_and_concludes(tool: Tool) -> None:
    model = Scripted(
        calls(thought(1)),
        calls(thought(2, isRevision=True, revisesThought=1)),
        calls(thought(3, branchFromThought=1, branchId="b", nextThoughtNeeded=False)),
        says("Because."),
    )
    solution = await solve(model, tool, "why?")
    assert solution["conclusion"] == "Because."
    assert [t["thoughtNumber"] for t in solution["thoughts"]] == [1, 2, 3]
    assert (solution["revisions"], solution["branches"]) == (1, ["b"])
    assert model.offered == [True, True, True, False]
    assert orjson.loads(model.seen[1][-1]["content"])["thoughtHistoryLength"] == 1


async def test_a_model_has_no_more_thoughts_than_it_was_given(tool: Tool) -> None:
    model = Scripted(calls(thought(1), thought(2), thought(3)), says("Enough."))
    solution = await solve(model, tool, "why?", max_thoughts=2)
    assert len(solution["thoughts"]) == 2
    assert "No thoughts are left" in model.seen[1][-2]["content"]


async def test_a_model_that_cannot_call_the_tool_is_told_and_asked_to_conclude(tool: Tool) -> None:
    model = Scripted(calls("not json"), calls({"thought": 1}), calls("[]"), says("Anyway."))
    solution = await solve(model, tool, "why?")
    assert (solution["conclusion"], solution["thoughts"]) == ("Anyway.", [])
    assert "not JSON" in model.seen[1][-1]["content"]
    assert "thoughtNumber" in model.seen[2][-1]["content"]


async def test_a_model_that_answers_at_once_is_taken_at_its_word(tool: Tool) -> None:
    assert (await solve(Scripted(says("42")), tool, "why?"))["conclusion"] == "42"


async def test_a_model_that_says_nothing_is_an_error(tool: Tool) -> None:
    with pytest.raises(NoConclusion):
        await solve(Scripted(says(""), says(" ")), tool, "why?")


def test_answers_of_any_counterpart_become_the_same_body() -> None:
    assert hosted.to_call("think", {"thought": "x"}) == ("sequentialthinking", {"thought": "x"})
    text = {"content": [{"type": "text", "text": '{"thoughtNumber": 1}'}]}
    assert hosted.from_result("think", text) == hosted.from_result("think", {"structuredContent": {"thoughtNumber": 1}})
