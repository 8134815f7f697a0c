"""The authorization of a connection: begun for a user, finished when the user comes back with a code.

Nothing waits in memory meanwhile, so any replica may finish what another has begun.
"""

import base64
import hashlib
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from psycopg.rows import DictRow

from auralink.core.db import Database
from auralink.core.ids import uuid7
from auralink.core.secret import Secret
from auralink.mcp.errors import ConnectionNotFound
from auralink.mcp.oauth import store, tokens
from auralink.mcp.oauth.access import GRANTS
from auralink.mcp.oauth.clients import Client, client_for, given_client, metadata
from auralink.mcp.oauth.discovery import Challenge, Discovery, discover
from auralink.mcp.oauth.errors import AuthorizationRefused, StateInvalid
from auralink.mcp.oauth.http import OAuthHttp
from auralink.mcp.oauth.schemas import Callback, Owner, Site, StartBody, Started, Terms
from auralink.mcp.oauth.state import State, States
from auralink.mcp.schemas import ConnectionRecord
from auralink.vault.service import Vault

AUTHORIZATIONS = "oauth_authorizations"
PATIENCE = timedelta(minutes=10)
"""How long a user may take from the start to the end."""
VERIFIER_BYTES = 48
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Authorizations:
    """Sends users to authorization servers and takes what they bring back."""

    def __init__(self, db: Database, vault: Vault, http: OAuthHttp, *, site: Site, key: bytes) -> None:
        """`key` signs states."""
        self._db = db
        self._vault = vault
        self._http = http
        self._site = site
        self._states = States(key)

    async def begin(self, record: ConnectionRecord, challenge: Challenge, wish: StartBody) -> Started:
        """Finds the authorization server of a connection and becomes its client. `challenge` is how the server refused.

        Raises:
            DiscoveryFailed, AuthorizationServerFailed, EgressRefused: there is no way to authorise.
        """
        server = record.server
        assert server.endpoint is not None
        local = server.trusted and urlsplit(server.endpoint).hostname in LOOPBACK_NAMES
        found = await discover(self._http, server.name, server.endpoint, challenge, local=local)
        scope = wish.scope or found.scope
        client = await self._client(record, found, wish, scope)
        terms = self._terms(found, client, scope)
        verifier = Secret(base64.urlsafe_b64encode(os.urandom(VERIFIER_BYTES)).decode())
        state, expires_at = State(record.user_id, record.id, uuid7()), datetime.now(UTC) + PATIENCE
        await self._keep(state, terms, client.secret, verifier, expires_at)
        url = _with_query(found.authority.authorization_endpoint, self._question(terms, verifier, self._states.sign(state)))
        return Started(connection_id=record.id, authorization_url=url, expires_at=expires_at)

    def read(self, callback: Callback) -> State:
        """Whose authorization of which connection an answer is about. Raises StateInvalid if the state is not one of ours."""
        return self._states.read(callback.state)

    async def finish(self, state: State, callback: Callback) -> None:
        """Exchanges what a user has brought back for tokens, which become the connection's credential.

        Raises:
            StateInvalid: used before, or too late.
            AuthorizationRefused, TokenRefused: the user or the server said no.
            AuthorizationServerFailed: the server did not answer.
            ConnectionNotFound: the connection was closed meanwhile.
        """
        owner = Owner(state.user_id)
        async with self._db.tenant(owner) as connection:
            row = await store.take_authorization(connection, state.authorization_id, state.connection_id)
        if row is None or not row["in_time"]:
            raise StateInvalid("this authorization was finished before, or took more than 10 minutes; start it again")
        terms = Terms.model_validate(row["terms"])
        _check_answer(callback, terms)
        verifier, client_secret = await self._secrets(owner, state, row)
        fresh = await tokens.exchange(self._http, terms, client_secret, code=Secret(callback.code or ""), verifier=verifier)
        await self._store(owner, state, terms, client_secret, fresh)

    def client_document(self) -> dict[str, Any] | None:
        """The client id metadata document (draft-ietf-oauth-client-id-metadata-document); None where there is none."""
        url = self._site.document_url
        return None if url is None else {"client_id": url, **metadata(self._site)}

    async def _client(self, record: ConnectionRecord, found: Discovery, wish: StartBody, scope: str | None) -> Client:
        if wish.client_id is not None:
            secret = None if wish.client_secret is None else Secret(wish.client_secret.get_secret_value())
            return given_client(found.authority, wish.client_id, secret)
        owner = Owner(record.user_id)
        async with self._db.tenant(owner) as connection:
            row = await store.find_grant(connection, record.id)
        before = None if row is None else Terms.model_validate(row["terms"])
        if row is not None and before is not None and before.registration == "given" and before.issuer == found.authority.issuer:
            secret = await self._open(owner, row["sealed_client_secret"], GRANTS, record.id)
            return given_client(found.authority, before.client_id, secret)
        return await client_for(self._http, found.authority, self._site, scope=scope, local=found.local)

    def _terms(self, found: Discovery, client: Client, scope: str | None) -> Terms:
        return Terms(
            issuer=found.authority.issuer,
            iss_expected=found.authority.authorization_response_iss_parameter_supported,
            token_endpoint=found.authority.token_endpoint,
            client_id=client.client_id,
            registration=client.registration,
            auth_method=client.auth_method,
            redirect_uri=self._site.redirect_uri,
            resource=found.resource,
            scope=scope,
            local=found.local,
        )

    def _question(self, terms: Terms, verifier: Secret, state: str) -> dict[str, str]:
        """The parameters of the authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2.1)."""
        digest = hashlib.sha256(verifier.reveal().encode()).digest()
        question = {
            "response_type": "code",
            "client_id": terms.client_id,
            "redirect_uri": terms.redirect_uri,
            "state": state,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
            "resource": terms.resource,
        }
        if terms.scope:
            question["scope"] = terms.scope
            if "offline_access" in terms.scope.split():
                question["prompt"] = "consent"  # OpenID Connect Core §11 wants it with offline_access
        return question

    async def _keep(
        self, state: State, terms: Terms, client_secret: Secret | None, verifier: Secret, expires_at: datetime
    ) -> None:
        owner, place = Owner(state.user_id), {"table": AUTHORIZATIONS, "row_id": state.authorization_id}
        sealed = None
        if client_secret is not None:
            sealed = await self._vault.seal(owner, client_secret, **place, field="sealed_client_secret")  # type: ignore[arg-type]
        sealed_verifier = await self._vault.seal(owner, verifier, **place, field="sealed_verifier")  # type: ignore[arg-type]
        async with self._db.tenant(owner) as connection:
            await store.insert_authorization(
                connection,
                authorization_id=state.authorization_id,
                user_id=state.user_id,
                connection_id=state.connection_id,
                terms=terms,
                verifier=sealed_verifier,
                client_secret=sealed,
                expires_at=expires_at,
            )

    async def _secrets(self, owner: Owner, state: State, row: DictRow) -> tuple[Secret, Secret | None]:
        verifier = await self._vault.open(
            owner, row["sealed_verifier"], table=AUTHORIZATIONS, row_id=state.authorization_id, field="sealed_verifier"
        )
        return verifier, await self._open(owner, row["sealed_client_secret"], AUTHORIZATIONS, state.authorization_id)

    async def _open(self, owner: Owner, sealed: bytes | None, table: str, row_id: Any) -> Secret | None:
        if sealed is None:
            return None
        return await self._vault.open(owner, sealed, table=table, row_id=row_id, field="sealed_client_secret")

    async def _store(
        self, owner: Owner, state: State, terms: Terms, client_secret: Secret | None, fresh: tokens.TokenSet
    ) -> None:
        sealed = None
        if client_secret is not None:
            sealed = await self._vault.seal(
                owner, client_secret, table=GRANTS, row_id=state.connection_id, field="sealed_client_secret"
            )
        sealed_tokens = await self._vault.seal(
            owner, fresh.sealed_form(), table=GRANTS, row_id=state.connection_id, field="sealed_tokens"
        )
        async with self._db.tenant(owner) as connection:
            stored = await store.put_grant(
                connection, state.user_id, state.connection_id, terms=terms, client_secret=sealed, tokens=sealed_tokens
            )
        if not stored:
            raise ConnectionNotFound("the connection was closed while it was being authorised; connect again")


def _check_answer(callback: Callback, terms: Terms) -> None:
    """The answer must be the right server's (RFC 9207 §2.4), and carry a code."""
    if callback.iss is not None and callback.iss != terms.issuer:
        raise AuthorizationRefused(f"the answer is from {callback.iss[:200]!r} and not from {terms.issuer[:200]!r}; start again")
    if callback.iss is None and terms.iss_expected:
        raise AuthorizationRefused(f"the answer does not say that it is from {terms.issuer[:200]!r} (iss); start again")
    if callback.error is not None:
        words = f"{callback.error[:100]} {(callback.error_description or '')[:200]}".strip()
        raise AuthorizationRefused(f"the authorization server {terms.issuer[:200]} said: {words}")
    if not callback.code:
        raise AuthorizationRefused(f"the authorization server {terms.issuer[:200]} sent the user back without a code")


def _with_query(endpoint: str, question: dict[str, str]) -> str:
    """The endpoint may have parameters of its own (RFC 6749 §3.1)."""
    return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(question)}"
