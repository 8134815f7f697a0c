"""The tenant-bound database: a transaction sees one tenant, leaves nothing behind, and says so when Postgres is away."""

import asyncio
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, UniqueViolation

from auralink.auth.principal import Principal
from auralink.core import db as module
from auralink.core.db import Connection, Database, DatabaseUnavailable
from auralink.core.errors import InvalidRequest
from auralink.core.secret import Secret
from tests.conftest import MakePrincipal, TestDatabase

INSERT = "INSERT INTO auralink.data_keys (user_id, version, wrapped, master_key_id) VALUES (%s, %s, '\\x00', 'k')"
WHO = """SELECT current_user::text AS role, auralink.current_user_id() AS tenant, pg_backend_pid() AS backend"""


async def who(connection: Connection) -> dict[str, object]:
    row = await (await connection.execute(WHO)).fetchone()
    assert row is not None
    return row


async def write(database: Database, principal: Principal, *rows: tuple[UUID, int], then: Exception | None = None) -> None:
    async with database.tenant(principal) as connection:
        for row in rows:
            await connection.execute(INSERT, row)
        if then is not None:
            raise then


async def count(connection: Connection) -> int:
    row = await (await connection.execute("SELECT count(*) AS n FROM auralink.data_keys")).fetchone()
    assert row is not None
    return int(row["n"])


@pytest.mark.promise("P-RLS")
async def test_a_tenant_transaction_acts_as_the_service_for_its_principal(database: Database, principal: Principal) -> None:
    async with database.tenant(principal) as connection:
        assert await who(connection) | {"backend": 0} == {
            "role": "auralink_service",
            "tenant": principal.user_id,
            "backend": 0,
        }


@pytest.mark.promise("P-RLS")
async def test_the_next_user_of_a_pooled_connection_inherits_nothing(dsn: Secret, principal: Principal) -> None:
    database = Database(dsn, min_size=1, max_size=1)
    await database.open()
    try:
        async with database.tenant(principal) as connection:
            first = await who(connection)
        async with database.system() as connection:
            second = await who(connection)
        async with database.connection() as connection:
            third = await who(connection)
    finally:
        await database.close()
    assert first["backend"] == second["backend"] == third["backend"]
    assert (second["role"], second["tenant"]) == ("auralink_service", None)
    assert (third["role"], third["tenant"]) == ("auralink_app", None)


@pytest.mark.promise("P-RLS")
async def test_many_tenants_at_once_see_each_their_own_rows(database: Database, make_principal: MakePrincipal) -> None:
    async def write_and_count(principal: Principal, rows: int) -> int:
        async with database.tenant(principal) as connection:
            for version in range(1, rows + 1):
                await connection.execute(INSERT, [principal.user_id, version])
        async with database.tenant(principal) as connection:
            return await count(connection)

    wanted = [1 + number % 5 for number in range(40)]
    assert await asyncio.gather(*(write_and_count(make_principal(), rows) for rows in wanted)) == wanted


@pytest.mark.promise("P-RLS")
async def test_a_row_for_another_user_is_refused_and_the_transaction_undone(
    database: Database, make_principal: MakePrincipal
) -> None:
    us, them = make_principal(), make_principal()
    with pytest.raises(InsufficientPrivilege):
        await write(database, us, (us.user_id, 1), (them.user_id, 1))
    for principal in (us, them):
        async with database.tenant(principal) as connection:
            assert await count(connection) == 0


async def test_an_error_in_the_block_undoes_the_transaction(database: Database, principal: Principal) -> None:
    with pytest.raises(LookupError):
        await write(database, principal, (principal.user_id, 1), then=LookupError())
    async with database.tenant(principal) as connection:
        assert await count(connection) == 0


async def test_an_error_of_a_statement_nobody_waited_for_comes_out_at_the_end(database: Database, principal: Principal) -> None:
    with pytest.raises(UniqueViolation):
        await write(database, principal, (principal.user_id, 1), (principal.user_id, 1))
    async with database.tenant(principal) as connection:
        assert await count(connection) == 0


async def test_binding_a_tenant_costs_no_round_trip_of_its_own(database: Database, principal: Principal) -> None:
    async with database.tenant(principal) as connection:
        await connection.execute(INSERT, [principal.user_id, 1])
        assert connection.pgconn.transaction_status != psycopg.pq.TransactionStatus.INTRANS, "an answer was waited for already"


async def test_a_broken_connection_is_said_to_be_the_databases_fault_and_replaced(
    dsn: Secret, test_database: TestDatabase, principal: Principal
) -> None:
    database = Database(dsn, min_size=1, max_size=1)
    await database.open()

    async def write_without_a_backend() -> None:
        async with database.tenant(principal) as connection:
            backend = (await who(connection))["backend"]
            with psycopg.connect(test_database.superuser.reveal(), autocommit=True) as session:
                session.execute("SELECT pg_terminate_backend(%s)", [backend])
            await connection.execute(INSERT, [principal.user_id, 1])

    try:
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await write_without_a_backend()
        async with database.tenant(principal) as connection:
            assert await count(connection) == 0
    finally:
        await database.close()


async def test_a_busy_pool_refuses_after_a_bounded_wait(dsn: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL_TIMEOUT", 0.05)
    database = Database(dsn, min_size=1, max_size=1)
    await database.open()
    try:
        async with database.connection():
            with pytest.raises(DatabaseUnavailable):
                async with database.connection():
                    pass
    finally:
        await database.close()


async def test_a_database_that_is_not_there_is_one_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL_TIMEOUT", 0.2)
    database = Database(Secret("postgresql://nobody@127.0.0.1:1/nowhere"), min_size=1)
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1"):
        await database.open()
    await database.close()


@pytest.mark.parametrize("text", ["a\x00b", "\x00"])
async def test_text_that_postgres_cannot_hold_is_the_callers_mistake(database: Database, principal: Principal, text: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be stored"):
        async with database.tenant(principal) as connection:
            await connection.execute("SELECT %s::text", [text])


async def test_a_tenant_is_an_id_and_never_text(database: Database) -> None:
    class Odd:
        user_id = "'; RESET ROLE; --"

    with pytest.raises(psycopg.Error):
        async with database.tenant(Odd()) as connection:  # type: ignore[arg-type]
            await connection.execute(INSERT, [uuid4(), 1])


async def test_the_pool_tells_its_figures(database: Database) -> None:
    assert database.stats()["pool_size"] >= 1
