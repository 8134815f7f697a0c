"""The run's two ways out: the model gateway with the `openai` client, the MCP gateway with one session of the `mcp` client.

Neither retries, and both wait as long as the run may take: the gateways have the deadlines, and a call that is held unanswered is one
that waits for a person. A gateway that cannot be reached, or that has a newer attempt of the run, ends the attempt (`Lost`).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any, cast

import httpx
import openai
from auralink_engine import Job
from auralink_engine.tls import tls_for
from auralink_engine.watching import CONNECT_SECONDS, WatchedModels, WatchedTools, before_loss
from auralink_engine.words import data_of_text, said_by, text_of_content
from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from auralink_prefect.errors import LimitReached, StepFailed

CALLS: ContextVar[list[int] | None] = ContextVar("CALLS", default=None)
"""The journal numbers of the calls of the step that is under way."""
STEP = "auralink/step"
"""In the `_meta` of a tool's result: under which number the run's journal has the call."""


class Gateways:
    """What steps use. Counts the tokens of all model calls. `lost` ends the run, whoever waits for what."""

    def __init__(self, job: Job, tokens: int | None, models: httpx.AsyncBaseTransport | None) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._job = job
        self._limit = tokens
        self._used = 0
        self._tools: frozenset[str] = frozenset()
        self._session: ClientSession | None = None
        inner = models or httpx.AsyncHTTPTransport(verify=tls_for(job.llm_url), trust_env=False)
        watched = WatchedModels(httpx, inner, self.lose, _note_call)
        self._models = openai.AsyncOpenAI(
            base_url=job.llm_url,
            api_key=job.token,
            max_retries=0,
            timeout=None,
            http_client=httpx.AsyncClient(transport=cast("Any", watched), timeout=httpx.Timeout(None), trust_env=False),
        )

    async def ask(self, model: str, messages: list[dict[str, Any]], **options: Any) -> str:
        """One model call; the answer's text. `options` are fields of the chat completions request; those that are None are left out.

        Raises StepFailed (the gateway's or the provider's error, in its words), LimitReached.
        """
        given = {name: value for name, value in options.items() if value is not None}
        try:
            answer = await self._models.chat.completions.create(model=model, messages=cast("Any", messages), **given)
        except openai.APIStatusError as error:
            raise StepFailed(f"model {model!r}: {said_by(error)}") from error
        except openai.OpenAIError as error:
            raise StepFailed(f"model {model!r}: {error}") from error
        self._count(answer.usage.total_tokens if answer.usage else 0)
        if not answer.choices:
            raise StepFailed(f"model {model!r} gave no answer")
        return answer.choices[0].message.content or ""

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """One tool call; its answer as data: structured content, else JSON that its text is, else its text. Raises StepFailed."""
        if self._session is None or name not in self._tools:
            raise StepFailed(f"tool {name!r}: the user has no such tool")
        try:
            result = await self._session.call_tool(name, dict(arguments))
        except McpError as error:
            raise StepFailed(f"tool {name!r}: {error.error.message}") from error
        except RuntimeError as error:  # the SDK's word for structured content that does not fit the tool's own schema
            raise StepFailed(f"tool {name!r}: {error}") from error
        if (number := (result.meta or {}).get(STEP)) is not None:
            _note_call(number)
        if result.isError:
            raise StepFailed(f"tool {name!r}: {_text(result)}")
        return _data(result)

    def lose(self, error: Exception) -> None:
        """Ends the run, or this attempt of it."""
        if not self.lost.done():
            self.lost.set_exception(error)

    async def connect_tools(self, stack: AsyncExitStack, transport: httpx.AsyncBaseTransport | None) -> None:
        """Opens the run's one MCP session and lists the tools; `stack` closes it."""
        inner = transport or httpx.AsyncHTTPTransport(verify=tls_for(self._job.mcp_url), trust_env=False)
        client = httpx.AsyncClient(
            transport=cast("Any", WatchedTools(httpx, inner, self.lose)),
            headers={"authorization": f"Bearer {self._job.token}"},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=False,
        )
        streams = await stack.enter_async_context(
            streamable_http_client(self._job.mcp_url, http_client=client, terminate_on_close=False)
        )
        session = await stack.enter_async_context(ClientSession(streams[0], streams[1]))
        await session.initialize()
        self._tools = frozenset([name async for name in _listed(session)])
        self._session = session

    def _count(self, tokens: int) -> None:
        self._used += tokens
        if self._limit is not None and self._used > self._limit:
            error = LimitReached(f"the run used {self._used} tokens; its limit is {self._limit}")
            self.lose(error)
            raise error


@asynccontextmanager
async def open_gateways(
    job: Job,
    *,
    with_tools: bool,
    tokens: int | None = None,
    models: httpx.AsyncBaseTransport | None = None,
    tools: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Gateways]:
    """The gateways of a run; the MCP session is opened only when a step calls tools."""
    gateways = Gateways(job, tokens, models)
    try:
        async with AsyncExitStack() as stack:
            if with_tools:
                await before_loss(gateways.lost, gateways.connect_tools(stack, tools))
            yield gateways
    except Exception as error:
        loss = gateways.lost.exception() if gateways.lost.done() else None
        if loss is not None and loss is not error:
            raise loss from error  # what the SDK makes of it is a consequence
        raise


def _note_call(number: int) -> None:
    calls = CALLS.get()
    if calls is not None:
        calls.append(number)


async def _listed(session: ClientSession) -> AsyncIterator[str]:
    cursor: str | None = None
    while True:
        page = await session.list_tools(cursor)
        for tool in page.tools:
            yield tool.name
        cursor = page.nextCursor
        if not cursor:
            return


def _data(result: CallToolResult) -> Any:
    if result.structuredContent is not None:
        return result.structuredContent
    return data_of_text(_text(result))


def _text(result: CallToolResult) -> str:
    return text_of_content(result.content)
