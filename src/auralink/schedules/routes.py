"""HTTP of schedules. What happens is in `service.py`."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from auralink.auth.dependencies import Authenticated
from auralink.core.idempotency import once
from auralink.core.paging import Limit, decode_cursor
from auralink.schedules.schemas import ScheduleBody, SchedulePage, SchedulePatch, ScheduleView
from auralink.schedules.service import Schedules

router = APIRouter(prefix="/api/v1/schedules", tags=["triggers"])


async def _schedules(request: Request) -> Schedules:
    schedules: Schedules = request.app.state.schedules
    return schedules


Service = Annotated[Schedules, Depends(_schedules)]


@router.get("")
async def list_schedules(
    principal: Authenticated, schedules: Service, definition_id: UUID | None = None, limit: Limit = 50, cursor: str | None = None
) -> SchedulePage:
    """Your schedules, of one definition or of all, newest first."""
    return await schedules.page(principal, definition_id=definition_id, after=decode_cursor(cursor), limit=limit)


@router.post("", status_code=201, response_model=ScheduleView)
async def create_schedule(body: ScheduleBody, request: Request, principal: Authenticated, schedules: Service) -> Response:
    """Has runs of a definition started by the clock."""
    return await once(request, principal, lambda: schedules.create(principal, body), 201)


@router.get("/{schedule_id}")
async def get_schedule(schedule_id: UUID, principal: Authenticated, schedules: Service) -> ScheduleView:
    """One schedule: when it is due next, and what came of it last."""
    return await schedules.get(principal, schedule_id)


@router.patch("/{schedule_id}")
async def change_schedule(schedule_id: UUID, patch: SchedulePatch, principal: Authenticated, schedules: Service) -> ScheduleView:
    """Changes a schedule; `paused` stops it and lets it go on."""
    return await schedules.change(principal, schedule_id, patch)


@router.delete("/{schedule_id}", status_code=204)
async def remove_schedule(schedule_id: UUID, principal: Authenticated, schedules: Service) -> None:
    """Deletes a schedule; its runs stay."""
    await schedules.remove(principal, schedule_id)
