"""SQL of toolsets."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import DictRow

from auralink.core.db import Connection

COLUMNS = "id, name, tools, created_at, updated_at"


async def all_of_tenant(connection: Connection) -> list[DictRow]:
    """The tenant's toolsets, by name."""
    return await (await connection.execute(f"SELECT {COLUMNS} FROM auralink.mcp_toolsets ORDER BY name")).fetchall()


async def find(connection: Connection, toolset_id: UUID) -> DictRow | None:
    """The tenant's toolset of that id."""
    return await (await connection.execute(f"SELECT {COLUMNS} FROM auralink.mcp_toolsets WHERE id = %s", [toolset_id])).fetchone()


async def find_by_name(connection: Connection, name: str) -> DictRow | None:
    """The tenant's toolset of that name."""
    return await (await connection.execute(f"SELECT {COLUMNS} FROM auralink.mcp_toolsets WHERE name = %s", [name])).fetchone()


async def count(connection: Connection) -> int:
    """How many toolsets the tenant has."""
    row = await (await connection.execute("SELECT count(*) AS number FROM auralink.mcp_toolsets")).fetchone()
    assert row is not None
    return int(row["number"])


async def insert(connection: Connection, row: Mapping[str, Any]) -> DictRow:
    """Stores a toolset. Raises UniqueViolation for a name that the tenant has."""
    query = f"""INSERT INTO auralink.mcp_toolsets (id, user_id, name, tools)
        VALUES (%(id)s, %(user_id)s, %(name)s, %(tools)s) RETURNING {COLUMNS}"""
    inserted = await (await connection.execute(query, row)).fetchone()
    assert inserted is not None
    return inserted


async def update(connection: Connection, toolset_id: UUID, changes: Mapping[str, Any]) -> DictRow | None:
    """Changes a toolset; None if the tenant has no such. Raises UniqueViolation for a name that the tenant has."""
    sets = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(k), sql.Placeholder(k)) for k in changes)
    query = sql.SQL("UPDATE auralink.mcp_toolsets SET {}, updated_at = now() WHERE id = %(id)s RETURNING " + COLUMNS)
    return await (await connection.execute(query.format(sets), {**changes, "id": toolset_id})).fetchone()


async def delete(connection: Connection, toolset_id: UUID) -> bool:
    """Removes a toolset; False if the tenant has no such."""
    query = "DELETE FROM auralink.mcp_toolsets WHERE id = %s RETURNING id"
    return await (await connection.execute(query, [toolset_id])).fetchone() is not None
