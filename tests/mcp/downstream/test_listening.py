"""What servers announce reaches the clients that listen, whatever revision either speaks; and clients that do not read are dropped."""

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from auralink import serving
from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.mcp.downstream import announcer, endpoint, reply
from auralink.mcp.downstream.announcer import Announcer
from auralink.vault.crypto import KeyRing
from tests.conftest import MakePrincipal, eventually
from tests.mcp.across import service_of
from tests.mcp.raw_client import MODERN, RawClient, Refused
from tests.service import API, Service, connected, running_service, unique
from tests.upstreams import eras, raw

HANDSHAKE = "2025-11-25"
KINDS = (MODERN, HANDSHAKE, "stdio", "sse")
TOOLS_CHANGED = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


async def _next(queue: "asyncio.Queue[dict[str, Any]]", method: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while (message := await queue.get())["method"] != method:
            pass
    return message


@pytest.mark.promise("P-ERA")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_changed_list_and_a_changed_resource_reach_those_who_listen(
    dsn: Secret, tmp_path: Path, ring: KeyRing, kind: str
) -> None:
    user = unique()
    async with service_of(dsn, tmp_path, ring, kind, user) as service, service.client(user) as http:
        for revision in (MODERN, HANDSHAKE):
            for path, tool, prefix in (("/mcp", "eras__{}", "auralink://eras/"), ("/mcp/eras", "{}", "")):
                client = RawClient(http, path, revision)
                await client.open()
                async with client.listening(uris=(f"{prefix}{eras.RESOURCE}",)) as queue:
                    await _until_listened_to(service)
                    await client.call(tool.format("change_tools"))
                    message = await _next(queue, TOOLS_CHANGED)
                    assert ("io.modelcontextprotocol/subscriptionId" in message.get("params", {}).get("_meta", {})) is (
                        revision == MODERN
                    )
                    for uri in (eras.SECOND_RESOURCE, eras.RESOURCE):
                        await client.call(tool.format("change_resource"), {"uri": uri})
                    message = await _next(queue, UPDATED)
                    assert message["params"]["uri"] == f"{prefix}{eras.RESOURCE}"


async def test_a_subscription_ends_when_the_client_says_so(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with service_of(dsn, tmp_path, ring, HANDSHAKE, user) as service, service.client(user) as http:
        client = RawClient(http, "/mcp/eras", HANDSHAKE)
        await client.open()
        async with client.listening(uris=(eras.RESOURCE, eras.SECOND_RESOURCE)) as queue:
            await client.request("resources/unsubscribe", {"uri": eras.RESOURCE})
            for uri in (eras.RESOURCE, eras.SECOND_RESOURCE):
                await client.call("change_resource", {"uri": uri})
            assert (await _next(queue, UPDATED))["params"]["uri"] == eras.SECOND_RESOURCE


async def test_a_new_connection_is_announced_and_then_listened_to(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with eras.over_http() as url:
        config = MCPConfig.model_validate({"mcp_servers": {"eras": {"transport": "http", "endpoint": url}}})
        async with running_service(dsn, tmp_path, ring, config=config) as service, service.client(user) as http:
            client = RawClient(http, "/mcp", MODERN)
            async with client.listening() as queue:
                await connected(http, "eras")
                await _next(queue, TOOLS_CHANGED)
                await _until_listened_to(service)
                while not queue.empty():
                    queue.get_nowait()
                await client.call("eras__change_tools")
                await _next(queue, TOOLS_CHANGED)


async def _until_listened_to(service: Service) -> None:
    pool = service.app.state.mcp.upstreams._pool
    await eventually(lambda: any(session.listening._established.is_set() for session in pool._sessions.values()))


@pytest.mark.parametrize("kind", KINDS)
async def test_what_belongs_to_a_call_is_told_once_also_to_a_client_that_listens(
    dsn: Secret, tmp_path: Path, ring: KeyRing, kind: str
) -> None:
    user = unique()
    async with service_of(dsn, tmp_path, ring, kind, user) as service, service.client(user) as http:
        client = RawClient(http, "/mcp", MODERN, log_level="info")
        async with client.listening() as queue:
            await _until_listened_to(service)
            await client.call("eras__count", progressToken=1)
            await client.call("eras__chat")
            assert [note["method"] for note in client.heard] == ["notifications/progress"] * 3 + ["notifications/message"]
            assert queue.empty()


async def test_a_stranger_hears_nothing(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user, other = unique(), unique()
    async with service_of(dsn, tmp_path, ring, MODERN, user) as service:
        async with service.client(user) as http, service.client(other) as stranger:
            listener = RawClient(http, "/mcp", MODERN)
            async with RawClient(stranger, "/mcp", MODERN).listening() as heard, listener.listening() as queue:
                await listener.call("eras__change_tools")
                await _next(queue, TOOLS_CHANGED)
                assert heard.empty()


async def test_upstreams_are_listened_to_only_while_somebody_is_interested(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with service_of(dsn, tmp_path, ring, MODERN, user) as service, service.client(user) as http:
        pool = service.app.state.mcp.upstreams._pool
        client = RawClient(http, "/mcp", MODERN)
        await client.call("eras__echo")
        [session] = pool._sessions.values()
        assert (session.listening.active, session.watched) == (False, False)
        async with client.listening():
            async with client.listening():
                assert (session.listening.active, session.watched) == (True, True)
            await eventually(lambda: session.listening.active)
        await eventually(lambda: not session.listening.active and not session.watched)


@pytest.mark.parametrize("kind", [MODERN, HANDSHAKE])
async def test_a_level_below_the_one_that_was_set_is_not_shown(dsn: Secret, tmp_path: Path, ring: KeyRing, kind: str) -> None:
    user = unique()
    async with service_of(dsn, tmp_path, ring, kind, user) as service, service.client(user) as http:
        client = RawClient(http, "/mcp", HANDSHAKE)
        await client.open()
        await client.call("eras__chat")
        assert [note["method"] for note in client.heard] == ["notifications/message"]
        await client.request("logging/setLevel", {"level": "error"})
        await client.call("eras__chat")
        assert len(client.heard) == 1
        with pytest.raises(Refused, match="must be one of"):
            await client.request("logging/setLevel", {"level": "loud"})


async def test_a_listener_that_does_not_keep_up_is_dropped(make_principal: MakePrincipal) -> None:
    user_id = make_principal().user_id
    announcements = Announcer()
    with announcements.listening(user_id) as slow, announcements.listening(user_id) as quick:
        for _ in range(announcer.MAX_BACKLOG):
            announcements.lists_changed(user_id)
            while not quick.empty():
                assert quick.get_nowait() is not None
        got = [slow.get_nowait() for _ in range(slow.qsize())]
    assert len(got) <= announcer.MAX_BACKLOG
    assert got[-1] is None
    assert announcements._queues == {}


async def test_a_client_that_does_not_read_its_answer_is_dropped(
    dsn: Secret, tmp_path: Path, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply, "SLOW_READER_SECONDS", 0.2)
    monkeypatch.setattr(serving, "UNREAD_SECONDS", 1)
    ended = asyncio.Event()

    async def flood(exchange: raw.Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        token = exchange.request.message["params"]["_meta"]["progressToken"]
        note = {
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {"progressToken": token, "message": "x" * 100_000},
        }
        try:
            while True:
                await exchange.send(b"data: " + json.dumps(note).encode() + b"\n\n")
        finally:
            ended.set()

    async with raw.running(raw.RawServer(on={"tools/call": flood})) as server:
        config = MCPConfig.model_validate({"mcp_servers": {"up": {"transport": "http", "endpoint": server.url}}})
        async with running_service(dsn, tmp_path, ring, config=config) as service:
            user = unique()
            async with service.client(user) as rest:
                await connected(rest, "up")
            params = {"name": "up__pay", "_meta": {"progressToken": 1}}
            async with _posted(service, user, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}) as client:
                async with asyncio.timeout(20):
                    await ended.wait()
                await eventually(lambda: _is_cut(client), 30)
            async with service.client(user) as rest:
                assert (await rest.get(f"{API}/mcp/connections")).status_code == 200


def _is_cut(client: socket.socket) -> bool:
    """Whether the other end has forgotten the connection; one that only closes it still takes what is sent."""
    try:
        client.send(b"x")
    except ConnectionError:
        return True
    return False


@contextlib.asynccontextmanager
async def _posted(service: Service, user: str, body: dict[str, Any]) -> Any:
    """A request of 2026-07-28 on a socket that is never read."""
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    body["params"]["_meta"] |= meta
    data = json.dumps(body).encode()
    host, port = service.url.removeprefix("http://").split(":")
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {service.token(user)}\r\n"
        f"Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        f"MCP-Protocol-Version: {MODERN}\r\nMcp-Method: {body['method']}\r\nMcp-Name: {body['params']['name']}\r\n\r\n"
    )
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    await loop.sock_sendall(client, head.encode() + data)
    try:
        yield client
    finally:
        client.close()


async def test_five_hundred_clients_that_trickle_keep_nobody_from_being_answered(
    dsn: Secret, tmp_path: Path, ring: KeyRing
) -> None:
    user = unique()
    async with service_of(dsn, tmp_path, ring, MODERN, user) as service, service.client(user) as http:
        host, port = service.url.removeprefix("http://").split(":")
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {service.token(user)}\r\n"
            "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        sockets = [await asyncio.open_connection(host, int(port)) for _ in range(500)]
        for _, writer in sockets:
            writer.write(head.encode())
        client = RawClient(http, "/mcp", MODERN)
        for _ in range(5):
            assert await client.call("eras__echo")
        for _, writer in sockets:
            writer.close()


async def test_a_client_that_trickles_its_body_is_cut(
    dsn: Secret, tmp_path: Path, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "BODY_SECONDS", 0.3)
    async with running_service(dsn, tmp_path, ring) as service:
        host, port = service.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /mcp HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {service.token(unique())}\r\n"
            "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        )
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        assert b" 408 " in head
        writer.close()
