"""What holds without any judgement of the text: Postgres's own fences, the deadline, the caps, the wire."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from auralink.core.egress import EgressGuard, EgressRefused
from auralink.core.secret import Secret
from auralink.servers.database.access import Access, trusting
from auralink.servers.database.demo import create_demo
from auralink.servers.database.errors import (
    DatabaseUnreachable,
    ResultTooLarge,
    StatementFailed,
    StatementTimedOut,
)
from auralink.servers.database.service import Databases
from auralink.servers.database.session import Limits, Result, Session, within
from tests.conftest import Server, TestDatabase
from tests.servers.database.conftest import Shop, as_given

LIMITS = Limits(seconds=20)
PAST_THE_TEXT = [
    "DELETE FROM customers",
    "CREATE TABLE escaped ()",
    "SELECT 1; DROP TABLE customers",
    "WITH gone AS (DELETE FROM customers RETURNING *) SELECT * FROM gone",
    "SELECT * INTO escaped FROM customers",
    "EXPLAIN ANALYZE DELETE FROM customers",
    "SET TRANSACTION READ WRITE",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "DO $$ BEGIN SET TRANSACTION READ WRITE; DELETE FROM customers; END $$",
    "DO $$ BEGIN COMMIT; DELETE FROM customers; END $$",
    "SELECT nextval('customers_id_seq')",
    "SELECT lo_create(0)",
    "SELECT query_to_xml('delete from customers', true, true, '')",
    "COPY customers FROM PROGRAM 'echo'",
    "COPY (SELECT 1) TO STDOUT",
]


async def unjudged(access: Access, text: str, limits: Limits = LIMITS) -> Result:
    """Sends a statement that was not looked at."""

    async def work(session: Session) -> Result:
        return await session.query(text)

    return await within(access, as_given, limits, work, read_only=True)


@pytest.mark.parametrize("text", PAST_THE_TEXT)
async def test_what_gets_past_the_text_is_stopped_by_postgres_even_for_a_superuser(superuser: Access, text: str) -> None:
    with pytest.raises(StatementFailed):
        await unjudged(superuser, text)
    rows = await unjudged(superuser, "SELECT count(*) AS n, to_regclass('escaped') IS NULL AS clean FROM customers")
    assert rows.rows == [{"n": 60, "clean": True}]


@pytest.mark.parametrize(
    "text", ["COMMIT", "ROLLBACK", "SET ROLE pg_read_all_data", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"]
)
async def test_what_changes_the_session_changes_a_session_that_nobody_uses_again(superuser: Access, text: str) -> None:
    await unjudged(superuser, text)
    with pytest.raises(StatementFailed, match="read-only transaction"):
        await unjudged(superuser, "DELETE FROM customers")


@pytest.mark.parametrize(
    "text",
    ["SELECT pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('.')", "COPY customers TO PROGRAM 'id'", "SELECT * FROM pg_authid"],
)
async def test_a_plain_role_is_not_let_to_the_servers_files(reader: Access, text: str) -> None:
    with pytest.raises(StatementFailed, match=r"permission denied|must be superuser"):
        await unjudged(reader, text)


async def test_two_calls_never_share_a_session(reading: Databases, reader: Access) -> None:
    async def pid() -> int:
        return int((await reading.execute(reader, "SELECT pg_backend_pid() AS pid"))["rows"][0]["pid"])

    assert len({await pid() for _ in range(3)}) == 3


async def test_a_statement_that_does_not_end_is_cancelled_and_leaves_no_backend(shop: Shop, superuser: Access) -> None:
    started = time.monotonic()
    with pytest.raises(StatementTimedOut, match="narrow it down"):
        await unjudged(Access(shop.reader), "SELECT pg_sleep(3600)", Limits(seconds=0.5))
    assert time.monotonic() - started < 10
    await no_backend_runs(superuser, "pg_sleep(3600)")


async def test_a_server_that_keeps_no_timeout_is_cancelled_from_outside(shop: Shop, superuser: Access) -> None:
    async def work(session: Session) -> Result:
        await session.query("SELECT set_config('statement_timeout', '0', true)")
        return await session.query("SELECT count(*) FROM generate_series(1, 10000000000) AS forever")

    with pytest.raises(StatementTimedOut):
        await within(Access(shop.reader), as_given, Limits(seconds=0.5), work, read_only=True)
    await no_backend_runs(superuser, "AS forever")


async def test_a_caller_that_goes_away_takes_its_statement_with_it(shop: Shop, superuser: Access) -> None:
    call = asyncio.create_task(unjudged(Access(shop.reader), "SELECT pg_sleep(7200)", Limits(seconds=60)))
    await backends(superuser, "pg_sleep(7200)", at_least=1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await no_backend_runs(superuser, "pg_sleep(7200)")


async def test_rows_are_capped_and_say_so(reader: Access) -> None:
    databases = Databases(as_given, limits=Limits(rows=10))
    result = await databases.execute(reader, "SELECT generate_series(1, 1000000000) AS n")
    assert result["row_count"] == len(result["rows"]) == 10
    assert result["truncated"]
    whole = await databases.execute(reader, "SELECT n FROM generate_series(1, 10) AS n")
    assert (whole["row_count"], whole["truncated"]) == (10, False)


async def test_bytes_are_capped_by_row_and_by_cell(reader: Access) -> None:
    databases = Databases(as_given, limits=Limits(result_bytes=10_000, cell_characters=1000))
    rows = await databases.execute(reader, "SELECT repeat('x', 900) AS x FROM generate_series(1, 100)")
    assert rows["truncated"]
    assert 5 < rows["row_count"] < 12
    cell = await databases.execute(reader, "SELECT repeat('x', 100000) AS x")
    assert cell["truncated"]
    assert len(cell["rows"][0]["x"]) == 1001


async def test_a_flood_is_cut_before_it_is_in_memory(reader: Access) -> None:
    databases = Databases(as_given, limits=Limits(wire_bytes=1024 * 1024))
    with pytest.raises(ResultTooLarge, match="larger than 1 MiB"):
        await databases.execute(reader, "SELECT repeat('x', 20000000)")


@asynccontextmanager
async def fake_server(*answer: bytes) -> AsyncIterator[Access]:
    """A server that is none: it sends what it likes and reads nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1024)
            for part in answer * (100_000 if answer else 0):
                writer.write(part)
                await writer.drain()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield Access(Secret(f"postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable&connect_timeout=2"))


