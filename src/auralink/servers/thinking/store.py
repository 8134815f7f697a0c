"""SQL of the thoughts. Tenant scope comes from the transaction; nothing here commits."""

from typing import Any

from auralink.core.db import Connection
from auralink.servers.thinking.schemas import Thought

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(concat('auralink.thinking', auralink.current_user_id(), %s::text), 0))"

INSERT = """
INSERT INTO auralink.thinking_thoughts (thread, position, idempotency_key, thought, thought_number, total_thoughts,
    next_thought_needed, is_revision, revises_thought, branch_from_thought, branch_id, needs_more_thoughts)
SELECT %(thread)s, 1 + coalesce(max(position), 0), %(key)s, %(thought)s, %(thought_number)s, %(total_thoughts)s,
    %(next_thought_needed)s, %(is_revision)s, %(revises_thought)s, %(branch_from_thought)s, %(branch_id)s, %(needs_more_thoughts)s
FROM auralink.thinking_thoughts WHERE thread = %(thread)s
ON CONFLICT (user_id, thread, idempotency_key) DO UPDATE SET created_at = thinking_thoughts.created_at
RETURNING position
"""

BRANCHES = """
SELECT branch_id FROM auralink.thinking_thoughts
WHERE thread = %s AND branch_from_thought IS NOT NULL AND branch_id <> ''
GROUP BY branch_id ORDER BY min(position)
"""

THOUGHTS = "SELECT * FROM auralink.thinking_thoughts WHERE thread = %s ORDER BY position"


async def append(connection: Connection, thread: str, thought: Thought, key: str | None) -> int:
    """Adds a thought to the end of a thread, unless one with this `key` is there; returns its place, from 1.

    One transaction at a time may add to a thread.
    """
    await connection.execute(LOCK, [thread])
    row = await (await connection.execute(INSERT, {"thread": thread, "key": key, **thought.model_dump()})).fetchone()
    assert row is not None
    length: int = row["position"]
    return length


async def branches(connection: Connection, thread: str) -> list[str]:
    """The names of the thread's branches, in the order in which they began."""
    rows = await connection.execute(BRANCHES, [thread])
    return [row["branch_id"] for row in await rows.fetchall()]


async def thoughts(connection: Connection, thread: str) -> list[Thought]:
    """All thoughts of a thread."""
    rows = await (await connection.execute(THOUGHTS, [thread])).fetchall()
    return [Thought.model_validate(_given(row)) for row in rows]


async def forget(connection: Connection, thread: str) -> None:
    """Deletes a thread."""
    await connection.execute("DELETE FROM auralink.thinking_thoughts WHERE thread = %s", [thread])


def _given(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in Thought.model_fields if row[name] is not None}
