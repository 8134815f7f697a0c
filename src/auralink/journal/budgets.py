"""Budgets (P-BUDGET): the most that a call may use is reserved before it, and settled when its record is written.

Counters and reservations are Postgres' (migration 10), so that no two calls, in whatever process, both take the last cent. What a
call reserved whose process died counts as used.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from auralink.core.db import Database, Tenant
from auralink.core.errors import AuralinkError
from auralink.core.money import usd_text
from auralink.journal import usage_store as store


class BudgetExceeded(AuralinkError):
    """What the call may cost at most is more than what is left. `extra` says what is left and when it resets."""

    code = "budget_exceeded"
    status = 402
    title = "Budget exceeded"


class Budgets:
    """Reserves."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def reserve(
        self, principal: Tenant, call_id: UUID, scopes: Sequence[str], *, tokens: int, cost_usd: Decimal, seconds: float
    ) -> None:
        """Reserves what a call may use at most, in every limit that the user has in these scopes; for `seconds`, unless it is settled.

        Calls of one user take turns: they would wait for each other's counters anyway, and hold all connections meanwhile.

        Raises:
            BudgetExceeded: the first limit that has no room for it. Nothing is reserved then.
        """
        turn = self._turns.setdefault(principal.user_id, asyncio.Lock())
        async with turn, self._db.tenant(principal) as connection:
            refused = await store.reserve(connection, call_id, list(scopes), tokens, cost_usd, timedelta(seconds=seconds))
        if refused is not None:
            raise _exceeded(principal, refused, tokens, cost_usd)


def _exceeded(principal: Tenant, limit: dict[str, Any], tokens: int, cost_usd: Decimal) -> BudgetExceeded:
    whose = {"all": "your budget"}.get(limit["scope"], f"the budget of {limit['scope'].replace(':', ' ')}")
    span = {"total": ""}.get(limit["period"], f" of this {limit['period']}")
    parts = []
    if limit["max_tokens"] is not None:
        parts.append(f"{limit['tokens_left']} of {limit['max_tokens']} tokens")
    if limit["max_cost_usd"] is not None:
        parts.append(f"{usd_text(Decimal(limit['cost_left_usd']))} of {usd_text(Decimal(limit['max_cost_usd']))} USD")
    resets = limit["resets_at"]
    headers = {}
    if resets is not None:
        wait = (datetime.fromisoformat(resets) - datetime.now(UTC)).total_seconds()
        headers["Retry-After"] = str(max(1, round(wait)))
    return BudgetExceeded(
        f"{whose}{span} has {' and '.join(parts)} left, and this call may use up to {tokens} tokens and {usd_text(cost_usd)} USD; "
        f"ask for less (max_tokens), {f'wait until {resets}, ' if resets else ''}or {_who_raises(principal, limit['scope'])}",
        headers=headers,
        extra={name: limit[name] for name in ("scope", "period", "tokens_left", "cost_left_usd", "resets_at")},
    )


def _who_raises(principal: Tenant, scope: str) -> str:
    """What a user can do about a limit: each kind has its own door."""
    if scope.startswith("model:"):
        return "raise the limit of your preference for the model (POST /api/v1/llm/preferences)"
    if scope.startswith("run:"):
        return "start a run whose `limits` are higher; this one's stay"
    return f"ask an administrator to raise the limit (PUT /api/v1/limits?user_id={principal.user_id})"
