"""SQL of limits, counters and reservations."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection

LIMITS = "SELECT scope, period, max_tokens, max_cost_usd, max_calls, set_by FROM auralink.usage_limits ORDER BY scope, period"

USAGE = """
SELECT scope, period, starts_at, tokens, cost_usd, reserved_tokens, reserved_usd
FROM auralink.usage_counters
WHERE scope = 'all' AND starts_at = auralink.period_start(period, now())
"""

RESERVE = "SELECT auralink.reserve_usage(%s, %s::text[], %s, %s, %s) AS refused"

PUT = """
INSERT INTO auralink.usage_limits (user_id, scope, period, max_tokens, max_cost_usd, max_calls, set_by)
VALUES (auralink.current_user_id(), %(scope)s, %(period)s, %(max_tokens)s, %(max_cost_usd)s, %(max_calls)s, %(set_by)s)
ON CONFLICT (user_id, scope, period) DO UPDATE
SET max_tokens = EXCLUDED.max_tokens, max_cost_usd = EXCLUDED.max_cost_usd, max_calls = EXCLUDED.max_calls,
    set_by = EXCLUDED.set_by, updated_at = now()
"""


async def limits(connection: Connection) -> list[DictRow]:
    """The tenant's limits."""
    return await (await connection.execute(LIMITS)).fetchall()


async def usage(connection: Connection) -> list[DictRow]:
    """What the tenant has used and reserved this day and this month."""
    return await (await connection.execute(USAGE)).fetchall()


async def reserve(
    connection: Connection, call_id: UUID, scopes: list[str], tokens: int, cost_usd: Decimal, lifetime: timedelta
) -> dict[str, Any] | None:
    """Reserves for a call; the limit that has no room for it, if one has none."""
    row = await (await connection.execute(RESERVE, [call_id, scopes, tokens, cost_usd, lifetime])).fetchone()
    return row["refused"] if row else None


async def put_limit(connection: Connection, limit: Mapping[str, Any]) -> None:
    """Sets a limit of the tenant; it replaces the one of the same scope and period."""
    await connection.execute(PUT, limit)


async def delete_limit(connection: Connection, scope: str, period: str) -> None:
    """Removes a limit of the tenant."""
    await connection.execute("DELETE FROM auralink.usage_limits WHERE scope = %s AND period = %s", [scope, period])
