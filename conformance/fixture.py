"""The server that the suite tests: of the official SDK, with the tools, prompts and resources that its scenarios name.

It uses the low-level `Server`, which puts results on the wire as they are written here.
"""

import asyncio
import base64
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.applications import Starlette

NAME = "conformance-fixture"
STEP_SECONDS = 0.05
"""The suite asks for pauses of about 50 ms between progress and log notifications."""
RETRY_MS = 200
EMPTY_SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}

QUESTION = "question"
Ctx = ServerRequestContext[Any, Any]
Params = types.CallToolRequestParams
ToolResult = types.CallToolResult | types.InputRequiredResult
Tool = Callable[[Ctx, Params], Awaitable[ToolResult]]


def _png() -> str:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    image = chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00"))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + header + image + chunk(b"IEND", b"")).decode()


def _wav() -> str:
    """One silent sample."""
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", 1) + b"\x80\x00"
    return base64.b64encode(b"RIFF" + struct.pack("<I", len(body)) + body).decode()


PNG, WAV = _png(), _wav()


def text(words: str, **fields: Any) -> types.CallToolResult:
    """A result of one text block."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)], **fields)


def embedded(uri: str, mime_type: str, words: str) -> types.EmbeddedResource:
    """A text resource inside a result."""
    return types.EmbeddedResource(type="resource", resource=types.TextResourceContents(uri=uri, mime_type=mime_type, text=words))


def form(message: str, **properties: Mapping[str, Any]) -> types.ElicitRequest:
    """A question to the user; every property is required."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(prompt: str, max_tokens: int) -> types.CreateMessageRequest:
    """A question to the client's model."""
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


class NeedsInput(Exception):
    """The tool has a question for a client of 2026-07-28, which answers with its next request."""

    def __init__(self, question: Any) -> None:
        super().__init__()
        self.question = question


async def ask(ctx: Ctx, params: Params, question: Any, result_type: Any) -> Any:
    """Asks the client: one of the handshake era on the stream of the request under way, any other between two requests."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return await ctx.session.send_request(
            question, result_type, metadata=ServerMessageMetadata(related_request_id=ctx.request_id)
        )
    answer = (params.input_responses or {}).get(QUESTION)
    if not isinstance(answer, result_type):
        raise NeedsInput(question)
    return answer


async def log(ctx: Ctx, words: str) -> None:
    """A log notification on the request's stream."""
    notification = types.LoggingMessageNotification(params=types.LoggingMessageNotificationParams(level="info", data=words))
    await ctx.session.send_notification(notification, related_request_id=ctx.request_id)


async def _simple_text(_ctx: Ctx, _params: Params) -> ToolResult:
    return text("This is a simple text response for testing.")


async def _image(_ctx: Ctx, _params: Params) -> ToolResult:
    return types.CallToolResult(content=[types.ImageContent(type="image", data=PNG, mime_type="image/png")])


