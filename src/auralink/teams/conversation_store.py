"""SQL of teams' conversations: views over runs, their events and their journal. Row level security decides who may see them."""

from collections.abc import Sequence
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.core.paging import Position

COLUMNS = """conversation_id, team_id, team_type, collaboration_mode, team_version, status, reason, task, result, error, calls, tokens,
    cost_usd, accepted_at, started_at, finished_at"""
PAGE = f"""
SELECT {COLUMNS} FROM auralink.team_conversations
WHERE team_id = %(team)s AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(at)s::timestamptz IS NULL OR (accepted_at, conversation_id) < (%(at)s, %(after)s::uuid))
ORDER BY accepted_at DESC, conversation_id DESC LIMIT %(limit)s
"""
FIND = f"SELECT {COLUMNS} FROM auralink.team_conversations WHERE team_id = %s AND conversation_id = %s"
MESSAGES = """
SELECT m.conversation_id, m.n, m.sender, coalesce(m.recipient, 'team') AS recipient, coalesce(m.kind, 'message') AS kind,
       coalesce(m.content, '') AS content, coalesce(m.tool_calls, '[]') AS tool_calls, coalesce(m.steps, '[]') AS steps, m.at,
       coalesce(used.tokens, 0) AS tokens, coalesce(used.cost_usd, 0) AS cost_usd
FROM auralink.team_messages m
CROSS JOIN LATERAL (
    SELECT sum(j.tokens)::bigint AS tokens, sum(j.cost_usd) AS cost_usd FROM auralink.run_journal j
    WHERE j.run_id = m.conversation_id AND j.seq IN (SELECT s::integer FROM json_array_elements_text(coalesce(m.steps, '[]')) AS s)
) AS used
WHERE m.conversation_id = ANY(%s) AND m.sender IS NOT NULL ORDER BY m.conversation_id, m.n
"""
MEMBERS = f"""
SELECT sender AS member, count(*) AS messages, sum(json_array_length(steps)) AS model_calls,
       sum(json_array_length(tool_calls)) AS tool_calls,
       sum((SELECT count(*) FROM json_array_elements(tool_calls) AS call WHERE call->>'failed' = 'true')) AS failed_tool_calls,
       sum(tokens)::bigint AS tokens, sum(cost_usd) AS cost_usd
FROM ({MESSAGES}) AS said GROUP BY sender ORDER BY min(n), sender
"""
STATS = """
SELECT count(*) AS runs,
       count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE finished_at IS NULL) AS under_way,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - accepted_at)) AS p50_seconds,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - accepted_at)) AS p95_seconds,
       coalesce(sum(calls), 0) AS calls, coalesce(sum(tokens), 0) AS tokens, coalesce(sum(cost_usd), 0) AS cost_usd,
       max(accepted_at) AS last_run_at, coalesce(array_agg(conversation_id), '{}') AS ids
FROM auralink.team_conversations WHERE team_id = %s AND accepted_at > now() - make_interval(days => %s)
"""


async def page(connection: Connection, team_id: UUID, *, status: str | None, after: Position | None, limit: int) -> list[DictRow]:
    """A team's conversations, newest first."""
    at, row_id = after or (None, None)
    values = {"team": team_id, "status": status, "at": at, "after": row_id, "limit": limit}
    return await (await connection.execute(PAGE, values)).fetchall()


async def find(connection: Connection, team_id: UUID, conversation_id: UUID) -> DictRow | None:
    """One conversation of a team."""
    return await (await connection.execute(FIND, [team_id, conversation_id])).fetchone()


async def messages(connection: Connection, conversation_ids: Sequence[UUID]) -> list[DictRow]:
    """What was said in conversations, in order, with what it took."""
    return await (await connection.execute(MESSAGES, [list(conversation_ids)])).fetchall()


async def members(connection: Connection, conversation_ids: Sequence[UUID]) -> list[DictRow]:
    """What each of those who spoke in conversations did, in the order in which they came."""
    return await (await connection.execute(MEMBERS, [list(conversation_ids)])).fetchall()


async def statistics(connection: Connection, team_id: UUID, days: int) -> DictRow:
    """What the team's runs of the last days came to, and their ids."""
    row = await (await connection.execute(STATS, [team_id, days])).fetchone()
    assert row is not None
    return row
