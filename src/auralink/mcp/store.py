"""SQL of the registry and of connections. Tenant scope comes from the connection's transaction, not from a WHERE."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from auralink.core.db import Connection
from auralink.mcp.schemas import ConnectionPolicy, ConnectionRecord, Server

SET_BY_FILE = ("server_type", "transport", "endpoint", "command", "args", "env", "auth_type", "timeout", "retry_attempts",
               "rate_limit", "tools", "enabled", "source")  # fmt: skip
"""The columns of a registry entry that the configuration file or an admin sets."""
SERVER_COLUMNS = ", ".join(("id", "name", *SET_BY_FILE))
INSERT_SERVER = f"""
INSERT INTO auralink.mcp_servers ({SERVER_COLUMNS})
VALUES ({", ".join(f"%({column})s" for column in ("id", "name", *SET_BY_FILE))})
"""
_NEW = ", ".join(f"EXCLUDED.{column}" for column in SET_BY_FILE)
UPSERT_CONFIGURED = f"""{INSERT_SERVER}
ON CONFLICT (name) DO UPDATE SET ({", ".join(SET_BY_FILE)}, updated_at) = ({_NEW}, now())
WHERE ({", ".join(f"mcp_servers.{column}" for column in SET_BY_FILE)}) IS DISTINCT FROM ({_NEW})
"""

DISABLE_UNCONFIGURED = (
    "UPDATE auralink.mcp_servers SET enabled = false WHERE source = 'config' AND enabled AND NOT name = ANY(%s)"
)

CONNECTION = """
SELECT c.id, c.user_id, c.name, c.server_type, c.endpoint, c.status, c.policy, c.encrypted_credentials, c.credential_version,
       c.protocol_version, c.server_name, c.capabilities, c.last_error, c.created_at, c.updated_at,
       s.id AS server_id, s.name AS registry_name, s.transport, s.endpoint AS server_endpoint, s.command, s.args, s.env,
       coalesce(s.auth_type, 'bearer') AS auth_type, s.timeout, s.retry_attempts, s.rate_limit, s.tools,
       CASE WHEN g.sealed_tokens IS NOT NULL THEN 'granted'
            WHEN c.status = 'authorization_required' OR g.connection_id IS NOT NULL THEN 'required'
            ELSE 'none' END AS "authorization"
FROM auralink.user_mcp_connections c LEFT JOIN auralink.mcp_servers s ON s.id = c.server_id
     LEFT JOIN auralink.oauth_grants g ON g.user_id = c.user_id AND g.connection_id = c.id
WHERE c.status <> 'disconnected' AND coalesce(s.enabled, true)
"""

INSERT_CONNECTION = """
INSERT INTO auralink.user_mcp_connections (id, user_id, server_id, server_type, name, endpoint, status, policy,
    encrypted_credentials, protocol_version, server_name, server_info, capabilities)
VALUES (%(id)s, %(user_id)s, %(server_id)s, %(server_type)s, %(name)s, %(endpoint)s, %(status)s, %(policy)s,
    %(encrypted_credentials)s, %(protocol_version)s, %(server_name)s, %(server_info)s, %(capabilities)s)
"""

DISCONNECT = """
UPDATE auralink.user_mcp_connections
SET status = 'disconnected', encrypted_credentials = NULL, credential_version = credential_version + 1, updated_at = now()
WHERE id = %s AND status <> 'disconnected' RETURNING id
"""

REPLACE_CREDENTIALS = """
UPDATE auralink.user_mcp_connections
SET encrypted_credentials = %s, credential_version = credential_version + 1, status = 'active', last_error = NULL,
    updated_at = now()
WHERE id = %s AND status <> 'disconnected' RETURNING id
"""

DESCRIBE = """
UPDATE auralink.user_mcp_connections
SET protocol_version = %(protocol_version)s, server_name = %(server_name)s, server_info = %(server_info)s,
    capabilities = %(capabilities)s, updated_at = now()
