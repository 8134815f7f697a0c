"""The group commit: no answer before its record is durable, no record twice, and no record that takes others down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import UUID, uuid4

import psycopg
import pytest

from auralink.audit import group_commit as module
from auralink.audit.group_commit import AuditUnavailable, GroupCommit
from auralink.audit.schemas import Operation
from auralink.core.secret import Secret
from tests.conftest import MakePrincipal, TestDatabase, eventually

pytestmark = pytest.mark.promise("P-ACCEPT")

WRITER = "application_name = 'auralink audit' AND datname = current_database()"


@pytest.fixture
async def audit(dsn: Secret) -> AsyncIterator[GroupCommit]:
    audit = GroupCommit(dsn)
    await audit.open()
    yield audit
    await audit.close()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that were sent."""
    sizes: list[int] = []
    real = module.insert_records

    async def insert(connection: object, operations: list[Operation]) -> None:
        sizes.append(len(operations))
        await real(connection, operations)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "insert_records", insert)
    return sizes


def operation(user_id: UUID | None = None, **fields: object) -> Operation:
    made = Operation(user_id or uuid4(), "tools/call", "rest", server="echo", tool="count", outcome="ok")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def sql(database: TestDatabase, query: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(database.superuser.reveal(), autocommit=True) as session:
        cursor = session.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []


def recorded(database: TestDatabase) -> list[object]:
    return [row[0] for row in sql(database, "SELECT id FROM auralink.mcp_operation_logs ORDER BY id")]


async def test_a_record_is_durable_when_commit_returns(audit: GroupCommit, test_database: TestDatabase) -> None:
    made = operation(error="why", duration_ms=1.5, cached=True, served_by="echo", trace_id="0" * 32, request_bytes=1)
    await audit.commit(made)
    names = "id, user_id, at, server, tool, outcome, error, duration_ms, cached, served_by, source, trace_id, request_bytes"
    row = sql(test_database, f"SELECT {names} FROM auralink.mcp_operation_logs")[0]
    assert row == tuple(getattr(made, name) for name in names.split(", "))


async def test_what_arrives_during_a_commit_forms_the_next_one(
    audit: GroupCommit, batches: list[int], test_database: TestDatabase, make_principal: MakePrincipal
) -> None:
    users = [make_principal().user_id for _ in range(20)]
    made = [operation(users[number % 20]) for number in range(300)]
    await asyncio.gather(*(audit.commit(one) for one in made))
    assert recorded(test_database) == sorted(one.id for one in made)
    assert sum(batches) == 300
    assert len(batches) <= 3


@pytest.mark.promise("P-RLS")
async def test_each_record_of_a_batch_is_its_own_users(audit: GroupCommit, test_database: TestDatabase) -> None:
    made = [operation() for _ in range(50)]
    await asyncio.gather(*(audit.commit(one) for one in made))
    rows = sql(test_database, "SELECT id, user_id FROM auralink.mcp_operation_logs")
    assert set(rows) == {(one.id, one.user_id) for one in made}


@pytest.mark.parametrize(
    "poison",
    [
        lambda: operation(duration_ms=float("nan")),
        lambda: operation(outcome=None),
        lambda: operation(request_bytes=2**40),
        lambda: operation(connection_id=object()),
    ],
    ids=["not a number", "no outcome", "too large a number", "not JSON"],
)
async def test_a_record_that_cannot_be_written_takes_no_other_down(
    audit: GroupCommit, test_database: TestDatabase, poison: Callable[[], Operation]
) -> None:
    bad, good = poison(), [operation() for _ in range(20)]
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*(audit.commit(one) for one in [*good[:10], bad, *good[10:]]), return_exceptions=True)
        await audit.commit(last := operation())
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [AuditUnavailable]
    assert recorded(test_database) == sorted(one.id for one in [*good, last])


@pytest.mark.parametrize("text", ["a\x00b", "lone \ud800 half", "\\u0000", "\U0010ffff", "é" * 400])
async def test_any_text_that_an_upstream_says_is_recorded(audit: GroupCommit, test_database: TestDatabase, text: str) -> None:
    async with asyncio.timeout(20):
        await audit.commit(operation(error=text, tool=text, server=text))
    row = sql(test_database, "SELECT error FROM auralink.mcp_operation_logs")[0]
    assert row == (text.replace("\x00", "\ufffd").replace("\ud800", "?"),)


