"""What the bench calls, each a process of its own: `python -m bench.upstreams sdk|bare|hang|flood|proxy PORT [URL]`.

`sdk` is a server of the official SDK (stateless, JSON answers); `bare` answers the same three requests by hand at as little CPU
as Python allows; `hang` never answers a call, `flood` answers with progress that does not end, each message ten times the call's text.
`proxy` is the baseline: Starlette and aiohttp, forwarding to URL, without authentication, policy or log.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson
import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
ECHO = {"name": "echo", "description": "Says it again.", "inputSchema": TEXT}
LISTED = {"tools": [ECHO], "ttlMs": 3_600_000, "cacheScope": "private", "resultType": "complete"}
DISCOVERED = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}


def sdk() -> ASGIApp:
    """A server of the official SDK with the tool `echo`."""
    server = MCPServer("sdk", log_level="ERROR")

    @server.tool(structured_output=False)
    async def echo(text: str) -> str:
        """Says it again."""
        return text

    return server.streamable_http_app(json_response=True, stateless_http=True)


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers JSON-RPC by hand."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            break
    message = orjson.loads(body)
    if message["method"] == "tools/call" and (misbehave := MISBEHAVIOUR.get(KIND)) is not None:
        await misbehave(message, receive, send)
        return
    answer = orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": _result(message)})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def _hang(_message: dict[str, Any], _receive: Receive, _send: Send) -> None:
    await asyncio.sleep(3600)


async def _flood(message: dict[str, Any], receive: Receive, send: Send) -> None:
    """Progress as fast as it is taken, until nobody is there."""
    gone = asyncio.ensure_future(receive())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    token = (message["params"].get("_meta") or {}).get("progressToken", 0)
    params = {"progressToken": token, "progress": 1, "message": message["params"]["arguments"]["text"] * 10}
    event = orjson.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
    while not gone.done():
        await send({"type": "http.response.body", "body": b"data: " + event + b"\n\n", "more_body": True})
        await asyncio.sleep(0.0005)


MISBEHAVIOUR = {"hang": _hang, "flood": _flood}
KIND = sys.argv[1] if __name__ == "__main__" else "bare"


def _result(message: dict[str, Any]) -> dict[str, Any]:
    if message["method"] == "tools/call":
        return {"content": [{"type": "text", "text": message["params"]["arguments"]["text"]}], "resultType": "complete"}
    return LISTED if message["method"] == "tools/list" else DISCOVERED


def proxy(url: str) -> Starlette:
    """Forwards every POST."""
    client: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        nonlocal client
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            yield

    async def forward(request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        async with client.post(url, data=await request.body(), headers=headers) as answer:
            return Response(await answer.read(), answer.status, media_type=answer.content_type)

    return Starlette(routes=[Route("/mcp", forward, methods=["POST"])], lifespan=lifespan)


def main(kind: str, port: str, *rest: str) -> None:
    """Serves until it is ended."""
    made: dict[str, Callable[[], ASGIApp]] = {"sdk": sdk, "proxy": lambda: proxy(*rest)}
    app = made[kind]() if kind in made else bare
    uvicorn.run(
        app, host="127.0.0.1", port=int(port), timeout_graceful_shutdown=1, log_level="error", access_log=False, ws="none"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
