"""The run's two ways out: the model gateway with the framework's client, the MCP gateway with the SDK's.

The framework's own MCP tool would connect again, call again and rename; so a tool is a function here, which hands on what the gateway
says. Neither client retries or has a deadline: the gateways have them, and a call that is held is one that waits for a person.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from agent_framework import Content, FunctionTool
from agent_framework_openai import OpenAIChatCompletionClient
from auralink_engine import Job
from auralink_engine.tls import tls_for
from auralink_engine.watching import WatchedModels, WatchedTools
from auralink_engine.words import text_of_content
from mcp import ClientSession, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, PaginatedRequestParams, Tool

NO_ANSWER = "(no text)"
PLACES = ("sources", "hits", "results")
"""What tools call the places that an answer comes from (auralink_engine.team.sources_of)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answered: `text` is for the model, `shown` for people and for the sources of the run's answer."""

    text: str
    shown: str
    failed: bool


class Gateways:
    """What members use."""

    def __init__(self, job: Job, models: httpx2.AsyncBaseTransport | None) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._job = job
        self._models = models or httpx2.AsyncHTTPTransport(verify=tls_for(job.llm_url), trust_env=False)
        self._tools: dict[str, Tool] = {}
        self._session: ClientSession | None = None

    def lose(self, error: Exception) -> None:
        """Ends the attempt, whoever waits for what."""
        if not self.lost.done():
            self.lost.set_exception(error)

    def model(self, name: str, on_step: Callable[[int], None], turns: int) -> OpenAIChatCompletionClient[Any]:
        """A client that asks a model up to `turns` times for one message, the last time without tools; `on_step` hears the number of
        each call."""
        transport: Any = WatchedModels(httpx2, self._models, self.lose, on_step)
        client = openai.AsyncOpenAI(
            base_url=self._job.llm_url,
            api_key=self._job.token,
            max_retries=0,
            timeout=None,
            http_client=httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False),
        )
        return OpenAIChatCompletionClient(
            model=name,
            async_client=client,
            function_invocation_configuration={
                "max_iterations": max(1, turns - 1),
                "max_consecutive_errors_per_request": turns + 1,
                "include_detailed_errors": True,
            },
        )

    def tool(self, name: str) -> FunctionTool | None:
        """A tool as the gateway describes it; None if the user has it no more."""
        described = self._tools.get(name)
        if described is None:
            return None

        async def invoke(**arguments: Any) -> list[Content]:
            answer = await self.call(name, arguments)
            return [Content.from_text(answer.text, additional_properties={"answer": answer})]

        return FunctionTool(
            name=name, description=described.description or "", func=invoke, input_model=dict(described.input_schema)
        )

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        """One tool call; an error of the tool is an answer."""
        assert self._session is not None
        try:
            answer = await self._session.call_tool(name, dict(arguments))
        except (MCPError, RuntimeError) as error:  # the latter: an answer that does not fit the tool's own schema
            return Answer(str(error), str(error), failed=True)
        text, data = _text_of(answer), answer.structured_content
        has_places = data is not None and any(place in data for place in PLACES)
        return Answer(text, json.dumps(data, ensure_ascii=False) if has_places else text, answer.is_error)

    async def connect_tools(self, stack: AsyncExitStack, transport: httpx2.AsyncBaseTransport | None) -> None:
        """Opens the run's one MCP session and lists the tools; `stack` closes it."""
        inner = transport or httpx2.AsyncHTTPTransport(verify=tls_for(self._job.mcp_url), trust_env=False)
        watched: Any = WatchedTools(httpx2, inner, self.lose)
        headers = {"authorization": f"Bearer {self._job.token}"}
        client = httpx2.AsyncClient(headers=headers, transport=watched, timeout=None, trust_env=False)
        streams = await stack.enter_async_context(
            streamable_http_client(self._job.mcp_url, http_client=client, terminate_on_close=False)
        )
        self._session = await stack.enter_async_context(ClientSession(*streams))
        await self._session.initialize()
        page = await self._session.list_tools()
        self._tools = {tool.name: tool for tool in page.tools}
        while page.next_cursor is not None:
            page = await self._session.list_tools(params=PaginatedRequestParams(cursor=page.next_cursor))
            self._tools |= {tool.name: tool for tool in page.tools}


@asynccontextmanager
async def open_gateways(
    job: Job,
    *,
    with_tools: bool,
    models: httpx2.AsyncBaseTransport | None = None,
    tools: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator[Gateways]:
    """The gateways of a run; the MCP session is opened only when somebody needs tools."""
    gateways = Gateways(job, models)
    try:
        async with AsyncExitStack() as stack:
            if with_tools:
                await gateways.connect_tools(stack, tools)
            yield gateways
    except Exception as error:
        loss = gateways.lost.exception() if gateways.lost.done() else None
        if loss is not None and loss is not error:
            raise loss from error  # what the SDK makes of it is a consequence
        raise


def _text_of(answer: CallToolResult) -> str:
    text = text_of_content(answer.content)
    if not text and answer.structured_content is not None:
        return json.dumps(answer.structured_content, ensure_ascii=False)
    return text or NO_ANSWER