async def _audio(_ctx: Ctx, _params: Params) -> ToolResult:
    return types.CallToolResult(content=[types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


async def _resource(_ctx: Ctx, _params: Params) -> ToolResult:
    return types.CallToolResult(
        content=[embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]
    )


async def _mixed(_ctx: Ctx, _params: Params) -> ToolResult:
    return types.CallToolResult(
        content=[
            types.TextContent(type="text", text="Multiple content types test:"),
            types.ImageContent(type="image", data=PNG, mime_type="image/png"),
            embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ]
    )


async def _logging(ctx: Ctx, _params: Params) -> ToolResult:
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await log(ctx, words)
        await asyncio.sleep(STEP_SECONDS)
    return text("Logged three times.")


async def _quiet(_ctx: Ctx, _params: Params) -> ToolResult:
    return text("Nothing is logged to a client that has not asked for it.")


async def _error(_ctx: Ctx, _params: Params) -> ToolResult:
    return text("This tool intentionally returns an error for testing", is_error=True)


async def _progress(ctx: Ctx, _params: Params) -> ToolResult:
    for progress in (0, 50, 100):
        await ctx.session.report_progress(progress, 100)
        await asyncio.sleep(STEP_SECONDS)
    return text("Reported three times.")


async def _sampling(ctx: Ctx, params: Params) -> ToolResult:
    answer = await ask(ctx, params, sampling(str((params.arguments or {})["prompt"]), 100), types.CreateMessageResult)
    return text(f"LLM response: {answer.content.text}")


async def _elicitation(ctx: Ctx, params: Params) -> ToolResult:
    question = form(
        str((params.arguments or {})["message"]),
        username={"type": "string", "description": "User's response"},
        email={"type": "string", "description": "User's email address"},
    )
    answer = await ask(ctx, params, question, types.ElicitResult)
    return text(f"User response: action: {answer.action}, content: {answer.content}")


async def _elicited(ctx: Ctx, params: Params, properties: Mapping[str, Any]) -> ToolResult:
    schema = {"type": "object", "properties": properties, "required": []}
    question = types.ElicitRequest(params=types.ElicitRequestFormParams(message="Please fill in", requested_schema=schema))
    answer = await ask(ctx, params, question, types.ElicitResult)
    return text(f"Elicitation completed: action={answer.action}, content={answer.content}")


async def _defaults(ctx: Ctx, params: Params) -> ToolResult:
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return await _elicited(ctx, params, properties)


async def _enums(ctx: Ctx, params: Params) -> ToolResult:
    options = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"{word} Option"} for n, word in enumerate(("First", "Second", "Third"), 1)]
    chosen = [{"const": f"value{n}", "title": f"{word} Choice"} for n, word in enumerate(("First", "Second", "Third"), 1)]
    properties = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": chosen}},
    }
    return await _elicited(ctx, params, properties)


async def _reconnection(ctx: Ctx, _params: Params) -> ToolResult:
    """Closes the stream in the middle of the call; the answer waits for the client to come back."""
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await asyncio.sleep(2 * STEP_SECONDS)
    return text("Reconnection test completed successfully")


async def _schema_2020_12(_ctx: Ctx, params: Params) -> ToolResult:
    return text(f"Received {params.arguments}")


async def _headers(_ctx: Ctx, params: Params) -> ToolResult:
    return text(f"Region {(params.arguments or {}).get('region')}")


async def _missing_capability(ctx: Ctx, _params: Params) -> ToolResult:
    _require(ctx, "sampling")
    return text("The client can sample.")


def _require(ctx: Ctx, capability: str) -> None:
    if capability in _capabilities(ctx):
        return
    raise MCPError(
        types.MISSING_REQUIRED_CLIENT_CAPABILITY,
        f"this needs the client capability {capability!r}",
        data={"requiredCapabilities": {capability: {}}},
    )


def _capabilities(ctx: Ctx) -> set[str]:
    declared = ctx.session.client_capabilities
    return set() if declared is None else set(declared.model_dump(exclude_none=True))


NAME_QUESTION = form("What is your name?", name={"type": "string"})


async def _needs_name(_ctx: Ctx, params: Params) -> ToolResult:
    answer = (params.input_responses or {}).get("user_name")
    if not isinstance(answer, types.ElicitResult):
        return types.InputRequiredResult(input_requests={"user_name": NAME_QUESTION})
    return text(f"Hello, {(answer.content or {}).get('name')}!")


async def _needs_sampling(_ctx: Ctx, params: Params) -> ToolResult:
    answer = (params.input_responses or {}).get("capital_question")
    if not isinstance(answer, types.CreateMessageResult):
        return types.InputRequiredResult(input_requests={"capital_question": sampling("What is the capital of France?", 100)})
    return text(f"The model says: {getattr(answer.content, 'text', '')}")


async def _needs_roots(_ctx: Ctx, params: Params) -> ToolResult:
    answer = (params.input_responses or {}).get("client_roots")
    if not isinstance(answer, types.ListRootsResult):
        return types.InputRequiredResult(input_requests={"client_roots": types.ListRootsRequest()})
    return text("Roots: " + ", ".join(str(root.uri) for root in answer.roots))


