"""A user's connections: made only after the server has really answered, changed, tested, and closed."""

import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import orjson
from psycopg.errors import UniqueViolation

from auralink.audit.group_commit import GroupCommit
from auralink.auth.principal import Principal, acting_as
from auralink.core.db import Database
from auralink.core.egress import EgressGuard
from auralink.core.errors import InvalidRequest
from auralink.core.ids import uuid7
from auralink.core.paging import Position, encode_cursor
from auralink.core.secret import Secret
from auralink.core.warned import Warning  # noqa: A004  # what it is called on the wire
from auralink.mcp import naming, store
from auralink.mcp.errors import BadCredentials, ConnectionNameTaken, ConnectionNotFound
from auralink.mcp.oauth import store as oauth_store
from auralink.mcp.oauth.discovery import challenge_of
from auralink.mcp.oauth.errors import AuthorizationRequired, DiscoveryFailed
from auralink.mcp.oauth.schemas import Callback, StartBody, Started
from auralink.mcp.oauth.service import Authorizations
from auralink.mcp.pins import Pins
from auralink.mcp.policy import unknown_tools
from auralink.mcp.recording import audited
from auralink.mcp.registry import Registry
from auralink.mcp.resolve import ConnectionResolver
from auralink.mcp.schemas import (
    ConnectionPage,
    ConnectionPatch,
    ConnectionPolicy,
    ConnectionRecord,
    ConnectionTest,
    ConnectionView,
    ConnectRequest,
    ConnectResponse,
    Credentials,
    Server,
)
from auralink.mcp.upstream.errors import UpstreamError, UpstreamUnauthorized
from auralink.mcp.upstream.session import UpstreamSession
from auralink.mcp.upstreams import CREDENTIAL_PLACE, Upstreams
from auralink.vault.service import Vault

CAPABILITY_OF_TOOL = {"read_wiki_structure": "read_wiki", "read_wiki_contents": "read_wiki"}
"""Tools whose capability has a name of its own; every other tool is its own capability."""


PATIENCE_FOR_WARNINGS = 5.0
"""Seconds that a change waits for a server that is only asked in order to warn."""
UNKNOWN_SERVER: Mapping[str, Any] = {"protocol_version": None, "server_name": None, "server_info": {}, "capabilities": []}
"""What is known of a server that has not let us in yet."""


