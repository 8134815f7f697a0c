"""What the service checks in the catalogue before it serves: that Postgres, not application code, keeps tenants apart (P-RLS)."""

from auralink.core.db import Connection
from auralink.core.errors import StartupError

SHARED_TABLES = frozenset({"mcp_servers", "schema_migrations"})
"""The tables without tenant rows, and the only ones that may lack row level security."""

BYPASSING = """
SELECT r.rolname FROM pg_roles r
WHERE r.rolname IN (session_user, 'auralink_service')
  AND (r.rolsuper OR r.rolbypassrls
       OR EXISTS (SELECT FROM pg_class c
                  WHERE c.relnamespace = 'auralink'::regnamespace AND pg_has_role(r.oid, c.relowner, 'MEMBER')))
"""

UNPROTECTED = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'auralink'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relname = ANY(%s)
  AND NOT (
    c.relrowsecurity AND c.relforcerowsecurity
    AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polpermissive
        AND p.polroles = ARRAY['auralink_service'::regrole::oid]
        AND pg_get_expr(p.polqual, p.polrelid) LIKE '%%current_user_id()%%'
        AND pg_get_expr(p.polwithcheck, p.polrelid) LIKE '%%current_user_id()%%')
    AND NOT EXISTS (SELECT FROM pg_policy p, unnest(p.polroles) AS target WHERE p.polrelid = c.oid AND p.polpermissive
        AND (target = 0 OR pg_has_role('auralink_service', target, 'MEMBER'))
        AND (coalesce(pg_get_expr(p.polqual, p.polrelid), 'current_user_id()') NOT LIKE '%%current_user_id()%%'
             OR coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'current_user_id()') NOT LIKE '%%current_user_id()%%')))
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
            "(superuser, BYPASSRLS or owner of the tables); "
            "give DATABASE_URL a plain login role that is a member of auralink_service"
        )
    member = await (await connection.execute("SELECT pg_has_role(session_user, 'auralink_service', 'MEMBER') AS ok")).fetchone()
    if not member or not member["ok"]:
        raise StartupError("the database role of DATABASE_URL is not a member of auralink_service; GRANT auralink_service TO it")
    rows = await (await connection.execute(UNPROTECTED, [sorted(SHARED_TABLES)])).fetchall()
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
