"""SQL of the operation log."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import DictRow

from auralink.audit.schemas import Record
from auralink.core.db import Connection
from auralink.core.paging import Position

RECORD = "SELECT auralink.record_outcomes(%s::json)"
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
WHERE at >= now() - make_interval(days => %s) AND operation <> ALL ('{chat.completions,embeddings,responses}')
GROUP BY GROUPING SETS ((1, 2, 3), ())
ORDER BY 1 DESC NULLS FIRST, operations DESC
"""

POPULAR = """
SELECT server, tool, count(*) AS operations, count(*) FILTER (WHERE outcome <> 'ok') AS errors
FROM auralink.mcp_operation_logs
WHERE at >= now() - make_interval(days => %s) AND operation = 'tools/call' AND tool IS NOT NULL
GROUP BY 1, 2 ORDER BY operations DESC, tool LIMIT %s
"""


async def insert_records(connection: Connection, records: Sequence[Record]) -> None:
    """Writes a batch in one statement: one transaction, one round trip, each user's rows as that user."""
    by_user: dict[UUID, dict[str, list[dict[str, Any]]]] = {}
    for record in records:
        by_user.setdefault(record.user_id, {}).setdefault(record.kind, []).append(record.row())
    entries = [{"user_id": user_id, **by_user[user_id]} for user_id in sorted(by_user)]  # one order of locks for all processes
    await connection.execute(RECORD, [_json(entries)], prepare=True)


def _json(entries: list[dict[str, Any]]) -> str:
    """The rows as JSON that Postgres takes: it has no text with a NUL or half a surrogate pair, which a server may well say."""
    try:
        data = orjson.dumps(entries, default=_money)
    except TypeError:
        data = NUL
    if NUL in data:
        data = orjson.dumps(_storable(entries), default=_money)
    return data.decode()


def _money(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _storable_text(value)
    if isinstance(value, Mapping):
        return {name: _storable(member) for name, member in value.items()}
    return [_storable(member) for member in value] if isinstance(value, list) else value


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
