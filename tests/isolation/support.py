"""What the tests of the foundation share: a database of a whole module, and rows for any table, made from the catalogue."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from auralink.core import embedded_postgres as embedded
from tests.conftest import Server, TestDatabase

SAMPLES: Mapping[str, Mapping[str, str]] = {
    "user_mcp_connections": {"name": "'sample'", "status": "'active'", "endpoint": "'https://mcp.example/'"},
    "idempotency_keys": {"key": "gen_random_uuid()::text"},
    "signing_keys": {"algorithm": "'ed25519'"},
    "approvals": {"status": "'pending'"},
    "tool_pins": {"status": "'approved'"},
    "runs": {"kind": "'agent'"},
    "run_journal": {"kind": "'tool'", "status": "'started'"},
    "mcp_toolsets": {"tools": "'{}'"},
    "agent_workflows": {"workflow_type": "'qa'"},
    "prefect_flows": {"template": "'mcp_data_ingestion'"},
    "team_comparisons": {"runs": "'[]'"},
    "schedules": {"kind": "'workflow'", "cron": "'* * * * *'", "next_at": "now() + interval '1 day'"},
    "webhooks": {"kind": "'workflow'"},
    "user_llm_keys": {"last4": "'1234'"},
    "usage_limits": {"period": "'day'", "set_by": "'user'"},
    "usage_reservations": {"places": "'[]'"},
    "mcp_operation_logs_default": {"at": "'2001-01-01'"},
}
"""SQL for the columns of a table whose constraints a value of the right type alone does not meet."""

VALUES = {
    "uuid": "gen_random_uuid()",
    "text": "gen_random_uuid()::text",
    "bytea": "'\\x00'::bytea",
    "jsonb": "'{}'::jsonb",
    "json": "'{}'::json",
    "boolean": "false",
    "integer": "1",
    "bigint": "1",
    "double precision": "1",
    "numeric": "1",
    "timestamp with time zone": "now()",
}

TABLES = """
SELECT c.relname AS name, c.relkind = 'p' AS partitioned, c.relispartition AS partition,
       pg_get_expr(c.relpartbound, c.oid) AS bound,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'user_id') AS has_user_id
FROM pg_class c WHERE c.relnamespace = 'auralink'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1
"""

REQUIRED_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a
WHERE a.attrelid = ('auralink.' || quote_ident(%s))::regclass AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '' AND a.attname <> 'user_id'
"""


@dataclass(frozen=True)
class Table:
    """A table of the schema as the catalogue has it."""

    name: str
    partitioned: bool
    partition: bool
    bound: str | None
    has_user_id: bool

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier("auralink", self.name)

    def insert(self, session: psycopg.Connection[Any], user_id: UUID) -> sql.Composed:
        """A statement that inserts a valid row of `user_id`; the columns are read from the catalogue."""
        columns = {name: VALUES.get(kind) for name, kind in session.execute(REQUIRED_COLUMNS, [self.name]).fetchall()}
        columns |= SAMPLES.get(self.name, {})
        if self.bound and self.bound != "DEFAULT" and "at" not in SAMPLES.get(self.name, {}):
            columns["at"] = self.bound.split("(")[1].split(")")[0]
        unknown = [name for name, value in columns.items() if value is None]
        assert not unknown, f"no sample value for {unknown} of {self.name}: add them to VALUES or SAMPLES"
        names = sql.SQL(", ").join(sql.Identifier(name) for name in ("user_id", *columns))
        values = sql.SQL(", ").join([sql.Literal(str(user_id)), *(sql.SQL(str(value)) for value in columns.values())])
        return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(self.identifier, names, values)


def tables(session: psycopg.Connection[Any]) -> list[Table]:
    """Every table of schema auralink, partitions included."""
    return [Table(*row) for row in session.execute(TABLES).fetchall()]


def seed(session: psycopg.Connection[Any], *users: UUID) -> None:
    """One row of each user in each table with tenant rows, as the superuser and without the checks of foreign keys."""
    session.execute("SET session_replication_role = replica")
    for table in tables(session):
        for user_id in users:
            if table.has_user_id and not table.partitioned:
                session.execute(table.insert(session, user_id))
    session.execute("SET session_replication_role = origin")


@contextmanager
def cloned_database(server: Server) -> Iterator[TestDatabase]:
    """A migrated, empty database for as long as the block lasts."""
    name = f"test_{uuid4().hex}"
    embedded.create_database(server.superuser, name, template=server.template)
    try:
        yield TestDatabase(name, *(server.dsn(login, name) for login in ("service", "owner", "superuser")))
    finally:
        with suppress(psycopg.OperationalError), psycopg.connect(server.superuser.reveal(), autocommit=True) as session:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
