"""SQL of the operation log."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

import orjson
from psycopg.rows import DictRow

from auralink.audit.schemas import Operation, json_row
from auralink.core.db import Connection, bind_tenant
from auralink.core.paging import Position

INSERT = """
INSERT INTO auralink.mcp_operation_logs
    (id, user_id, at, connection_id, server, operation, tool, outcome, error, duration_ms, cached, served_by, source, trace_id,
     request_bytes, response_bytes)
SELECT id, user_id, at, connection_id, server, operation, tool, outcome, error, duration_ms, cached, served_by, source, trace_id,
     request_bytes, response_bytes
FROM json_to_recordset(%s::json) AS r(
    id uuid, user_id uuid, at timestamptz, connection_id uuid, server text, operation text, tool text, outcome text, error text,
    duration_ms double precision, cached boolean, served_by text, source text, trace_id text,
    request_bytes integer, response_bytes integer)
ON CONFLICT DO NOTHING
"""

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
    """Writes a batch in one transaction and one round trip: for each user, the tenant and then that user's rows."""
    by_user: dict[UUID, list[Operation]] = {}
    for operation in operations:
        by_user.setdefault(operation.user_id, []).append(operation)
    async with connection.pipeline(), connection.transaction():
        for user_id, rows in by_user.items():
            await bind_tenant(connection, user_id)
            await connection.execute(INSERT, [_json(rows)], prepare=True)


def _json(operations: Sequence[Operation]) -> str:
    """The rows as JSON that Postgres takes: it has no text with a NUL or half a surrogate pair, which a server may well say."""
    rows = [json_row(operation) for operation in operations]
    try:
        data = orjson.dumps(rows)
    except TypeError:
        data = NUL
    if NUL in data:
        data = orjson.dumps([{name: _storable(value) for name, value in row.items()} for row in rows])
    return data.decode()


def _storable(value: object) -> object:
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode() if isinstance(value, str) else value


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