WHERE id = %(id)s AND status <> 'disconnected'
"""

SET_STATUS = """
UPDATE auralink.user_mcp_connections SET status = %(status)s, last_error = %(error)s, updated_at = now()
WHERE id = %(id)s AND status <> 'disconnected' AND (status, last_error) IS DISTINCT FROM (%(status)s, %(error)s)
"""


async def upsert_configured(connection: Connection, servers: Sequence[Mapping[str, Any]]) -> None:
    """Brings the registry in line with the configuration file; entries that the file no longer has are switched off."""
    for server in servers:
        await connection.execute(UPSERT_CONFIGURED, _server_values(server, "config"))
    await connection.execute(DISABLE_UNCONFIGURED, [[server["name"] for server in servers]])


async def servers(connection: Connection) -> list[DictRow]:
    """The whole registry, by name."""
    return await (await connection.execute(f"SELECT {SERVER_COLUMNS} FROM auralink.mcp_servers ORDER BY name")).fetchall()


async def find_server(connection: Connection, server_type: str) -> DictRow | None:
    """The enabled entry of that name, else the first of that type."""
    query = f"""SELECT {SERVER_COLUMNS} FROM auralink.mcp_servers
        WHERE enabled AND (name = %(t)s OR server_type = %(t)s) ORDER BY name <> %(t)s, name LIMIT 1"""
    return await (await connection.execute(query, {"t": server_type})).fetchone()


async def insert_server(connection: Connection, server: Mapping[str, Any]) -> DictRow:
    """Registers a server for an admin. Raises UniqueViolation for a name that is taken."""
    query = f"{INSERT_SERVER} RETURNING {SERVER_COLUMNS}"
    row = await (await connection.execute(query, _server_values(server, "admin"))).fetchone()
    assert row is not None
    return row


async def update_server(connection: Connection, server_id: UUID, changes: Mapping[str, Any]) -> DictRow | None:
    """Changes an entry that an admin has registered; None if there is none."""
    sets = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(k), sql.Placeholder(k)) for k in changes)
    query = sql.SQL("UPDATE auralink.mcp_servers SET {}, updated_at = now() WHERE id = %(id)s RETURNING " + SERVER_COLUMNS)
    return await (await connection.execute(query.format(sets), {**changes, "id": server_id})).fetchone()


async def get_server_source(connection: Connection, server_id: UUID) -> str | None:
    """`config` or `admin`; None if there is no such entry."""
    row = await (await connection.execute("SELECT source FROM auralink.mcp_servers WHERE id = %s", [server_id])).fetchone()
    return row["source"] if row else None


async def delete_server(connection: Connection, server_id: UUID) -> bool:
    """Removes an entry. Raises ForeignKeyViolation while connections use it."""
    query = "DELETE FROM auralink.mcp_servers WHERE id = %s AND source = 'admin' RETURNING id"
    return await (await connection.execute(query, [server_id])).fetchone() is not None


async def insert_connection(connection: Connection, row: Mapping[str, Any]) -> None:
    """Stores a connection. Raises UniqueViolation for a name that the user has."""
    values = {
        **row,
        "policy": Jsonb(row["policy"]),
        "server_info": Jsonb(row["server_info"]),
        "capabilities": Jsonb(row["capabilities"]),
    }
    await connection.execute(INSERT_CONNECTION, values)


async def find_connection(
    connection: Connection, *, connection_id: UUID | None = None, name: str | None = None
) -> DictRow | None:
    """One of the tenant's open connections, by id or by name."""
    query = CONNECTION + " AND c.id = %s" if connection_id is not None else CONNECTION + " AND c.name = %s"
    return await (await connection.execute(query, [connection_id if connection_id is not None else name])).fetchone()


async def connections(connection: Connection, *, after: tuple[datetime, UUID] | None = None, limit: int = 1000) -> list[DictRow]:
    """The tenant's open connections, oldest first."""
    at, row_id = after or (None, None)
    query = (
        CONNECTION
        + """ AND (%(at)s::timestamptz IS NULL OR (c.created_at, c.id) > (%(at)s, %(id)s::uuid))
        ORDER BY c.created_at, c.id LIMIT %(limit)s"""
    )
    return await (await connection.execute(query, {"at": at, "id": row_id, "limit": limit})).fetchall()


