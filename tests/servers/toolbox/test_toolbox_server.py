"""The toolbox as an MCP client meets it: in process in both eras, and as a process of its own over stdio."""

import sys
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import jsonschema
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from auralink.core.egress import EgressGuard
from auralink.servers.toolbox.functions import FUNCTIONS
from auralink.servers.toolbox.search import SearchSettings
from auralink.servers.toolbox.server import build_server

SCRIPT = "from auralink.core.egress import EgressGuard; from auralink.servers.toolbox.server import build_server\n\
build_server(guard=EgressGuard()).run('stdio')"
STDIO = StdioServerParameters(command=sys.executable, args=["-c", SCRIPT])


@pytest.fixture
async def web_address() -> AsyncIterator[str]:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<title>Tides</title><p>The sea moves.</p>", content_type="text/html")

    async def searxng(request: web.Request) -> web.Response:
        return web.json_response({"results": [{"title": "Tides", "url": "https://example.org/", "content": "The sea"}]})

    app = web.Application()
    app.router.add_get("/page", page)
    app.router.add_get("/search", searxng)
    server = TestServer(app)
    await server.start_server()
    yield str(server.make_url("/"))
    await server.close()


@pytest.mark.promise("P-ERA")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_every_tool_answers_what_its_schema_promises(web_address: str, mode: str) -> None:
    server = build_server(guard=EgressGuard([ip_network("127.0.0.0/8")]), search_settings=SearchSettings(searxng_url=web_address))
    calls: dict[str, dict[str, Any]] = {
        "calculator": {"expression": "2 ** 100"},
        "code_analyzer": {"code": "import os\n", "language": "python"},
        "fetch_page": {"url": f"{web_address}page"},
        "web_search": {"query": "tides"},
    }
    async with Client(server, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == calls.keys()
        for name, arguments in calls.items():
            result = await client.call_tool(name, arguments)
            assert not result.is_error, result.content
            assert tools[name].output_schema
            jsonschema.validate(result.structured_content, tools[name].output_schema)


async def test_every_tool_describes_itself() -> None:
    async with Client(build_server(guard=EgressGuard())) as client:
        for tool in (await client.list_tools()).tools:
            assert tool.title
            assert tool.description
            assert tool.annotations
            assert (tool.annotations.read_only_hint, tool.annotations.idempotent_hint) == (True, True)
            assert tool.annotations.destructive_hint is False
            assert tool.annotations.open_world_hint is (tool.name in {"web_search", "fetch_page"})
            assert all("description" in schema for schema in tool.input_schema["properties"].values())


async def test_the_description_of_the_calculator_lists_every_function() -> None:
    async with Client(build_server(guard=EgressGuard())) as client:
        calculator = next(t for t in (await client.list_tools()).tools if t.name == "calculator")
        assert all(function.usage in (calculator.description or "") for function in FUNCTIONS.values())


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("calculator", {"expression": "9**9**9"}, "Use smaller numbers"),
        ("calculator", {"expression": "1" * 1001}, "at most 1000 characters"),
        ("calculator", {}, "Field required"),
        ("fetch_page", {"url": "http://127.0.0.1/"}, "ALLOWED_NETWORKS"),
        ("fetch_page", {"url": "http://169.254.169.254/latest"}, "metadata"),
        ("code_analyzer", {"code": "x", "language": "klingon"}, "python"),
        ("web_search", {"query": "tides", "max_results": 1000}, "less than or equal to 20"),
    ],
)
async def test_a_refusal_is_a_tool_error_that_says_what_to_do(name: str, arguments: dict[str, Any], says: str) -> None:
    async with Client(build_server(guard=EgressGuard())) as client:
        result = await client.call_tool(name, arguments)
        assert result.is_error
        assert says in result.content[0].text  # type: ignore[union-attr]


async def test_it_runs_as_a_process_of_its_own_over_stdio() -> None:
    async with Client(STDIO) as client:
        assert {t.name for t in (await client.list_tools()).tools} == {"web_search", "fetch_page", "calculator", "code_analyzer"}
        result = await client.call_tool("calculator", {"expression": "sqrt(16) / 8"})
        assert result.structured_content == {"expression": "sqrt(16) / 8", "result": "0.5", "kind": "decimal", "exact": True}
        report = await client.call_tool("code_analyzer", {"code": "def f(): ...\n", "language": "python"})
        assert report.structured_content
        assert report.structured_content["summary"]["functions"] == 1
        refused = await client.call_tool("calculator", {"expression": "1/0"})
        assert refused.is_error
