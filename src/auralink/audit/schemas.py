"""What the group commit writes, the record of one operation, and the wire shapes of the log and the usage figures."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Protocol
from uuid import UUID

from pydantic import BaseModel

from auralink.core.errors import AuralinkError
from auralink.core.ids import uuid7
from auralink.core.money import Usd


class Record(Protocol):
    """One row that the group commit writes. `kind` says by which part of `auralink.record_outcomes` (migrations)."""

    kind: ClassVar[str]
    id: UUID
    user_id: UUID
    outcome: str

    @property
    def subject(self) -> str:
        """What was done and on what, for an error."""
        ...

    def row(self) -> dict[str, Any]:
        """The row as the insert statement reads it."""
        ...


UNTOLD = "internal_error"
"""The outcome of what ended without saying how."""


@dataclass(slots=True)
class Operation:
    """One row of `mcp_operation_logs`: filled in while the call goes its way, written once, when it ends.

    `request_bytes` and `response_bytes` are of a tool call's arguments and result as JSON. `label` is the server's name in metrics
    and is not stored."""

    kind: ClassVar[str] = "operations"

    user_id: UUID
    operation: str
    source: str
    id: UUID = field(default_factory=uuid7)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    connection_id: UUID | None = None
    server: str | None = None
    tool: str | None = None
    outcome: str = UNTOLD
    error: str | None = None
    duration_ms: float = 0.0
    cached: bool = False
    served_by: str | None = None
    trace_id: str | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    cost_usd: Decimal | None = None
    label: str = "unknown"

    @property
    def subject(self) -> str:
        """What was done and on what, for an error."""
        return f"{self.tool or self.operation!r} on {self.server!r}"

    def ended_by(self, error: BaseException) -> None:
        """Takes over how an error has ended the operation; what is neither ours nor a caller going away is an internal error."""
        if isinstance(error, AuralinkError):
            self.outcome, self.error = error.code, error.message
            error.extra.setdefault("log_id", str(self.id))
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.outcome, self.error = "cancelled", "the caller went away before the answer"
        else:
            self.outcome = UNTOLD

    def row(self) -> dict[str, Any]:
        """The row as the insert statement reads it."""
        return {name: getattr(self, name) for name in STORED}


STORED = tuple(name for name in Operation.__slots__ if name not in ("user_id", "label"))


class LogEntry(BaseModel):
    """One operation, as `GET /audit` shows it."""

    log_id: UUID
    user_id: UUID
    at: datetime
    connection_id: UUID | None
    server: str | None
    operation: str
    tool: str | None
    outcome: str
    error: str | None
    duration_ms: float
    cached: bool
    served_by: str | None
    source: str
    trace_id: str | None
    request_bytes: int | None
    response_bytes: int | None


class LogPage(BaseModel):
    """A page of the log, newest first."""

    items: list[LogEntry]
    next_cursor: str | None


class UsageRow(BaseModel):
    """Operations of one server, tool and day."""

    day: str
    server: str | None
    tool: str | None
    operations: int
    errors: int
    p50_ms: float
    p95_ms: float
    cost_usd: Usd


class UsageStats(BaseModel):
    """What the user's calls came to in the last `days` days."""

    days: int
    operations: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    cost_usd: Usd
    items: list[UsageRow]


class PopularTool(BaseModel):
    """A tool and how often it was called."""

    server: str | None
    tool: str
    operations: int
    errors: int


class Popular(BaseModel):
    """The user's most used tools."""

    days: int
    items: list[PopularTool]
