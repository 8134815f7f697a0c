"""Tenants apart at the level of SQL: every table of the schema × every statement × own, other and nobody's rows.

The tables come from the catalogue, so a new table is examined without a change here, or fails because no sample row fits it.
The database of the matrix grants the service everything on every table and partition: what keeps tenants apart is then row
level security alone. What the service is really granted is examined beside it.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import ForeignKeyViolation, InsufficientPrivilege

from auralink.core.preflight import SHARED_TABLES
from tests.conftest import Server, TestDatabase
from tests.isolation.support import Table, cloned_database, seed, tables

pytestmark = pytest.mark.promise("P-RLS")

ROLES = ("auralink_app", "auralink_service")
NOBODY = ("never set", "empty")


@dataclass(frozen=True)
class World:
    """A database in which two users have a row in every table, and the service every grant."""

    database: TestDatabase
    us: UUID
    them: UUID
    tables: list[Table]


@pytest.fixture(scope="module")
def world(postgres: Server) -> Iterator[World]:
    us, them = uuid4(), uuid4()
    with cloned_database(postgres) as database:
        with psycopg.connect(database.superuser.reveal(), autocommit=True) as session:
            session.execute("GRANT ALL ON ALL TABLES IN SCHEMA auralink TO auralink_service")
            seed(session, us, them)
            found = [table for table in tables(session) if table.name not in SHARED_TABLES]
        yield World(database, us, them, found)


@pytest.fixture(params=ROLES)
def session(world: World, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of the service's login, as itself or in the role that it takes; rolled back in the end."""
    with psycopg.connect(world.database.service.reveal()) as session:
        if request.param == "auralink_service":
            session.execute("SET ROLE auralink_service")
        yield session
        session.rollback()


def act_as(session: psycopg.Connection[Any], user_id: UUID | str) -> None:
    session.execute("SELECT set_config('app.current_user_id', %s, true)", [str(user_id)])


def rows_of(session: psycopg.Connection[Any], table: Table) -> list[UUID]:
    query = sql.SQL("SELECT user_id FROM {}").format(table.identifier)
    return [user_id for (user_id,) in session.execute(query).fetchall()]


def is_refused(session: psycopg.Connection[Any], statement: sql.Composed) -> bool:
    try:
        with session.transaction():
            session.execute(statement)
    except InsufficientPrivilege as error:
        return "row-level security" in str(error)
    return False


def affected(session: psycopg.Connection[Any], statement: str, table: Table, *values: object) -> int:
    with session.transaction(force_rollback=True):
        return session.execute(sql.SQL(statement).format(table.identifier), values).rowcount


def test_every_table_has_an_owner_column_or_is_known_to_be_shared(world: World) -> None:
    assert [table.name for table in world.tables if not table.has_user_id] == []
    with psycopg.connect(world.database.superuser.reveal()) as session:
        shared = [table for table in tables(session) if table.name in SHARED_TABLES]
    assert {table.name for table in shared} == SHARED_TABLES
    assert [table.name for table in shared if table.has_user_id] == []


def test_the_matrix_holds_every_tenant_table_and_each_partition(world: World) -> None:
    names = {table.name for table in world.tables}
    assert {"user_mcp_connections", "data_keys", "idempotency_keys", "mcp_operation_logs"} <= names
    assert len([table for table in world.tables if table.partition]) >= 4


def test_select_shows_ones_own_rows(world: World, session: psycopg.Connection[Any]) -> None:
    act_as(session, world.us)
    assert {table.name: set(rows_of(session, table)) for table in world.tables} == {t.name: {world.us} for t in world.tables}


def test_select_shows_no_other_users_row_even_if_asked_for_by_owner(world: World, session: psycopg.Connection[Any]) -> None:
    act_as(session, world.us)
    query = sql.SQL("SELECT count(*) FROM {} WHERE user_id = {}")
    seen = {t.name: session.execute(query.format(t.identifier, str(world.them))).fetchone() for t in world.tables}
    assert seen == {t.name: (0,) for t in world.tables}


@pytest.mark.parametrize("who", NOBODY)
def test_nobody_sees_no_row(world: World, session: psycopg.Connection[Any], who: str) -> None:
    if who == "empty":
        act_as(session, "")
    assert {table.name: rows_of(session, table) for table in world.tables} == {table.name: [] for table in world.tables}


