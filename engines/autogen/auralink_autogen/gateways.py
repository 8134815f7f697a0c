"""The run's two ways out: AutoGen's OpenAI client at the model gateway, one MCP session at the tool gateway.

Neither retries, and both wait as long as the run may take. AutoGen turns an error inside a group chat into text, and one inside a tool
call into a wait without end; so whatever ends a run (`Lost`, `MemberFailed`) is told to `lose`, and the run ends there.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import httpx2
from auralink_engine import Job
from auralink_engine.team import MemberFailed, Team
from auralink_engine.tls import tls_for
from auralink_engine.watching import CONNECT_SECONDS, WatchedModels, WatchedTools, before_loss
from auralink_engine.words import text_of_content
from autogen_core.models import ModelFamily, ModelInfo
from mcp import ClientSession, McpError, Tool
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from auralink_autogen.models import MemberModel

INFO = ModelInfo(
    vision=False,
    function_calling=True,
    json_output=True,
    structured_output=True,
    family=ModelFamily.UNKNOWN,
    multiple_system_messages=True,
)
"""Said of every model, so that AutoGen neither looks a name up nor changes a request for it: the gateway knows the models."""
PLACES = ("sources", "hits", "results")
"""What tools call the places that an answer comes from (auralink_engine.team.sources_of)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answered: `text` is for the model, `shown` for people and for the sources of the run's answer."""

    text: str
    shown: str
    failed: bool


class Gateways:
    """What agents are built on. `lost` ends the run, whoever waits for what."""

    def __init__(self, job: Job, team: Team, models: httpx2.AsyncBaseTransport | None) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tools: Mapping[str, Tool] = {}
        self._job = job
        self._team = team
        self._models = models or httpx2.AsyncHTTPTransport(verify=tls_for(job.llm_url), trust_env=False)
        self._session: ClientSession | None = None

    def model(
        self,
        member: str,
        model: str,
        on_step: Callable[[int], None],
        schema: Mapping[str, Any] | None = None,
        *,
        fail: Callable[[Exception], None] | None = None,
    ) -> MemberModel:
        """The client with which a member asks its model; with a schema the answers are JSON of it. A call that the model does not
        answer is told to `fail`; without it, it ends the run."""
        watched = WatchedModels(httpx2, self._models, self.lose, on_step)
        options: dict[str, Any] = {"temperature": self._team.temperature, "max_tokens": self._team.answer_tokens}
        if schema is not None:
            options["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return MemberModel(
            member,
            fail or self.lose,
            model=model,
            base_url=self._job.llm_url,
            api_key=self._job.token,
            max_retries=0,
            timeout=None,
            http_client=httpx2.AsyncClient(transport=cast("Any", watched), timeout=None, trust_env=False),
            model_info=INFO,
            add_name_prefixes=True,
            include_name_in_message=False,
            **{name: value for name, value in options.items() if value is not None},
        )

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        """One tool call; an error of the tool is an answer. Never raises: a lost gateway is told to `lose`."""
        if self._session is None or name not in self.tools:
            return _refusal(f"there is no tool {name!r}")
        try:
            return _answer(await self._session.call_tool(name, dict(arguments)))
        except McpError as error:
            return _refusal(error.error.message)
        except RuntimeError as error:  # the SDK's word for structured content that does not fit the tool's own schema
            return _refusal(f"tool {name!r}: {error}")

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
        self.tools = {tool.name: tool async for tool in _listed(session)}
        self._session = session
        for member in (*self._team.members, *((self._team.manager,) if self._team.manager else ())):
            for name in member.tools:
                if name not in self.tools:
                    raise MemberFailed(f"member {member.name!r}: the user has no tool {name!r}")


@asynccontextmanager
async def open_gateways(
    job: Job, team: Team, models: httpx2.AsyncBaseTransport | None = None, tools: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Gateways]:
    """The gateways of a run; the MCP session is opened only when somebody has tools or the team has a memory."""
    gateways = Gateways(job, team, models)
    try:
        async with AsyncExitStack() as stack:
            if team.tools or team.memory:
                await before_loss(gateways.lost, gateways.connect_tools(stack, tools))
            yield gateways
    except Exception as error:
        loss = gateways.lost.exception() if gateways.lost.done() else None
        if loss is not None and loss is not error:
            raise loss from error  # what the SDK makes of it is a consequence
        raise


async def _listed(session: ClientSession) -> AsyncIterator[Tool]:
    cursor: str | None = None
    while True:
        page = await session.list_tools(cursor)
        for tool in page.tools:
            yield tool
        cursor = page.nextCursor
        if not cursor:
            return


def _answer(result: CallToolResult) -> Answer:
    text = text_of_content(result.content)
    structured = result.structuredContent
    told = json.dumps(structured, ensure_ascii=False) if structured else ""
    has_places = structured is not None and any(place in structured for place in PLACES)
    return Answer(text or told, told if has_places else text or told, bool(result.isError))


def _refusal(why: str) -> Answer:
    return Answer(why, why, True)
