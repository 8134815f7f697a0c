"""SQL of the journal. The rules are in the functions of the migration; here they are called."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection

BEGIN = """
SELECT verdict, seq, response, overrides FROM auralink.journal_begin(
    %(user)s, %(run)s, %(attempt)s, %(kind)s, %(label)s, %(key)s, %(request)s, %(retry)s, %(owner)s, %(lease)s, %(seq)s, %(in_turn)s)
"""
RENEW = "SELECT auralink.journal_renew(%s, %s, %s, %s, %s) AS renewed"
SUSPEND = "SELECT auralink.suspend_run(%s, %s, %s, %s, %s, %s) AS suspended"
WITHDRAW = """
UPDATE auralink.run_journal SET sent = false, gateway_lease = clock_timestamp()
WHERE run_id = %s AND seq = %s AND owner = %s AND status = 'started'
"""
FAIL = "SELECT auralink.finish_run(%s, %s, 'failed', NULL, %s::json) AS finished"


async def begin(connection: Connection, values: Mapping[str, Any]) -> DictRow:
    """What to do with a call, in one round trip and one transaction (`journal_begin`)."""
    row = await (await connection.execute(BEGIN, values, prepare=True)).fetchone()
    assert row is not None
    return row


async def renew(connection: Connection, user_id: UUID, run: UUID, seq: int, owner: UUID, lease: float) -> bool:
    """Renews the lease on a call; False if another makes it now."""
    row = await (await connection.execute(RENEW, [user_id, run, seq, owner, lease], prepare=True)).fetchone()
    return bool(row and row["renewed"])


async def suspend(
    connection: Connection, run: UUID, attempt: int, seq: int, owner: UUID, *, reason: str, until: datetime | None
) -> bool:
    """Lets the run wait at a step; False if the attempt is over. In a transaction of the tenant."""
    row = await (await connection.execute(SUSPEND, [run, attempt, seq, owner, reason, until])).fetchone()
    return bool(row and row["suspended"])


async def withdraw(connection: Connection, run: UUID, seq: int, owner: UUID) -> None:
    """Takes back that a call was made. In a transaction of the tenant."""
    await connection.execute(WITHDRAW, [run, seq, owner])


async def fail(connection: Connection, run: UUID, attempt: int, error: str) -> None:
    """Ends the run as failed, if the attempt is the current one. In a transaction of the tenant."""
    await connection.execute(FAIL, [run, attempt, error])
