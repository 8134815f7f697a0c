"""Schedules: kept, and told when they are due next. What is due is fired by `clock.py`."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow

from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database
from auralink.core.errors import InvalidRequest
from auralink.core.ids import uuid7
from auralink.core.paging import Position, encode_cursor
from auralink.runs.schemas import Order
from auralink.runs.starting import Startables, require_room
from auralink.schedules import store, times
from auralink.schedules.errors import ScheduleNameTaken, schedule_not_found
from auralink.schedules.schemas import ScheduleBody, SchedulePage, SchedulePatch, ScheduleView

OF_TIMES = {"cron", "interval_seconds", "timezone", "paused"}


class Schedules:
    """What users do with schedules."""

    def __init__(self, db: Database, startables: Startables) -> None:
        self._db = db
        self._startables = startables

    async def create(self, principal: Principal, body: ScheduleBody) -> ScheduleView:
        """A new schedule. Raises NotFound for the definition, InputInvalid, BadSchedule, ScheduleNameTaken, TooManyDefinitions."""
        row = {**_columns(body.model_dump()), "id": uuid7(), "user_id": principal.user_id}
        try:
            async with self._db.tenant(principal) as connection:
                await self._check(connection, row)
                row["next_at"] = None if row["paused"] else times.following(row, datetime.now(UTC))
                await require_room(connection, "schedules")
                return _view(await store.insert(connection, row))
        except UniqueViolation:
            raise _name_taken(body.name) from None

    async def get(self, principal: Principal, schedule_id: UUID) -> ScheduleView:
        """One of them. Raises ScheduleNotFound."""
        async with self._db.tenant(principal) as connection:
            row = await store.find(connection, schedule_id)
        if row is None:
            raise schedule_not_found(schedule_id)
        return _view(row)

    async def page(
        self, principal: Principal, *, definition_id: UUID | None = None, after: Position | None, limit: int
    ) -> SchedulePage:
        """The principal's schedules, of one definition or of all, newest first."""
        async with self._db.tenant(principal) as connection:
            rows = await store.page(connection, definition_id=definition_id, after=after, limit=limit + 1)
        items = [_view(row) for row in rows[:limit]]
        cursor = encode_cursor((items[-1].created_at, items[-1].schedule_id)) if len(rows) > limit else None
        return SchedulePage(items=items, next_cursor=cursor)

    async def change(self, principal: Principal, schedule_id: UUID, patch: SchedulePatch) -> ScheduleView:
        """Changes what the patch names; the next due time is told anew where that changes it.

        Raises ScheduleNotFound and what `create` raises.
        """
        changes = _columns(patch.model_dump(exclude_none=True))
        if "cron" in changes and "interval_seconds" not in changes:
            changes["interval_seconds"] = None
        elif "interval_seconds" in changes and "cron" not in changes:
            changes["cron"] = None
        try:
            async with self._db.tenant(principal) as connection:
                before = await store.find(connection, schedule_id, locked=True)
                if before is None:
                    raise schedule_not_found(schedule_id)
                if not changes:
                    raise InvalidRequest("the body changes nothing; give a name, times, input, missed or paused")
                after: dict[str, Any] = {**before, **changes}
                await self._check(connection, after)
                if OF_TIMES & changes.keys():
                    anew = {**after, "next_at": None}
                    changes["next_at"] = None if after["paused"] else times.following(anew, datetime.now(UTC))
                return _view(await store.update(connection, schedule_id, changes))
        except UniqueViolation:
            raise _name_taken(changes["name"]) from None

    async def remove(self, principal: Principal, schedule_id: UUID) -> None:
        """Deletes a schedule; its runs stay. Raises ScheduleNotFound."""
        async with self._db.tenant(principal) as connection:
            if not await store.delete(connection, schedule_id):
                raise schedule_not_found(schedule_id)

    async def _check(self, connection: Connection, row: dict[str, Any]) -> None:
        order = Order(row["input"], row["room_id"], row["call_id"], at="/input")
        await self._startables.of(row["kind"]).prepare(connection, row["definition_id"], order)
        times.check(row)


def _columns(given: dict[str, Any]) -> dict[str, Any]:
    """What the wire calls it, as the table does."""
    return {"interval_seconds" if name == "interval" else name: value for name, value in given.items()}


def _view(row: DictRow) -> ScheduleView:
    fields = {name: value for name, value in row.items() if name not in ("id", "user_id", "interval_seconds")}
    return ScheduleView(schedule_id=row["id"], interval=row["interval_seconds"], **fields)


def _name_taken(name: str) -> ScheduleNameTaken:
    return ScheduleNameTaken(f"you have a schedule named {name!r}; change it with PATCH, or choose another name")
