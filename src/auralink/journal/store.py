"""SQL of approvals."""

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from auralink.core.db import Connection
from auralink.core.http import dumps

VIEW = """
SELECT id AS approval_id, connection_id, server, tool, arguments, note, answer, run_id, run_seq, created_at, decided_at, expires_at,
       CASE WHEN status IN ('pending', 'approved') AND expires_at <= now() THEN 'expired' ELSE status END AS status
FROM auralink.approvals
"""

INSERT = """
INSERT INTO auralink.approvals
    (id, user_id, connection_id, server, tool, arguments, call_hash, status, decided_at, expires_at, run_id, run_seq)
VALUES (%(id)s, %(user_id)s, %(connection_id)s, %(server)s, %(tool)s, %(arguments)s, %(call_hash)s, %(status)s,
        CASE WHEN %(status)s <> 'pending' THEN now() END, now() + make_interval(secs => %(seconds)s), %(run_id)s, %(run_seq)s)
ON CONFLICT (run_id, run_seq) WHERE run_id IS NOT NULL DO NOTHING
"""

USE = """
UPDATE auralink.approvals SET status = 'used'
WHERE id = (SELECT id FROM auralink.approvals
            WHERE call_hash = %s AND status = 'approved' AND expires_at > now() AND run_id IS NULL
            ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id
"""

DECIDE = """
UPDATE auralink.approvals SET status = %(status)s, note = %(note)s, answer = %(answer)s, decided_at = now(),
    expires_at = CASE WHEN run_id IS NULL THEN now() + make_interval(secs => %(seconds)s) ELSE expires_at END
WHERE id = %(id)s AND status = 'pending' AND expires_at > now()
RETURNING id, run_id
"""

OF_STEP = """
UPDATE auralink.approvals SET status = CASE status WHEN 'approved' THEN 'used' ELSE status END
WHERE run_id = %s AND run_seq = %s RETURNING status, note, answer
"""
RESUME = """
SELECT auralink.requeue_run(id) FROM auralink.runs WHERE id = %s AND status = 'waiting' AND reason IN ('approval', 'input')
"""


async def use_approval(connection: Connection, call_hash: bytes) -> UUID | None:
    """Takes an approval of exactly this call, once; None if there is none."""
    row = await (await connection.execute(USE, [call_hash])).fetchone()
    return row["id"] if row else None


async def find_pending(connection: Connection, call_hash: bytes) -> UUID | None:
    """The approval of this call that still waits."""
    query = """SELECT id FROM auralink.approvals
        WHERE call_hash = %s AND status = 'pending' AND expires_at > now() AND run_id IS NULL LIMIT 1"""
    row = await (await connection.execute(query, [call_hash])).fetchone()
    return row["id"] if row else None


async def insert_approval(connection: Connection, row: dict[str, Any]) -> None:
    """Stores an approval, pending or already decided."""
    values = {"run_id": None, "run_seq": None, **row, "arguments": Jsonb(row["arguments"])}
    await connection.execute(INSERT, values)


async def decide(
    connection: Connection, approval_id: UUID, *, status: str, note: str | None, answer: Any, seconds: int
) -> DictRow | None:
    """Decides a pending approval; None if it is not pending any more. The row has the run that it belongs to, if any."""
    values = {"id": approval_id, "status": status, "note": note, "answer": Jsonb(answer), "seconds": seconds}
    return await (await connection.execute(DECIDE, values)).fetchone()


async def decision_on_step(connection: Connection, run_id: UUID, seq: int) -> DictRow | None:
    """What was decided on a step of a run, as often as it is asked; None if nobody was asked yet."""
    return await (await connection.execute(OF_STEP, [run_id, seq])).fetchone()


async def resume_run(connection: Connection, run_id: UUID) -> None:
    """Queues a run again that waits for a person."""
    await connection.execute(RESUME, [run_id])


async def tell(connection: Connection, run_id: UUID, what: str, about: dict[str, Any]) -> None:
    """An event of a run."""
    await connection.execute("SELECT auralink.tell_of_run(%s, %s, %s::json)", [run_id, what, dumps(about).decode()])


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
