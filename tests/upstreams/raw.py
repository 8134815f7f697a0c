"""An MCP server made of bare sockets: it behaves until it is told how to misbehave, which the SDK's server cannot do."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

TOOLS = [
    {
        "name": "echo",
        "description": "Says it again.",
        "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
        "annotations": {"readOnlyHint": True},
    },
    {"name": "pay", "description": "Pays; doing it twice pays twice.", "inputSchema": {"type": "object"}},
]
MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"


@dataclass(frozen=True)
class Request:
    """One HTTP request as it came in."""

    verb: str
    path: str
    headers: Mapping[str, str]
    message: Mapping[str, Any]

    @property
    def method(self) -> str:
        """The JSON-RPC method, empty if the body is none."""
        return str(self.message.get("method", ""))


@dataclass
class Exchange:
    """A request, and the socket that its answer goes to."""

    request: Request
    writer: asyncio.StreamWriter
    server: "RawServer"

    async def send(self, data: bytes) -> None:
        """Writes bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def http(self, body: bytes, *, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> None:
        """Answers with a whole body."""
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.send(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)

    async def result(self, result: Any, **headers: str) -> None:
        """Answers well."""
        body = {"jsonrpc": "2.0", "id": self.request.message.get("id"), "result": result}
        await self.http(json.dumps(body).encode(), headers=headers)

    async def error(self, code: int, message: str, *, status: str = "200 OK") -> None:
        """Answers with a JSON-RPC error."""
        body = {"jsonrpc": "2.0", "id": self.request.message.get("id"), "error": {"code": code, "message": message}}
        await self.http(json.dumps(body).encode(), status=status)


Behaviour = Callable[[Exchange], Awaitable[None]]


@dataclass
class RawServer:
    """What the server does: `on[method]` in place of its good manners. A behaviour that returns keeps the connection."""

    handshake: bool = False
    on: dict[str, Behaviour] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    url: str = ""

    def count(self, method: str, *, verb: str = "POST") -> int:
        """How many requests of a JSON-RPC method have come in."""
        return sum(request.verb == verb and request.method == method for request in self.requests)

    def methods(self) -> list[str]:
        """The JSON-RPC methods in the order in which they came; for a request without one, its HTTP method."""
        return [request.method or request.verb for request in self.requests]

    async def answer(self, exchange: Exchange) -> None:
        """Answers as a good server would, unless told otherwise."""
        method = exchange.request.method
        if method in self.on:
            await self.on[method](exchange)
        elif exchange.request.verb != "POST":
            await exchange.http(b"", status="204 No Content")
        elif self.handshake:
            await self._answer_in_session(exchange)
        elif method == "server/discover":
            meta = {"io.modelcontextprotocol/serverInfo": {"name": "raw", "version": "1"}}
            await exchange.result({"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "_meta": meta})
        else:
            await self._serve(exchange)

    async def _answer_in_session(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "server/discover":
            await exchange.http(b"Bad Request: no valid session ID", status="400 Bad Request")
        elif request.method == "initialize":
            session = f"session-{len(self.sessions) + 1}"
            self.sessions = {session}
            info = {"name": "raw", "version": "1"}
            result = {"protocolVersion": HANDSHAKE, "capabilities": {"tools": {}}, "serverInfo": info}
            await exchange.result(result, **{"Mcp-Session-Id": session})
        elif request.headers.get("mcp-session-id") not in self.sessions:
            await exchange.error(-32001, "Session not found", status="404 Not Found")
        elif "id" not in request.message:
            await exchange.http(b"", status="202 Accepted")
        else:
            await self._serve(exchange)

    async def _serve(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "tools/list":
            await exchange.result({"tools": TOOLS})
        elif request.method == "tools/call":
            text = json.dumps(request.message["params"].get("arguments"))
            await exchange.result({"content": [{"type": "text", "text": text}]})
        else:
            await exchange.error(-32601, "Method not found")


@contextlib.asynccontextmanager
async def running(
    server: RawServer | None = None, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """The server on a port of its own; every connection is cut when the block ends."""
    server = server or RawServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                exchange = Exchange(await _read(reader), writer, server)
                server.requests.append(exchange.request)
                await server.answer(exchange)
        tasks.discard(task)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}/mcp"
    try:
        yield server
    finally:
        listener.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    verb, path, _ = head[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(verb, path, headers, json.loads(body) if body else {})
