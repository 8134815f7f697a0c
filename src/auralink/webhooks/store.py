"""SQL of webhooks. Who may see a row is decided by row level security; a store never commits."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.core.paging import Position
from auralink.core.rows import adapted, change_of

COLUMNS = "id, name, kind, definition_id, input, paused, last_event_at, last_run_id, created_at, updated_at"
INSERT = f"""
INSERT INTO auralink.webhooks (id, user_id, name, kind, definition_id, input, paused, encrypted_secret)
VALUES (%(id)s, %(user_id)s, %(name)s, %(kind)s, %(definition_id)s, %(input)s, %(paused)s, %(encrypted_secret)s) RETURNING {COLUMNS}
"""
BY_ID = f"SELECT {COLUMNS}, encrypted_secret FROM auralink.webhooks WHERE id = %s"
PAGE = f"""
SELECT {COLUMNS} FROM auralink.webhooks
WHERE %(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after)s::uuid)
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
HEARD = "UPDATE auralink.webhooks SET last_event_at = now(), last_run_id = coalesce(%s, last_run_id) WHERE id = %s"
_JSON = ("input",)


async def insert(connection: Connection, row: Mapping[str, Any]) -> DictRow:
    """Stores a webhook. Raises UniqueViolation for a name that the tenant has."""
    inserted = await (await connection.execute(INSERT, adapted(row, _JSON))).fetchone()
    assert inserted is not None
    return inserted


async def find(connection: Connection, webhook_id: UUID) -> DictRow | None:
    """The tenant's webhook of that id, with its sealed secret."""
    return await (await connection.execute(BY_ID, [webhook_id])).fetchone()


async def page(connection: Connection, *, after: Position | None, limit: int) -> list[DictRow]:
    """The tenant's webhooks, newest first."""
    at, row_id = after or (None, None)
    return await (await connection.execute(PAGE, {"at": at, "after": row_id, "limit": limit})).fetchall()


async def update(connection: Connection, webhook_id: UUID, changes: Mapping[str, Any]) -> DictRow | None:
    """Changes a webhook; None if the tenant has no such. Raises UniqueViolation."""
    query = change_of("webhooks", changes, COLUMNS)
    return await (await connection.execute(query, {**adapted(changes, _JSON), "id": webhook_id})).fetchone()


async def delete(connection: Connection, webhook_id: UUID) -> bool:
    """Removes a webhook; False if the tenant has no such. Its runs stay."""
    query = "DELETE FROM auralink.webhooks WHERE id = %s RETURNING id"
    return await (await connection.execute(query, [webhook_id])).fetchone() is not None


async def owner(connection: Connection, webhook_id: UUID) -> UUID | None:
    """Whose a webhook is, across tenants (`owner_of_webhook`)."""
    row = await (await connection.execute("SELECT auralink.owner_of_webhook(%s) AS user_id", [webhook_id])).fetchone()
    return None if row is None else row["user_id"]


async def heard(connection: Connection, webhook_id: UUID, run_id: UUID | None) -> None:
    """An event came, and started a run, or none."""
    await connection.execute(HEARD, [run_id, webhook_id])
