"""Servers over HTTP+SSE that misbehave; that well-behaved ones work in every combination is shown in `tests/mcp/test_eras.py`."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from auralink.core.http_client import HttpClient
from auralink.mcp.upstream import sse
from auralink.mcp.upstream.errors import UpstreamAnswerTooLarge, UpstreamBadAnswer, UpstreamClosed, UpstreamError, UpstreamTimeout
from auralink.mcp.upstream.session import UpstreamSession
from auralink.mcp.upstream.sse import SseTransport
from tests.conftest import eventually
from tests.mcp.upstream.conftest import SERVER, soon
from tests.upstreams import faults, raw

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = ""
"""Where a `RawServer` keeps its behaviour towards requests without a message."""


class SseServer:
    """A server of 2024-11-05 on a `RawServer`: answers come on the stream, in the order of `results`."""

    def __init__(self, server: raw.RawServer, address: str = "/messages?session=1") -> None:
        self.server = server
        self.address = address
        self.stream: raw.Exchange | None = None
        self.results: Mapping[str, Any] = {
            "initialize": {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "old"}},
            "tools/list": {"tools": raw.TOOLS},
            "tools/call": {"content": [{"type": "text", "text": "done"}]},
        }
        server.on[GET] = self.open_stream
        for method in ("initialize", "notifications/initialized", "notifications/cancelled", "tools/list", "tools/call"):
            server.on[method] = self.take

    async def open_stream(self, exchange: raw.Exchange) -> None:
        self.stream = exchange
        await exchange.send(STREAM + faults.chunk(f"event: endpoint\r\ndata: {self.address}\r\n\r\n".encode()))
        await asyncio.Event().wait()

    async def take(self, exchange: raw.Exchange) -> None:
        await exchange.http(b"Accepted", status="202 Accepted")
        message = exchange.request.message
        if "id" in message and message["method"] in self.results:
            await self.say({"jsonrpc": "2.0", "id": message["id"], "result": self.results[message["method"]]})

    async def say(self, message: Mapping[str, Any]) -> None:
        assert self.stream is not None
        await self.stream.send(faults.chunk(f"event: message\ndata: {json.dumps(message)}\n\n".encode()))


@pytest.fixture
async def server() -> AsyncIterator[raw.RawServer]:
    async with raw.running() as running:
        yield running


async def opened(http: HttpClient, server: raw.RawServer) -> UpstreamSession:
    transport = SseTransport(http, SERVER, server.url, lambda: {"Authorization": "Bearer secret"})
    try:
        await transport.start()
        session = UpstreamSession(transport, SERVER)
        await session.open(5)
    except BaseException:
        await transport.close()
        raise
    return session


async def test_messages_go_where_the_stream_says_and_answers_come_on_it(http: HttpClient, server: raw.RawServer) -> None:
    SseServer(server)
    session = await opened(http, server)
    assert session.protocol_version == "2024-11-05"
    assert set(await session.list_tools(soon())) == {"echo", "pay"}
    posts = [request for request in server.requests if request.verb == "POST"]
    assert {request.path for request in posts} == {"/messages?session=1"}
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer secret"}
    assert server.count("server/discover") == 0
    await session.close()


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/messages", "//evil.example/messages", "https://evil.example/"])
async def test_an_address_elsewhere_does_not_get_the_credential(http: HttpClient, server: raw.RawServer, address: str) -> None:
    SseServer(server, address)
    with pytest.raises(UpstreamBadAnswer, match="at another origin than its own"):
        await opened(http, server)


async def test_a_stream_without_an_address_is_given_up(
    http: HttpClient, server: raw.RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(exchange: raw.Exchange) -> None:
        await exchange.send(STREAM)
        await asyncio.Event().wait()

    monkeypatch.setattr(sse, "CONNECT_SECONDS", 0.2)
    server.on[GET] = silent
    with pytest.raises(UpstreamTimeout, match="where it takes messages"):
        await opened(http, server)


@pytest.mark.parametrize("behaviour", [faults.status("404 Not Found"), faults.not_json, faults.close, faults.not_http])
async def test_what_is_no_event_stream_is_refused(http: HttpClient, server: raw.RawServer, behaviour: raw.Behaviour) -> None:
    server.on[GET] = behaviour
    with pytest.raises(UpstreamError, match=f"'{SERVER}'"):
        await opened(http, server)


async def test_a_stream_that_ends_fails_the_calls_under_way_and_the_session(http: HttpClient, server: raw.RawServer) -> None:
    old = SseServer(server)
    session = await opened(http, server)
    old.results = {}
    call = asyncio.create_task(session.request("tools/call", {"name": "pay"}, soon()))
    await eventually(lambda: server.count("tools/call") == 1)
    assert old.stream is not None
    old.stream.writer.close()
    with pytest.raises(UpstreamClosed):
        await call
    assert isinstance(session.transport, SseTransport)
    assert not session.transport.alive
    with pytest.raises(UpstreamClosed) as refused:
        await session.request("tools/call", {"name": "pay"}, soon())
    assert refused.value.sent is False
    await session.close()


async def test_a_call_that_is_given_up_is_cancelled(http: HttpClient, server: raw.RawServer) -> None:
    old = SseServer(server)
    session = await opened(http, server)
    old.results = {}
    with pytest.raises(UpstreamTimeout):
        await session.request("tools/call", {"name": "pay"}, soon(0.2))
    await eventually(lambda: server.count("notifications/cancelled") == 1)
    await session.close()


async def test_a_message_that_is_refused_fails_its_call_alone(http: HttpClient, server: raw.RawServer) -> None:
    old = SseServer(server)
    session = await opened(http, server)
    server.on["tools/call"] = faults.status("500 Internal Server Error")
    with pytest.raises(UpstreamBadAnswer, match="HTTP 500"):
        await session.request("tools/call", {"name": "pay"}, soon())
    server.on["tools/call"] = old.take
    assert (await session.request("tools/call", {"name": "pay"}, soon()))["content"][0]["text"] == "done"
    await session.close()


async def test_an_event_of_megabytes_ends_the_session(http: HttpClient, server: raw.RawServer) -> None:
    old = SseServer(server)
    session = await opened(http, server)
    old.results = {**old.results, "tools/call": {"content": [{"type": "text", "text": "x" * faults.TEN_MEGABYTES}]}}
    with pytest.raises(UpstreamAnswerTooLarge):
        await session.request("tools/call", {"name": "pay"}, soon())
    await session.close()
