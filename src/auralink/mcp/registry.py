"""The registry: which servers this installation offers. The configuration file fills it, admins add to it."""

from typing import Any
from uuid import UUID

from psycopg.errors import ForeignKeyViolation, UniqueViolation

from auralink.audit.group_commit import GroupCommit
from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.core.egress import EgressGuard
from auralink.core.errors import InvalidRequest
from auralink.core.ids import uuid7
from auralink.mcp import store
from auralink.mcp.config import MCPConfig
from auralink.mcp.errors import ServerInUse, ServerNameTaken, UnknownServer
from auralink.mcp.recording import audited
from auralink.mcp.schemas import Server, ServerBody, ServerPage, ServerPatch, ServerView


class Registry:
    """Reads and changes `mcp_servers`. Its callers have checked that a writer is an admin."""

    def __init__(self, db: Database, guard: EgressGuard, audit: GroupCommit) -> None:
        self._db = db
        self._audit = audit
        self._guard = guard

    async def load_configuration(self, config: MCPConfig) -> None:
        """Brings the registry in line with the configuration file."""
        rows = [_configured(name, config) for name in config.mcp_servers]
        async with self._db.system() as connection:
            await store.upsert_configured(connection, rows)

    async def find(self, server_type: str) -> Server:
        """The enabled server of that name or type (`-` and `_` are the same).

        Raises:
            UnknownServer: naming those that there are.
        """
        async with self._db.system() as connection:
            for spelling in dict.fromkeys((server_type, server_type.replace("-", "_"), server_type.replace("_", "-"))):
                if row := await store.find_server(connection, spelling):
                    return store.server_of(row)
            names = [row["name"] for row in await store.servers(connection) if row["enabled"]]
        raise UnknownServer(f"there is no MCP server {server_type!r} here; there are: {', '.join(names) or 'none'}, and 'custom'")

    async def page(self, principal: Principal) -> ServerPage:
        """The whole registry; users see only what is enabled, and no command line."""
        async with self._db.system() as connection:
            rows = await store.servers(connection)
        is_admin = principal.role == "admin"
        return ServerPage(items=[_view(row, is_admin=is_admin) for row in rows if is_admin or row["enabled"]])

    async def register(self, admin: Principal, body: ServerBody, *, source: str) -> ServerView:
        """Adds a server. Addresses of an admin may be on loopback.

        Raises:
            ServerNameTaken, EgressRefused.
        """
        async with audited(self._audit, admin, "register_server", source) as operation:
            operation.server = body.name
            if body.endpoint is not None:
                await self._guard.check(body.endpoint, trusted=True)
            row = {**body.model_dump(), "id": uuid7(), "server_type": body.server_type or body.name}
            try:
                async with self._db.system() as connection:
                    return _view(await store.insert_server(connection, row), is_admin=True)
            except UniqueViolation:
                raise ServerNameTaken(f"the registry has a server named {body.name!r}; choose another name") from None

    async def change(self, admin: Principal, server_id: UUID, patch: ServerPatch, *, source: str) -> ServerView:
        """Changes a server that an admin has registered.

        Raises:
            UnknownServer, ServerInUse (it belongs to the configuration file), EgressRefused.
        """
        async with audited(self._audit, admin, "change_server", source) as operation:
            changes = patch.model_dump(exclude_unset=True)
            if not changes:
                raise InvalidRequest("the body changes nothing; give at least one field")
            if patch.endpoint is not None:
                await self._guard.check(patch.endpoint, trusted=True)
            async with self._db.system() as connection:
                _require_admins_own(server_id, await store.get_server_source(connection, server_id))
                row = await store.update_server(connection, server_id, changes)
            if row is None:
                raise _unknown(server_id)
            operation.server = row["name"]
        return _view(row, is_admin=True)

    async def remove(self, admin: Principal, server_id: UUID, *, source: str) -> None:
        """Removes a server that an admin has registered.

        Raises:
            UnknownServer, ServerInUse (connections use it, or it belongs to the configuration file).
        """
        async with audited(self._audit, admin, "remove_server", source) as operation:
            operation.server = str(server_id)
            try:
                async with self._db.system() as connection:
                    _require_admins_own(server_id, await store.get_server_source(connection, server_id))
                    await store.delete_server(connection, server_id)
            except ForeignKeyViolation:
                raise ServerInUse(
                    f"users have connections to server {server_id}; disable it instead (PATCH with enabled: false)"
                ) from None


def _require_admins_own(server_id: UUID, source: str | None) -> None:
    if source is None:
        raise _unknown(server_id)
    if source == "config":
        raise ServerInUse(f"server {server_id} is set in the configuration file; change it there and restart")


def _unknown(server_id: UUID) -> UnknownServer:
    return UnknownServer(f"the registry has no server {server_id}")


def _configured(name: str, config: MCPConfig) -> dict[str, Any]:
    server = config.server(name)
    fields = ("transport", "endpoint", "command", "auth_type", "timeout", "retry_attempts", "rate_limit", "enabled")
    return {
        **{field: getattr(server, field) for field in fields},
        "id": uuid7(),
        "name": name,
        "server_type": server.server_type or name,
        "args": list(server.args),
        "env": dict(server.env),
        "tools": None if server.tools is None else list(server.tools),
    }


def _view(row: Any, *, is_admin: bool) -> ServerView:
    fields = {name: row[name] for name in ServerView.model_fields if name != "server_id"}
    if not is_admin:
        fields |= {"command": None, "args": []}
    return ServerView(server_id=row["id"], **fields)
