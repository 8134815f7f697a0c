"""SQL of flows' runs: views over runs and their events, and what the journal and other runs say of the cost of each step."""

from collections.abc import Sequence
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.core.paging import Position

COLUMNS = """flow_run_id, flow_id, flow_version, status, reason, current_task, input_parameters, result, error, attempt, steps AS calls,
    tokens, cost_usd, accepted_at, started_at, finished_at, definition"""
PAGE = f"""
SELECT {COLUMNS} FROM auralink.prefect_flow_runs
WHERE flow_id = %(flow)s AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(at)s::timestamptz IS NULL OR (accepted_at, flow_run_id) < (%(at)s, %(after)s::uuid))
ORDER BY accepted_at DESC, flow_run_id DESC LIMIT %(limit)s
"""
FIND = f"SELECT {COLUMNS} FROM auralink.prefect_flow_runs WHERE flow_id = %s AND flow_run_id = %s"
OFFSPRING = """
WITH RECURSIVE offspring AS (
    SELECT c.parent_id AS run_id, c.parent_seq AS seq, c.id, c.tokens, c.cost_usd FROM auralink.runs c WHERE c.parent_id = ANY(%(runs)s)
    UNION ALL
    SELECT o.run_id, o.seq, c.id, c.tokens, c.cost_usd FROM auralink.runs c JOIN offspring o ON c.parent_id = o.id
), spent AS (
    SELECT run_id, seq, sum(tokens)::bigint AS tokens, sum(cost_usd) AS cost_usd FROM offspring GROUP BY run_id, seq
)"""
STARTED = f"{OFFSPRING} SELECT run_id, sum(tokens)::bigint AS tokens, sum(cost_usd) AS cost_usd FROM spent GROUP BY run_id"
STEPS = f"""{OFFSPRING}
SELECT t.flow_run_id, t.step, count(*) AS times, count(*) FILTER (WHERE t.state = 'Failed') AS failed,
       array_agg(DISTINCT t.state) AS states, (array_agg(t.state ORDER BY t.at DESC))[1] AS last_state,
       sum(greatest(t.seconds, took.seconds)) AS seconds, coalesce(sum(took.tokens), 0)::bigint AS tokens,
       coalesce(sum(took.cost_usd), 0) AS cost_usd, json_agg(t.calls ORDER BY t.begun) AS calls,
       (array_agg(t.error ORDER BY t.begun) FILTER (WHERE t.error IS NOT NULL))[1] AS error
FROM auralink.prefect_flow_tasks t
CROSS JOIN LATERAL (
    SELECT sum(j.tokens + coalesce(s.tokens, 0)) AS tokens,
           sum(j.cost_usd + coalesce(s.cost_usd, 0)) AS cost_usd,
           extract(epoch FROM max(j.finished_at) - min(j.started_at))::double precision AS seconds
    FROM auralink.run_journal j LEFT JOIN spent s ON s.run_id = j.run_id AND s.seq = j.seq
    WHERE j.run_id = t.flow_run_id AND j.seq IN (SELECT c::integer FROM json_array_elements_text(t.calls) AS c)
) AS took
WHERE t.flow_run_id = ANY(%(runs)s) GROUP BY t.flow_run_id, t.step ORDER BY t.flow_run_id, min(t.begun)
"""


async def page(connection: Connection, flow_id: UUID, *, status: str | None, after: Position | None, limit: int) -> list[DictRow]:
    """A flow's runs, newest first."""
    at, row_id = after or (None, None)
    values = {"flow": flow_id, "status": status, "at": at, "after": row_id, "limit": limit}
    return await (await connection.execute(PAGE, values)).fetchall()


async def find(connection: Connection, flow_id: UUID, run_id: UUID) -> DictRow | None:
    """One run of a flow."""
    return await (await connection.execute(FIND, [flow_id, run_id])).fetchone()


async def steps(connection: Connection, run_ids: Sequence[UUID]) -> list[DictRow]:
    """What the steps of runs came to so far, those of a run in the order in which they began."""
    return await (await connection.execute(STEPS, {"runs": list(run_ids)})).fetchall()


async def started(connection: Connection, run_ids: Sequence[UUID]) -> dict[UUID, DictRow]:
    """What other runs came to that these have started, and those again, by run."""
    rows = await (await connection.execute(STARTED, {"runs": list(run_ids)})).fetchall()
    return {row["run_id"]: row for row in rows}
