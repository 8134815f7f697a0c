"""REST of sequential thinking: `solve`, in which a model drives the tool."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints

from auralink.auth.dependencies import Authenticated
from auralink.auth.principal import Principal
from auralink.core.idempotency import once
from auralink.core.ids import uuid7
from auralink.llm.service import SERVER, ModelGateway
from auralink.mcp.components import MCP
from auralink.mcp.operations import OperationBody
from auralink.mcp.routes import SOURCE, Components
from auralink.servers.thinking.server import THREAD_META, TOOL
from auralink.servers.thinking.solving import MAX_THOUGHTS, Message, Model, Tool, solve

router = APIRouter(prefix="/api/v1/mcp/sequential-thinking", tags=["sequential thinking"])


class SolveBody(OperationBody):
    """What to think about, and for how long."""

    problem: Annotated[str, StringConstraints(min_length=1, max_length=20_000, strip_whitespace=True)]
    max_thoughts: int = Field(default=10, ge=1, le=MAX_THOUGHTS)
    model: str = Field(default="auto", min_length=1, max_length=200)


@router.post("/solve")
async def solve_problem(body: SolveBody, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """Lets a model think step by step: the conclusion, every thought, revisions and branches."""

    llm: ModelGateway = request.app.state.llm.gateway

    async def answer() -> dict[str, Any]:
        await mcp.resolver.resolve(principal, body.connection_id)  # before a model is paid for
        tool = _tool(mcp, principal, body.connection_id)
        return dict(await solve(_model(llm, principal, body.model), tool, body.problem, body.max_thoughts))

    return await once(request, principal, answer)


def _model(llm: ModelGateway, principal: Principal, name: str) -> Model:
    async def next_message(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Message:
        body: dict[str, Any] = {"model": name, "messages": list(messages)}
        answer = await llm.complete(principal, body | ({"tools": list(tools)} if tools else {}), source=SERVER)
        message: Message = answer.body["choices"][0]["message"]
        return message

    return next_message


def _tool(mcp: MCP, principal: Principal, connection_id: UUID) -> Tool:
    """The tool over the connection, in a thread of its own."""
    extras = {"_meta": {THREAD_META: f"solve:{uuid7()}"}}

    async def think(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = await mcp.gateway.call_tool(principal, connection_id, TOOL, arguments, source=SOURCE, extras=extras)
        return answer.result

    return think
