"""Wire shapes of schedules."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from auralink.runs.schemas import RunKind
from auralink.workflows.schemas import Given, Name

Cron = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Seconds = Annotated[float, Field(ge=1, le=366 * 24 * 3600)]
Missed = Literal["skip", "catch_up"]


class ScheduleBody(BaseModel):
    """POST /schedules. Either `cron` or `interval`."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    kind: RunKind
    definition_id: UUID
    cron: Cron | None = Field(default=None, description="minute hour day month weekday, or @daily and the like")
    interval: Seconds | None = Field(default=None, description="seconds; the first run is one interval from now")
    timezone: Given = Field(default="UTC", description="of `cron`, e.g. Europe/Berlin")
    input: dict[str, Any] = Field(default={}, description="of every run")
    room_id: Given | None = None
    call_id: Given | None = None
    missed: Missed = Field(default="skip", description="runs that were due while no worker was there")
    paused: bool = False


class SchedulePatch(BaseModel):
    """PATCH /schedules/{id}. What is not there stays; `cron` takes the place of `interval`, and the other way round."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    cron: Cron | None = None
    interval: Seconds | None = None
    timezone: Given | None = None
    input: dict[str, Any] | None = None
    missed: Missed | None = None
    paused: bool | None = None


class ScheduleView(BaseModel):
    """A schedule; `next_at` is null while it is paused."""

    schedule_id: UUID
    name: str
    kind: RunKind
    definition_id: UUID
    cron: str | None
    interval: float | None
    timezone: str
    input: dict[str, Any]
    room_id: str | None
    call_id: str | None
    missed: Missed
    paused: bool
    next_at: datetime | None
    last_at: datetime | None
    last_run_id: UUID | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime


class SchedulePage(BaseModel):
    """A page of schedules, newest first."""

    items: list[ScheduleView]
    next_cursor: str | None
