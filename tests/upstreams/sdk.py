"""Servers of the official SDK: in this process behind a real port, and as a program (`python -m tests.upstreams.sdk`)."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations
from starlette.types import ASGIApp, Message, Receive, Scope, Send

READS = ToolAnnotations(read_only_hint=True)


def build_server(calls: list[str] | None = None) -> MCPServer:
    """A server with a tool that reads, one that acts, one that fails, one that reports; `calls` notes what is called."""
    noted = [] if calls is None else calls
    server = MCPServer("tests", version="7", instructions="For tests.")

    @server.tool(annotations=READS)
    async def echo(text: str) -> str:
        """Says it again."""
        noted.append("echo")
        return text

    @server.tool()
    async def pay(amount: int) -> str:
        """Pays; doing it twice pays twice."""
        noted.append("pay")
        return f"paid {amount}"

    @server.tool()
    async def fail(reason: str) -> str:
        """Fails."""
        noted.append("fail")
        raise ValueError(reason)

    @server.tool(annotations=READS)
    async def count(to: int, ctx: Context[Any, Any]) -> int:
        """Counts, and reports where it is."""
        for step in range(to):
            await ctx.report_progress(step, to)
        return to

    return server


@dataclass
class SDKServer:
    """A running server and what has come in."""

    url: str
    calls: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """HTTP method and JSON-RPC method of each."""
    authorizations: list[str] = field(default_factory=list)


class Wire:
    """ASGI middleware: notes what comes in, and makes a server as old as `revision` says: it refuses `server/discover` and
    agrees to nothing newer in the handshake."""

    def __init__(self, app: ASGIApp, noted: SDKServer, revision: str | None) -> None:
        self.app = app
        self.noted = noted
        self.revision = revision

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = b""
        while scope["method"] == "POST":
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        message = json.loads(body) if body else {}
        self.noted.requests.append((scope["method"], message.get("method", "")))
        self.noted.authorizations.append(dict(scope["headers"]).get(b"authorization", b"").decode())
        if self.revision is not None and message.get("method") == "server/discover":
            await send({"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"Bad Request: Unsupported protocol version"})
            return
        if self.revision is not None and message.get("method") == "initialize":
            message["params"]["protocolVersion"] = self.revision
            body = json.dumps(message).encode()
        await self.app(self._with_length(scope, body), self._replay(scope, body, receive), send)

    def _with_length(self, scope: Scope, body: bytes) -> Scope:
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        return {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}

    def _replay(self, scope: Scope, body: bytes, receive: Receive) -> Receive:
        if scope["method"] != "POST":
            return receive
        parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return parts.pop() if parts else await receive()

        return replay


@contextlib.asynccontextmanager
async def over_http(
    *, revision: str | None = None, json_response: bool = False, stateless: bool = False
) -> AsyncIterator[SDKServer]:
    """The server over Streamable HTTP; `revision` makes it one of the handshake era."""
    listener = socket.create_server(("127.0.0.1", 0))
    noted = SDKServer(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp")
    app = build_server(noted.calls).streamable_http_app(json_response=json_response, stateless_http=stateless)
    config = uvicorn.Config(Wire(app, noted, revision), log_config=None, access_log=False, timeout_graceful_shutdown=1, ws="none")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]  # the test runner's signals stay its own
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    try:
        yield noted
    finally:
        server.should_exit = True
        await task
        listener.close()


if __name__ == "__main__":
    if os.environ.get("TESTS_CHATTER"):
        os.write(2, b"listening\n" * 10)
    build_server().run("stdio")