async def _needs_state(_ctx: Ctx, params: Params) -> ToolResult:
    if params.request_state is None or "confirm" not in (params.input_responses or {}):
        question = form("Please confirm", ok={"type": "boolean"})
        return types.InputRequiredResult(input_requests={"confirm": question}, request_state="confirming")
    return text("state-ok")


async def _needs_many(_ctx: Ctx, params: Params) -> ToolResult:
    questions: dict[str, Any] = {
        "user_name": NAME_QUESTION,
        "greeting": sampling("Generate a greeting", 50),
        "client_roots": types.ListRootsRequest(),
    }
    if not questions.keys() <= (params.input_responses or {}).keys():
        return types.InputRequiredResult(input_requests=questions, request_state="all three")
    return text("All three answered.")


async def _needs_rounds(_ctx: Ctx, params: Params) -> ToolResult:
    answers = params.input_responses or {}
    if params.request_state is None or not answers:
        question = form("Step 1: What is your name?", name={"type": "string"})
        return types.InputRequiredResult(input_requests={"step1": question}, request_state="step 1")
    if params.request_state == "step 1":
        question = form("Step 2: What is your favorite color?", color={"type": "string"})
        return types.InputRequiredResult(input_requests={"step2": question}, request_state="step 2")
    return text("Both steps are done.")


async def _needs_what_can_be_asked(ctx: Ctx, params: Params) -> ToolResult:
    questions: dict[str, Any] = {"elicitation": NAME_QUESTION, "sampling": sampling("Generate a greeting", 50)}
    able = {key: question for key, question in questions.items() if key in _capabilities(ctx)}
    if params.input_responses or not able:
        return text("Nothing more to ask.")
    return types.InputRequiredResult(input_requests=able)


async def _streaming_elicitation(ctx: Ctx, params: Params) -> ToolResult:
    await ctx.session.report_progress(0, 1)
    return await _needs_name(ctx, params)


SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
WITH_HEADER = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}},
    "required": ["region"],
}


def _one_string(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}


TOOLS: Mapping[str, tuple[str, dict[str, Any], Tool]] = {
    "test_simple_text": ("Returns text", EMPTY_SCHEMA, _simple_text),
    "test_image_content": ("Returns an image", EMPTY_SCHEMA, _image),
    "test_audio_content": ("Returns audio", EMPTY_SCHEMA, _audio),
    "test_embedded_resource": ("Returns an embedded resource", EMPTY_SCHEMA, _resource),
    "test_multiple_content_types": ("Returns text, an image and a resource", EMPTY_SCHEMA, _mixed),
    "test_tool_with_logging": ("Logs while it works", EMPTY_SCHEMA, _logging),
    "test_logging_tool": ("Logs nothing", EMPTY_SCHEMA, _quiet),
    "test_error_handling": ("Fails", EMPTY_SCHEMA, _error),
    "test_tool_with_progress": ("Reports progress", EMPTY_SCHEMA, _progress),
    "test_sampling": ("Asks the client's model", _one_string("prompt"), _sampling),
    "test_elicitation": ("Asks the user", _one_string("message"), _elicitation),
    "test_elicitation_sep1034_defaults": ("Asks with default values", EMPTY_SCHEMA, _defaults),
    "test_elicitation_sep1330_enums": ("Asks with enumerations", EMPTY_SCHEMA, _enums),
    "test_reconnection": ("Closes its stream while it works", EMPTY_SCHEMA, _reconnection),
    "json_schema_2020_12_tool": ("Tool with JSON Schema 2020-12 features", SCHEMA_2020_12, _schema_2020_12),
    "test_headers": ("Has a parameter that is repeated in a header", WITH_HEADER, _headers),
    "test_missing_capability": ("Needs a client that can sample", EMPTY_SCHEMA, _missing_capability),
    "test_streaming_elicitation": ("Streams, then asks", EMPTY_SCHEMA, _streaming_elicitation),
    "test_input_required_result_elicitation": ("Needs a name", EMPTY_SCHEMA, _needs_name),
    "test_input_required_result_sampling": ("Needs a model", EMPTY_SCHEMA, _needs_sampling),
    "test_input_required_result_list_roots": ("Needs roots", EMPTY_SCHEMA, _needs_roots),
    "test_input_required_result_request_state": ("Needs its state back", EMPTY_SCHEMA, _needs_state),
    "test_input_required_result_tampered_state": ("Refuses a forged state", EMPTY_SCHEMA, _needs_state),
    "test_input_required_result_multiple_inputs": ("Needs three things", EMPTY_SCHEMA, _needs_many),
    "test_input_required_result_multi_round": ("Asks twice", EMPTY_SCHEMA, _needs_rounds),
    "test_input_required_result_capabilities": ("Asks what it may", EMPTY_SCHEMA, _needs_what_can_be_asked),
}
TRIGGERS = ("test_trigger_tool_change", "test_trigger_prompt_change")


