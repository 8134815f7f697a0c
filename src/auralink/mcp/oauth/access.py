"""Access tokens of connections: kept in memory, refreshed before they end, by one process at a time.

A refresh token that is rotated must be used once: whoever refreshes holds a lease in Postgres (no transaction is open meanwhile),
the others wait for what it stores. A caller that goes away does not stop a refresh. If the process dies between the server's answer
and Postgres, the rotated token is lost with it and the user has to authorise again; no protocol can mend that from this side.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

import structlog

from auralink.core.db import Database
from auralink.core.errors import AuralinkError
from auralink.core.secret import Secret
from auralink.mcp.oauth import store, tokens
from auralink.mcp.oauth.errors import AuthorizationRequired, AuthorizationServerFailed, TokenRefused
from auralink.mcp.oauth.http import OAuthHttp
from auralink.mcp.oauth.schemas import Owner, Terms
from auralink.mcp.oauth.tokens import TokenSet
from auralink.mcp.schemas import ConnectionRecord
from auralink.mcp.upstream.errors import UpstreamTimeout
from auralink.vault.service import Vault

log = structlog.get_logger(__name__)

GRANTS = "oauth_grants"
EARLY_SECONDS = 60.0
"""How long before its end a token is refreshed; of a token that lives shorter than ten times that, a tenth of its life."""
LEASE_SECONDS = 20.0
"""Longer than a request to a token endpoint may take."""
LOOK_AGAIN_SECONDS = 0.05
REST_SECONDS = 5.0
"""How long an authorization server is left alone after it has failed."""
REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class _Held:
    access: Secret
    version: int
    credential_version: int
    due: float
    ends: float


@dataclass(frozen=True, slots=True)
class _Grant:
    terms: Terms
    client_secret: Secret | None
    tokens: TokenSet
    version: int


class AccessTokens:
    """The token of each connection, ready when a call needs it."""

    def __init__(self, db: Database, vault: Vault, http: OAuthHttp) -> None:
        self._db = db
        self._vault = vault
        self._http = http
        self._held: OrderedDict[UUID, _Held] = OrderedDict()
        self._under_way: dict[UUID, asyncio.Task[None]] = {}
        self._resting: dict[UUID, tuple[float, AuthorizationServerFailed]] = {}

    async def close(self) -> None:
        """Waits for refreshes under way, whose tokens would be lost."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def current(self, record: ConnectionRecord) -> Secret:
        """The token that `ready` has made ready. Raises AuthorizationRequired if it was withdrawn meanwhile."""
        held = self._held.get(record.id)
        if held is None:
            raise AuthorizationRequired(record.name, record.id)
        return held.access

    def forget(self, connection_id: UUID) -> None:
        """Drops what is held of a connection."""
        self._held.pop(connection_id, None)
        self._resting.pop(connection_id, None)

    async def ready(self, record: ConnectionRecord, deadline: float) -> None:
        """Returns when `current` has a token that has not ended. `deadline` is on the monotonic clock.

        Raises:
            AuthorizationRequired: the user has to authorise (again).
            AuthorizationServerFailed, UpstreamTimeout: the token has ended and could not be refreshed.
        """
        if record.authorization == "required":
            raise AuthorizationRequired(record.name, record.id)
        held, now = self._held_for(record), time.time()
        if held is not None and now < held.due:
            return
        task = self._load(record, None)
        if held is not None and now < held.ends:
            return
        await self._wait(task, record, deadline)

    async def renew(self, record: ConnectionRecord, refused: Secret | None, deadline: float) -> bool:
        """Whether there is another token than the one that the server has `refused`, after a refresh if need be.

        Raises:
            AuthorizationRequired, AuthorizationServerFailed, UpstreamTimeout: as `ready`.
        """
        for _ in range(2):  # the first wait may be for a task that did not know of the refusal
            held = self._held_for(record)
            if held is None or held.access == refused:
                await self._wait(self._load(record, refused), record, deadline)
        return self.current(record) != refused

    def _held_for(self, record: ConnectionRecord) -> _Held | None:
        held = self._held.get(record.id)
        return held if held is not None and held.credential_version == record.credential_version else None

    def _load(self, record: ConnectionRecord, refused: Secret | None) -> "asyncio.Task[None]":
        """The task that loads the connection's token, and refreshes it if it is due or `refused`; one at a time."""
        task = self._under_way.get(record.id)
        if task is None:
            task = asyncio.create_task(self._load_and_refresh(record, refused), name="oauth refresh")
            self._under_way[record.id] = task
            task.add_done_callback(lambda done: self._loaded(record.id, done))
        return task

    def _loaded(self, connection_id: UUID, task: "asyncio.Task[None]") -> None:
        if self._under_way.get(connection_id) is task:
            del self._under_way[connection_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("no access token", connection=str(connection_id), reason=str(error))

    async def _wait(self, task: "asyncio.Task[None]", record: ConnectionRecord, deadline: float) -> None:
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                await asyncio.shield(task)
        except TimeoutError:
            raise UpstreamTimeout(
                f"the authorization server of MCP server {record.server.name!r} did not answer in time", sent=False
            ) from None
        except AuralinkError as error:
            raise error.twin() from error

    async def _load_and_refresh(self, record: ConnectionRecord, refused: Secret | None) -> None:
        patience = time.monotonic() + 2 * LEASE_SECONDS
        while time.monotonic() < patience:
            grant = await self._grant(record)
            held = self._hold(record, grant)
            if time.time() < held.due and grant.tokens.access != refused:
                return
            if grant.tokens.refresh is None:
                await self._without_refresh(record, grant, held, refused)
                return
            self._check_rest(record, grant)
            async with self._db.tenant(Owner(record.user_id)) as connection:
                leased = await store.lease(connection, record.id, grant.version, LEASE_SECONDS)
            if leased:
                await self._refresh(record, grant)
                return
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        raise AuthorizationServerFailed(f"another process has not refreshed the token of connection {record.name!r}; try again")

    async def _grant(self, record: ConnectionRecord) -> _Grant:
        owner = Owner(record.user_id)
        async with self._db.tenant(owner) as connection:
            row = await store.find_grant(connection, record.id)
        if row is None or row["sealed_tokens"] is None:
            self.forget(record.id)
            raise AuthorizationRequired(record.name, record.id)
        opened = await self._vault.open(owner, row["sealed_tokens"], table=GRANTS, row_id=record.id, field="sealed_tokens")
        secret = row["sealed_client_secret"]
        if secret is not None:
            secret = await self._vault.open(owner, secret, table=GRANTS, row_id=record.id, field="sealed_client_secret")
        return _Grant(Terms.model_validate(row["terms"]), secret, TokenSet.opened(opened), row["version"])

    def _hold(self, record: ConnectionRecord, grant: _Grant) -> _Held:
        known = self._held_for(record)
        if known is not None and known.version == grant.version:
            return known
        ends = grant.tokens.expires_at or float("inf")
        left = ends - time.time()
        due = ends - min(EARLY_SECONDS, max(left, 0) / 10) if left != float("inf") else ends
        held = _Held(grant.tokens.access, grant.version, record.credential_version, due, ends)
        self._held[record.id] = held
        self._held.move_to_end(record.id)
        if len(self._held) > REMEMBERED:
            self._held.popitem(last=False)
        return held

    async def _without_refresh(self, record: ConnectionRecord, grant: _Grant, held: _Held, refused: Secret | None) -> None:
        """A token that cannot be refreshed is used to its end, and given up once it is refused."""
        if grant.tokens.access != refused and time.time() < held.ends:
            return
        await self._withdraw(record, grant, "the access token has ended and there is no refresh token")

    def _check_rest(self, record: ConnectionRecord, grant: _Grant) -> None:
        until, failure = self._resting.get(record.id, (0.0, None))
        if failure is not None and time.monotonic() < until:
            raise failure.twin()

    async def _refresh(self, record: ConnectionRecord, grant: _Grant) -> None:
        assert grant.tokens.refresh is not None
        owner = Owner(record.user_id)
        try:
            fresh = await tokens.refresh(self._http, grant.terms, grant.client_secret, grant.tokens.refresh)
        except TokenRefused as error:
            await self._withdraw(record, grant, error.message)
            return
        except AuralinkError as error:
            async with self._db.tenant(owner) as connection:
                await store.end_lease(connection, record.id, grant.version)
            failure = error if isinstance(error, AuthorizationServerFailed) else AuthorizationServerFailed(error.message)
            self._resting[record.id] = (time.monotonic() + REST_SECONDS, failure)
            raise failure from error
        sealed = await self._vault.seal(owner, fresh.sealed_form(), table=GRANTS, row_id=record.id, field="sealed_tokens")
        async with self._db.tenant(owner) as connection:
            stored = await store.renew(connection, record.id, grant.version, sealed)
        if stored:
            self._resting.pop(record.id, None)
            self._hold(record, _Grant(grant.terms, grant.client_secret, fresh, grant.version + 1))

    async def _withdraw(self, record: ConnectionRecord, grant: _Grant, reason: str) -> None:
        """Notes that the user has to authorise again, unless that has just happened."""
        async with self._db.tenant(Owner(record.user_id)) as connection:
            withdrawn = await store.withdraw(connection, record.id, grant.version, reason)
        self.forget(record.id)
        if withdrawn:
            raise AuthorizationRequired(record.name, record.id)
