"""SQL of schedules. Who may see a row is decided by row level security; a store never commits."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.core.paging import Position
from auralink.core.rows import adapted, change_of

COLUMNS = """id, user_id, name, kind, definition_id, cron, interval_seconds, timezone, input, room_id, call_id, missed, paused, next_at,
    last_at, last_run_id, last_error, created_at, updated_at"""
INSERT = f"""
INSERT INTO auralink.schedules
    (id, user_id, name, kind, definition_id, cron, interval_seconds, timezone, input, room_id, call_id, missed, paused, next_at)
VALUES
    (%(id)s, %(user_id)s, %(name)s, %(kind)s, %(definition_id)s, %(cron)s, %(interval_seconds)s, %(timezone)s, %(input)s, %(room_id)s,
     %(call_id)s, %(missed)s, %(paused)s, %(next_at)s)
RETURNING {COLUMNS}
"""
LOCKED = f"SELECT {COLUMNS} FROM auralink.schedules WHERE id = %s FOR UPDATE"
BY_ID = f"SELECT {COLUMNS} FROM auralink.schedules WHERE id = %s"
PAGE = f"""
SELECT {COLUMNS} FROM auralink.schedules
WHERE (%(definition)s::uuid IS NULL OR definition_id = %(definition)s)
  AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after)s::uuid))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
CLAIM = f"SELECT {COLUMNS} FROM auralink.schedules WHERE id = %s AND next_at <= clock_timestamp() FOR UPDATE SKIP LOCKED"
_JSON = ("input",)


async def insert(connection: Connection, row: Mapping[str, Any]) -> DictRow:
    """Stores a schedule. Raises UniqueViolation for a name that the tenant has."""
    inserted = await (await connection.execute(INSERT, adapted(row, _JSON))).fetchone()
    assert inserted is not None
    return inserted


async def find(connection: Connection, schedule_id: UUID, *, locked: bool = False) -> DictRow | None:
    """The tenant's schedule of that id; with `locked` it is neither changed nor fired until the transaction ends."""
    return await (await connection.execute(LOCKED if locked else BY_ID, [schedule_id])).fetchone()


async def page(connection: Connection, *, definition_id: UUID | None, after: Position | None, limit: int) -> list[DictRow]:
    """The tenant's schedules, of one definition or of all, newest first."""
    at, row_id = after or (None, None)
    values = {"definition": definition_id, "at": at, "after": row_id, "limit": limit}
    return await (await connection.execute(PAGE, values)).fetchall()


async def update(connection: Connection, schedule_id: UUID, changes: Mapping[str, Any]) -> DictRow:
    """Changes a schedule that is there. Raises UniqueViolation."""
    query = change_of("schedules", changes, COLUMNS)
    row = await (await connection.execute(query, {**adapted(changes, _JSON), "id": schedule_id})).fetchone()
    assert row is not None
    return row


async def delete(connection: Connection, schedule_id: UUID) -> bool:
    """Removes a schedule; False if the tenant has no such. Its runs stay."""
    query = "DELETE FROM auralink.schedules WHERE id = %s RETURNING id"
    return await (await connection.execute(query, [schedule_id])).fetchone() is not None


async def claim(connection: Connection, schedule_id: UUID) -> DictRow | None:
    """The schedule, if it is due and nobody else is just firing it; it is locked until the transaction ends."""
    return await (await connection.execute(CLAIM, [schedule_id])).fetchone()


async def due(connection: Connection, most: int) -> list[DictRow]:
    """Schedules that are due and whose they are, across tenants (`due_schedules`)."""
    return await (await connection.execute("SELECT id, user_id FROM auralink.due_schedules(%s)", [most])).fetchall()
