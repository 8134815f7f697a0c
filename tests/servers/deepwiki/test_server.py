"""The MCP server, through the SDK's client."""

import json
from pathlib import Path

import pytest
from jsonschema import validate
from mcp.client import Client

from auralink.servers.deepwiki.server import build_server
from auralink.servers.deepwiki.wiki import Wiki

CALLS = {
    "read_wiki_structure": {},
    "read_wiki_contents": {"topic": "README.md"},
    "search_docs": {"query": "tracking number", "limit": 2},
    "ask_question": {"question": "When are payments captured?"},
}


async def test_the_tools_have_the_names_and_arguments_of_the_hosted_server_and_say_that_they_only_read(wiki: Wiki) -> None:
    async with Client(build_server(wiki)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert tools.keys() == CALLS.keys()
    for name, tool in tools.items():
        assert set(tool.input_schema["properties"]) == {"repoName", *CALLS[name]}
        assert tool.title
        assert tool.description
        assert tool.output_schema
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint
        assert tool.annotations.idempotent_hint


@pytest.mark.parametrize("name", CALLS)
async def test_an_answer_is_text_and_structure_that_fits_the_output_schema(name: str, reader: Wiki) -> None:
    async with Client(build_server(reader)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        result = await client.call_tool(name, {"repoName": "acme/shop", **CALLS[name]})
    assert not result.is_error
    assert result.structured_content is not None
    assert result.structured_content["repo_name"] == "acme/shop"
    assert result.structured_content["commit"]
    validate(result.structured_content, tools[name].output_schema or {})
    assert result.content[0].type == "text"
    assert result.content[0].text


async def test_a_source_names_file_lines_and_heading(reader: Wiki) -> None:
    async with Client(build_server(reader)) as client:
        result = await client.call_tool("ask_question", {"repoName": "acme/shop", **CALLS["ask_question"]})
    assert result.structured_content is not None
    assert result.structured_content["sources"][0].keys() == {"file", "line", "end_line", "heading", "excerpt", "score"}


async def test_an_error_is_a_tool_error_with_the_next_step_and_its_code(reader: Wiki) -> None:
    async with Client(build_server(reader)) as client:
        unknown = await client.call_tool("ask_question", {"repoName": "nowhere", "question": "what?"})
        far = await client.call_tool("ask_question", {"repoName": "no/where", "question": "what?"})
        topic = await client.call_tool("read_wiki_contents", {"repoName": "acme/shop", "topic": "quantum chromodynamics"})
        wrong = await client.call_tool("search_docs", {"repoName": "acme/shop", "query": "x", "limit": 0})
    codes = [(result.meta or {})["auralink/error"] for result in (unknown, far, topic)]
    assert [(error["code"], error["status"]) for error in codes] == [
        ("repository_not_found", 422),
        ("repository_unreachable", 502),
        ("topic_not_found", 404),
    ]
    assert all(result.is_error for result in (unknown, far, topic, wrong))
    assert "use owner/name" in unknown.content[0].text  # type: ignore[union-attr]
    assert "read_wiki_structure" in topic.content[0].text  # type: ignore[union-attr]


async def test_progress_is_told_while_a_repository_is_indexed(shop: Path, wiki: Wiki) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append((done, total, message))

    async with Client(build_server(wiki)) as client:
        arguments = {"repoName": "acme/shop", **CALLS["ask_question"]}
        await client.call_tool("ask_question", arguments, progress_callback=progress)
    assert told
    assert {message for _, _, message in told} == {"Indexing"}


def test_every_labelled_question_of_the_bench_is_labelled_once() -> None:
    labelled = json.loads((Path(__file__).parent / "questions.json").read_text())
    asked = [*labelled.pop("off_topic")]
    for sets in labelled.values():
        assert all(sets["answerable"].values())
        assert not set(sets["answerable"]) & {*sets["unanswerable"], *asked}
