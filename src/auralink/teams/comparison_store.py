"""SQL of comparisons. Who may see a row is decided by row level security; a store never commits."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import DictRow
from psycopg.types.json import Json

from auralink.core.db import Connection

INSERT = "INSERT INTO auralink.team_comparisons (id, user_id, team_id, task, runs) VALUES (%s, %s, %s, %s, %s)"
FIND = "SELECT id AS comparison_id, team_id, task, runs, created_at FROM auralink.team_comparisons WHERE id = %s AND team_id = %s"
OUTCOMES = """
SELECT r.id AS run_id, r.status, r.reason, r.output, r.error, r.tokens, r.cost_usd, r.finished_at IS NOT NULL AS ended,
       extract(epoch FROM coalesce(r.finished_at, clock_timestamp()) - r.started_at)::double precision AS seconds,
       made.model_calls, made.tool_calls
FROM auralink.runs r
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE kind = 'llm') AS model_calls, count(*) FILTER (WHERE kind = 'tool') AS tool_calls
    FROM auralink.run_journal WHERE run_id = r.id
) AS made
WHERE r.id = ANY(%s)
"""


async def insert(
    connection: Connection, comparison_id: UUID, user_id: UUID, team_id: UUID, task: Any, runs: Sequence[Mapping[str, Any]]
) -> None:
    """Stores which runs are to be seen side by side."""
    await connection.execute(INSERT, [comparison_id, user_id, team_id, Json(task, orjson.dumps), Json(list(runs), orjson.dumps)])


async def find(connection: Connection, team_id: UUID, comparison_id: UUID) -> DictRow | None:
    """A comparison of a team."""
    return await (await connection.execute(FIND, [comparison_id, team_id])).fetchone()


async def outcomes(connection: Connection, run_ids: Sequence[UUID]) -> list[DictRow]:
    """How far runs are and what came of them; those that were deleted are not among them."""
    return await (await connection.execute(OUTCOMES, [list(run_ids)])).fetchall()
