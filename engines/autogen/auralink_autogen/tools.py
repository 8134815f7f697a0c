"""A member's tools as an AutoGen workbench over the run's one MCP session, and handoffs that take what models give them.

AutoGen's own McpWorkbench rebuilds schemas (it drops `$defs` and closes objects), asks the server for its list before every call, and
shows errors of the connection to the model; its tool adapters turn schemas into Pydantic models and back. Here schemas pass through.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from autogen_agentchat.base import Handoff
from autogen_core import CancellationToken
from autogen_core.tools import BaseTool, TextResultContent, ToolResult, ToolSchema, Workbench
from pydantic import BaseModel

from auralink_autogen.gateways import Answer, Gateways

LONGEST_NAME = 64


class MemberTools(Workbench):
    """Those tools of the user that a member may use, named, described and typed as the gateway gives them."""

    component_config_schema = BaseModel

    def __init__(self, gateways: Gateways, names: Sequence[str]) -> None:
        self._gateways = gateways
        self._names = frozenset(names)
        self._answers: dict[str, Answer] = {}

    async def list_tools(self) -> list[ToolSchema]:
        """As the model is told of them, in the gateway's order."""
        return [
            ToolSchema(name=tool.name, description=tool.description or "", parameters=tool.inputSchema)  # type: ignore[typeddict-item]
            for name, tool in self._gateways.tools.items()
            if name in self._names
        ]

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        """One call. It never raises: AutoGen would wait for ever for a tool that did."""
        if arguments is not None and not isinstance(arguments, Mapping):
            answer = Answer(said := "the arguments are no JSON object", said, True)
        else:
            task = asyncio.ensure_future(self._gateways.call(name, arguments or {}))
            if cancellation_token is not None:
                cancellation_token.link_future(task)
            answer = await task
        self._answers[call_id or ""] = answer
        return ToolResult(name=name, result=[TextResultContent(content=answer.text)], is_error=answer.failed)

    def shown(self, call_id: str) -> str | None:
        """What people are shown of a call's answer; None if there was no such call."""
        answer = self._answers.get(call_id)
        return answer.shown if answer else None

    async def start(self) -> None:
        """The session is the run's."""

    async def stop(self) -> None:
        """The session is the run's."""

    async def reset(self) -> None:
        """There is nothing to reset."""

    async def save_state(self) -> Mapping[str, Any]:
        """There is no state: the journal has the answers."""
        return {}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """There is no state."""


class Nothing(BaseModel):
    """The arguments of a handoff."""


class _Transfer(BaseTool[Nothing, str]):
    """A handoff's tool. Models give reasons to it, lists, nothing: it takes them all."""

    def __init__(self, handoff: Handoff) -> None:
        super().__init__(Nothing, str, handoff.name, handoff.description)
        self._message = handoff.message

    async def run(self, args: Nothing, cancellation_token: CancellationToken) -> str:
        return self._message

    async def run_json(self, args: object, cancellation_token: CancellationToken, call_id: str | None = None) -> str:
        return self._message


class Transfer(Handoff):
    """A handoff to a member; named `transfer_to_<member>`."""

    @property
    def handoff_tool(self) -> BaseTool[Any, Any]:
        """The tool with which a model hands over."""
        return _Transfer(self)

    @classmethod
    def to(cls, member: str, role: str, number: int) -> "Transfer":
        """`number` makes a name where that of the member is too long for one."""
        name = f"transfer_to_{member}"
        return cls(
            target=member,
            name=name if len(name) <= LONGEST_NAME else f"transfer_to_member_{number}",
            description=f"Hand over to {member} ({role}).",
        )
