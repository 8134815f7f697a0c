"""Brings the schema up to date: plain SQL files, in the order of their names, each once, each in a transaction of its own.

`NN_pre_….sql` runs before the code that needs it is deployed, `NN_post_….sql` after the last process of the old code has gone;
`phase` picks one. An advisory lock lets one migrator work at a time and goes away with its connection, so a killed migrator
blocks nobody. Why no library: docs/decisions/0001-migrations.md.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import psycopg

from auralink.core.db import one_line, why_unreachable
from auralink.core.errors import StartupError
from auralink.core.secret import Secret

LOCK_KEY = 0x4155524C  # "AURL"
LOCK_TIMEOUT = "10s"
STATEMENT_TIMEOUT = "5min"
NOTICE_KILL_AFTER = "500ms"
"""How long the statement of a migrator that was killed goes on, and holds its locks (client_connection_check_interval)."""
Phase = Literal["pre", "post", "all"]

INCLUDE = re.compile(r"^-- include: (?P<package>[\w.]+)/(?P<file>[\w.]+) sha256:(?P<checksum>[0-9a-f]{64})$", re.MULTILINE)
"""A line that stands for a file of an installed package: the schema of a library is the library's own."""

CREATE_LEDGER = """
CREATE SCHEMA IF NOT EXISTS auralink;
CREATE TABLE IF NOT EXISTS auralink.schema_migrations (
    name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'auralink_service') THEN
        GRANT USAGE ON SCHEMA auralink TO auralink_service;
        GRANT SELECT ON auralink.schema_migrations TO auralink_service;
    END IF;
END $$;
"""


@dataclass(frozen=True)
class Migration:
    """One file of `auralink/migrations`."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file: an applied migration must not change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def phase(self) -> str:
        return self.name.split("_", 2)[1]

    @property
    def statements(self) -> bytes:
        """The SQL with its includes in place.

        Raises:
            StartupError: a file to include is not the one that the migration was written for.
        """
        return INCLUDE.sub(_included, self.sql).encode()


def all_migrations() -> list[Migration]:
    """Every migration that this version of the code carries, in order."""
    files = (f for f in resources.files("auralink.migrations").iterdir() if f.name.endswith(".sql"))
    return sorted((Migration(f.name, f.read_text("utf-8")) for f in files), key=lambda m: m.name)


def required_migrations() -> set[str]:
    """What the database must have before this code serves: all but the `post` ones, which wait until the old code has gone."""
    return {migration.name for migration in all_migrations() if migration.phase == "pre"}


def migrate(dsn: Secret, *, phase: Phase = "all", progress: Callable[[str], None] = lambda _: None) -> list[str]:
    """Applies what is missing, as the owner, and returns the names applied.

    Raises:
        StartupError: the database cannot be reached, an applied file has changed, or a migration failed (and was rolled back).
    """
    try:
        with psycopg.connect(
            dsn.reveal(), autocommit=True, connect_timeout=10, application_name="auralink migrate"
        ) as connection:
            connection.execute(f"SET client_connection_check_interval = '{NOTICE_KILL_AFTER}'")
            connection.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
            connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'; SET statement_timeout = '{STATEMENT_TIMEOUT}'")
            connection.execute(CREATE_LEDGER)
            return [apply(connection, m, progress) for m in pending(connection) if phase in ("all", m.phase)]
    except psycopg.errors.InsufficientPrivilege as error:
        raise StartupError(
            f"cannot migrate the database: {one_line(error)}; give DATABASE_OWNER_URL the address of the database's owner"
        ) from error
    except psycopg.Error as error:
        raise StartupError(f"cannot migrate the database: {why_unreachable(error, dsn)}") from error


def pending(connection: psycopg.Connection) -> list[Migration]:
    """The migrations that the database does not have; refuses a ledger that disagrees with the files."""
    applied: dict[str, str] = dict(connection.execute("SELECT name, checksum FROM auralink.schema_migrations").fetchall())
    missing = []
    for migration in all_migrations():
        checksum = applied.pop(migration.name, None)
        if checksum is None:
            missing.append(migration)
        elif checksum != migration.checksum:
            raise StartupError(f"migration {migration.name} was changed after it was applied; restore the file and add a new one")
    if applied:
        raise StartupError(f"the database is newer than this code (it has {', '.join(sorted(applied))}); deploy the newer code")
    return missing


def apply(connection: psycopg.Connection, migration: Migration, progress: Callable[[str], None]) -> str:
    """Runs one migration and writes it into the ledger, in one transaction."""
    progress(f"migrating: {migration.name}")
    try:
        with connection.transaction():
            connection.execute(migration.statements)
            connection.execute(
                "INSERT INTO auralink.schema_migrations (name, checksum) VALUES (%s, %s)",
                [migration.name, migration.checksum],
            )
    except psycopg.Error as error:
        raise StartupError(f"migration {migration.name} failed and was rolled back: {one_line(error)}") from error
    return migration.name


def _included(line: re.Match[str]) -> str:
    content = resources.files(line["package"]).joinpath(line["file"]).read_text("utf-8")
    if hashlib.sha256(content.encode()).hexdigest() != line["checksum"]:
        raise StartupError(
            f"{line['file']} of {line['package']} is not the one that the migration includes; install the locked requirements "
            "(`make setup`), or write a migration for what the new version changed"
        )
    return content