class Fixture:
    """Handlers of the server, and what they remember: subscribers to the announcements of changed lists."""

    def __init__(self) -> None:
        self.bus = InMemorySubscriptionBus()

    async def list_tools(self, _ctx: Ctx, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """The tools of the suite's scenarios."""
        tools = [
            types.Tool(name=name, description=description, input_schema=schema)
            for name, (description, schema, _) in TOOLS.items()
        ]
        triggers = [types.Tool(name=name, description="Announces a changed list", input_schema=EMPTY_SCHEMA) for name in TRIGGERS]
        return types.ListToolsResult(tools=[*tools, *triggers])

    async def call_tool(self, ctx: Ctx, params: Params) -> ToolResult:
        """Calls one of them."""
        if params.name in TRIGGERS:
            await self.bus.publish(ToolsListChanged() if params.name == TRIGGERS[0] else PromptsListChanged())
            return text("Announced.")
        if params.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        try:
            return await TOOLS[params.name][2](ctx, params)
        except NeedsInput as needs:
            return types.InputRequiredResult(input_requests={QUESTION: needs.question})


PROMPTS = (
    types.Prompt(name="test_simple_prompt", description="A simple prompt"),
    types.Prompt(
        name="test_prompt_with_arguments",
        description="A prompt with arguments",
        arguments=[
            types.PromptArgument(name="arg1", description="First test argument", required=True),
            types.PromptArgument(name="arg2", description="Second test argument", required=True),
        ],
    ),
    types.Prompt(
        name="test_prompt_with_embedded_resource",
        description="A prompt with a resource",
        arguments=[types.PromptArgument(name="resourceUri", description="URI of the resource to embed", required=True)],
    ),
    types.Prompt(name="test_prompt_with_image", description="A prompt with an image"),
    types.Prompt(name="test_input_required_result_prompt", description="A prompt that asks first"),
)


async def _list_prompts(_ctx: Ctx, _params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=list(PROMPTS))


async def _get_prompt(_ctx: Ctx, params: types.GetPromptRequestParams) -> types.GetPromptResult | types.InputRequiredResult:
    arguments = params.arguments or {}
    match params.name:
        case "test_simple_prompt":
            return _prompt(types.TextContent(type="text", text="This is a simple prompt for testing."))
        case "test_prompt_with_arguments":
            words = f"Prompt with arguments: arg1='{arguments.get('arg1')}', arg2='{arguments.get('arg2')}'"
            return _prompt(types.TextContent(type="text", text=words))
        case "test_prompt_with_embedded_resource":
            resource = embedded(arguments["resourceUri"], "text/plain", "Embedded resource content for testing.")
            return _prompt(resource, types.TextContent(type="text", text="Please process the embedded resource above."))
        case "test_prompt_with_image":
            image = types.ImageContent(type="image", data=PNG, mime_type="image/png")
            return _prompt(image, types.TextContent(type="text", text="Please analyze the image above."))
        case "test_input_required_result_prompt":
            answer = (params.input_responses or {}).get("user_context")
            if not isinstance(answer, types.ElicitResult):
                question = form("What context should the prompt use?", context={"type": "string"})
                return types.InputRequiredResult(input_requests={"user_context": question})
            return _prompt(types.TextContent(type="text", text=f"Use this context: {(answer.content or {}).get('context')}"))
    raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")


def _prompt(*contents: types.ContentBlock) -> types.GetPromptResult:
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content) for content in contents])


