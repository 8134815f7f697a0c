"""Sessions for connections: which transport a connection's server needs, with its credential opened here and nowhere else."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import UUID

import orjson

from auralink.auth.principal import Principal
from auralink.auth.signing import RequestSigner
from auralink.core.egress import EgressGuard
from auralink.core.http_client import HttpClient
from auralink.core.redaction import Redactor
from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.mcp.oauth.access import AccessTokens
from auralink.mcp.schemas import ConnectionRecord, Server
from auralink.mcp.upstream.errors import UpstreamUnauthorized, UpstreamUnreachable
from auralink.mcp.upstream.http import HeaderSource, HttpTransport, Sign
from auralink.mcp.upstream.in_process import InProcessServers
from auralink.mcp.upstream.pool import SessionPool
from auralink.mcp.upstream.session import UpstreamSession
from auralink.mcp.upstream.sse import SseTransport
from auralink.mcp.upstream.stdio import StdioTransport
from auralink.mcp.upstream.transport import Transport
from auralink.vault.service import Vault

CREDENTIAL_PLACE = {"table": "user_mcp_connections", "field": "encrypted_credentials"}
API_KEY_HEADER = "X-API-Key"
AUTHORIZATION, BEARER = "Authorization", "Bearer "
Announce = Callable[[ConnectionRecord, str, str | None], None]
"""Is told what a connection's server has announced: the notification's method and, for a changed resource, its address."""


class Upstreams:
    """Opens, keeps and closes the sessions of all connections."""

    def __init__(
        self,
        config: MCPConfig,
        guard: EgressGuard,
        vault: Vault,
        built_in: InProcessServers,
        announce: Announce,
        *,
        access: AccessTokens,
        signer: RequestSigner,
    ) -> None:
        self._config = config
        self._guard = guard
        self._vault = vault
        self._built_in = built_in
        self._announce = announce
        self._access = access
        self._signer = signer
        self.on_opened: Callable[[ConnectionRecord, UpstreamSession], None] = lambda _record, _session: None
        self._pool = SessionPool(config.mcp_global.max_connections)
        self._trusted: HttpClient | None = None
        self._untrusted: HttpClient | None = None

    async def open(self) -> None:
        """Makes the two HTTP clients (one for servers of the registry, one for addresses that users give)."""
        self._trusted = HttpClient(self._guard, trusted=True)
        self._untrusted = HttpClient(self._guard, trusted=False)
        await self._built_in.open()
        await self._pool.open()

    async def close(self) -> None:
        """Closes every session and both clients."""
        await self._pool.close()
        await self._built_in.close()
        for client in (self._trusted, self._untrusted):
            if client is not None:
                await client.close()

    async def session(self, principal: Principal, record: ConnectionRecord, deadline: float) -> UpstreamSession:
        """The session of a connection, opened if need be. `deadline` is on the monotonic clock.

        Raises:
            UpstreamError: it could not be opened, or its user has to authorise it.
        """
        if record.authorization != "none":
            await self._access.ready(record, deadline)
        key = _key(record)

        async def opener() -> UpstreamSession:
            credentials = await self._credentials(principal, record)
            session = await self.open_session(record, credentials, deadline - time.monotonic())
            session.on_announcement = lambda method, uri: self._announce(record, method, uri)
            self.on_opened(record, session)
            return session

        return await self._pool.get(key, opener)

    def open_already(self, record: ConnectionRecord) -> UpstreamSession | None:
        """The session of a connection, if one is open."""
        return self._pool.find(_key(record))

    async def open_session(self, record: ConnectionRecord, credentials: Secret | None, timeout: float) -> UpstreamSession:
        """A new session that no pool knows; the caller closes it."""
        redactor = Redactor(self._secrets(record, credentials))
        transport = self._transport(record, credentials, redactor)
        session = UpstreamSession(transport, record.server.name, redactor)
        try:
            if isinstance(transport, (StdioTransport, SseTransport)):
                await transport.start()
            await session.open(min(timeout, self._config.mcp_global.connection_timeout))
        except BaseException:
            await transport.close()
            raise
        return session

    async def inspect(self, record: ConnectionRecord, credentials: Secret | None) -> list[str]:
        """Sentences about what the credentials of a connection to a built-in server open. Raises what keeps it from answering."""
        return await self._built_in.inspect(record, credentials) if record.server.transport == "in_process" else []

    def twin(self, record: ConnectionRecord) -> ConnectionRecord | None:
        """The same connection on the built-in server of that type; None where falling back to it is not allowed (P-FALLBACK)."""
        server = record.server
        hosted = self._config.mcp_servers.get(server.name) if server.id is not None else None
        allowed = hosted is not None and hosted.fallback and self._config.environment.mode == "development"
        if not allowed or server.transport not in ("http", "sse") or server.server_type not in self._built_in:
            return None
        stand_in = replace(server, name=server.server_type, transport="in_process", endpoint=None, twin_of=server.name)
        return replace(record, server=stand_in, sealed_credentials=None, authorization="none")

    async def challenge(self, record: ConnectionRecord) -> str | None:
        """The `WWW-Authenticate` with which a server over HTTP refuses a stranger; None if it has none, or lets strangers in."""
        transport = self._http_transport(record, dict)
        session = UpstreamSession(transport, record.server.name)
        try:
            if isinstance(transport, SseTransport):
                await transport.start()
            await session.open(self._config.mcp_global.connection_timeout)
        except UpstreamUnauthorized as refusal:
            return refusal.challenge
        finally:
            await session.close()
        return None

    def has_key(self, record: ConnectionRecord) -> bool:
        """Whether the operator has a key for the server, which then stands in for the user's."""
        return self._secret(record, None) is not None

    def forget(self, connection_id: UUID) -> None:
        """Closes the sessions of a connection, of every version of its credential."""
        self._pool.discard_matching(lambda key: key[0] == connection_id)
        self._access.forget(connection_id)

    async def _credentials(self, principal: Principal, record: ConnectionRecord) -> Secret | None:
        if record.sealed_credentials is None:
            return None
        return await self._vault.open(principal, record.sealed_credentials, row_id=record.id, **CREDENTIAL_PLACE)

    def _transport(self, record: ConnectionRecord, credentials: Secret | None, redactor: Redactor) -> Transport:
        server = record.server
        if server.transport == "in_process":
            if server.name not in self._built_in:
                raise UpstreamUnreachable(f"the server {server.name!r} is not built in; check its transport", sent=False)
            return self._built_in.transport(record, credentials)
        if server.transport == "stdio":
            assert server.command is not None
            return StdioTransport(server.name, server.command, server.args, server.env)
        if record.authorization == "granted":
            return self._http_transport(record, self._token_source(record, redactor), renews=True)
        return self._http_transport(record, self._header_source(record, credentials))

    def _http_transport(self, record: ConnectionRecord, credentials: HeaderSource, *, renews: bool = False) -> HttpTransport:
        server = record.server
        client = self._trusted if server.trusted else self._untrusted
        assert client is not None
        assert server.endpoint is not None

        async def renew(refused: Mapping[str, str], deadline: float) -> bool:
            token = Secret(refused[AUTHORIZATION].removeprefix(BEARER))
            return await self._access.renew(record, token, deadline)

        kind = SseTransport if server.transport == "sse" else HttpTransport
        return kind(client, server.name, server.endpoint, credentials, renew=renew if renews else None, sign=self._sign(server))

    def _sign(self, server: Server) -> Sign:
        configured = self._config.mcp_servers.get(server.name) if server.id is not None else None
        if configured is None or not configured.sign_requests:
            return lambda *_: {}
        return self._signer.headers

    def _token_source(self, record: ConnectionRecord, redactor: Redactor) -> HeaderSource:
        """The user's access token as it is at the time; the redactor keeps up with it."""
        known: list[Secret] = []

        def headers() -> Mapping[str, str]:
            token = self._access.current(record)
            if not known or known[-1] != token:
                redactor.replace(known[-2] if len(known) > 1 else None, token)
                known[:] = [*known[-1:], token]
            return {AUTHORIZATION: BEARER + token.reveal()}

        return headers

    def _header_source(self, record: ConnectionRecord, credentials: Secret | None) -> HeaderSource:
        """The authenticating headers: the user's credential, else the operator's key for a server of the registry."""
        server, secret = record.server, self._secret(record, credentials)
        if secret is None or server.auth_type == "none":
            return dict
        if server.auth_type == "api_key":
            return lambda: {API_KEY_HEADER: secret.reveal()}
        return lambda: {AUTHORIZATION: BEARER + secret.reveal()}

    def _secret(self, record: ConnectionRecord, credentials: Secret | None) -> Secret | None:
        """What opens the server: the user's credential, else the operator's key for a server of the configuration."""
        if credentials is not None:
            return _secret_value(credentials)
        server = record.server
        is_configured = server.id is not None and self._config.is_server_enabled(server.name)
        return self._config.get_api_key(server.name) if is_configured else None

    def _secrets(self, record: ConnectionRecord, credentials: Secret | None) -> list[Secret]:
        """What only the server may hear: the credential, and the environment that an operator gives a child."""
        secret = self._secret(record, credentials)
        return [*([] if secret is None else [secret]), *(Secret(value) for value in record.server.env.values())]


def _key(record: ConnectionRecord) -> tuple[UUID, int, str]:
    return record.id, record.credential_version, record.server.transport


def _secret_value(credentials: Secret) -> Secret:
    """The one value of the credentials document that the vault holds."""
    return Secret(next(iter(orjson.loads(credentials.reveal()).values())))
