"""SQL of pins."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from auralink.core.db import Connection

COLUMNS = "id, connection_id, tool, status, definition, definition_hash, seen, seen_hash, flags, updated_at"

INSERT = """
INSERT INTO auralink.tool_pins (id, user_id, connection_id, tool, status, definition, definition_hash, flags)
VALUES (%(id)s, %(user_id)s, %(connection_id)s, %(tool)s, %(status)s, %(definition)s, %(definition_hash)s, %(flags)s)
ON CONFLICT (connection_id, tool) DO NOTHING
"""

QUARANTINE = """
UPDATE auralink.tool_pins SET status = 'quarantined', seen = %s, seen_hash = %s, flags = %s, updated_at = now() WHERE id = %s
"""

APPROVE = """
UPDATE auralink.tool_pins
SET status = 'approved', definition = coalesce(seen, definition), definition_hash = coalesce(seen_hash, definition_hash),
    seen = NULL, seen_hash = NULL, updated_at = now()
WHERE id = %s AND status = 'quarantined' RETURNING id
"""

QUARANTINED = f"""
SELECT {COLUMNS} FROM auralink.tool_pins
WHERE status = 'quarantined' AND (%(at)s::timestamptz IS NULL OR (updated_at, id) < (%(at)s, %(id)s::uuid))
ORDER BY updated_at DESC, id DESC LIMIT %(limit)s
"""


async def of_connection(connection: Connection, connection_id: UUID) -> list[DictRow]:
    """Every pin of a connection."""
    query = f"SELECT {COLUMNS} FROM auralink.tool_pins WHERE connection_id = %s"
    return await (await connection.execute(query, [connection_id])).fetchall()


async def insert(connection: Connection, pins: Sequence[Mapping[str, Any]]) -> None:
    """Pins tools at first sight; another process may have done so meanwhile."""
    for pin in pins:
        values = {**pin, "definition": Jsonb(pin["definition"]), "flags": Jsonb(pin["flags"])}
        await connection.execute(INSERT, values)


async def quarantine(connection: Connection, pin_id: UUID, seen: Mapping[str, Any], seen_hash: bytes, flags: list[str]) -> None:
    """Notes what the server says now, and quarantines the tool."""
    await connection.execute(QUARANTINE, [Jsonb(seen), seen_hash, Jsonb(flags), pin_id])


async def approve(connection: Connection, pin_id: UUID) -> bool:
    """Takes what was seen as approved; False if the pin is not quarantined."""
    return await (await connection.execute(APPROVE, [pin_id])).fetchone() is not None


async def find(connection: Connection, pin_id: UUID) -> DictRow | None:
    """One pin of the tenant."""
    query = f"SELECT {COLUMNS} FROM auralink.tool_pins WHERE id = %s"
    return await (await connection.execute(query, [pin_id])).fetchone()


async def quarantined(connection: Connection, *, after: tuple[datetime, UUID] | None, limit: int) -> list[DictRow]:
    """The tenant's quarantined tools, newest first."""
    at, row_id = after or (None, None)
    return await (await connection.execute(QUARANTINED, {"at": at, "id": row_id, "limit": limit})).fetchall()
