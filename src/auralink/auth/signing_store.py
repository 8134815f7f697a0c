"""SQL of users' signing keys and of the nonces that were seen."""

from datetime import datetime
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection

COLUMNS = "id, name, key_id, algorithm, public_key, created_at, last_used_at"
KEYS = f"SELECT {COLUMNS} FROM auralink.signing_keys ORDER BY created_at, id"
INSERT = f"""
INSERT INTO auralink.signing_keys (id, user_id, name, key_id, algorithm, public_key) VALUES (%s, %s, %s, %s, %s, %s)
RETURNING {COLUMNS}
"""
RENAME = f"UPDATE auralink.signing_keys SET name = %s WHERE id = %s RETURNING {COLUMNS}"
USE_NONCE = """
WITH old AS (DELETE FROM auralink.signature_nonces WHERE user_id = %(user_id)s AND expires_at < now()),
     used AS (UPDATE auralink.signing_keys SET last_used_at = now() WHERE key_id = %(key_id)s)
INSERT INTO auralink.signature_nonces (user_id, key_id, nonce, expires_at) VALUES (%(user_id)s, %(key_id)s, %(nonce)s, %(expires)s)
ON CONFLICT DO NOTHING RETURNING nonce
"""


async def keys(connection: Connection) -> list[DictRow]:
    """The tenant's keys, oldest first."""
    return await (await connection.execute(KEYS)).fetchall()


async def insert(
    connection: Connection, *, row_id: UUID, user_id: UUID, name: str, key_id: str, algorithm: str, public_key: bytes
) -> DictRow:
    """Registers a key. Raises UniqueViolation for one that the tenant has."""
    row = await (await connection.execute(INSERT, [row_id, user_id, name, key_id, algorithm, public_key])).fetchone()
    assert row is not None
    return row


async def rename(connection: Connection, row_id: UUID, name: str) -> DictRow | None:
    """Gives a key another name; None if the tenant has no such key."""
    return await (await connection.execute(RENAME, [name, row_id])).fetchone()


async def delete(connection: Connection, row_id: UUID) -> bool:
    """Removes a key; False if the tenant has no such key."""
    query = "DELETE FROM auralink.signing_keys WHERE id = %s RETURNING id"
    return await (await connection.execute(query, [row_id])).fetchone() is not None


async def use_nonce(connection: Connection, user_id: UUID, key_id: str, nonce: str, expires: datetime) -> bool:
    """Notes a nonce; False if it was there. Those that are too old to matter are removed."""
    values = {"user_id": user_id, "key_id": key_id, "nonce": nonce, "expires": expires}
    return await (await connection.execute(USE_NONCE, values)).fetchone() is not None
