"""The run's two ways out: the model gateway with langchain-openai, the MCP gateway with langchain-mcp-adapters.

Both clients make no retries of their own and wait as long as the run may take: the gateways have the deadlines, and a call that is
held unanswered is one that waits for a person. A gateway that cannot be reached, or that has a newer attempt of the run, ends the
attempt (`Lost`); it is never shown to a model.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import httpx
import httpx2
import openai
from auralink_engine import Job, Lost
from auralink_engine.tls import tls_for
from auralink_engine.watching import CONNECT_SECONDS, GONE, WatchedTools
from auralink_engine.words import data_of_text, said_by
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_mcp_adapters.sessions import StreamableHttpConnection, create_session
from langchain_mcp_adapters.tools import load_mcp_tools
from langchain_openai import ChatOpenAI
from mcp.shared.exceptions import McpError
from pydantic import SecretStr

from auralink_langgraph.errors import LimitReached, NodeFailed

OnToken = Callable[[str], None]


class Gateways:
    """What nodes use. Counts the tokens of all model calls."""

    def __init__(self, job: Job, tokens: int | None, models: httpx2.AsyncBaseTransport | None) -> None:
        self.used_tokens = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._job = job
        self._limit = tokens
        self._tools: Mapping[str, BaseTool] = {}
        self._client = httpx2.AsyncClient(
            verify=tls_for(job.llm_url), timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS), transport=models, trust_env=False
        )
        self._unused = httpx2.Client(verify=False, trust_env=False)

    @property
    def tools(self) -> Mapping[str, BaseTool]:
        """The user's tools by their names in `/mcp`."""
        return self._tools

    async def ask(
        self, messages: Sequence[BaseMessage], model: str, on_token: OnToken | None = None, **options: Any
    ) -> AIMessage:
        """One model call. `options` are fields of the chat completions request; those that are None are left out.

        Raises Lost, NodeFailed (the gateway's or the provider's error, in its words), LimitReached.
        """
        chat = ChatOpenAI(
            model=model,
            base_url=self._job.llm_url,
            api_key=SecretStr(self._job.token),
            max_retries=0,
            timeout=None,
            http_async_client=self._client,
            http_client=self._unused,
            use_responses_api=False,
            stream_usage=True,
        )
        given = {name: value for name, value in options.items() if value is not None}
        try:
            answer = await (chat.ainvoke(messages, **given) if on_token is None else _streamed(chat, messages, on_token, given))
        except openai.APIConnectionError as error:
            raise Lost(f"the model gateway does not answer: {error.__cause__ or error}") from error
        except httpx2.TransportError as error:
            raise Lost(f"the model gateway stopped in the middle of an answer: {error}") from error
        except openai.APIStatusError as error:
            kind = Lost if error.status_code in GONE else NodeFailed
            raise kind(f"model {model!r}: {said_by(error)}") from error
        except openai.OpenAIError as error:
            raise NodeFailed(f"model {model!r}: {error}") from error
        self._count(answer)
        return answer

    async def call(self, name: str, arguments: Mapping[str, Any], call_id: str = "call") -> ToolMessage:
        """One tool call; an error of the tool is a message whose status is `error`. Raises Lost."""
        tool = self._tools.get(name)
        if tool is None:
            return ToolMessage(f"there is no tool {name!r}", tool_call_id=call_id, name=name, status="error")
        try:
            answer: ToolMessage = await tool.ainvoke({"type": "tool_call", "id": call_id, "name": name, "args": dict(arguments)})
        except McpError as error:
            return ToolMessage(error.error.message, tool_call_id=call_id, name=name, status="error")
        return answer

    def lose(self, error: Exception) -> None:
        """Ends the attempt, whoever waits for what."""
        if not self.lost.done():
            self.lost.set_exception(error)

    async def connect_tools(self, stack: AsyncExitStack, transport: httpx.AsyncBaseTransport | None) -> None:
        """Opens the run's one MCP session and lists the tools; `stack` closes it."""
        inner = transport or httpx.AsyncHTTPTransport(verify=tls_for(self._job.mcp_url), trust_env=False)

        def client(
            headers: dict[str, str] | None = None, timeout: Any = None, auth: httpx.Auth | None = None
        ) -> httpx.AsyncClient:
            watched = WatchedTools(httpx, inner, self.lose)
            return httpx.AsyncClient(headers=headers, timeout=timeout, auth=auth, transport=cast("Any", watched), trust_env=False)

        connection: StreamableHttpConnection = {
            "transport": "streamable_http",
            "url": self._job.mcp_url,
            "headers": {"authorization": f"Bearer {self._job.token}"},
            "timeout": CONNECT_SECONDS,
            "sse_read_timeout": _FOREVER,
            "terminate_on_close": False,
            "httpx_client_factory": client,
        }
        session = await stack.enter_async_context(create_session(connection))
        await session.initialize()
        self._tools = {tool.name: tool for tool in await load_mcp_tools(session)}

    def _count(self, answer: AIMessage) -> None:
        usage = answer.usage_metadata
        self.used_tokens += usage["total_tokens"] if usage else 0
        if self._limit is not None and self.used_tokens > self._limit:
            raise LimitReached(f"the run used {self.used_tokens} tokens; its limit is {self._limit}")


_FOREVER = 30 * 24 * 3600.0


@asynccontextmanager
async def open_gateways(
    job: Job,
    *,
    with_tools: bool,
    tokens: int | None = None,
    models: httpx2.AsyncBaseTransport | None = None,
    tools: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Gateways]:
    """The gateways of a run; the MCP session is opened only when a node needs tools."""
    gateways = Gateways(job, tokens, models)
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


def content_of(message: BaseMessage) -> str:
    """A message's text."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part if isinstance(part, str) else part.get("text", "") for part in message.content)


def result_of(message: ToolMessage) -> Any:
    """A tool's answer as data: its structured content, else JSON that its text is, else its text."""
    artifact = message.artifact
    if isinstance(artifact, Mapping) and artifact.get("structured_content") is not None:
        return artifact["structured_content"]
    return data_of_text(content_of(message))


async def _streamed(
    chat: ChatOpenAI, messages: Sequence[BaseMessage], on_token: OnToken, options: Mapping[str, Any]
) -> AIMessage:
    whole: AIMessageChunk | None = None
    async for part in chat.astream(messages, **options):
        assert isinstance(part, AIMessageChunk)
        whole = part if whole is None else whole + part
        if text := content_of(part):
            on_token(text)
    if whole is None:
        raise NodeFailed(f"model {chat.model_name!r} streamed nothing")
    usage = whole.usage_metadata
    return AIMessage(
        whole.content, tool_calls=whole.tool_calls, invalid_tool_calls=whole.invalid_tool_calls, usage_metadata=usage
    )
