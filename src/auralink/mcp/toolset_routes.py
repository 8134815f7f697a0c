"""HTTP of toolsets. What happens is in `toolsets.py`."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from auralink.auth.dependencies import Authenticated
from auralink.core.idempotency import once
from auralink.mcp.routes import Components
from auralink.mcp.toolsets import ToolsetBody, ToolsetPage, ToolsetPatch, ToolsetView

router = APIRouter(prefix="/api/v1/mcp/toolsets", tags=["mcp"])


@router.get("")
async def list_toolsets(principal: Authenticated, mcp: Components) -> ToolsetPage:
    """Your toolsets, by name."""
    return await mcp.toolsets.page(principal)


@router.post("", status_code=201, response_model=ToolsetView)
async def create_toolset(body: ToolsetBody, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """Makes a toolset: what an MCP client at `/mcp?toolset=<name>` is shown."""
    return await once(request, principal, lambda: mcp.toolsets.create(principal, body), 201)


@router.get("/{toolset_id}")
async def get_toolset(toolset_id: UUID, principal: Authenticated, mcp: Components) -> ToolsetView:
    """One toolset."""
    return await mcp.toolsets.get(principal, toolset_id)


@router.patch("/{toolset_id}")
async def change_toolset(toolset_id: UUID, body: ToolsetPatch, principal: Authenticated, mcp: Components) -> ToolsetView:
    """Renames a toolset or replaces its tools; clients that listen are told."""
    return await mcp.toolsets.change(principal, toolset_id, body)


@router.delete("/{toolset_id}", status_code=204)
async def remove_toolset(toolset_id: UUID, principal: Authenticated, mcp: Components) -> None:
    """Deletes a toolset."""
    await mcp.toolsets.remove(principal, toolset_id)
