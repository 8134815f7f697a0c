"""Servers in this process: no wire, the same answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from mcp.server.mcpserver import MCPServer

from auralink.core.ids import uuid7
from auralink.mcp.schemas import ConnectionPolicy, ConnectionRecord
from auralink.mcp.store import custom_server
from auralink.mcp.upstream.errors import UpstreamRejected, UpstreamTimeout
from auralink.mcp.upstream.in_process import InProcessServers
from auralink.mcp.upstream.session import UpstreamSession
from tests.mcp.upstream.conftest import SERVER, Listener, soon
from tests.upstreams import sdk


async def _opened(server: MCPServer) -> AsyncIterator[UpstreamSession]:
    servers = InProcessServers({SERVER: server})
    await servers.open()
    entry = replace(custom_server(SERVER, ""), transport="in_process")
    record = ConnectionRecord(uuid7(), uuid7(), SERVER, entry, ConnectionPolicy(), None, 1)
    session = UpstreamSession(servers.transport(record, None), SERVER)
    await session.open(5)
    yield session
    await servers.close()


@pytest.fixture
async def session() -> AsyncIterator[UpstreamSession]:
    async for opened in _opened(sdk.build_server()):
        yield opened


async def test_it_lists_and_answers_like_any_other(session: UpstreamSession) -> None:
    assert session.server_info["name"] == "tests"
    assert set(await session.list_tools(soon())) == {"echo", "pay", "fail", "count"}
    result = await session.request("tools/call", {"name": "echo", "arguments": {"text": "ä"}}, soon())
    assert result["content"][0]["text"] == "ä"
    failed = await session.request("tools/call", {"name": "fail", "arguments": {"reason": "no"}}, soon())
    assert failed["isError"] is True
    with pytest.raises(UpstreamRejected):
        await session.request("nothing/known", {}, soon())


async def test_progress_reaches_the_client(session: UpstreamSession) -> None:
    peer = Listener()
    params = {"name": "count", "arguments": {"to": 2}, "_meta": {"progressToken": "mine"}}
    await session.request("tools/call", params, soon(), peer=peer)
    assert [message["params"]["progressToken"] for message in peer.heard] == ["mine", "mine"]


async def test_a_tool_that_hangs_ends_at_the_deadline() -> None:
    server = MCPServer("slow")

    @server.tool()
    async def wait() -> str:
        """Waits for ever."""
        await asyncio.Event().wait()
        return "never"

    async for session in _opened(server):
        async with asyncio.timeout(10):
            with pytest.raises(UpstreamTimeout):
                await session.request("tools/call", {"name": "wait", "arguments": {}}, soon(0.1))
