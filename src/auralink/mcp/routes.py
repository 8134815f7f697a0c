"""HTTP of connections, the registry and tools. What happens is in `connections.py`, `registry.py` and `service.py`.

Calling a tool reads its request itself and is answered before FastAPI (`PlainDoors`): it is called a thousand times as often as
the rest. Its route stands here for the documentation.
"""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from auralink.auth.dependencies import Admin, Authenticated, current
from auralink.auth.signed import Signed
from auralink.core.http import body_of, documented_body
from auralink.core.idempotency import once
from auralink.core.paging import Limit, decode_cursor
from auralink.mcp.components import MCP
from auralink.mcp.schemas import (
    CallBody,
    ConnectionPage,
    ConnectionPatch,
    ConnectionTest,
    ConnectionView,
    ConnectRequest,
    ConnectResponse,
    Credentials,
    PinPage,
    PinView,
    ServerBody,
    ServerPage,
    ServerPatch,
    ServerView,
    ToolCallResponse,
    ToolPage,
)

router = APIRouter(prefix="/api/v1/mcp", tags=["mcp"])
SOURCE = "rest"
CALL_PATH = f"{router.prefix}/tools/{{name}}/call"


async def _mcp(request: Request) -> MCP:
    mcp: MCP = request.app.state.mcp
    return mcp


Components = Annotated[MCP, Depends(_mcp)]


@router.post("/tools/{name}/call", response_model=ToolCallResponse, openapi_extra=documented_body(CallBody, "name"))
async def call_tool(request: Request) -> Response:
    """Calls a tool by its name in the list, `<connection>__<tool>`. A tool that reports an error answers 200 with `isError`."""
    principal = await current(request)
    body, mcp = await body_of(request, CallBody), await _mcp(request)

    async def call() -> dict[str, Any]:
        answer = await mcp.gateway.call_public_name(principal, request.path_params["name"], body.arguments, source=SOURCE)
        return {"result": answer.result, **answer.facts}

    return await once(request, principal, call)


@router.post("/connect", status_code=201, response_model=ConnectResponse)
async def connect(body: ConnectRequest, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """Connects a server: it is contacted first, and stored only if it answers."""
    return await once(request, principal, lambda: mcp.connections.connect(principal, body, source=SOURCE), 201)


@router.post("/disconnect/{connection_id}", status_code=204)
async def disconnect(connection_id: UUID, principal: Authenticated, mcp: Components) -> None:
    """Closes a connection's sessions and deletes its credential."""
    await mcp.connections.disconnect(principal, connection_id, source=SOURCE)


@router.get("/connections")
async def list_connections(
    principal: Authenticated, mcp: Components, limit: Limit = 50, cursor: str | None = None
) -> ConnectionPage:
    """Your open connections, oldest first."""
    return await mcp.connections.page(principal, after=decode_cursor(cursor), limit=limit)


@router.get("/connections/{connection_id}")
async def get_connection(connection_id: UUID, principal: Authenticated, mcp: Components) -> ConnectionView:
    """One connection: state, policy, last error; never the credential."""
    return await mcp.connections.get(principal, connection_id)


@router.patch("/connections/{connection_id}")
async def change_connection(
    connection_id: UUID, body: ConnectionPatch, principal: Authenticated, mcp: Components
) -> ConnectionView:
    """Renames a connection or replaces its policy."""
    return await mcp.connections.change(principal, connection_id, body, source=SOURCE)


@router.post("/connections/{connection_id}/test")
async def test_connection(connection_id: UUID, principal: Authenticated, mcp: Components) -> ConnectionTest:
    """Contacts the upstream now and reports latency, version and tools."""
    return await mcp.connections.test(principal, connection_id, source=SOURCE)


@router.put("/connections/{connection_id}/credentials")
async def replace_credentials(connection_id: UUID, body: Credentials, principal: Signed, mcp: Components) -> ConnectionView:
    """Replaces the credential; sessions with the old one end. Signed, if you have registered a key."""
    return await mcp.connections.replace_credentials(principal, connection_id, body, source=SOURCE)


@router.get("/servers")
async def list_servers(principal: Authenticated, mcp: Components) -> ServerPage:
    """The servers that this installation offers."""
    return await mcp.registry.page(principal)


@router.post("/servers", status_code=201, response_model=ServerView)
async def register_server(body: ServerBody, request: Request, admin: Admin, mcp: Components) -> Response:
    """Registers a server (admin)."""
    return await once(request, admin, lambda: mcp.registry.register(admin, body, source=SOURCE), 201)


@router.patch("/servers/{server_id}")
async def change_server(server_id: UUID, body: ServerPatch, admin: Admin, mcp: Components) -> ServerView:
    """Changes a registered server (admin)."""
    return await mcp.registry.change(admin, server_id, body, source=SOURCE)


@router.delete("/servers/{server_id}", status_code=204)
async def remove_server(server_id: UUID, admin: Admin, mcp: Components) -> None:
    """Removes a registered server that no connection uses (admin)."""
    await mcp.registry.remove(admin, server_id, source=SOURCE)


@router.get("/tools")
async def list_tools(
    principal: Authenticated,
    mcp: Components,
    q: Annotated[str | None, Query(max_length=200, description="words that name or description must contain")] = None,
) -> ToolPage:
    """Every tool of your connections, in the order of their names; `degraded` says which connections are missing and why."""
    return await mcp.federation.tools(principal, query=q)


@router.get("/pins")
async def list_pins(principal: Authenticated, mcp: Components, limit: Limit = 50, cursor: str | None = None) -> PinPage:
    """Your quarantined tools: what you approved, what the server says now, and the difference."""
    return await mcp.pins.page(principal, after=decode_cursor(cursor), limit=limit)


@router.post("/pins/{pin_id}/approve")
async def approve_pin(pin_id: UUID, principal: Authenticated, mcp: Components) -> PinView:
    """Takes a quarantined tool as its server describes it now."""
    return await mcp.pins.approve(principal, pin_id, source=SOURCE)
