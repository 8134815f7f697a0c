"""MCP servers on loopback for the tests: one of the SDK that says what it was sent, and one that misbehaves on purpose."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import ToolAnnotations
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from auralink.serving import bound_socket


def echo_server() -> MCPServer:
    """Tools that give back the headers of the request: in the answer, in a tool error, in a JSON-RPC error."""
    server = MCPServer("echo")

    @server.tool()
    async def echo_headers(ctx: Context[Any, Any]) -> str:
        return _headers(ctx)

    @server.tool()
    async def fail_with_headers(ctx: Context[Any, Any]) -> str:
        raise ToolError(f"not with these: {_headers(ctx)}")

    @server.tool()
    async def reject_with_headers(ctx: Context[Any, Any]) -> str:
        raise MCPError(-32000, f"never with these: {_headers(ctx)}", {"headers": _headers(ctx)})

    @server.tool(annotations=ToolAnnotations(readOnlyHint=True))
    async def count(number: int) -> int:
        return number

    return server


def _headers(ctx: Context[Any, Any]) -> str:
    return str(dict(ctx.headers or {}))


async def misbehaving(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application whose path says how it answers; each answer has the request's credential in it."""
    if scope["type"] != "http":
        return
    request = Request(scope, receive)
    said = request.headers.get("authorization", "") or request.headers.get("x-api-key", "none")
    body = await request.body()
    message: dict[str, Any] = orjson.loads(body) if body else {}
    await _misbehaviour(request.url.path.strip("/"), said, message)(scope, receive, send)


def _misbehaviour(kind: str, said: str, message: dict[str, Any]) -> Response:
    error = {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": -32000, "message": said, "data": {"said": said}}}
    match kind:
        case "unauthorized":
            return Response(f"no: {said}", 401, {"WWW-Authenticate": f'Bearer error="{said}"'})
        case "forbidden":
            return Response(f"no: {said}", 403)
        case "redirect":
            return Response(said, 307, {"Location": f"http://127.0.0.1/?said={said}"})
        case "failing":
            return Response(said, 500)
        case "garbage":
            return Response(said, 200, media_type="application/json")
        case "refused-in-json":
            return Response(orjson.dumps(error), 200, media_type="application/json")
        case "odd-revision":
            result = {"protocolVersion": said, "capabilities": {}, "serverInfo": {"name": said, "version": said}}
            return _answer(message, result) if message.get("method") == "initialize" else Response(orjson.dumps(error), 200)
        case "talkative":
            return _talkative(said, message)
    return Response(status_code=404)


async def counting(scope: Scope, receive: Receive, send: Send) -> None:
    """A bare MCP server of revision 2026-07-28 with one tool, `count`, which answers its argument."""
    if scope["type"] != "http":
        return
    message: dict[str, Any] = orjson.loads(await Request(scope, receive).body())
    await _counted(message)(scope, receive, send)


def _counted(message: dict[str, Any]) -> Response:
    match message.get("method"):
        case "server/discover":
            found = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
            return _answer(message, found)
        case "tools/list":
            tool = {"name": "count", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
            return _answer(message, {"tools": [tool], "resultType": "complete"})
    number = message["params"]["arguments"]["number"]
    content = [{"type": "text", "text": str(number)}]
    return _answer(message, {"content": content, "structuredContent": {"result": number}, "resultType": "complete"})


def _talkative(said: str, message: dict[str, Any]) -> Response:
    """Works, and names itself and its tool after the credential."""
    match message.get("method"):
        case "server/discover":
            info = {"io.modelcontextprotocol/serverInfo": {"name": said, "version": said}}
            found = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "instructions": said, "_meta": info}
            return _answer(message, {**found, "resultType": "complete"})
        case "tools/list":
            tool = {"name": said.replace("Bearer ", ""), "description": said, "inputSchema": {"type": "object"}}
            return _answer(message, {"tools": [tool], "resultType": "complete"})
    return _answer(message, {"content": [{"type": "text", "text": "done"}], "resultType": "complete"})


def _answer(message: dict[str, Any], result: dict[str, Any]) -> Response:
    return Response(orjson.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": result}), media_type="application/json")


@contextlib.asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """Serves an application on a port of its own in this loop; yields its URL without a path."""
    listener = bound_socket("127.0.0.1", 0)
    config = uvicorn.Config(app, lifespan="on", log_config=None, access_log=False, timeout_graceful_shutdown=1, ws="none")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # the test runner's stay its own
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