class Connections:
    """Makes, shows, tests, changes and closes connections."""

    def __init__(
        self,
        db: Database,
        *,
        registry: Registry,
        resolver: ConnectionResolver,
        upstreams: Upstreams,
        vault: Vault,
        guard: EgressGuard,
        audit: GroupCommit,
        pins: Pins,
        authorizations: Authorizations,
    ) -> None:
        self._db = db
        self._registry = registry
        self._resolver = resolver
        self._upstreams = upstreams
        self._vault = vault
        self._guard = guard
        self._audit = audit
        self._pins = pins
        self._authorizations = authorizations

    async def connect(self, principal: Principal, request: ConnectRequest, *, source: str) -> ConnectResponse:
        """Contacts the server, and stores the connection if it answers, or if it wants its user to authorise it with OAuth.

        Raises:
            UnknownServer, EgressRefused, BadCredentials, ConnectionNameTaken: the request cannot be met.
            UpstreamError: the server cannot be reached or refuses the credential; nothing is stored.
        """
        async with audited(self._audit, principal, "connect", source) as operation:
            operation.server = request.server_type
            server = await self._server(request)
            name = await self._free_name(principal, request, server)
            record = ConnectionRecord(
                id=uuid7(),
                user_id=principal.user_id,
                name=name,
                server=server,
                policy=request.policy,
                sealed_credentials=None,
                credential_version=1,
            )
            operation.connection_id, operation.server = record.id, server.name
            secret = _document(request.credentials)
            _check_credentials(server, request.credentials)
            with acting_as(principal):
                try:
                    session, record = await self._open(record, secret)
                except UpstreamUnauthorized as refusal:
                    return await self._await_authorization(principal, record, secret, refusal)
                try:
                    tools = await session.list_tools(time.monotonic() + server.timeout)
                    advice = await self._upstreams.inspect(record, secret)
                    sealed = await self._seal(principal, record.id, secret)
                    await self._store(principal, record, "active", _description(session, tools), sealed)
                    await self._pins.quarantined(principal, record, tools)
                finally:
                    await session.close()
        return ConnectResponse(
            connection_id=record.id,
            status="active",
            server_type=server.server_type,
            server_name=session.server_info.get("name") or server.name,
            name=record.name,
            capabilities=_capabilities(tools),
            protocol_version=session.protocol_version,
            served_by=record.server.served_by,
            warnings=[
                *(Warning(pointer="/credentials", message=sentence) for sentence in advice),
                *unknown_tools(record.policy, tools, server.name),
            ],
        )

    async def _open(self, record: ConnectionRecord, secret: Secret | None) -> tuple[UpstreamSession, ConnectionRecord]:
        """A session with the server, or in development mode with its built-in twin if it cannot be reached."""
        try:
            return await self._upstreams.open_session(record, secret, record.server.timeout), record
        except UpstreamError as error:
            twin = self._upstreams.twin(record)
            if twin is None or error.sent or (isinstance(error, UpstreamUnauthorized) and _wants_oauth(record, error)):
                raise
            return await self._upstreams.open_session(twin, None, twin.server.timeout), twin

    async def _await_authorization(
        self, principal: Principal, record: ConnectionRecord, secret: Secret | None, refusal: UpstreamUnauthorized
    ) -> ConnectResponse:
        """Stores a connection whose user has to authorise it first; raises `refusal` where that is not what the server wants."""
        if not refusal.expired or secret is not None or self._upstreams.has_key(record):
            raise refusal
        try:
            started = await self._authorizations.begin(record, challenge_of(refusal.challenge), StartBody())
        except DiscoveryFailed:
            if _wants_oauth(record, refusal):
                raise
            raise refusal from None
        await self._store(principal, record, "authorization_required", UNKNOWN_SERVER, None)
        return ConnectResponse(
            connection_id=record.id,
            status="authorization_required",
            server_type=record.server.server_type,
            server_name=record.server.name,
            name=record.name,
            capabilities=[],
            protocol_version=None,
            served_by=record.server.served_by,
            authorization_url=started.authorization_url,
        )

    async def authorise(self, principal: Principal, connection_id: UUID, wish: StartBody, *, source: str) -> Started:
        """Sends a connection's user to the server's authorization server, for the first time or again.

        Raises:
            InvalidRequest: the connection's server is not reached over HTTP.
            UpstreamError, EgressRefused: there is no way to authorise.
        """
        async with audited(self._audit, principal, "oauth_start", source) as operation:
            operation.connection_id = connection_id
            record = await self._resolver.resolve(principal, connection_id)
            operation.server = record.server.name
            if record.server.transport not in ("http", "sse"):
                raise InvalidRequest(f"server {record.server.name!r} is not reached over HTTP; OAuth is for servers that are")
            challenge = challenge_of(await self._upstreams.challenge(record))
            return await self._authorizations.begin(record, challenge, wish)

    async def authorised(self, callback: Callback, *, source: str) -> ConnectionView:
        """Takes what a user has brought back from the authorization server, and contacts the connection's server with it.

        Raises:
            StateInvalid, AuthorizationRefused, TokenRefused, AuthorizationServerFailed, ConnectionNotFound: as `finish`.
        """
        state = self._authorizations.read(callback)
        principal = Principal(state.user_id, str(state.user_id), "oauth callback", None, "user", frozenset())
        async with audited(self._audit, principal, "oauth_finish", source) as operation:
            operation.connection_id = state.connection_id
            await self._authorizations.finish(state, callback)
            self._resolver.forget(state.connection_id)
            self._upstreams.forget(state.connection_id)
            record = await self._resolver.resolve(principal, state.connection_id)
            operation.server = record.server.name
            await self._look_around(principal, record)
        return await self.get(principal, state.connection_id)

    async def _look_around(self, principal: Principal, record: ConnectionRecord) -> None:
        """Notes what the server says of itself now that it lets the connection in; that it fails is noted, not raised."""
        deadline = time.monotonic() + record.server.timeout
        try:
            with acting_as(principal):
                session = await self._upstreams.session(principal, record, deadline)
                tools = await session.list_tools(deadline)
        except UpstreamError as error:
            await self._note(principal, record.id, _status_after(error), error.message)
            return
        async with self._db.tenant(principal) as connection:
            await store.describe(connection, record.id, _description(session, tools))
        await self._pins.quarantined(principal, record, tools)

    async def disconnect(self, principal: Principal, connection_id: UUID, *, source: str) -> None:
        """Closes a connection: its sessions end, its credential is deleted."""
        async with audited(self._audit, principal, "disconnect", source) as operation:
            operation.connection_id = connection_id
            async with self._db.tenant(principal) as connection:
                if not await store.disconnect(connection, connection_id):
                    raise _not_found(connection_id)
                await oauth_store.delete_grant(connection, connection_id)
            self._resolver.forget(connection_id)
            self._upstreams.forget(connection_id)

    async def get(self, principal: Principal, connection_id: UUID) -> ConnectionView:
        """One connection."""
        async with self._db.tenant(principal) as connection:
            row = await store.find_connection(connection, connection_id=connection_id)
        if row is None:
            raise _not_found(connection_id)
        return _view(row)

    async def page(self, principal: Principal, *, after: Position | None, limit: int) -> ConnectionPage:
        """A page of the principal's open connections, oldest first."""
        async with self._db.tenant(principal) as connection:
            rows = await store.connections(connection, after=after, limit=limit + 1)
        more = len(rows) > limit
        rows = rows[:limit]
        cursor = encode_cursor((rows[-1]["created_at"], rows[-1]["id"])) if more else None
        return ConnectionPage(items=[_view(row) for row in rows], next_cursor=cursor)

    async def change(self, principal: Principal, connection_id: UUID, patch: ConnectionPatch, *, source: str) -> ConnectionView:
        """Renames a connection or replaces its policy; warns of tools in it that the server does not list.

        Raises ConnectionNotFound, ConnectionNameTaken.
        """
        async with audited(self._audit, principal, "change_connection", source) as operation:
            operation.connection_id = connection_id
            if patch.name is not None:
                _require_name(patch.name)
            policy = None if patch.policy is None else patch.policy.model_dump()
            warnings = [] if patch.policy is None else await self._policy_warnings(principal, connection_id, patch.policy)
            try:
                async with self._db.tenant(principal) as connection:
                    if not await store.patch_connection(connection, connection_id, name=patch.name, policy=policy):
                        raise _not_found(connection_id)
            except UniqueViolation:
                raise _name_taken(patch.name or "") from None
            self._resolver.forget(connection_id)
            self._upstreams.forget(connection_id)
        return (await self.get(principal, connection_id)).model_copy(update={"warnings": warnings})

    async def _policy_warnings(self, principal: Principal, connection_id: UUID, policy: ConnectionPolicy) -> list[Warning]:
        """What a policy names that the server does not list. A server that does not say what it has is no reason to refuse."""
        if not policy.tools and not policy.rate_limits:
            return []
        record = await self._resolver.resolve(principal, connection_id)
        deadline = time.monotonic() + min(record.server.timeout, PATIENCE_FOR_WARNINGS)
        try:
            with acting_as(principal):
                session = await self._upstreams.session(principal, record, deadline)
                tools = await session.list_tools(deadline)
        except UpstreamError as error:
            unchecked = f"whether server {record.server.name!r} has these tools could not be checked: {error.message}"
            return [Warning(pointer="/policy", message=unchecked)]
        return list(unknown_tools(policy, tools, record.server.name))

    async def replace_credentials(
        self, principal: Principal, connection_id: UUID, credentials: Credentials, *, source: str
    ) -> ConnectionView:
        """Puts another credential in place; open sessions with the old one end."""
        async with audited(self._audit, principal, "replace_credentials", source) as operation:
            operation.connection_id = connection_id
            record = await self._resolver.resolve(principal, connection_id)
            operation.server = record.server.name
            _check_credentials(record.server, credentials)
            sealed = await self._seal(principal, connection_id, _document(credentials))
            assert sealed is not None
            async with self._db.tenant(principal) as connection:
                if not await store.replace_credentials(connection, connection_id, sealed):
                    raise _not_found(connection_id)
                await oauth_store.delete_grant(connection, connection_id)
            self._resolver.forget(connection_id)
            self._upstreams.forget(connection_id)
        return await self.get(principal, connection_id)

    async def test(self, principal: Principal, connection_id: UUID, *, source: str) -> ConnectionTest:
        """Contacts the server with a new session and notes how it went. Raises what keeps it from answering."""
        async with audited(self._audit, principal, "test", source) as operation:
            operation.connection_id = connection_id
            record = await self._resolver.resolve(principal, connection_id)
            operation.server = record.server.name
            started = time.perf_counter()
            try:
                session, tools = await self._contact(principal, record)
            except UpstreamError as error:
                await self._note(principal, connection_id, _status_after(error), error.message)
                raise
            latency = (time.perf_counter() - started) * 1000
            await self._note(principal, connection_id, "active", None)
        return ConnectionTest(
            connection_id=connection_id,
            status="active",
            latency_ms=round(latency, 3),
            protocol_version=session.protocol_version,
            server_name=session.server_info.get("name"),
            server_version=session.server_info.get("version"),
            tools=sorted(tools),
        )

    async def _contact(self, principal: Principal, record: ConnectionRecord) -> tuple[UpstreamSession, list[str]]:
        deadline = time.monotonic() + record.server.timeout
        with acting_as(principal):
            self._upstreams.forget(record.id)
            session = await self._upstreams.session(principal, record, deadline)
            return session, list(await session.list_tools(deadline))

    async def _note(self, principal: Principal, connection_id: UUID, status: str, error: str | None) -> None:
        async with self._db.tenant(principal) as connection:
            await store.set_status(connection, connection_id, status, error)

    async def _server(self, request: ConnectRequest) -> Server:
        if request.server_type != "custom":
            if request.endpoint is not None:
                raise InvalidRequest("endpoint goes with server_type 'custom' only; the registry has the address of the others")
            return await self._registry.find(request.server_type)
        if request.endpoint is None or request.name is None:
            raise InvalidRequest("a custom server needs a name and an endpoint")
        await self._guard.check(request.endpoint)
        return store.custom_server(request.name, request.endpoint)

    async def _free_name(self, principal: Principal, request: ConnectRequest, server: Server) -> str:
        async with self._db.tenant(principal) as connection:
            taken = await store.taken_names(connection)
        if request.name is not None:
            name = request.name if naming.is_connection_name(request.name) else naming.connection_name_from(request.name)
            if name in taken:
                raise _name_taken(name)
            return name
        base = naming.connection_name_from(server.name)
        candidates = (base, *(f"{base[: naming.MAX_CONNECTION_NAME - 4]}-{n}" for n in range(2, 1000)))
        return next(name for name in candidates if name not in taken)

    async def _store(
        self,
        principal: Principal,
        record: ConnectionRecord,
        status: str,
        description: Mapping[str, Any],
        sealed: bytes | None,
    ) -> None:
        server = record.server
        row = {
            "id": record.id,
            "user_id": principal.user_id,
            "server_id": server.id,
            "server_type": server.server_type,
            "name": record.name,
            "endpoint": server.endpoint if server.id is None else None,
            "status": status,
            "policy": record.policy.model_dump(),
            "encrypted_credentials": sealed,
            **description,
        }
        try:
            async with self._db.tenant(principal) as connection:
                await store.insert_connection(connection, row)
        except UniqueViolation:
            raise _name_taken(record.name) from None

    async def _seal(self, principal: Principal, connection_id: UUID, secret: Secret | None) -> bytes | None:
        if secret is None:
            return None
        return await self._vault.seal(principal, secret, row_id=connection_id, **CREDENTIAL_PLACE)


