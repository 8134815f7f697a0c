"""Starts what is due. Every worker has a clock: a due time is claimed by locking its schedule, and the run is accepted in the same
transaction that moves the schedule on, so that each due time has one run however many clocks there are and whichever dies.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from psycopg import Error as DatabaseError
from psycopg.rows import DictRow

from auralink.core.db import Connection, Database, DatabaseUnavailable
from auralink.core.errors import AuralinkError, NotFound
from auralink.runs.schemas import Order
from auralink.runs.starting import Startables
from auralink.schedules import store, times

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
BATCH = 100
LATE = timedelta(minutes=1)
"""A due time that is over for longer than this was missed."""


@dataclass(frozen=True)
class _Owner:
    user_id: UUID


class Clock:
    """Fires schedules until it is stopped."""

    def __init__(self, db: Database, startables: Startables) -> None:
        self._db = db
        self._startables = startables

    async def run(self) -> None:
        """Looks every second until cancelled; goes on when the database comes back."""
        while True:
            try:
                fired = await self.tick()
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("schedules could not be looked at and will be later", reason=str(error).strip())
                fired = 0
            if fired < BATCH:
                await asyncio.sleep(LOOK_EVERY)

    async def tick(self) -> int:
        """Fires once what is due now; how many schedules that were."""
        async with self._db.system() as connection:
            found = await store.due(connection, BATCH)
        for row in found:
            try:
                await self._fire(row["id"], _Owner(row["user_id"]))
            except (DatabaseUnavailable, DatabaseError):
                raise
            except Exception:  # the edge of one schedule: the others are due as well
                log.exception("a schedule could not be fired", schedule=str(row["id"]))
        return len(found)

    async def _fire(self, schedule_id: UUID, owner: _Owner) -> None:
        async with self._db.tenant(owner) as connection:
            schedule = await store.claim(connection, schedule_id)
            if schedule is not None:
                await store.update(connection, schedule_id, await self._moved_on(connection, owner, schedule))

    async def _moved_on(self, connection: Connection, owner: _Owner, schedule: DictRow) -> dict[str, Any]:
        """What changes in a schedule that is due: its run was accepted, or could not be, or was missed."""
        due, now = schedule["next_at"], datetime.now(UTC)
        if schedule["missed"] == "skip" and now - due > LATE:
            return {"next_at": times.following(schedule, now - LATE)}
        order = Order(schedule["input"], schedule["room_id"], schedule["call_id"], at="/input")
        try:
            run = await self._startables.start_in(connection, owner, schedule["kind"], schedule["definition_id"], order)
        except NotFound as error:
            return {"paused": True, "next_at": None, "last_error": error.message}
        except AuralinkError as error:
            return {"next_at": times.following(schedule, due), "last_error": error.message}
        log.info("schedule fired", schedule=str(schedule["id"]), due=due.isoformat(), run=str(run.run_id))
        moved = {"next_at": times.following(schedule, due), "last_at": due}
        return {**moved, "last_run_id": run.run_id, "last_error": None}
