"""What the service checks in the catalogue before it serves: that Postgres, not application code, keeps tenants apart (P-RLS)."""

from auralink.core.db import Connection
from auralink.core.errors import StartupError

SHARED_TABLES = frozenset({"llm_models", "llm_providers", "mcp_servers", "schema_migrations"})
"""The tables without tenant rows, and the only ones of the schema that may lack row level security.

Beside them stand the queue's (schema `procrastinate`): its jobs are wake-ups and say nothing of any tenant."""

BYPASSING = """
SELECT r.rolname FROM pg_roles r
WHERE r.rolname IN (session_user, 'auralink_service')
  AND (has_schema_privilege(r.oid, 'auralink', 'CREATE')
       OR EXISTS (SELECT FROM pg_roles other
                  WHERE pg_has_role(r.oid, other.oid, 'MEMBER')
                    AND (other.rolsuper OR other.rolbypassrls OR other.rolcreaterole OR other.rolname = 'auralink_system'
                         OR EXISTS (SELECT FROM pg_class c
                                    WHERE c.relnamespace = 'auralink'::regnamespace AND c.relowner = other.oid))))
ORDER BY r.rolname <> session_user
"""

TENANT_ONLY = ("(user_id = ( SELECT current_user_id() AS current_user_id))", "(user_id = current_user_id())")
"""The two expressions that limit a policy to the tenant, as Postgres prints them; any other could say more."""

UNPROTECTED = """
WITH policies AS (
    SELECT p.polrelid, p.polcmd, p.polroles,
           replace(pg_get_expr(p.polqual, p.polrelid), 'auralink.', '') AS using_expr,
           replace(pg_get_expr(p.polwithcheck, p.polrelid), 'auralink.', '') AS check_expr
    FROM pg_policy p
    WHERE p.polpermissive AND EXISTS (
        SELECT FROM unnest(p.polroles) AS target
        WHERE target = 0 OR pg_has_role('auralink_service', target, 'MEMBER') OR pg_has_role(session_user, target, 'MEMBER'))
)
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'auralink'::regnamespace AND c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relname = ANY(%(shared)s)
  AND NOT (
    c.relrowsecurity AND c.relforcerowsecurity
    AND EXISTS (SELECT FROM policies p WHERE p.polrelid = c.oid AND p.polcmd = '*'
        AND p.polroles = ARRAY['auralink_service'::regrole::oid]
        AND p.using_expr = ANY(%(tenant)s) AND p.check_expr = ANY(%(tenant)s))
    AND NOT EXISTS (SELECT FROM policies p WHERE p.polrelid = c.oid
        AND (p.using_expr <> ALL(%(tenant)s) OR p.check_expr <> ALL(%(tenant)s)))
    AND NOT has_table_privilege('auralink_service', c.oid, 'TRUNCATE')
    AND NOT has_table_privilege(session_user, c.oid, 'TRUNCATE'))
ORDER BY 1
"""


async def check_isolation(connection: Connection) -> None:
    """Refuses a role that could bypass row level security, and a table that lacks it.

    Raises:
        StartupError: naming the role or the tables, and what to do.
    """
    if row := await (await connection.execute(BYPASSING)).fetchone():
        raise StartupError(
            f"the database role {row['rolname']!r} could bypass row level security "
            "(superuser, BYPASSRLS, CREATEROLE, CREATE in the schema, owner of a table or member of such a role); "
            "give DATABASE_URL a plain login role that is a member of auralink_service"
        )
    member = await (await connection.execute("SELECT pg_has_role(session_user, 'auralink_service', 'MEMBER') AS ok")).fetchone()
    if not member or not member["ok"]:
        raise StartupError("the database role of DATABASE_URL is not a member of auralink_service; GRANT auralink_service TO it")
    rows = await (
        await connection.execute(UNPROTECTED, {"shared": sorted(SHARED_TABLES), "tenant": list(TENANT_ONLY)})
    ).fetchall()
    if rows:
        names = ", ".join(row["relname"] for row in rows)
        raise StartupError(
            f"row level security is not enabled, forced and limited to the tenant on: {names}; "
            "restore the policies (CALL auralink.protect_tenant_table) before starting"
        )


async def check_schema(connection: Connection, expected: set[str]) -> None:
    """Refuses a database whose migrations are not those of this code."""
    exists = await (await connection.execute("SELECT to_regclass('auralink.schema_migrations') AS t")).fetchone()
    rows = []
    if exists and exists["t"]:
        rows = await (await connection.execute("SELECT name FROM auralink.schema_migrations")).fetchall()
    if missing := expected - {row["name"] for row in rows}:
        raise StartupError(f"the database lacks migrations {', '.join(sorted(missing))}; run `auralink migrate`")