def _document(credentials: Credentials | None) -> Secret | None:
    return None if credentials is None else Secret(orjson.dumps(credentials.plain()).decode())


def _check_credentials(server: Server, credentials: Credentials | None) -> None:
    if credentials is not None and server.transport != "in_process" and credentials.dsn is not None:
        raise BadCredentials(f"server {server.name!r} takes an api_key or a token, not a dsn")
    if credentials is not None and server.transport == "stdio":
        raise BadCredentials(f"server {server.name!r} is started by the operator and takes no credentials")


def _capabilities(tools: Any) -> list[str]:
    return list(dict.fromkeys(CAPABILITY_OF_TOOL.get(tool, tool) for tool in tools))


def _description(session: UpstreamSession, tools: Iterable[str]) -> dict[str, Any]:
    """What a connection's row says of its server."""
    return {
        "protocol_version": session.protocol_version,
        "server_name": session.server_info.get("name"),
        "server_info": session.server_info,
        "capabilities": _capabilities(tools),
    }


def _wants_oauth(record: ConnectionRecord, refusal: UpstreamUnauthorized) -> bool:
    """Whether the operator or the server says that OAuth is the way in."""
    return record.server.auth_type == "oauth" or challenge_of(refusal.challenge).resource_metadata is not None


def _status_after(error: UpstreamError) -> str:
    return "authorization_required" if isinstance(error, AuthorizationRequired) else "error"


def _require_name(name: str) -> None:
    if not naming.is_connection_name(name):
        raise InvalidRequest(
            f"{name!r} cannot name a connection: lower case letters, digits, '-' and single '_', "
            f"at most {naming.MAX_CONNECTION_NAME}"
        )


def _name_taken(name: str) -> ConnectionNameTaken:
    return ConnectionNameTaken(f"you have an open connection named {name!r}; disconnect it or choose another name")


def _not_found(connection_id: UUID) -> ConnectionNotFound:
    return ConnectionNotFound(f"you have no open connection {str(connection_id)!r}; GET /api/v1/mcp/connections lists yours")


def _view(row: Any) -> ConnectionView:
    fields = {name: row[name] for name in ConnectionView.model_fields if name in row}
    has_credentials = row["encrypted_credentials"] is not None or row["authorization"] == "granted"
    return ConnectionView(connection_id=row["id"], has_credentials=has_credentials, **fields)
