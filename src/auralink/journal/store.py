"""SQL of approvals."""

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from auralink.core.db import Connection

VIEW = """
SELECT id AS approval_id, connection_id, server, tool, arguments, note, created_at, decided_at, expires_at,
       CASE WHEN status IN ('pending', 'approved') AND expires_at <= now() THEN 'expired' ELSE status END AS status
FROM auralink.approvals
"""

INSERT = """
INSERT INTO auralink.approvals (id, user_id, connection_id, server, tool, arguments, call_hash, status, decided_at, expires_at)
VALUES (%(id)s, %(user_id)s, %(connection_id)s, %(server)s, %(tool)s, %(arguments)s, %(call_hash)s, %(status)s,
        CASE WHEN %(status)s <> 'pending' THEN now() END, now() + make_interval(secs => %(seconds)s))
"""

USE = """
UPDATE auralink.approvals SET status = 'used'
WHERE id = (SELECT id FROM auralink.approvals WHERE call_hash = %s AND status = 'approved' AND expires_at > now()
            ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id
"""

DECIDE = """
UPDATE auralink.approvals SET status = %(status)s, note = %(note)s, answer = %(answer)s, decided_at = now(),
    expires_at = now() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND status = 'pending' AND expires_at > now()
RETURNING id
"""


async def use_approval(connection: Connection, call_hash: bytes) -> UUID | None:
    """Takes an approval of exactly this call, once; None if there is none."""
    row = await (await connection.execute(USE, [call_hash])).fetchone()
    return row["id"] if row else None


async def find_pending(connection: Connection, call_hash: bytes) -> UUID | None:
    """The approval of this call that still waits."""
    query = "SELECT id FROM auralink.approvals WHERE call_hash = %s AND status = 'pending' AND expires_at > now() LIMIT 1"
    row = await (await connection.execute(query, [call_hash])).fetchone()
    return row["id"] if row else None


async def insert_approval(connection: Connection, row: dict[str, Any]) -> None:
    """Stores an approval, pending or already decided."""
    await connection.execute(INSERT, {**row, "arguments": Jsonb(row["arguments"])})


async def decide(connection: Connection, approval_id: UUID, *, status: str, note: str | None, answer: Any, seconds: int) -> bool:
    """Decides a pending approval; False if it is not pending any more."""
    values = {"id": approval_id, "status": status, "note": note, "answer": Jsonb(answer), "seconds": seconds}
    return await (await connection.execute(DECIDE, values)).fetchone() is not None


async def find_approval(connection: Connection, approval_id: UUID) -> DictRow | None:
    """One approval of the tenant."""
    return await (await connection.execute(VIEW + "WHERE id = %s", [approval_id])).fetchone()


async def page(connection: Connection, *, status: str | None, after: tuple[datetime, UUID] | None, limit: int) -> list[DictRow]:
    """The tenant's approvals, newest first."""
    at, row_id = after or (None, None)
    query = f"""SELECT * FROM ({VIEW}) AS approvals
        WHERE (%(status)s::text IS NULL OR status = %(status)s)
          AND (%(at)s::timestamptz IS NULL OR (created_at, approval_id) < (%(at)s, %(id)s::uuid))
        ORDER BY created_at DESC, approval_id DESC LIMIT %(limit)s"""
    return await (await connection.execute(query, {"status": status, "at": at, "id": row_id, "limit": limit})).fetchall()
