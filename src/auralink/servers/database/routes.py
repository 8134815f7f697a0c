"""REST of databases: a query, and the tables, over a connection to the built-in server or the hosted Supabase."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field

from auralink.auth.dependencies import Authenticated
from auralink.auth.principal import Principal
from auralink.core.idempotency import once
from auralink.mcp.components import MCP
from auralink.mcp.operations import OperationBody, operate
from auralink.mcp.routes import SOURCE, Components
from auralink.servers.database.hosted import from_result, to_call

router = APIRouter(prefix="/api/v1/mcp/supabase", tags=["supabase"])


class QueryBody(OperationBody):
    """One SQL statement; read-only unless the connection's policy says otherwise."""

    query: Annotated[str, Field(min_length=1, max_length=100_000)]
    parameters: list[Any] | None = None
    project_id: str | None = None


@router.post("/query")
async def query(body: QueryBody, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """Rows, columns, and whether they were cut off."""
    arguments = body.model_dump(exclude={"connection_id"})
    return await once(request, principal, lambda: _operate(principal, mcp, body.connection_id, "query", arguments))


@router.get("/tables/{connection_id}")
async def tables(connection_id: UUID, principal: Authenticated, mcp: Components, project_id: str | None = None) -> dict[str, Any]:
    """The database's tables with their columns."""
    return await _operate(principal, mcp, connection_id, "tables", {"project_id": project_id})


async def _operate(
    principal: Principal, mcp: MCP, connection_id: UUID, operation: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    record = await mcp.resolver.resolve(principal, connection_id)
    tool, given = to_call(operation, arguments, built_in=record.server.transport == "in_process")
    answer = await operate(mcp.gateway, principal, connection_id, tool, given, source=SOURCE)
    return {**from_result(operation, answer.result), **answer.facts}