async def test_a_writer_whose_connection_is_cut_mid_batch_writes_each_record_once(
    audit: GroupCommit, test_database: TestDatabase
) -> None:
    made = [operation() for _ in range(100)]
    with psycopg.connect(test_database.superuser.reveal()) as blocker:
        blocker.execute("LOCK TABLE auralink.mcp_operation_logs IN EXCLUSIVE MODE")
        waiting = asyncio.gather(*(audit.commit(one) for one in made))
        blocked = f"SELECT 1 FROM pg_stat_activity WHERE {WRITER} AND wait_event_type = 'Lock'"
        async with asyncio.timeout(10):
            while not sql(test_database, blocked):
                await asyncio.sleep(0.005)
        sql(test_database, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {WRITER}")
        blocker.rollback()
    await waiting
    assert recorded(test_database) == sorted(one.id for one in made)


async def test_a_commit_whose_confirmation_was_lost_is_not_written_twice(
    audit: GroupCommit, test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lost = module.insert_records, []

    async def lose_the_first_answer(connection: object, operations: list[Operation]) -> None:
        await real(connection, operations)  # type: ignore[arg-type]
        if not lost:
            lost.append(True)
            raise psycopg.OperationalError("the connection was lost")

    monkeypatch.setattr(module, "insert_records", lose_the_first_answer)
    made = [operation() for _ in range(10)]
    await asyncio.gather(*(audit.commit(one) for one in made))
    assert lost
    assert recorded(test_database) == sorted(one.id for one in made)


async def test_connections_cut_again_and_again_cost_no_record(audit: GroupCommit, test_database: TestDatabase) -> None:
    made = [operation() for _ in range(400)]
    running = [asyncio.create_task(audit.commit(one)) for one in made[:1]]
    for start in range(0, len(made), 100):
        running += [asyncio.create_task(audit.commit(one)) for one in made[max(start, 1) : start + 100]]
        await asyncio.sleep(0)
        sql(test_database, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {WRITER}")
    await asyncio.gather(*running)
    assert recorded(test_database) == sorted(one.id for one in made)


async def test_a_database_that_stays_away_is_said_to_and_the_next_record_finds_it_again(
    audit: GroupCommit, test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)

    async def unreachable(*_: object) -> None:
        raise psycopg.OperationalError("the database is away")

    made = operation()
    with monkeypatch.context() as patch:
        patch.setattr(module, "insert_records", unreachable)
        with pytest.raises(AuditUnavailable, match=r"was carried out .* the answer is withheld") as caught:
            await audit.commit(made)
    assert caught.value.extra == {"log_id": str(made.id)}
    assert caught.value.sent, "a repeat of the request would carry it out twice"
    await audit.commit(later := operation())
    assert recorded(test_database) == [later.id]


async def test_a_caller_that_goes_away_is_recorded_all_the_same(audit: GroupCommit, test_database: TestDatabase) -> None:
    caller = asyncio.create_task(audit.commit(made := operation()))
    await asyncio.sleep(0)
    caller.cancel()
    await eventually(lambda: recorded(test_database) == [made.id])


async def test_closing_writes_what_is_queued(dsn: Secret, test_database: TestDatabase) -> None:
    audit = GroupCommit(dsn)
    await audit.open()
    made = [operation() for _ in range(30)]
    commits = [asyncio.create_task(audit.commit(one)) for one in made]
    await asyncio.sleep(0)
    await audit.close()
    await asyncio.gather(*commits)
    assert recorded(test_database) == sorted(one.id for one in made)


async def test_a_record_of_a_month_without_a_partition_is_kept(audit: GroupCommit, test_database: TestDatabase) -> None:
    made = operation()
    made.at = made.at.replace(year=2001)
    await audit.commit(made)
    assert sql(test_database, "SELECT id FROM auralink.mcp_operation_logs_default") == [(made.id,)]
