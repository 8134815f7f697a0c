"""The public keys that users register, and the rule that goes with them: once a user has one, a sensitive operation needs a
signature by one of them, besides the token. A stolen token then neither replaces a credential nor registers or removes a key."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key, load_pem_public_key
from jwt import PyJWK, PyJWTError
from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from auralink.auth import signing_store as store
from auralink.auth.principal import Principal
from auralink.auth.signing import (
    ACCEPT_SIGNATURE,
    Algorithm,
    KnownKey,
    PublicKey,
    SignatureReplayed,
    SignatureRequired,
    SignedMessage,
    algorithm_of,
    thumbprint,
    verify,
)
from auralink.core.db import Database
from auralink.core.errors import Conflict, InvalidRequest, NotFound
from auralink.core.ids import uuid7

log = structlog.get_logger(__name__)

MAX_KEYS = 20
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
Pem = Annotated[str, StringConstraints(max_length=2000)]


class SigningKeyNotFound(NotFound):
    """The user has no such key."""

    code = "signing_key_not_found"
    title = "Signing key not found"


class SigningKeyKnown(Conflict):
    """The user has registered this key."""

    code = "signing_key_known"
    title = "Signing key already registered"


class BadPublicKey(InvalidRequest):
    """What was given is not a public key that we can verify with."""

    code = "bad_public_key"
    title = "Bad public key"


class SigningKeyBody(BaseModel):
    """POST /signing-keys."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    public_key: Pem | dict[str, Any] = Field(description="PEM (SubjectPublicKeyInfo) or a JWK; Ed25519 or P-256")


class SigningKeyPatch(BaseModel):
    """PATCH /signing-keys/{id}."""

    model_config = ConfigDict(extra="forbid")

    name: Name


class SigningKeyView(BaseModel):
    """A registered key; `key_id` is the `keyid` that its signatures carry."""

    signing_key_id: UUID
    name: str
    key_id: str
    algorithm: Algorithm
    created_at: datetime
    last_used_at: datetime | None


class SigningKeyPage(BaseModel):
    """A user's keys, oldest first."""

    items: list[SigningKeyView]
    next_cursor: None = None


class SigningKeys:
    """Registers keys and demands signatures by them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def register(self, principal: Principal, body: SigningKeyBody) -> SigningKeyView:
        """Adds a key. Raises BadPublicKey, SigningKeyKnown."""
        key = _parse(body.public_key)
        algorithm = algorithm_of(key)
        assert algorithm is not None
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        row_id, key_id = uuid7(), thumbprint(key)
        try:
            async with self._db.tenant(principal) as connection:
                if len(await store.keys(connection)) >= MAX_KEYS:
                    raise Conflict(f"you have {MAX_KEYS} signing keys; delete one first")
                row = await store.insert(
                    connection,
                    row_id=row_id,
                    user_id=principal.user_id,
                    name=body.name,
                    key_id=key_id,
                    algorithm=algorithm,
                    public_key=der,
                )
        except UniqueViolation:
            raise SigningKeyKnown(f"you have registered this key ({key_id}) before") from None
        log.info("signing key registered", user_id=str(principal.user_id), key_id=key_id)
        return _view(row)

    async def page(self, principal: Principal) -> SigningKeyPage:
        """All of the principal's keys: there are at most `MAX_KEYS`."""
        return SigningKeyPage(items=[_view(row) for row in await self._rows(principal)])

    async def get(self, principal: Principal, signing_key_id: UUID) -> SigningKeyView:
        """One key."""
        for row in await self._rows(principal):
            if row["id"] == signing_key_id:
                return _view(row)
        raise _not_found(signing_key_id)

    async def rename(self, principal: Principal, signing_key_id: UUID, patch: SigningKeyPatch) -> SigningKeyView:
        """Gives a key another name."""
        async with self._db.tenant(principal) as connection:
            row = await store.rename(connection, signing_key_id, patch.name)
        if row is None:
            raise _not_found(signing_key_id)
        return _view(row)

    async def delete(self, principal: Principal, signing_key_id: UUID) -> None:
        """Removes a key; with the last one, signatures are no longer demanded."""
        async with self._db.tenant(principal) as connection:
            if not await store.delete(connection, signing_key_id):
                raise _not_found(signing_key_id)
        log.info("signing key deleted", user_id=str(principal.user_id), signing_key_id=str(signing_key_id))

    async def demand(self, principal: Principal, message: SignedMessage, body: bytes) -> None:
        """Lets a request pass that is signed by one of the principal's keys, or whose principal has none.

        Raises:
            SignatureRequired: it carries no signature; `Accept-Signature` says which one is needed (RFC 9421 §5).
            SignatureInvalid: it is not valid, or not for this request.
            SignatureReplayed: its nonce was used before.
        """
        rows = await self._rows(principal)
        if not rows:
            return
        if "signature" not in message.headers:
            raise SignatureRequired(
                "you have registered a signing key, so this operation needs a signature by it (docs/how-to/signing.md)",
                headers={"Accept-Signature": ACCEPT_SIGNATURE},
            )
        verified = verify(message, body, [_known(row) for row in rows])
        async with self._db.tenant(principal) as connection:
            new = await store.use_nonce(connection, principal.user_id, verified.key_id, verified.nonce, verified.expires)
        if not new:
            raise SignatureReplayed("the signature's nonce was used before; sign each request with a new one")

    async def _rows(self, principal: Principal) -> list[DictRow]:
        async with self._db.tenant(principal) as connection:
            return await store.keys(connection)


def _parse(given: str | dict[str, Any]) -> PublicKey:
    if isinstance(given, dict) and "d" in given:
        raise BadPublicKey("this is a private key; keep it, make a new one now that it was sent, and register its public half")
    try:
        key = PyJWK(given).key if isinstance(given, dict) else load_pem_public_key(given.encode())
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        raise BadPublicKey("public_key is neither PEM (-----BEGIN PUBLIC KEY-----) nor a JWK") from None
    if not isinstance(key, PublicKey) or algorithm_of(key) is None:
        raise BadPublicKey("the key is of another kind; make an Ed25519 key (openssl genpkey -algorithm ed25519) or one on P-256")
    return key


def _known(row: DictRow) -> KnownKey:
    key: Any = load_der_public_key(bytes(row["public_key"]))
    return KnownKey(row["key_id"], row["algorithm"], key)


def _view(row: DictRow) -> SigningKeyView:
    fields = {name: row[name] for name in SigningKeyView.model_fields if name != "signing_key_id"}
    return SigningKeyView(signing_key_id=row["id"], **fields)


def _not_found(signing_key_id: UUID) -> SigningKeyNotFound:
    return SigningKeyNotFound(f"you have no signing key {signing_key_id}; GET /api/v1/signing-keys lists yours")
