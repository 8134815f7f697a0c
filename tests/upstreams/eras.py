"""A server of the official SDK that does all a server can, for tests across revisions; over stdio `python -m tests.upstreams.eras`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from conformance.fixture import QUESTION, Ctx, NeedsInput, Params, ask, form, log, sampling, text
from conformance.serving import serving
from tests.upstreams.sdk import SDKServer, Wire

VENDOR = "vendor.example/trace"
OBJECT = {"type": "object"}
RESOURCE, SECOND_RESOURCE = "test://a", "test://b"
TOOLS = (
    "echo",
    "ask_user",
    "ask_model",
    "ask_aside",
    "ask_and_forget",
    "count",
    "chat",
    "wait",
    "change_tools",
    "change_resource",
)


class Everything:
    """Its handlers, and what they remember."""

    def __init__(self) -> None:
        self.bus = InMemorySubscriptionBus()
        self.sessions: dict[str, Any] = {}
        """Handshake-era sessions that have subscribed to a resource, by its address."""

    async def list_tools(self, _ctx: Ctx, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """Its tools; `echo` carries a vendor's field."""
        meta = {VENDOR: {"list": True}}
        return types.ListToolsResult(
            tools=[types.Tool(name=name, description=f"To {name}", input_schema=OBJECT, _meta=meta) for name in TOOLS]
        )

    async def call_tool(self, ctx: Ctx, params: Params) -> types.CallToolResult | types.InputRequiredResult:
        """Calls one."""
        if params.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}", data={"name": params.name})
        try:
            return await getattr(self, params.name)(ctx, params)
        except NeedsInput as needs:
            return types.InputRequiredResult(input_requests={QUESTION: needs.question}, request_state="asked")

    async def echo(self, ctx: Ctx, params: Params) -> types.CallToolResult:
        """Says arguments and `_meta` again, in all the ways there are."""
        meta = {key: value for key, value in (ctx.meta or {}).items() if key.startswith("vendor")}
        return text("echo", structured_content={"said": params.arguments, "meta": meta}, _meta={VENDOR: {"deep": [1, None, "ä"]}})

    async def ask_user(self, ctx: Ctx, params: Params) -> types.CallToolResult:
        """Asks the user."""
        answer = await ask(ctx, params, form("What is your name?", name={"type": "string"}), types.ElicitResult)
        return text(f"{answer.action} {(answer.content or {}).get('name')}")

    async def ask_model(self, ctx: Ctx, params: Params) -> types.CallToolResult:
        """Asks the client's model."""
        answer = await ask(ctx, params, sampling("What is the capital of France?", 100), types.CreateMessageResult)
        return text(f"model said {answer.content.text}")

    async def ask_aside(self, ctx: Ctx, params: Params) -> types.CallToolResult:
        """Asks the user, of the handshake era on the stream that belongs to no call, as many servers do."""
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return await self.ask_user(ctx, params)
        answer = await ctx.session.send_request(form("What is your name?", name={"type": "string"}), types.ElicitResult)
        return text(f"{answer.action} {(answer.content or {}).get('name')}")

    async def ask_and_forget(self, ctx: Ctx, params: Params) -> types.CallToolResult:
        """Asks the user, and takes the question back when there is no answer at once."""
        try:
            async with asyncio.timeout(0.2):
                return await self.ask_user(ctx, params)
        except TimeoutError:
            return text("never mind")

    async def count(self, ctx: Ctx, _params: Params) -> types.CallToolResult:
        """Reports progress."""
        for step in (1, 2, 3):
            await ctx.session.report_progress(step, 3, f"step {step}")
        return text("3")

    async def chat(self, ctx: Ctx, _params: Params) -> types.CallToolResult:
        """Logs at two levels; to a client of 2026-07-28 that has asked for it."""
        wanted = (ctx.meta or {}).get(types.LOG_LEVEL_META_KEY)
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS or wanted in ("debug", "info"):
            await log(ctx, "hello")
        return text("logged")

    async def wait(self, _ctx: Ctx, params: Params) -> types.CallToolResult:
        """Waits for ever, and leaves two files: when it begins, and when it is cancelled."""
        mark = Path((params.arguments or {})["mark"])
        mark.with_suffix(".begun").touch()
        try:
            await asyncio.Event().wait()
        finally:
            mark.with_suffix(".cancelled").touch()
        return text("never")

    async def change_tools(self, ctx: Ctx, _params: Params) -> types.CallToolResult:
        """Announces a changed list."""
        await self.bus.publish(ToolsListChanged())
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            await ctx.session.send_tool_list_changed()
        return text("changed")

    async def change_resource(self, _ctx: Ctx, params: Params) -> types.CallToolResult:
        """Announces a changed resource."""
        uri = str((params.arguments or {})["uri"])
        await self.bus.publish(ResourceUpdated(uri=uri))
        if uri in self.sessions:
            await self.sessions[uri].send_resource_updated(uri)
        return text("changed")

    async def subscribe(self, ctx: Ctx, params: types.SubscribeRequestParams) -> types.EmptyResult:
        """Notes who wants to know."""
        self.sessions[str(params.uri)] = ctx.session
        return types.EmptyResult()

    async def unsubscribe(self, _ctx: Ctx, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        """Forgets it."""
        self.sessions.pop(str(params.uri), None)
        return types.EmptyResult()


async def _list_prompts(_ctx: Ctx, _params: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=[types.Prompt(name="greet", description="Greets")])


async def _get_prompt(_ctx: Ctx, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    content = types.TextContent(type="text", text=f"Greet {(params.arguments or {}).get('who')}.")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)], _meta={VENDOR: "prompt"})


