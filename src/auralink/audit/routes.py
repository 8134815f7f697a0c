"""HTTP of the operation log and of the usage figures drawn from it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from psycopg.rows import DictRow

from auralink.audit import store
from auralink.audit.schemas import LogEntry, LogPage, Popular, PopularTool, UsageRow, UsageStats
from auralink.auth.dependencies import Authenticated
from auralink.core.db import Database
from auralink.core.http import dumps
from auralink.core.paging import Limit, decode_cursor, encode_cursor

router = APIRouter(prefix="/api/v1", tags=["audit"])
Days = Annotated[int, Query(ge=1, le=366)]


async def _filter(
    server: str | None = None, tool: str | None = None, outcome: str | None = None, since: datetime | None = None
) -> store.LogFilter:
    return store.LogFilter(server, tool, outcome, since)


@router.get("/audit", response_model=LogPage)
async def audit(
    request: Request,
    principal: Authenticated,
    chosen: Annotated[store.LogFilter, Depends(_filter)],
    rendering: Annotated[Literal["json", "ndjson"], Query(alias="format")] = "json",
    limit: Limit = 50,
    cursor: str | None = None,
) -> Any:
    """Your operations, newest first; an admin sees everybody's."""
    db: Database = request.app.state.db
    is_admin = principal.role == "admin"
    after = decode_cursor(cursor)
    async with db.system() if is_admin else db.tenant(principal) as connection:
        rows = await store.page(connection, chosen, after=after, limit=limit + 1, all_users=is_admin)
    next_cursor = encode_cursor((rows[limit - 1]["at"], rows[limit - 1]["log_id"])) if len(rows) > limit else None
    entries = [LogEntry(**row) for row in rows[:limit]]
    if rendering == "ndjson":
        headers = {"X-Next-Cursor": next_cursor} if next_cursor else {}
        return Response(b"".join(_lines(entries)), media_type="application/x-ndjson", headers=headers)
    return LogPage(items=entries, next_cursor=next_cursor)


@router.get("/mcp/usage/stats")
async def usage_stats(request: Request, principal: Authenticated, days: Days = 7) -> UsageStats:
    """Operations, errors, latency and cost by server, tool and day."""
    db: Database = request.app.state.db
    async with db.tenant(principal) as connection:
        total, *rows = await store.usage(connection, days)
    figures = {name: total[name] for name in ("operations", "errors", "p50_ms", "p95_ms", "cost_usd")}
    return UsageStats(days=days, items=[UsageRow(**row) for row in rows], **figures)


@router.get("/mcp/usage/popular")
async def usage_popular(request: Request, principal: Authenticated, days: Days = 7, limit: Limit = 20) -> Popular:
    """Your most called tools."""
    db: Database = request.app.state.db
    async with db.tenant(principal) as connection:
        rows: list[DictRow] = await store.popular(connection, days, limit)
    return Popular(days=days, items=[PopularTool(**row) for row in rows])


def _lines(entries: list[LogEntry]) -> Iterator[bytes]:
    for entry in entries:
        yield dumps(entry.model_dump()) + b"\n"