def test_insert_takes_ones_own_row(world: World, session: psycopg.Connection[Any]) -> None:
    stranger = uuid4()
    act_as(session, stranger)
    for table in world.tables:
        with session.transaction(force_rollback=True):
            with suppress(ForeignKeyViolation):  # the row itself was admitted; what it points to is not in this database
                assert session.execute(table.insert(session, stranger)).rowcount == 1, table.name


def test_insert_takes_no_row_for_another_user(world: World, session: psycopg.Connection[Any]) -> None:
    act_as(session, world.us)
    assert [t.name for t in world.tables if not is_refused(session, t.insert(session, world.them))] == []


@pytest.mark.parametrize("who", NOBODY)
def test_insert_takes_no_row_from_nobody(world: World, session: psycopg.Connection[Any], who: str) -> None:
    if who == "empty":
        act_as(session, "")
    assert [t.name for t in world.tables if not is_refused(session, t.insert(session, world.us))] == []


def test_update_reaches_ones_own_rows_only(world: World, session: psycopg.Connection[Any]) -> None:
    act_as(session, world.us)
    for table in world.tables:
        own = len(rows_of(session, table))
        assert affected(session, "UPDATE {} SET user_id = user_id", table) == own > 0, table.name
        assert affected(session, "UPDATE {} SET user_id = user_id WHERE user_id = %s", table, world.them) == 0, table.name


def test_update_gives_no_row_away(world: World, session: psycopg.Connection[Any]) -> None:
    act_as(session, world.us)
    for table in world.tables:
        give_away = sql.SQL("UPDATE {} SET user_id = {}").format(table.identifier, str(world.them))
        assert is_refused(session, give_away), table.name


def test_delete_reaches_ones_own_rows_only(world: World, session: psycopg.Connection[Any]) -> None:
    act_as(session, world.us)
    for table in world.tables:
        own = len(rows_of(session, table))
        assert affected(session, "DELETE FROM {}", table) == own > 0, table.name
        assert affected(session, "DELETE FROM {} WHERE user_id = %s", table, world.them) == 0, table.name


@pytest.mark.parametrize("who", NOBODY)
def test_nobody_updates_and_deletes_nothing(world: World, session: psycopg.Connection[Any], who: str) -> None:
    if who == "empty":
        act_as(session, "")
    for table in world.tables:
        assert affected(session, "UPDATE {} SET user_id = user_id", table) == 0, table.name
        assert affected(session, "DELETE FROM {}", table) == 0, table.name


def test_an_upsert_cannot_take_over_another_users_row(world: World, session: psycopg.Connection[Any]) -> None:
    act_as(session, world.them)
    row = session.execute("SELECT user_id, key, request_hash, owner, lease_until FROM auralink.idempotency_keys").fetchone()
    assert row is not None
    act_as(session, world.us)
    with pytest.raises(InsufficientPrivilege):
        session.execute(
            """INSERT INTO auralink.idempotency_keys (user_id, key, request_hash, owner, lease_until) VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (user_id, key) DO UPDATE SET request_hash = '\\x00'""",
            row,
        )


def test_a_tenant_ends_with_its_transaction(world: World) -> None:
    with psycopg.connect(world.database.service.reveal(), autocommit=True) as session:
        with session.transaction():
            act_as(session, world.us)
        for table in world.tables:
            assert rows_of(session, table) == [], table.name


def test_every_view_shows_ones_own_rows_only(world: World) -> None:
    query = "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'auralink'::regnamespace AND c.relkind IN ('v', 'm')"
    with psycopg.connect(world.database.service.reveal()) as session:
        for (name,) in session.execute(query).fetchall():
            table = Table(name, False, False, None, True)
            act_as(session, world.us)
            assert set(rows_of(session, table)) <= {world.us}, name
            act_as(session, "")
            assert rows_of(session, table) == [], name


def test_a_foreign_key_between_tenant_tables_includes_the_tenant(world: World) -> None:
    """The check of a foreign key ignores row level security: without the tenant in it, it tells who has which row."""
    query = """
        SELECT con.conname FROM pg_constraint con
        WHERE con.contype = 'f' AND con.connamespace = 'auralink'::regnamespace
          AND NOT con.confrelid::regclass::text = ANY(%s)
          AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = con.conrelid AND a.attnum = ANY(con.conkey)
                          AND a.attname = 'user_id')"""
    with psycopg.connect(world.database.superuser.reveal()) as session:
        names = session.execute(query, [[f"auralink.{name}" for name in SHARED_TABLES]]).fetchall()
    assert names == []