async def taken_names(connection: Connection) -> set[str]:
    """The names of the tenant's open connections."""
    rows = await (
        await connection.execute("SELECT name FROM auralink.user_mcp_connections WHERE status <> 'disconnected'")
    ).fetchall()
    return {row["name"] for row in rows}


async def disconnect(connection: Connection, connection_id: UUID) -> bool:
    """Closes a connection and deletes its credential; False if the tenant has no such open connection."""
    return await (await connection.execute(DISCONNECT, [connection_id])).fetchone() is not None


async def replace_credentials(connection: Connection, connection_id: UUID, sealed: bytes) -> bool:
    """Puts another sealed credential in place; its version counts up, which retires sessions and caches."""
    return await (await connection.execute(REPLACE_CREDENTIALS, [sealed, connection_id])).fetchone() is not None


async def patch_connection(
    connection: Connection, connection_id: UUID, *, name: str | None, policy: Mapping[str, Any] | None
) -> bool:
    """Renames a connection or replaces its policy."""
    query = """UPDATE auralink.user_mcp_connections
        SET name = coalesce(%s, name), policy = coalesce(%s, policy), updated_at = now()
        WHERE id = %s AND status <> 'disconnected' RETURNING id"""
    values = [name, None if policy is None else Jsonb(policy), connection_id]
    return await (await connection.execute(query, values)).fetchone() is not None


async def describe(connection: Connection, connection_id: UUID, description: Mapping[str, Any]) -> None:
    """Notes what the server of a connection says of itself."""
    values = {name: Jsonb(value) if name in ("server_info", "capabilities") else value for name, value in description.items()}
    await connection.execute(DESCRIBE, {**values, "id": connection_id})


async def set_status(connection: Connection, connection_id: UUID, status: str, error: str | None) -> None:
    """Notes how the last contact went; writes only what changes."""
    await connection.execute(SET_STATUS, {"id": connection_id, "status": status, "error": error})


def server_of(row: DictRow) -> Server:
    """The registry entry in a row of `servers` or `find_server`."""
    return Server(
        id=row["id"],
        name=row["name"],
        server_type=row["server_type"],
        transport=row["transport"],
        endpoint=row["endpoint"],
        command=row["command"],
        args=tuple(row["args"]),
        env=row["env"],
        auth_type=row["auth_type"],
        timeout=row["timeout"],
        retry_attempts=row["retry_attempts"],
        rate_limit=row["rate_limit"],
        tools=None if row["tools"] is None else frozenset(row["tools"]),
        trusted=True,
    )


def custom_server(name: str, endpoint: str) -> Server:
    """A server of the user's own: it has no registry entry, and its address is not trusted."""
    return Server(
        id=None,
        name=name,
        server_type="custom",
        transport="http",
        endpoint=endpoint,
        command=None,
        args=(),
        env={},
        auth_type="bearer",
        timeout=30.0,
        retry_attempts=2,
        rate_limit=None,
        tools=None,
        trusted=False,
    )


def record_of(row: DictRow) -> ConnectionRecord:
    """The connection in a row of `find_connection` or `connections`, with its server."""
    if row["server_id"] is None:
        server = custom_server(row["name"], row["endpoint"])
    else:
        registry = {**row, "id": row["server_id"], "name": row["registry_name"], "endpoint": row["server_endpoint"]}
        server = server_of(registry)
    return ConnectionRecord(
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        server=server,
        policy=ConnectionPolicy.model_validate(row["policy"]),
        sealed_credentials=row["encrypted_credentials"],
        credential_version=row["credential_version"],
        authorization=row["authorization"],
    )


def _server_values(server: Mapping[str, Any], source: str) -> dict[str, Any]:
    tools = server.get("tools")
    json = {"args": Jsonb(server["args"]), "env": Jsonb(server["env"]), "tools": None if tools is None else Jsonb(tools)}
    return {"enabled": True, **server, **json, "source": source}
