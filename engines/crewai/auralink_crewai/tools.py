"""The user's tools over one MCP session, as CrewAI has tools. Thin wrappers of our own: CrewAI's MCP client renames tools, turns their
schemas into models and back, opens a session for each agent, and makes an exception of a tool's error."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

import httpx
from auralink_engine import Job
from auralink_engine.team import MemberFailed
from auralink_engine.watching import CONNECT_SECONDS, WatchedTools
from auralink_engine.words import text_of_content
from crewai.tools import BaseTool
from crewai.utilities.string_utils import sanitize_tool_name
from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, Tool
from pydantic import BaseModel, PrivateAttr

from auralink_crewai.ending import Ending

NEVER_USED_UP = 1_000_000
"""A count keeps CrewAI from making the calls of one answer side by side, in threads: messages would have no fixed order."""


class Anything(BaseModel):
    """The schema that CrewAI sees; the model is given the gateway's."""


class GatewayTool(BaseTool):
    """A tool in one member's hands; `calls` hears of each call."""

    args_schema: type[BaseModel] = Anything
    max_usage_count: int | None = NEVER_USED_UP
    _calls: list[dict[str, Any]] = PrivateAttr()
    _tools: "Tools" = PrivateAttr()

    def __init__(self, tools: "Tools", real: str, calls: list[dict[str, Any]]) -> None:
        super().__init__(name=tools.aliases[real], description=tools.described[tools.aliases[real]]["function"]["description"])
        self._tools, self._calls = tools, calls

    def run(self, /, *_: Any, **arguments: Any) -> str:
        """Makes the call with the arguments as they are; an error of the tool is its answer."""
        return self._run(**arguments)

    def _run(self, /, *_: Any, **arguments: Any) -> str:
        real = self._tools.names[self.name]
        answer, failed, data = self._tools.call(real, arguments)
        self._calls.append({"tool": real, "arguments": arguments, "answer": answer, "failed": failed, "data": data})
        return answer


class Tools:
    """The tools of a run; called from the crew's thread, carried out in the loop.

    CrewAI knows a tool by its `alias` (lower case, few characters); the model knows it by its own name.
    """

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._loop = asyncio.get_running_loop()
        self._session: ClientSession | None = None
        self.described: dict[str, dict[str, Any]] = {}
        self.names: dict[str, str] = {}
        self.aliases: dict[str, str] = {}

    async def connect(self, stack: AsyncExitStack, job: Job, inner: httpx.AsyncBaseTransport) -> None:
        """Opens the session and lists the tools; `stack` closes it."""
        watched = WatchedTools(httpx, inner, self._ending.tell)
        headers = {"authorization": f"Bearer {job.token}"}
        no_deadline = httpx.Timeout(None, connect=CONNECT_SECONDS)
        client = httpx.AsyncClient(headers=headers, timeout=no_deadline, transport=cast("Any", watched), trust_env=False)
        reading, writing, _ = await stack.enter_async_context(
            streamable_http_client(job.mcp_url, http_client=client, terminate_on_close=False)
        )
        session = await stack.enter_async_context(ClientSession(reading, writing))
        await session.initialize()
        cursor: str | None = None
        while True:
            page = await session.list_tools(cursor)
            for tool in page.tools:
                self._add(tool)
            cursor = page.nextCursor
            if not cursor:
                break
        self._session = session

    def _add(self, tool: Tool) -> None:
        base = alias = sanitize_tool_name(tool.name) or "tool"
        number = 2
        while alias in self.names:
            alias, number = sanitize_tool_name(f"{base}_{number}"), number + 1
        function = {"name": tool.name, "description": tool.description or "", "parameters": tool.inputSchema}
        self.names[alias], self.aliases[tool.name] = tool.name, alias
        self.described[alias] = {"type": "function", "function": function}

    def alias_of(self, name: str) -> str:
        """The name by which CrewAI knows what a model asks for, be it a tool or not."""
        alias = self.aliases.get(name) or sanitize_tool_name(name)
        self.names.setdefault(alias, name)
        return alias

    def given_to(self, owner: str, names: Sequence[str], calls: list[dict[str, Any]]) -> list[BaseTool]:
        """A member's tools. Raises MemberFailed for one that the user does not have."""
        for name in names:
            if name not in self.aliases:
                raise MemberFailed(
                    f"member {owner!r}: the user has no tool {name!r}; there are {', '.join(self.aliases) or 'none'}"
                )
        return [GatewayTool(self, name, calls) for name in names]

    def call(self, name: str, arguments: Mapping[str, Any]) -> tuple[str, bool, Any]:
        """Calls a tool from the crew's thread: its text, whether that is an error, its structured answer. Raises Over."""
        self._ending.check()
        made = asyncio.run_coroutine_threadsafe(self.call_here(name, arguments), self._loop)
        return made.result()

    async def call_here(self, name: str, arguments: Mapping[str, Any]) -> tuple[str, bool, Any]:
        """The same, in the loop."""
        assert self._session is not None
        try:
            result = await self._session.call_tool(name, dict(arguments))
        except McpError as error:
            return error.error.message, True, None
        return text_of(result), bool(result.isError), result.structuredContent


def text_of(result: CallToolResult) -> str:
    """A tool's answer as a text; what is none is named."""
    if not result.content and result.structuredContent is not None:
        return json.dumps(result.structuredContent, ensure_ascii=False)
    return text_of_content(result.content)
