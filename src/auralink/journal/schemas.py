"""Wire shapes of approvals."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class ApprovalView(BaseModel):
    """A call that waits for a decision, or was decided on."""

    approval_id: UUID
    connection_id: UUID | None
    server: str
    tool: str
    arguments: dict[str, Any]
    status: Literal["pending", "approved", "denied", "used", "expired"]
    note: str | None
    answer: Any
    run_id: UUID | None
    run_seq: int | None
    created_at: datetime
    decided_at: datetime | None
    expires_at: datetime


class ApprovalPage(BaseModel):
    """A page of approvals, newest first."""

    items: list[ApprovalView]
    next_cursor: str | None


class Decision(BaseModel):
    """POST /approvals/{id}."""

    model_config = ConfigDict(extra="forbid")
    decision: Literal["approve", "deny"]
    note: str | None = Field(default=None, max_length=2000)
    answer: Any = None
