"""SQL of the operation log."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import DictRow

from auralink.audit.schemas import Operation, json_row
from auralink.core.db import Connection
from auralink.core.paging import Position

RECORD = "SELECT auralink.record_operations(%s::json)"
NUL = rb"\u0000"

COLUMNS = """id AS log_id, user_id, at, connection_id, server, operation, tool, outcome, error, duration_ms, cached, served_by,
    source, trace_id, request_bytes, response_bytes"""

PAGE = f"""
SELECT {COLUMNS}
FROM auralink.mcp_operation_logs
WHERE (%(server)s::text IS NULL OR server = %(server)s) AND (%(tool)s::text IS NULL OR tool = %(tool)s)
  AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s) AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(at)s::timestamptz IS NULL OR (at, id) < (%(at)s, %(id)s::uuid))
ORDER BY at DESC, id DESC LIMIT %(limit)s
"""

PAGE_OF_ALL = f"""
SELECT {COLUMNS}
FROM auralink.audit_of_all_users(%(server)s, %(tool)s, %(outcome)s, %(since)s, %(at)s, %(id)s, %(limit)s)
"""

USAGE = """
SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, server, tool, count(*) AS operations,
       count(*) FILTER (WHERE outcome <> 'ok') AS errors,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
       coalesce(sum(cost_usd), 0) AS cost_usd
FROM auralink.mcp_operation_logs
WHERE at >= now() - make_interval(days => %s)
GROUP BY GROUPING SETS ((1, 2, 3), ())
ORDER BY 1 DESC NULLS FIRST, operations DESC
"""

POPULAR = """
SELECT server, tool, count(*) AS operations, count(*) FILTER (WHERE outcome <> 'ok') AS errors
FROM auralink.mcp_operation_logs
WHERE at >= now() - make_interval(days => %s) AND operation = 'tools/call' AND tool IS NOT NULL
GROUP BY 1, 2 ORDER BY operations DESC, tool LIMIT %s
"""


async def insert_operations(connection: Connection, operations: Sequence[Operation]) -> None:
    """Writes a batch in one statement: one transaction, one round trip, each user's rows as that user."""
    by_user: dict[UUID, list[dict[str, Any]]] = {}
    for operation in operations:
        by_user.setdefault(operation.user_id, []).append(json_row(operation))
    await connection.execute(RECORD, [_json(by_user)], prepare=True)


def _json(by_user: Mapping[UUID, list[dict[str, Any]]]) -> str:
    """The rows as JSON that Postgres takes: it has no text with a NUL or half a surrogate pair, which a server may well say."""
    try:
        data = orjson.dumps([{"user_id": user_id, "rows": rows} for user_id, rows in by_user.items()])
    except TypeError:
        data = NUL
    if NUL in data:
        storable = {user_id: [_storable(row) for row in rows] for user_id, rows in by_user.items()}
        data = orjson.dumps([{"user_id": user_id, "rows": rows} for user_id, rows in storable.items()])
    return data.decode()


def _storable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _storable_text(value) if isinstance(value, str) else value for name, value in row.items()}


def _storable_text(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class LogFilter:
    """Which operations a page of the log shows; None admits all."""

    server: str | None = None
    tool: str | None = None
    outcome: str | None = None
    since: datetime | None = None


async def page(
    connection: Connection, chosen: LogFilter, *, after: Position | None, limit: int, all_users: bool = False
) -> list[DictRow]:
    """Operations, newest first, before the row `after`: the tenant's, or with `all_users` everybody's (for admins)."""
    at, row_id = after or (None, None)
    values = {**asdict(chosen), "at": at, "id": row_id, "limit": limit}
    return await (await connection.execute(PAGE_OF_ALL if all_users else PAGE, values)).fetchall()


async def usage(connection: Connection, days: int) -> list[DictRow]:
    """Figures by day, server and tool; the first row, with `day` NULL, is the total."""
    return await (await connection.execute(USAGE, [days])).fetchall()


async def popular(connection: Connection, days: int, limit: int) -> list[DictRow]:
    """The most called tools."""
    return await (await connection.execute(POPULAR, [days, limit])).fetchall()
