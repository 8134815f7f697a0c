"""SQL of flows. Who may see a row is decided by row level security; a store never commits."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.core.paging import Position
from auralink.core.rows import adapted, change_of

COLUMNS = "id, name, flow_type, version, description, definition, template, created_at, updated_at"
INSERT = f"""
INSERT INTO auralink.prefect_flows (id, user_id, name, flow_type, description, definition, template)
VALUES (%(id)s, %(user_id)s, %(name)s, %(flow_type)s, %(description)s, %(definition)s, %(template)s)
RETURNING {COLUMNS}
"""
BY_ID = f"SELECT {COLUMNS} FROM auralink.prefect_flows WHERE id = %s"
LOCKED = f"{BY_ID} FOR NO KEY UPDATE"
ID_BY_NAME = "SELECT id FROM auralink.prefect_flows WHERE name = %s"
PAGE = f"""
SELECT {COLUMNS} FROM auralink.prefect_flows
WHERE (%(name)s::text IS NULL OR name = %(name)s) AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after)s::uuid))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
_JSON = ("definition",)


async def insert(connection: Connection, row: Mapping[str, Any]) -> DictRow:
    """Stores a flow. Raises UniqueViolation for a name that the tenant has."""
    inserted = await (await connection.execute(INSERT, adapted(row, _JSON))).fetchone()
    assert inserted is not None
    return inserted


async def find(connection: Connection, flow_id: UUID, *, locked: bool = False) -> DictRow | None:
    """The tenant's flow of that id; with `locked` nobody else changes it until the transaction ends."""
    return await (await connection.execute(LOCKED if locked else BY_ID, [flow_id])).fetchone()


async def find_id(connection: Connection, name: str) -> UUID | None:
    """The id of the tenant's flow of that name."""
    row = await (await connection.execute(ID_BY_NAME, [name])).fetchone()
    return None if row is None else row["id"]


async def page(connection: Connection, *, name: str | None, after: Position | None, limit: int) -> list[DictRow]:
    """The tenant's flows, newest first."""
    at, row_id = after or (None, None)
    return await (await connection.execute(PAGE, {"name": name, "at": at, "after": row_id, "limit": limit})).fetchall()


async def update(connection: Connection, flow_id: UUID, changes: Mapping[str, Any]) -> DictRow:
    """Changes a flow that is there, and raises its version. Raises UniqueViolation."""
    query = change_of("prefect_flows", changes, COLUMNS, versioned=True)
    row = await (await connection.execute(query, {**adapted(changes, _JSON), "id": flow_id})).fetchone()
    assert row is not None
    return row


async def delete(connection: Connection, flow_id: UUID) -> bool:
    """Removes a flow; False if the tenant has no such. Its runs stay."""
    query = "DELETE FROM auralink.prefect_flows WHERE id = %s RETURNING id"
    return await (await connection.execute(query, [flow_id])).fetchone() is not None
