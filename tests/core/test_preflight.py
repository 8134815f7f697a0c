"""The check at start-up: the service refuses a database that does not keep tenants apart, and says which table or role.

Each case is made in a transaction of the superuser that takes the login's identity and is rolled back.
"""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from psycopg.rows import dict_row

from auralink.core.db import Connection
from auralink.core.errors import StartupError
from auralink.core.migrate import required_migrations
from auralink.core.preflight import check_isolation, check_schema
from tests.conftest import Server, TestDatabase
from tests.isolation.support import cloned_database

pytestmark = pytest.mark.promise("P-RLS")

TABLE = "auralink.user_mcp_connections"
TENANT = "user_id = (SELECT auralink.current_user_id())"

OPEN_TABLES = {
    "row level security off": f"ALTER TABLE {TABLE} DISABLE ROW LEVEL SECURITY",
    "row level security not forced": f"ALTER TABLE {TABLE} NO FORCE ROW LEVEL SECURITY",
    "no policy": f"DROP POLICY tenant ON {TABLE}",
    "no WITH CHECK": f"DROP POLICY tenant ON {TABLE}; CREATE POLICY tenant ON {TABLE} TO auralink_service USING ({TENANT})",
    "WITH CHECK true": f"ALTER POLICY tenant ON {TABLE} WITH CHECK (true)",
    "USING true": f"ALTER POLICY tenant ON {TABLE} USING (true)",
    "a USING that names the tenant and admits all": f"ALTER POLICY tenant ON {TABLE} USING ({TENANT} OR true)",
    "a policy for SELECT only": f"DROP POLICY tenant ON {TABLE};"
    f"CREATE POLICY tenant ON {TABLE} FOR SELECT TO auralink_service USING ({TENANT})",
    "a second policy that admits all": f"CREATE POLICY more ON {TABLE} TO auralink_service USING (true) WITH CHECK (true)",
    "a second policy for everybody": f"CREATE POLICY more ON {TABLE} USING (true)",
    "a second policy for the login": f"CREATE POLICY more ON {TABLE} FOR SELECT TO auralink_app USING (true)",
    "the right to truncate": f"GRANT TRUNCATE ON {TABLE} TO auralink_service",
    "the right to truncate for everybody": f"GRANT TRUNCATE ON {TABLE} TO PUBLIC",
}

BYPASSING_ROLES = {
    "a superuser": "ALTER ROLE auralink_app SUPERUSER",
    "a role with BYPASSRLS": "ALTER ROLE auralink_app BYPASSRLS",
    "a service role with BYPASSRLS": "ALTER ROLE auralink_service BYPASSRLS",
    "a service role that is superuser": "ALTER ROLE auralink_service SUPERUSER",
    "the owner of a table": f"ALTER TABLE {TABLE} OWNER TO auralink_app",
    "a service role that owns a table": f"ALTER TABLE {TABLE} OWNER TO auralink_service",
    "a member of the owner": "GRANT auralink_owner TO auralink_app",
    "a member of what crosses tenants": "GRANT auralink_system TO auralink_app",
    "a member of a role with BYPASSRLS": "CREATE ROLE passes BYPASSRLS; GRANT passes TO auralink_app",
    "a member of a superuser": "CREATE ROLE rules SUPERUSER; GRANT rules TO auralink_service",
    "one that may create roles": "ALTER ROLE auralink_app CREATEROLE",
    "one that may create objects in the schema": "GRANT CREATE ON SCHEMA auralink TO auralink_app",
}


@pytest.fixture(scope="module")
def module_database(postgres: Server) -> Iterator[TestDatabase]:
    with cloned_database(postgres) as database:
        yield database


@pytest.fixture
async def superuser(module_database: TestDatabase) -> AsyncIterator[Connection]:
    connection = await psycopg.AsyncConnection.connect(module_database.superuser.reveal(), row_factory=dict_row)
    async with connection:
        yield connection
        await connection.rollback()


async def become_the_login(connection: Connection) -> None:
    await connection.execute("SET LOCAL SESSION AUTHORIZATION auralink_app")


async def test_the_database_as_migrated_passes(superuser: Connection) -> None:
    await become_the_login(superuser)
    await check_isolation(superuser)


@pytest.mark.parametrize("case", OPEN_TABLES)
async def test_a_table_that_is_not_closed_is_named(superuser: Connection, case: str) -> None:
    await superuser.execute(OPEN_TABLES[case].encode())
    await become_the_login(superuser)
    with pytest.raises(StartupError, match="user_mcp_connections"):
        await check_isolation(superuser)


@pytest.mark.parametrize("case", BYPASSING_ROLES)
async def test_a_role_that_could_bypass_is_named(superuser: Connection, case: str) -> None:
    await superuser.execute(BYPASSING_ROLES[case].encode())
    await become_the_login(superuser)
    with pytest.raises(StartupError, match=r"auralink_(app|service)'.*row level security"):
        await check_isolation(superuser)


async def test_a_login_that_is_not_of_the_service_is_refused(superuser: Connection) -> None:
    await superuser.execute("REVOKE auralink_service FROM auralink_app")
    await become_the_login(superuser)
    with pytest.raises(StartupError, match="not a member of auralink_service"):
        await check_isolation(superuser)


async def test_the_superuser_itself_is_refused(superuser: Connection) -> None:
    with pytest.raises(StartupError, match="could bypass row level security"):
        await check_isolation(superuser)


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("table", "CREATE TABLE auralink.fresh (user_id uuid)"),
        (
            "partition",
            "CREATE TABLE auralink.fresh PARTITION OF auralink.mcp_operation_logs"
            " FOR VALUES FROM ('1990-01-01') TO ('1990-02-01')",
        ),
        ("materialised view", "CREATE MATERIALIZED VIEW auralink.fresh AS SELECT user_id FROM auralink.data_keys"),
    ],
)
async def test_a_new_table_without_protection_is_named(superuser: Connection, kind: str, statement: str) -> None:
    await superuser.execute(statement.encode())
    await become_the_login(superuser)
    with pytest.raises(StartupError, match=r"on: fresh;"):
        await check_isolation(superuser)


async def test_every_open_table_is_named_at_once(superuser: Connection) -> None:
    await superuser.execute("ALTER TABLE auralink.data_keys DISABLE ROW LEVEL SECURITY")
    await superuser.execute("ALTER TABLE auralink.idempotency_keys DISABLE ROW LEVEL SECURITY")
    await become_the_login(superuser)
    with pytest.raises(StartupError, match="data_keys, idempotency_keys"):
        await check_isolation(superuser)


async def test_a_restrictive_policy_beside_the_tenants_is_no_hole(superuser: Connection) -> None:
    await superuser.execute(f"CREATE POLICY narrower ON {TABLE} AS RESTRICTIVE USING (status <> 'error')".encode())
    await become_the_login(superuser)
    await check_isolation(superuser)


async def test_a_database_without_a_migration_is_refused_by_its_name(superuser: Connection) -> None:
    name = sorted(required_migrations())[0]
    await superuser.execute("DELETE FROM auralink.schema_migrations WHERE name = %s", [name])
    await become_the_login(superuser)
    with pytest.raises(StartupError, match=rf"lacks migrations {name}.*auralink migrate"):
        await check_schema(superuser, required_migrations())


async def test_an_empty_database_is_told_to_migrate(superuser: Connection) -> None:
    await superuser.execute("DROP SCHEMA auralink CASCADE")
    with pytest.raises(StartupError, match="auralink migrate"):
        await check_schema(superuser, required_migrations())
