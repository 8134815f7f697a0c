"""REST of the memory: the operations on a user's graph, over a connection to the built-in server or a hosted one."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Request, Response

from auralink.auth.dependencies import Authenticated
from auralink.auth.principal import Principal
from auralink.core.errors import InvalidRequest
from auralink.core.idempotency import once
from auralink.mcp.components import MCP
from auralink.mcp.operations import operate
from auralink.mcp.routes import SOURCE, Components
from auralink.servers.memory.hosted import from_result, to_call

router = APIRouter(prefix="/api/v1/mcp/memory", tags=["memory"])
Operation = Literal[
    "create_entities",
    "create_relations",
    "add_observations",
    "delete_entities",
    "delete_observations",
    "delete_relations",
    "search",
    "open",
]
Arguments = Annotated[dict[str, Any], Body(description="connection_id, and the arguments of the tool behind the operation")]


@router.post("/{operation}")
async def change_or_search(
    operation: Operation, body: Arguments, request: Request, principal: Authenticated, mcp: Components
) -> Response:
    """Creates, adds, deletes, searches or opens; the arguments are those of the memory server's tool."""
    arguments = dict(body)
    try:
        connection_id = UUID(str(arguments.pop("connection_id")))
    except (KeyError, ValueError):
        raise InvalidRequest("the body needs connection_id, the id of a connection to a memory server") from None
    return await once(request, principal, lambda: _operate(principal, mcp, connection_id, operation, arguments))


@router.get("/graph/{connection_id}")
async def graph(connection_id: UUID, principal: Authenticated, mcp: Components) -> dict[str, Any]:
    """The whole graph: entities with their observations, and relations."""
    return await _operate(principal, mcp, connection_id, "graph", {})


async def _operate(
    principal: Principal, mcp: MCP, connection_id: UUID, operation: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    tool, given = to_call(operation, arguments)
    answer = await operate(mcp.gateway, principal, connection_id, tool, given, source=SOURCE)
    return {**from_result(operation, answer.result), **answer.facts}
