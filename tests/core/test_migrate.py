"""Migrations: each once, in order, by one migrator at a time, and nothing done to a database that they do not know."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from auralink.core import embedded_postgres as embedded
from auralink.core import migrate as module
from auralink.core.errors import StartupError
from auralink.core.migrate import LOCK_KEY, Migration, all_migrations, migrate
from auralink.core.secret import Secret
from tests.conftest import Server, TestDatabase

SLOW_MIGRATOR = """
import sys
from auralink.core import migrate as module
from auralink.core.secret import Secret
module.all_migrations = lambda: [module.Migration("00_pre_slow.sql", "CREATE TABLE auralink.half (n int); SELECT pg_sleep(60)")]
module.migrate(Secret(sys.argv[1]), progress=lambda message: print(message, flush=True))
"""


@pytest.fixture
def empty(postgres: Server) -> Iterator[TestDatabase]:
    """A database of the owner's without a schema."""
    name = f"empty_{uuid4().hex}"
    embedded.create_database(postgres.superuser, name)
    yield TestDatabase(name, *(postgres.dsn(login, name) for login in ("service", "owner", "superuser")))
    with psycopg.connect(postgres.superuser.reveal(), autocommit=True) as session:
        session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def rows(dsn: Secret, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn.reveal()) as session:
        return session.execute(query.encode()).fetchall()


def test_every_file_is_named_for_its_place_and_phase() -> None:
    names = [migration.name for migration in all_migrations()]
    assert names == sorted(names)
    assert len({name.split("_")[0] for name in names}) == len(names), "two migrations share a number"
    assert {migration.phase for migration in all_migrations()} <= {"pre", "post"}


def test_a_first_run_applies_all_in_order_and_a_second_nothing(empty: TestDatabase) -> None:
    names = [migration.name for migration in all_migrations()]
    said: list[str] = []
    assert migrate(empty.owner, progress=said.append) == names
    assert said == [f"migrating: {name}" for name in names]
    assert migrate(empty.owner) == []
    assert rows(empty.owner, "SELECT name FROM auralink.schema_migrations ORDER BY applied_at, name") == [(n,) for n in names]


def test_a_phase_applies_its_own_files_only(empty: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [Migration("01_pre_a.sql", "CREATE TABLE auralink.a ()"), Migration("01_post_b.sql", "CREATE TABLE auralink.b ()")]
    monkeypatch.setattr(module, "all_migrations", lambda: files)
    assert migrate(empty.owner, phase="pre") == ["01_pre_a.sql"]
    assert module.required_migrations() == {"01_pre_a.sql"}
    assert migrate(empty.owner, phase="post") == ["01_post_b.sql"]


def test_a_file_changed_after_it_was_applied_is_refused(test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = all_migrations()
    monkeypatch.setattr(module, "all_migrations", lambda: [Migration(first.name, first.sql + "\n-- harmless"), *others])
    with pytest.raises(StartupError, match=rf"{first.name} was changed after it was applied; restore the file"):
        migrate(test_database.owner)


def test_a_database_newer_than_the_code_is_refused(test_database: TestDatabase) -> None:
    with psycopg.connect(test_database.owner.reveal(), autocommit=True) as session:
        session.execute("INSERT INTO auralink.schema_migrations VALUES ('99_pre_future.sql', 'x')")
    with pytest.raises(StartupError, match=r"newer than this code \(it has 99_pre_future.sql\); deploy the newer code"):
        migrate(test_database.owner)


def test_a_migration_that_fails_leaves_nothing_and_names_itself(
    test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Migration("98_pre_bad.sql", "CREATE TABLE auralink.half (n int); SELECT 1/0")
    good = [*all_migrations()]
    monkeypatch.setattr(module, "all_migrations", lambda: [*good, bad])
    with pytest.raises(StartupError, match=r"98_pre_bad.sql failed and was rolled back: division by zero"):
        migrate(test_database.owner)
    assert rows(test_database.owner, "SELECT to_regclass('auralink.half')::text") == [(None,)]
    monkeypatch.setattr(module, "all_migrations", lambda: good)
    assert migrate(test_database.owner) == []


def test_migrators_at_once_apply_each_file_once(empty: TestDatabase) -> None:
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda: applied.append(migrate(empty.owner))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(applied, key=len) == [[], [], [], [migration.name for migration in all_migrations()]]


def test_a_migrator_waits_for_another_as_long_as_that_needs(empty: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on locks is for the tables of a running service, not for the queue of migrators."""
    monkeypatch.setattr(module, "LOCK_TIMEOUT", "10ms")
    with psycopg.connect(empty.owner.reveal(), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        waiting = threading.Thread(target=migrate, args=(empty.owner,))
        waiting.start()
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while waiting.is_alive() and rows(empty.superuser, query) == [(0,)]:
            pass
        waiting.join(0.1)
        assert waiting.is_alive()
    waiting.join(60)
    assert rows(empty.owner, "SELECT count(*) FROM auralink.schema_migrations") == [(len(all_migrations()),)]


def test_a_table_that_is_in_use_stops_a_migration_and_not_the_service(
    test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT", "50ms")
    change = Migration("98_pre_change.sql", "ALTER TABLE auralink.mcp_servers ADD COLUMN more text")
    files = [*all_migrations(), change]
    monkeypatch.setattr(module, "all_migrations", lambda: files)
    with psycopg.connect(test_database.service.reveal()) as busy:
        busy.execute("SELECT * FROM auralink.mcp_servers")
        with pytest.raises(StartupError, match=r"98_pre_change.sql failed.*lock timeout"):
            migrate(test_database.owner)
    assert migrate(test_database.owner) == [change.name]


def test_a_killed_migrator_leaves_no_lock_and_nothing_half_done(empty: TestDatabase) -> None:
    command = [sys.executable, "-c", SLOW_MIGRATOR, empty.owner.reveal()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as migrator:
        assert migrator.stdout is not None
        assert migrator.stdout.readline() == "migrating: 00_pre_slow.sql\n"
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
        while rows(empty.superuser, sleeping) == [(0,)]:
            pass
        os.kill(migrator.pid, signal.SIGKILL)
    assert migrate(empty.owner) == [migration.name for migration in all_migrations()]
    assert rows(empty.owner, "SELECT to_regclass('auralink.half')::text") == [(None,)]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://nobody@127.0.0.1:1/nowhere", "cannot migrate the database: .*127.0.0.1"),
        ("nonsense", "cannot migrate the database: "),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_line(address: str, said: str) -> None:
    with pytest.raises(StartupError, match=said) as caught:
        migrate(Secret(address))
    assert "\n" not in caught.value.message


def test_a_login_that_is_no_owner_is_one_line(empty: TestDatabase) -> None:
    with pytest.raises(StartupError, match=r"cannot migrate the database: permission denied.*DATABASE_OWNER_URL"):
        migrate(empty.service)
