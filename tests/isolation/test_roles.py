"""What the service's login cannot do: become somebody else, change the rules, or call what was not made for it."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import InsufficientPrivilege

from auralink.core.preflight import SHARED_TABLES
from tests.conftest import Server, TestDatabase
from tests.isolation.support import cloned_database, tables

pytestmark = pytest.mark.promise("P-RLS")

ESCAPES = (
    "SET ROLE auralink_owner",
    "SET ROLE auralink_system",
    "SET ROLE {superuser}",
    "SET SESSION AUTHORIZATION auralink_owner",
    "SET SESSION AUTHORIZATION {superuser}",
    "SELECT set_config('role', 'auralink_system', true)",
    "SELECT set_config('role', 'auralink_owner', false)",
    "SELECT set_config('session_authorization', '{superuser}', true)",
    "SELECT set_config('session_replication_role', 'replica', true)",
    "ALTER ROLE auralink_app BYPASSRLS",
    "ALTER ROLE auralink_app SUPERUSER",
    "ALTER ROLE auralink_service BYPASSRLS",
    "GRANT auralink_system TO auralink_app",
    "GRANT auralink_owner TO auralink_app",
    "CREATE ROLE somebody",
    "ALTER TABLE auralink.user_mcp_connections DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE auralink.user_mcp_connections NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE auralink.user_mcp_connections OWNER TO auralink_app",
    "CREATE POLICY open ON auralink.user_mcp_connections USING (true)",
    "DROP POLICY tenant ON auralink.user_mcp_connections",
    "ALTER POLICY tenant ON auralink.user_mcp_connections USING (true)",
    "CALL auralink.protect_tenant_table('auralink.mcp_servers')",
    "CREATE TABLE auralink.stolen AS SELECT 1",
    "CREATE TABLE public.stolen AS SELECT 1",
    "CREATE TEMPORARY TABLE stolen AS SELECT 1",
    "CREATE FUNCTION auralink.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION auralink.current_user_id() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
    "CREATE SCHEMA stolen",
    "DROP TABLE auralink.user_mcp_connections",
    "TRUNCATE auralink.user_mcp_connections",
    "UPDATE auralink.mcp_operation_logs SET outcome = 'ok'",
    "DELETE FROM auralink.mcp_operation_logs",
    "DELETE FROM auralink.data_keys",
    "DELETE FROM auralink.schema_migrations",
    "INSERT INTO auralink.schema_migrations VALUES ('99_pre_x.sql', '')",
    "COPY auralink.user_mcp_connections TO '/tmp/stolen'",
    "COPY auralink.user_mcp_connections TO PROGRAM 'cat'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT * FROM pg_authid",
)

FUNCTIONS = """
SELECT p.oid::regprocedure::text, p.prosecdef, p.proowner::regrole::text,
       coalesce((SELECT array_agg(CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END ORDER BY 1)
                 FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                 WHERE a.grantee <> p.proowner), '{}'),
       coalesce(p.proconfig, '{}')
FROM pg_proc p WHERE p.pronamespace = 'auralink'::regnamespace ORDER BY 1
"""


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[TestDatabase]:
    with cloned_database(postgres) as database:
        yield database


@pytest.fixture(params=["as it logs in", "in the role of the service"])
def session(database: TestDatabase, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.service.reveal()) as session:
        if "role" in request.param:
            session.execute("SET ROLE auralink_service")
        yield session
        session.rollback()


@pytest.fixture
def superuser(database: TestDatabase) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.superuser.reveal()) as session:
        yield session
        session.rollback()


@pytest.mark.parametrize("statement", ESCAPES)
def test_an_escape_is_refused(database: TestDatabase, session: psycopg.Connection[Any], statement: str) -> None:
    superuser = str(conninfo_to_dict(database.superuser.reveal())["user"])
    with pytest.raises(InsufficientPrivilege):
        session.execute(statement.replace("{superuser}", superuser).encode())


def test_row_security_cannot_be_switched_off_for_a_session(session: psycopg.Connection[Any]) -> None:
    session.execute("SET row_security = off")
    with pytest.raises(InsufficientPrivilege, match="row-level security"):
        session.execute("SELECT * FROM auralink.user_mcp_connections")


def test_a_partition_is_not_reached_past_its_parent(session: psycopg.Connection[Any]) -> None:
    partitions = [table for table in tables(session) if table.partition]
    assert partitions
    for table in partitions:
        with pytest.raises(InsufficientPrivilege), session.transaction():
            session.execute(sql.SQL("SELECT FROM {}").format(table.identifier))


def test_no_grant_goes_around_row_level_security(superuser: psycopg.Connection[Any]) -> None:
    """TRUNCATE, REFERENCES and TRIGGER are not bound by policies."""
    query = """
        SELECT c.relname, r.rolname, p FROM pg_class c, pg_roles r, unnest(ARRAY['TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
        WHERE c.relnamespace = 'auralink'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
          AND r.rolname IN ('auralink_service', 'auralink_app') AND has_table_privilege(r.oid, c.oid, p)"""
    assert superuser.execute(query).fetchall() == []


def test_every_policy_is_made_for_one_of_the_two_roles(superuser: psycopg.Connection[Any]) -> None:
    query = """SELECT DISTINCT polname::text, polroles::regrole[]::text[] FROM pg_policy
        JOIN pg_class c ON c.oid = polrelid WHERE c.relnamespace = 'auralink'::regnamespace"""
    policies = superuser.execute(query).fetchall()
    assert {(name, tuple(roles)) for name, roles in policies} == {
        ("tenant", ("auralink_service",)),
        ("across_tenants", ("auralink_system",)),
    }


def test_every_function_is_for_the_service_and_for_nobody_else(superuser: psycopg.Connection[Any]) -> None:
    functions = superuser.execute(FUNCTIONS).fetchall()
    assert functions
    allowed = {"auralink_service", "auralink_system"}
    assert [(name, grants) for name, _, _, grants, _ in functions if not set(grants) <= allowed] == []


def test_what_acts_for_its_owner_has_a_pinned_path_and_an_owner_that_bypasses_nothing(superuser: psycopg.Connection[Any]) -> None:
    definers = [row for row in superuser.execute(FUNCTIONS).fetchall() if row[1]]
    assert {name.split("(")[0] for name, *_ in definers} >= {
        "auralink.users_to_rewrap",
        "auralink.audit_of_all_users",
        "auralink.forget_idempotency_keys",
        "auralink.ensure_log_partitions",
    }
    for name, _, owner, grants, config in definers:
        assert "search_path=pg_catalog" in config, name
        assert grants == ["auralink_service"], name
        assert owner == ("auralink_owner" if "ensure_log_partitions" in name else "auralink_system"), name


def test_the_roles_of_the_schema_bypass_nothing(superuser: psycopg.Connection[Any]) -> None:
    query = """SELECT rolname FROM pg_roles WHERE rolname LIKE 'auralink\\_%'
        AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)"""
    assert superuser.execute(query).fetchall() == []


def test_shared_tables_hold_no_column_for_a_secret(superuser: psycopg.Connection[Any]) -> None:
    query = """SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'auralink' AND table_name = ANY(%s) AND column_name ~ 'secret|credential|password|token|api_key'"""
    assert superuser.execute(query, [sorted(SHARED_TABLES)]).fetchall() == []