RESOURCES = (
    types.Resource(uri="test://static-text", name="static-text", description="Text", mime_type="text/plain"),
    types.Resource(uri="test://static-binary", name="static-binary", description="An image", mime_type="image/png"),
    types.Resource(uri="test://watched-resource", name="watched", description="Can be watched", mime_type="text/plain"),
)
TEMPLATE = types.ResourceTemplate(
    uri_template="test://template/{id}/data", name="template", description="By id", mime_type="application/json"
)


async def _list_resources(_ctx: Ctx, _params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=list(RESOURCES))


async def _list_templates(_ctx: Ctx, _params: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(resource_templates=[TEMPLATE])


async def _read_resource(_ctx: Ctx, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = params.uri
    if uri == "test://static-binary":
        return types.ReadResourceResult(contents=[types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)])
    if uri.startswith("test://template/") and uri.endswith("/data"):
        item = uri.removeprefix("test://template/").removesuffix("/data")
        words = f'{{"id":"{item}","templateTest":true,"data":"Data for ID: {item}"}}'
        return _contents(uri, "application/json", words)
    if uri == "test://static-text":
        return _contents(uri, "text/plain", "This is the content of the static text resource.")
    if uri == "test://watched-resource":
        return _contents(uri, "text/plain", "Watch me.")
    raise MCPError(types.INVALID_PARAMS, "Resource not found", data={"uri": uri})


def _contents(uri: str, mime_type: str, words: str) -> types.ReadResourceResult:
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=mime_type, text=words)])


async def _nothing(_ctx: Ctx, _params: Any) -> types.EmptyResult:
    return types.EmptyResult()


async def _complete(_ctx: Ctx, params: types.CompleteRequestParams) -> types.CompleteResult:
    words = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=words, total=len(words), has_more=False))


class Events(EventStore):
    """The events of all streams, in memory, so that a client can take one up again."""

    def __init__(self) -> None:
        self._events: list[tuple[StreamId, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: StreamId, message: types.JSONRPCMessage | None) -> EventId:
        """Keeps an event; its id is its number."""
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        """Sends what came later on the same stream."""
        last = int(last_event_id)
        if not 0 < last <= len(self._events):
            return None
        stream_id = self._events[last - 1][0]
        for number, (stream, message) in enumerate(self._events[last:], last + 1):
            if stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


def build_app() -> Starlette:
    """The fixture over Streamable HTTP, at `/mcp`."""
    return build_server().streamable_http_app(event_store=Events(), retry_interval=RETRY_MS)


def build_server() -> Server[Any]:
    """The fixture, ready to be served."""
    fixture = Fixture()
    cacheable: Any = ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")
    server: Server[Any] = Server(
        NAME,
        version="1.0.0",
        cache_hints={method: CacheHint(ttl_ms=1000, scope="public") for method in cacheable},
        get_tool_input_schema=lambda name: TOOLS[name][1] if name in TOOLS else None,
        on_list_tools=fixture.list_tools,
        on_call_tool=fixture.call_tool,
        on_list_prompts=_list_prompts,
        on_get_prompt=_get_prompt,
        on_list_resources=_list_resources,
        on_list_resource_templates=_list_templates,
        on_read_resource=_read_resource,
        on_subscribe_resource=_nothing,
        on_unsubscribe_resource=_nothing,
        on_subscriptions_listen=ListenHandler(fixture.bus),
        on_completion=_complete,
    )
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, _nothing)
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME))
    return server
