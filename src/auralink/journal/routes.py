"""HTTP of approvals."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from auralink.auth.dependencies import Authenticated
from auralink.auth.signed import Signed
from auralink.core.paging import Limit, decode_cursor
from auralink.journal.approvals import Approvals
from auralink.journal.schemas import ApprovalPage, ApprovalView, Decision

router = APIRouter(prefix="/api/v1/approvals", tags=["approvals"])


async def _approvals(request: Request) -> Approvals:
    approvals: Approvals = request.app.state.approvals
    return approvals


Service = Annotated[Approvals, Depends(_approvals)]


@router.get("")
async def list_approvals(
    principal: Authenticated,
    approvals: Service,
    status: Literal["pending", "approved", "denied", "used", "expired"] | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> ApprovalPage:
    """Your approvals, newest first."""
    return await approvals.page(principal, status=status, after=decode_cursor(cursor), limit=limit)


@router.get("/{approval_id}")
async def get_approval(approval_id: UUID, principal: Authenticated, approvals: Service) -> ApprovalView:
    """One approval: what is to be called, with what."""
    return await approvals.get(principal, approval_id)


@router.post("/{approval_id}")
async def decide(approval_id: UUID, body: Decision, principal: Signed, approvals: Service) -> ApprovalView:
    """Approves or denies. An approved call may be made once, within 15 minutes. Signed, if you have registered a key."""
    return await approvals.decide(principal, approval_id, body)
