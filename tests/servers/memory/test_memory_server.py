"""The memory's MCP face: errors with the next step, the agent in `_meta`, the resource, the memory file, the adapter."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import orjson
import pytest
from mcp import Client

from auralink.auth.principal import Principal, acting_as
from auralink.core.db import Database
from auralink.servers.memory import hosted, jsonl
from auralink.servers.memory.errors import UnreadableLine
from auralink.servers.memory.server import GRAPH_URI, build_server
from auralink.servers.memory.service import Memory

ANNA = {"name": "Anna", "entityType": "person", "observations": ["likes coffee"]}


@pytest.fixture
def memory(database: Database) -> Memory:
    return Memory(database)


@asynccontextmanager
async def connected(memory: Memory, principal: Principal, mode: str = "auto") -> AsyncIterator[Client]:
    with acting_as(principal):
        async with Client(build_server(memory), mode=mode) as client:
            yield client


async def call(client: Client, tool: str, meta: Any = None, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments, meta=meta)
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_clients_of_both_eras_get_text_and_structure(memory: Memory, principal: Principal, mode: str) -> None:
    async with connected(memory, principal, mode) as client:
        created = await call(client, "create_entities", entities=[ANNA])
        found = await call(client, "search_nodes", query="coffee")
    assert created["structuredContent"] == {"entities": [ANNA]}
    assert orjson.loads(created["content"][0]["text"]) == [ANNA]
    assert found["structuredContent"] == {"entities": [ANNA], "relations": []}


async def test_an_unknown_entity_is_a_tool_error_with_the_next_step(memory: Memory, principal: Principal) -> None:
    async with connected(memory, principal) as client:
        result = await call(client, "add_observations", observations=[{"entityName": "Bob", "contents": ["x"]}])
    assert result["isError"]
    assert result["content"][0]["text"] == "Entity with name Bob not found"
    assert "create_entities" in result["content"][1]["text"]
    assert result["_meta"]["auralink/error"]["code"] == "entity_not_found"


@pytest.mark.parametrize(
    ("tool", "arguments", "place"),
    [
        ("create_entities", {}, "entities"),
        ("create_entities", {"entities": [{"name": 1, "entityType": "t", "observations": []}]}, "entities[0].name"),
        ("create_entities", {"entities": [{"name": "n" * 501, "entityType": "t", "observations": []}]}, "entities[0].name"),
        ("create_entities", {"entities": [{"name": "n", "entityType": "t", "observations": ["a\0b"]}]}, "observations[0]"),
        ("search_nodes", {"query": None}, "query"),
        ("open_nodes", {"names": "Anna"}, "names"),
    ],
)
async def test_arguments_that_do_not_fit_are_named(
    memory: Memory, principal: Principal, tool: str, arguments: dict[str, Any], place: str
) -> None:
    async with connected(memory, principal) as client:
        result = await call(client, tool, **arguments)
    assert result["isError"]
    assert place in result["content"][0]["text"]


async def test_meta_picks_the_graph_of_an_agent(memory: Memory, principal: Principal) -> None:
    agent = {"auralink/agent": str(uuid4())}
    async with connected(memory, principal) as client:
        await call(client, "create_entities", agent, entities=[ANNA])
        own = await call(client, "read_graph")
        the_agents = await call(client, "read_graph", agent)
        refused = await call(client, "read_graph", {"auralink/agent": "me"})
    assert own["structuredContent"]["entities"] == []
    assert the_agents["structuredContent"]["entities"] == [ANNA]
    assert refused["isError"]


async def test_the_graph_is_a_resource(memory: Memory, principal: Principal) -> None:
    async with connected(memory, principal) as client:
        await call(client, "create_entities", entities=[ANNA])
        resources = (await client.list_resources()).resources
        contents = (await client.read_resource(GRAPH_URI)).contents
    assert [(str(r.uri), r.mime_type) for r in resources] == [(GRAPH_URI, "application/json")]
    assert orjson.loads(contents[0].model_dump()["text"])["entities"] == [ANNA]


async def test_every_tool_says_what_it_may_do(memory: Memory, principal: Principal) -> None:
    async with connected(memory, principal) as client:
        tools = (await client.list_tools()).tools
    for tool in tools:
        assert tool.annotations is not None
        assert None not in (tool.annotations.read_only_hint, tool.annotations.destructive_hint, tool.annotations.idempotent_hint)
        assert tool.description
        assert tool.output_schema


async def test_a_memory_file_comes_back_as_it_went_and_may_be_imported_twice(memory: Memory, principal: Principal) -> None:
    lines = [
        '{"type":"entity","name":"Anna","entityType":"person","observations":["likes coffee","born in 1970"]}',
        "",
        '{"type":"relation","from":"Anna","to":"Acme","relationType":"works_at"}',
        '{"type":"entity","name":"Acme","entityType":"company","observations":[]}',
    ]
    first = await jsonl.import_lines(memory, principal, lines)
    again = await jsonl.import_lines(memory, principal, [*lines, lines[0].replace("1970", "1971")])
    assert (first.entities, first.observations, first.relations) == (2, 2, 1)
    assert (again.entities, again.observations, again.relations) == (0, 1, 0)
    exported = await jsonl.export_lines(memory, principal)
    assert exported == [
        '{"type":"entity","name":"Anna","entityType":"person","observations":["likes coffee","born in 1970","born in 1971"]}',
        lines[3],
        lines[2],
    ]


@pytest.mark.parametrize("line", ["{", "[]", '{"type":"edge"}', '{"type":"entity","name":"x"}', "null"])
async def test_an_unreadable_line_is_named(memory: Memory, principal: Principal, line: str) -> None:
    with pytest.raises(UnreadableLine, match="line 2"):
        await jsonl.import_lines(memory, principal, ["", line])


@pytest.mark.parametrize(
    ("operation", "result", "body"),
    [
        ("search", {"structuredContent": {"entities": [], "relations": []}}, {"entities": [], "relations": []}),
        ("create_entities", {"content": [{"type": "text", "text": "[]"}]}, {"entities": []}),
        ("add_observations", {"content": [{"type": "text", "text": "[]"}]}, {"results": []}),
        ("graph", {"content": [{"type": "text", "text": '{"entities": []}'}]}, {"entities": []}),
        ("delete_entities", {"content": [{"type": "text", "text": "Deleted"}]}, {"success": True, "message": "Deleted"}),
    ],
)
def test_answers_of_any_counterpart_become_the_same_body(operation: str, result: dict[str, Any], body: dict[str, Any]) -> None:
    assert hosted.from_result(operation, result) == body


async def test_every_operation_has_a_tool(memory: Memory, principal: Principal) -> None:
    async with connected(memory, principal) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == set(hosted.TOOLS.values())
    assert hosted.to_call("search", {"query": "x"}) == ("search_nodes", {"query": "x"})
