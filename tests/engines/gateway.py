"""The two gateways as an engine meets them, over a real socket: scripted chat completions, and tools of the SDK's own server."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Model = Callable[[Mapping[str, Any]], Mapping[str, Any] | Response]


def said(text: str, tokens: int = 10) -> dict[str, Any]:
    """A completion that is a text."""
    return _completion({"role": "assistant", "content": text}, tokens)


def wants(*calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """A completion that asks for tools."""
    made = [
        {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for at, (name, arguments) in enumerate(calls)
    ]
    return _completion({"role": "assistant", "content": None, "tool_calls": made}, 10)


def _completion(message: dict[str, Any], tokens: int) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
    usage = {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [choice],
        "usage": usage,
    }


@dataclass
class Gateway:
    """What the engine was seen to do, and how it is answered."""

    url: str
    model: Model
    asked: list[dict[str, Any]] = field(default_factory=list)
    called: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    known: dict[str, list[str]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    approvals: list[dict[str, Any]] = field(default_factory=list)
    refuse_mcp: int | None = None
    first_call: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    most_at_once: int = 0

    def tools(self) -> MCPServer:
        """A user's tools: memory, a wiki, the internal server, and some that misbehave."""
        server = MCPServer("tools")
        self._add_memory(server)

        @server.tool(name="deepwiki__ask_question")
        async def ask_question(repoName: str, question: str) -> CallToolResult:  # noqa: N803 (the tool names it so)
            excerpt = "To start the service, type make run. It listens on port 8001."
            source = {"file": "README.md", "line": 3, "end_line": 4, "heading": "Start", "excerpt": excerpt, "score": 1.0}
            data = {"repo_name": repoName, "question": question, "found": True, "answer": excerpt, "sources": [source]}
            text = f"{excerpt} [README.md:3]"
            return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=data | {"confidence": 0.9})

        @server.tool(name="deepwiki__search_docs")
        async def search_docs(repoName: str, query: str, limit: int = 10) -> CallToolResult:  # noqa: N803
            text = f"README.md:9 To search the docs of {repoName}, type make docs and open the page."
            return CallToolResult(content=[TextContent(type="text", text=text)])

        @server.tool(name="odd__Näme".encode("ascii", "ignore").decode(), description="Adds.")
        async def add(first: int, second: int) -> str:
            return str(first + second)

        @server.tool(name="broken__fail")
        async def fail(why: str) -> str:
            raise ToolError(f"it failed: {why}")

        @server.tool(name="auralink__ask_approval")
        async def ask_approval(question: str, details: Any = None) -> dict[str, Any]:
            self.approvals.append({"question": question, "details": details})
            return {"decision": "approve", "note": None, "answer": None}

        @server.tool(name="auralink__run_workflow")
        async def run_workflow(name: str, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
            return {"ran": name, "with": input}

        return server

    def _add_memory(self, server: MCPServer) -> None:
        @server.tool(name="memory__search_nodes")
        async def search_nodes(query: str) -> dict[str, Any]:
            words = query.lower().split()
            found = [name for name, facts in self.known.items() if any(w in f"{name} {facts}".lower() for w in words)]
            return {"entities": [self._entity(name) for name in found], "relations": []}

        @server.tool(name="memory__open_nodes")
        async def open_nodes(names: list[str]) -> dict[str, Any]:
            return {"entities": [self._entity(name) for name in names if name in self.known], "relations": []}

        @server.tool(name="memory__create_entities")
        async def create_entities(entities: list[dict[str, Any]]) -> dict[str, Any]:
            new = [entity for entity in entities if entity["name"] not in self.known]
            self.known |= {entity["name"]: list(entity["observations"]) for entity in new}
            self.types |= {entity["name"]: entity["entityType"] for entity in new}
            return {"entities": new}

        @server.tool(name="memory__add_observations")
        async def add_observations(observations: list[dict[str, Any]]) -> dict[str, Any]:
            results = []
            for given in observations:
                facts = self.known[given["entityName"]]
                new = [fact for fact in given["contents"] if fact not in facts]
                facts += new
                results.append({"entityName": given["entityName"], "addedObservations": new})
            return {"results": results}

    def _entity(self, name: str) -> dict[str, Any]:
        return {"name": name, "entityType": self.types.get(name, "note"), "observations": self.known[name]}

    async def complete(self, request: Request) -> Response:
        """`/v1/chat/completions`."""
        body = await request.json()
        self.asked.append(body)
        step = {"x-auralink-step": str(len(self.asked))}
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        answer = await asyncio.to_thread(self.model, body)
        self.running -= 1
        if isinstance(answer, Response):
            return answer
        if body.get("stream"):
            return StreamingResponse(_streamed(answer), media_type="text/event-stream", headers=step)
        return JSONResponse(answer, headers=step)

    def watched(self, app: ASGIApp) -> ASGIApp:
        """The application, with a note of every request."""

        async def watch(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            self.first_call.set()
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.tokens.add(headers.get("authorization", ""))
            self.requests.append(f"{scope['method']} {scope['path']}")
            if self.refuse_mcp is not None and scope["path"].startswith("/mcp"):
                await JSONResponse({"code": "stale_attempt", "detail": "a newer attempt"}, self.refuse_mcp)(scope, receive, send)
                return
            body = await _body_of(receive)
            message = json.loads(body) if body and scope["path"].startswith("/mcp") else {}
            if message.get("method") == "tools/call":
                self.called.append((message["params"]["name"], message["params"].get("arguments", {})))
            await app(scope, _replaying(body, receive), send)

        return watch


async def _body_of(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _replaying(body: bytes, receive: Receive) -> Receive:
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await receive()

    return replay


async def _streamed(answer: Mapping[str, Any]) -> AsyncIterator[str]:
    message = answer["choices"][0]["message"]
    words = (message.get("content") or "").split(" ")
    for at, word in enumerate(words):
        delta = {"role": "assistant", "content": word + (" " if at < len(words) - 1 else "")}
        yield _chunk(answer, [{"index": 0, "delta": delta, "finish_reason": None}])
    yield _chunk(answer, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    yield _chunk(answer, [], usage=answer["usage"])
    yield "data: [DONE]\n\n"


def _chunk(answer: Mapping[str, Any], choices: list[Any], **more: Any) -> str:
    chunk = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"], "choices": choices}
    return f"data: {json.dumps(chunk | more)}\n\n"


@contextlib.asynccontextmanager
async def running_gateway(model: Model) -> AsyncIterator[Gateway]:
    """Both gateways on one port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    gateway = Gateway(f"http://127.0.0.1:{listener.getsockname()[1]}", model)
    app = gateway.tools().streamable_http_app(json_response=True, stateless_http=True)
    app.router.routes.insert(0, Route("/v1/chat/completions", gateway.complete, methods=["POST"]))
    config = uvicorn.Config(gateway.watched(app), log_config=None, access_log=False, timeout_graceful_shutdown=1, ws="none")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]  # the test runner's signals stay its own
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    try:
        yield gateway
    finally:
        server.should_exit = True
        await task
        listener.close()