async def _list_resources(_ctx: Ctx, _params: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=[types.Resource(uri=uri, name=uri[-1]) for uri in (RESOURCE, SECOND_RESOURCE)])


async def _list_templates(_ctx: Ctx, _params: Any) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(resource_templates=[types.ResourceTemplate(uri_template="test://{x}", name="any")])


async def _read_resource(_ctx: Ctx, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=params.uri, text=f"content of {params.uri}")])


async def _complete(_ctx: Ctx, params: types.CompleteRequestParams) -> types.CompleteResult:
    return types.CompleteResult(completion=types.Completion(values=[f"{params.argument.value}ris"]))


async def _set_level(_ctx: Ctx, _params: types.SetLevelRequestParams) -> types.EmptyResult:
    return types.EmptyResult()


def build_server() -> Server[Any]:
    """The server."""
    everything = Everything()
    server: Server[Any] = Server(
        "eras",
        version="1",
        on_list_tools=everything.list_tools,
        on_call_tool=everything.call_tool,
        on_list_prompts=_list_prompts,
        on_get_prompt=_get_prompt,
        on_list_resources=_list_resources,
        on_list_resource_templates=_list_templates,
        on_read_resource=_read_resource,
        on_subscribe_resource=everything.subscribe,
        on_unsubscribe_resource=everything.unsubscribe,
        on_subscriptions_listen=ListenHandler(everything.bus),
        on_completion=_complete,
    )
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, _set_level)
    return server


def http_app(revision: str | None = None) -> Starlette:
    """Over Streamable HTTP at `/mcp`; `revision` makes it one of the handshake era."""
    return _aged(build_server().streamable_http_app(), revision)


def sse_app() -> Starlette:
    """Over HTTP+SSE at `/sse`, of the handshake era."""
    server, transport = build_server(), SseServerTransport("/messages/")

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        async with transport.connect_sse(scope, receive, send) as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())

    class Stream:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await stream(scope, receive, send)
            await Response()(scope, receive, send)

    return Starlette(routes=[Route("/sse", Stream()), Mount("/messages/", app=transport.handle_post_message)])


def _aged(app: Starlette, revision: str | None) -> Starlette:
    app.add_middleware(Wire, noted=SDKServer(""), revision=revision)
    return app


@contextlib.asynccontextmanager
async def over_http(revision: str | None = None) -> AsyncIterator[str]:
    """The address of one."""
    async with serving(http_app(revision)) as url:
        yield f"{url}/mcp"


@contextlib.asynccontextmanager
async def over_sse() -> AsyncIterator[str]:
    """The address of one."""
    async with serving(sse_app()) as url:
        yield f"{url}/sse"


async def _over_stdio() -> None:
    server = build_server()
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(_over_stdio())
