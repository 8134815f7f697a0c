"""P-BUDGET below the gateway: reservations, counters and records as Postgres keeps them."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from auralink.audit.group_commit import GroupCommit
from auralink.audit.store import insert_records
from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.core.ids import uuid7
from auralink.core.secret import Secret
from auralink.journal.budgets import BudgetExceeded, Budgets
from auralink.llm.providers.protocol import Usage
from auralink.llm.schemas import ModelCall

pytestmark = pytest.mark.promise("P-BUDGET")


@pytest.fixture
def budgets(database: Database) -> Budgets:
    return Budgets(database)


@pytest.fixture
async def audit(dsn: Secret, database: Database) -> AsyncIterator[GroupCommit]:
    async with database.system() as connection:
        await connection.execute("SELECT auralink.ensure_log_partitions()")
    commit = GroupCommit(dsn)
    await commit.open()
    yield commit
    await commit.close()


async def execute(database: Database, principal: Principal, query: str, *values: object) -> list[dict[str, Any]]:
    async with database.tenant(principal) as connection:
        cursor = await connection.execute(query, values)  # type: ignore[arg-type]
        return await cursor.fetchall() if query.startswith("SELECT") else []


async def set_limit(database: Database, principal: Principal, scope: str, period: str, tokens: int) -> None:
    query = """INSERT INTO auralink.usage_limits (user_id, scope, period, max_tokens, set_by)
               VALUES (auralink.current_user_id(), %s, %s, %s, 'run')"""
    await execute(database, principal, query, scope, period, tokens)


async def reserve(budgets: Budgets, principal: Principal, call: UUID, tokens: int, *scopes: str, seconds: float = 60) -> None:
    await budgets.reserve(principal, call, ["all", *scopes], tokens=tokens, cost_usd=Decimal(0), seconds=seconds)


async def used(database: Database, principal: Principal, scope: str, period: str) -> list[tuple[int, int]]:
    query = "SELECT tokens, reserved_tokens FROM auralink.usage_counters WHERE scope = %s AND period = %s ORDER BY starts_at"
    return [(row["tokens"], row["reserved_tokens"]) for row in await execute(database, principal, query, scope, period)]


def ended(principal: Principal, call_id: UUID, tokens: int, **fields: Any) -> ModelCall:
    call = ModelCall(principal.user_id, "chat.completions", "auto", "v1", id=call_id, **fields)
    call.model_id, call.provider, call.usage, call.outcome = "openai/x", "openai", Usage(prompt=tokens), "ok"
    return call


async def test_what_a_dead_process_had_reserved_counts_as_used(
    database: Database, budgets: Budgets, principal: Principal
) -> None:
    await set_limit(database, principal, "all", "day", 1000)
    await set_limit(database, principal, "all", "month", 2000)
    await reserve(budgets, principal, uuid7(), 400, seconds=-1)
    await reserve(budgets, principal, uuid7(), 500)
    assert await used(database, principal, "all", "day") == [(400, 500)]
    assert await used(database, principal, "all", "month") == [(400, 500)]
    with pytest.raises(BudgetExceeded, match="100 of 1000 tokens"):
        await reserve(budgets, principal, uuid7(), 101)


async def test_a_run_has_a_budget_of_its_own_that_never_resets(
    database: Database, budgets: Budgets, audit: GroupCommit, principal: Principal
) -> None:
    run = uuid7()
    await set_limit(database, principal, f"run:{run}", "total", 100)
    first, second = uuid7(), uuid7()
    await reserve(budgets, principal, first, 60, f"run:{run}")
    with pytest.raises(BudgetExceeded, match=f"budget of run {run}") as refused:
        await reserve(budgets, principal, second, 41, f"run:{run}")
    assert refused.value.extra["resets_at"] is None
    assert refused.value.message.endswith("start a run whose `limits` are higher; this one's stay")
    assert "Retry-After" not in refused.value.headers
    await reserve(budgets, principal, second, 41, f"run:{uuid7()}")
    await audit.commit(ended(principal, first, 30, run_id=run))
    assert await used(database, principal, f"run:{run}", "total") == [(30, 0)]
    await reserve(budgets, principal, second, 70, f"run:{run}")


async def test_a_record_that_is_written_twice_counts_once(
    database: Database, budgets: Budgets, principal: Principal, audit: GroupCommit
) -> None:
    await set_limit(database, principal, "all", "day", 100)
    call = uuid7()
    await reserve(budgets, principal, call, 60)
    await reserve(budgets, principal, uuid7(), 5)
    for _ in range(3):  # the first commit may have landed although its answer was lost
        await audit.commit(ended(principal, call, 20))
    async with database.connection() as connection:
        await insert_records(connection, [ended(principal, call, 20), ended(principal, call, 20)])
    assert await used(database, principal, "all", "day") == [(20, 5)]


async def test_a_reservation_that_is_made_again_replaces_the_first(
    database: Database, budgets: Budgets, principal: Principal
) -> None:
    await set_limit(database, principal, "all", "day", 100)
    call = uuid7()
    for tokens in (90, 100, 50):
        await reserve(budgets, principal, call, tokens)
    assert await used(database, principal, "all", "day") == [(0, 50)]


async def test_all_limits_take_a_reservation_or_none_does(database: Database, budgets: Budgets, principal: Principal) -> None:
    await set_limit(database, principal, "all", "day", 100)
    await set_limit(database, principal, "all", "month", 50)
    with pytest.raises(BudgetExceeded, match="this month"):
        await reserve(budgets, principal, uuid7(), 60)
    assert await used(database, principal, "all", "day") == [(0, 0)]
    assert await execute(database, principal, "SELECT 1 FROM auralink.usage_reservations") == []


async def test_a_call_counts_in_the_day_and_month_in_which_it_began(
    database: Database, budgets: Budgets, audit: GroupCommit, principal: Principal
) -> None:
    await set_limit(database, principal, "all", "day", 100)
    before, call = datetime.now(UTC) - timedelta(days=40), uuid7()
    await reserve(budgets, principal, call, 60)
    places = json.dumps([{"scope": "all", "period": "day", "starts_at": before.date().isoformat() + "T00:00:00Z"}])
    await execute(database, principal, "DELETE FROM auralink.usage_reservations")
    query = (
        "INSERT INTO auralink.usage_reservations VALUES (%s, auralink.current_user_id(), 60, 0, %s, now() + interval '1 hour')"
    )
    await execute(database, principal, query, call, places)
    move = "UPDATE auralink.usage_counters SET starts_at = auralink.period_start('day', %s)"
    await execute(database, principal, move, before)
    await audit.commit(ended(principal, call, 25, at=before))
    assert await used(database, principal, "all", "day") == [(25, 0)]
    await reserve(budgets, principal, uuid7(), 100)
    assert await used(database, principal, "all", "day") == [(25, 0), (0, 100)], "a new day has a new budget"
    assert await used(database, principal, "all", "month") == [(25, 0)]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
@pytest.mark.parametrize(
    ("period", "at", "start"),
    [
        ("day", "2026-03-31T23:59:59.999999+00", "2026-03-31T00:00:00+00"),
        ("day", "2026-04-01T00:00:00+00", "2026-04-01T00:00:00+00"),
        ("month", "2026-03-31T23:59:59.999999+00", "2026-03-01T00:00:00+00"),
        ("month", "2026-04-01T01:30:00+02", "2026-03-01T00:00:00+00"),
        ("total", "2026-04-01T01:30:00+02", "1970-01-01T00:00:00+00"),
    ],
)
async def test_days_and_months_are_those_of_utc(database: Database, zone: str, period: str, at: str, start: str) -> None:
    async with database.connection() as connection:
        await connection.execute("SELECT set_config('TimeZone', %s, true)", [zone])
        query = "SELECT auralink.period_start(%s, %s::timestamptz) = %s::timestamptz AS same"
        row = await (await connection.execute(query, [period, at, start])).fetchone()
    assert row is not None
    assert row["same"]


async def test_nobody_waits_for_each_other_in_a_circle(
    database: Database, budgets: Budgets, audit: GroupCommit, principal: Principal
) -> None:
    for scope, period in (("all", "day"), ("all", "month"), ("model:openai/x", "month"), ("run:1", "total")):
        await set_limit(database, principal, scope, period, 10**9)

    async def one(number: int) -> None:
        call = uuid7()
        for _ in range(3):  # as a failover does: gives back and takes again
            await reserve(
                budgets, principal, call, 10, *(["model:openai/x", "run:1"] if number % 2 else []), seconds=number % 3 - 1
            )
        await audit.commit(ended(principal, call, 10))

    await asyncio.gather(*(one(number) for number in range(100)))
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    async with database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        row = await (await connection.execute(query)).fetchone()
    assert row is not None
    assert row["deadlocks"] == 0