async def check_as_loopback(dsn: Secret) -> dict[str, str]:
    return {**await as_given(dsn), "hostaddr": "127.0.0.1"}


async def test_a_server_that_is_none_costs_only_its_own_call() -> None:
    for answer in ([], [b"N" * 65536], [b"\x00" * 65536], [b"R\x7f\xff\xff\xff" + b"x" * 65531]):
        async with fake_server(*answer) as access:
            databases = Databases(check_as_loopback, limits=Limits(seconds=3))
            with pytest.raises((DatabaseUnreachable, StatementTimedOut)) as refused:
                await databases.execute(access, "SELECT 1")
            assert "u:p" not in str(refused.value)


async def test_a_wrong_password_is_named_without_the_dsn(shop: Shop, reading: Databases) -> None:
    access = Access(Secret(make_conninfo(shop.reader.reveal(), password="wrong-secret")))
    with pytest.raises(DatabaseUnreachable, match="password authentication failed") as refused:
        await reading.execute(access, "SELECT 1")
    assert "wrong-secret" not in str(refused.value)
    assert "127.0.0.1" not in str(refused.value)


async def test_a_dsn_is_opened_only_through_the_guard(shop: Shop) -> None:
    databases = Databases(trusting(shop.reader, EgressGuard().check_dsn))
    with pytest.raises(EgressRefused):
        await databases.execute(Access(Secret("postgresql://u:p@127.0.0.1:1/d")), "SELECT 1")
    with pytest.raises(EgressRefused):
        await databases.execute(Access(shop.superuser), "SELECT 1")
    assert (await databases.execute(Access(shop.reader), "SELECT 1 AS one"))["rows"] == [{"one": 1}]


async def test_the_demos_role_reads_the_shop_and_nothing_else(
    reading: Databases, shop: Shop, test_database: TestDatabase, postgres: Server
) -> None:
    assert await reading.inspect_role(Access(shop.reader)) == []
    for database in (test_database.name, postgres.template, "postgres", "template1"):
        elsewhere = Access(Secret(make_conninfo(shop.reader.reveal(), dbname=database)))
        with pytest.raises(DatabaseUnreachable, match="permission denied for database"):
            await reading.execute(elsewhere, "SELECT 1")
    with psycopg.connect(shop.reader.reveal()) as direct, pytest.raises(psycopg.errors.InsufficientPrivilege):
        direct.execute("DELETE FROM customers")


async def test_making_the_demo_again_keeps_it_and_its_data(postgres: Server, reading: Databases, shop: Shop) -> None:
    password = psycopg.conninfo.conninfo_to_dict(shop.reader.reveal())["password"]
    again = create_demo(postgres.superuser, password=Secret(str(password)))
    assert again == shop.reader
    counted = await reading.execute(Access(again), "SELECT count(*) AS orders, sum(total)::text AS total FROM order_totals")
    assert counted["rows"][0]["orders"] == 400


async def test_a_role_that_could_do_more_is_reported(reading: Databases, shop: Shop) -> None:
    warnings = await reading.inspect_role(Access(shop.superuser))
    assert any("is a superuser" in warning for warning in warnings)
    with psycopg.connect(shop.superuser.reveal(), autocommit=True) as session:
        session.execute("GRANT pg_read_server_files TO shop_owner")
        session.execute("CREATE TABLE IF NOT EXISTS work.own ()")
        session.execute("GRANT ALL ON work.own TO shop_owner")
    try:
        warnings = await reading.inspect_role(Access(shop.writer))
        assert any("pg_read_server_files" in warning for warning in warnings)
        assert any("may write to" in warning for warning in warnings)
    finally:
        with psycopg.connect(shop.superuser.reveal(), autocommit=True) as session:
            session.execute("REVOKE pg_read_server_files FROM shop_owner")
            session.execute("DROP TABLE work.own")


async def backends(superuser: Access, text: str, *, at_least: int = 0, at_most: int = 1 << 20) -> None:
    """Waits until so many backends of the shop's roles run a statement with this text."""
    query = f"SELECT count(*) AS n FROM pg_stat_activity WHERE usename = 'shop_reader' AND state = 'active' AND strpos(query, '{text}') > 0"
    async with asyncio.timeout(15):
        while not at_least <= (await unjudged(superuser, query)).rows[0]["n"] <= at_most:
            await asyncio.sleep(0.05)


async def no_backend_runs(superuser: Access, text: str) -> None:
    await backends(superuser, text, at_most=0)
