"""SQL of the wrapped data keys."""

from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection


async def data_keys(connection: Connection) -> list[DictRow]:
    """The tenant's data keys, newest first."""
    query = "SELECT version, wrapped FROM auralink.data_keys ORDER BY version DESC"
    return await (await connection.execute(query)).fetchall()


async def insert_data_key(connection: Connection, user_id: UUID, version: int, wrapped: bytes, master_key_id: str) -> None:
    """Stores a data key, unless another process has stored that version meanwhile."""
    query = """INSERT INTO auralink.data_keys (user_id, version, wrapped, master_key_id) VALUES (%s, %s, %s, %s)
        ON CONFLICT (user_id, version) DO NOTHING"""
    await connection.execute(query, [user_id, version, wrapped, master_key_id])


async def replace_wrapping(connection: Connection, version: int, old: bytes, new: bytes, master_key_id: str) -> None:
    """Puts another wrapping of the same data key in place, if the old one still stands."""
    query = "UPDATE auralink.data_keys SET wrapped = %s, master_key_id = %s WHERE version = %s AND wrapped = %s"
    await connection.execute(query, [new, master_key_id, version, old])


async def users_to_rewrap(connection: Connection, current_key_id: str, batch: int) -> list[UUID]:
    """Users with a data key that another master key than the current one has wrapped."""
    rows = await (await connection.execute("SELECT auralink.users_to_rewrap(%s, %s) AS id", [current_key_id, batch])).fetchall()
    return [row["id"] for row in rows]
