"""HTTP of a user's limits: budgets of tokens and money, calls a minute."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from psycopg.rows import DictRow
from pydantic import BaseModel, ConfigDict, Field

from auralink.auth.dependencies import Authenticated
from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database, Tenant
from auralink.core.errors import Forbidden
from auralink.core.money import Usd
from auralink.journal import usage_store as store

router = APIRouter(prefix="/api/v1", tags=["limits"])

Tokens = Annotated[int, Field(ge=0, le=2**53)]
Money = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=9)]
Calls = Annotated[int, Field(ge=1, le=1_000_000)]
PLACES = {
    "tokens_per_day": ("all", "day", "max_tokens"),
    "tokens_per_month": ("all", "month", "max_tokens"),
    "cost_usd_per_day": ("all", "day", "max_cost_usd"),
    "cost_usd_per_month": ("all", "month", "max_cost_usd"),
    "model_calls_per_minute": ("models", "minute", "max_calls"),
    "tool_calls_per_minute": ("tools", "minute", "max_calls"),
}
"""Where each limit is stored: scope, period, column."""


class RaisingNeedsAdmin(Forbidden):
    """Users may lower their own limits; only an admin raises one."""

    code = "raising_needs_admin"
    title = "Only an admin may raise a limit"


class LimitsBody(BaseModel):
    """The limits to change. A limit that is not named stays; null removes it (which raises it)."""

    model_config = ConfigDict(extra="forbid")

    tokens_per_day: Tokens | None = None
    tokens_per_month: Tokens | None = None
    cost_usd_per_day: Money | None = None
    cost_usd_per_month: Money | None = None
    model_calls_per_minute: Calls | None = None
    tool_calls_per_minute: Calls | None = None


class Usage(BaseModel):
    """What was used, and what calls under way have reserved, since `starts_at` of the day or month."""

    tokens: int = 0
    cost_usd: Usd = Decimal(0)
    reserved_tokens: int = 0
    reserved_usd: Usd = Decimal(0)


class LimitsView(BaseModel):
    """A user's limits (null: none) and usage. `user_id` is what an admin is told who shall change them."""

    user_id: UUID
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    cost_usd_per_day: Usd | None = None
    cost_usd_per_month: Usd | None = None
    model_calls_per_minute: int | None = None
    tool_calls_per_minute: int | None = None
    used_today: Usage = Usage()
    used_this_month: Usage = Usage()


@dataclass(frozen=True)
class _User:
    user_id: UUID


OfUser = Annotated[UUID | None, Query(alias="user_id", description="another user's; for admins")]


@router.get("/limits")
async def get_limits(request: Request, principal: Authenticated, user_id: OfUser = None) -> LimitsView:
    """Your limits and what you have used of them."""
    db: Database = request.app.state.db
    meant = _meant(principal, user_id)
    async with db.tenant(meant) as connection:
        return await _view(connection, meant)


@router.put("/limits")
async def put_limits(request: Request, principal: Authenticated, body: LimitsBody, user_id: OfUser = None) -> LimitsView:
    """Changes limits. You may lower your own; raising one needs an admin."""
    db: Database = request.app.state.db
    meant = _meant(principal, user_id)
    async with db.tenant(meant) as connection:
        present = {(row["scope"], row["period"]): row for row in await store.limits(connection)}
        given = body.model_dump(exclude_unset=True)
        if principal.role != "admin":
            _check_lowered(present, given, request.app.state.calls_a_minute)
        for scope, period in dict.fromkeys(PLACES[name][:2] for name in given):
            await _put(connection, present.get((scope, period)), scope, period, given, principal.role)
        view = await _view(connection, meant)
    request.app.state.limits.forget(meant.user_id)
    return view


def _meant(principal: Principal, user_id: UUID | None) -> Tenant:
    if user_id is None or user_id == principal.user_id:
        return principal
    if principal.role != "admin":
        raise Forbidden("only an admin sees and changes another user's limits")
    return _User(user_id)


def _check_lowered(present: dict[tuple[str, str], DictRow], given: dict[str, Any], calls_a_minute: Mapping[str, int]) -> None:
    """Refuses what is more than the limit that counts now; calls a minute are limited by the installation where by nothing else."""
    for name, value in given.items():
        scope, period, column = PLACES[name]
        old = (present.get((scope, period)) or {}).get(column, calls_a_minute.get(scope))
        is_set = (scope, period) in present
        if old is not None and (value > old if value is not None else is_set):
            raise RaisingNeedsAdmin(f"{name} is {old}; you may lower it, and an admin can raise it")


async def _put(connection: Connection, old: DictRow | None, scope: str, period: str, given: dict[str, Any], set_by: str) -> None:
    """Stores what a scope and period have together, or removes them where nothing is left."""
    limit: dict[str, Any] = {column: (old or {}).get(column) for column in ("max_tokens", "max_cost_usd", "max_calls")}
    limit |= {PLACES[name][2]: value for name, value in given.items() if PLACES[name][:2] == (scope, period)}
    if all(value is None for value in limit.values()):
        await store.delete_limit(connection, scope, period)
    else:
        await store.put_limit(connection, {**limit, "scope": scope, "period": period, "set_by": set_by})


async def _view(connection: Connection, user: Tenant) -> LimitsView:
    stored = {(row["scope"], row["period"]): row for row in await store.limits(connection)}
    used = {row["period"]: Usage.model_validate(row) for row in await store.usage(connection)}
    limits = {name: (stored.get((scope, period)) or {}).get(column) for name, (scope, period, column) in PLACES.items()}
    return LimitsView(
        user_id=user.user_id, **limits, used_today=used.get("day", Usage()), used_this_month=used.get("month", Usage())
    )
