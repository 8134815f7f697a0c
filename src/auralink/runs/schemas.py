"""Wire shapes of runs, their events and their journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from auralink.core.money import Usd

"""US dollars, in JSON a plain decimal string."""
RunKind = Literal["agent", "workflow", "team", "flow"]
Status = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled"]
Reason = Literal["approval", "input", "budget", "backoff", "child", "outcome_unknown", "lease_lost"]
TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
FOR_A_PERSON = frozenset({"approval", "input", "outcome_unknown"})
"""Reasons to wait that only a person ends."""


class RunLimits(BaseModel):
    """What a run may take. Other members are the definition's own and pass through."""

    model_config = ConfigDict(extra="allow")
    seconds: float = Field(default=3600, gt=0, le=7 * 24 * 3600, description="of running, waits not counted")
    max_attempts: int = Field(default=3, ge=1, le=100)
    memory_mb: int = Field(default=1024, ge=64, le=65536)
    concurrency: int | None = Field(default=None, ge=1, description="runs of the same definition at a time")
    tokens: int | None = Field(default=None, ge=0)
    cost_usd: Decimal | None = Field(default=None, ge=0)


@dataclass(frozen=True)
class Parent:
    """The step that starts a run."""

    run_id: UUID
    seq: int


@dataclass(frozen=True)
class Work:
    """What is to be run: a definition's snapshot, as the engine gets it."""

    kind: RunKind
    definition_id: UUID | None
    engine: str
    definition: Mapping[str, Any]
    limits: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """What for, and on whose behalf: everything of a run that is not its definition."""

    input: Any
    room_id: str | None = None
    call_id: str | None = None
    priority: int = 0
    idempotency_key: str | None = None
    parent: Parent | None = None
    at: str = ""
    """Where the input is in what was sent, a JSON pointer: mistakes in it are shown there."""


class Run(BaseModel):
    """A run as its lists show it."""

    run_id: UUID
    kind: RunKind
    engine: str
    definition_id: UUID | None
    status: Status
    reason: Reason | None
    wait_until: datetime | None
    mode: Literal["live", "replay"]
    step: str | None
    attempt: int
    priority: int
    room_id: str | None
    call_id: str | None
    parent_id: UUID | None
    source_id: UUID | None
    steps: int
    replayed: int
    diverged: int | None
    tokens: int
    cost_usd: Usd
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    output: Any
    error: Any

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.status in TERMINAL


class RunDetail(Run):
    """A run with what it was asked to do."""

    definition: dict[str, Any]
    input: Any
    limits: dict[str, Any]
    state: Any


class Accepted(BaseModel):
    """A run that is committed and goes its way; `Location` says where to look."""

    run_id: UUID
    status: Status


class RunPage(BaseModel):
    """A page of runs, newest first."""

    items: list[Run]
    next_cursor: str | None


class Event(BaseModel):
    """Something that happened to a run; `seq` has no gaps."""

    seq: int
    type: str
    data: Any
    at: datetime


class Token(BaseModel):
    """Words of a model as they come; not stored, so it has no number."""

    data: Any


class JournalEntry(BaseModel):
    """A call of a run: what was asked, and what was answered."""

    seq: int
    kind: Literal["llm", "tool", "list", "approval", "run"]
    name: str
    occurrence: int
    status: Literal["started", "done", "unknown"]
    attempt: int
    request: Any
    response: Any
    tokens: int
    cost_usd: Usd
    started_at: datetime
    finished_at: datetime | None


class JournalPage(BaseModel):
    """A part of a journal, in order."""

    items: list[JournalEntry]
    next_cursor: str | None


class Overrides(BaseModel):
    """What a fork does differently."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = Field(default=None, description="for every model call that the kept part does not answer")
    input: Any = None
    definition: dict[str, Any] | None = Field(default=None, description="members that replace those of the definition")
    answers: dict[int, Any] = Field(default_factory=dict, description="other answers to entries that are kept, by number")


class Fork(BaseModel):
    """POST /runs/{id}/fork."""

    model_config = ConfigDict(extra="forbid")
    at: int = Field(ge=0, description="the last entry of the journal that is kept")
    overrides: Overrides = Field(default_factory=Overrides)


class StepDecision(BaseModel):
    """POST /runs/{id}/journal/{seq}: what a person knows of a call whose outcome is unknown."""

    model_config = ConfigDict(extra="forbid")
    decision: Literal["retry", "happened", "abort"]
    answer: Any = Field(default=None, description="with `happened`: the answer that the call had; a text or a tool result")
