"""HTTP message signatures (RFC 9421) with a digest of the body (RFC 9530): made on calls to servers, checked on requests to us.

A signature covers method, target URI and, where there is a body, `content-digest`; it carries `created`, `expires`, `nonce`, `keyid` and
the tag `auralink`. Which operations need one, and whose keys count, is in `signing_keys.py`.
"""

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    InvalidSignature,
    MappingKeyResolver,
    VerifyResult,
    algorithms,
)

from auralink.core.errors import Forbidden

TAG = "auralink"
COMPONENTS = ("@method", "@target-uri")
LIFETIME = timedelta(minutes=5)
"""How old a signature may be, and how long ours are valid."""
SKEW = timedelta(seconds=30)
"""How far the clocks of the two sides may be apart."""
NONCE_BYTES = 16
MAX_NONCE = 128
ACCEPT_SIGNATURE = f'sig=("@method" "@target-uri" "content-digest");created;expires;nonce;keyid;tag="{TAG}"'

Algorithm = Literal["ed25519", "ecdsa-p256-sha256"]
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey
_ALGORITHMS: Mapping[Algorithm, type[algorithms.HTTPSignatureAlgorithm]] = {
    "ed25519": algorithms.ED25519,
    "ecdsa-p256-sha256": algorithms.ECDSA_P256_SHA256,
}


class SignatureRequired(Forbidden):
    """The user has registered a key, so that a token alone does not do for this operation."""

    code = "signature_required"
    title = "Signature required"


class SignatureInvalid(Forbidden):
    """The signature does not verify, is too old, or does not cover what it must."""

    code = "signature_invalid"
    title = "Invalid signature"


class SignatureReplayed(Forbidden):
    """The nonce was used before."""

    code = "signature_replayed"
    title = "Signature replayed"


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A request as a signature sees it; `url` is its target URI and `headers` keeps every field line."""

    method: str
    url: str
    headers: Any


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key that counts, under its `keyid`."""

    key_id: str
    algorithm: Algorithm
    key: PublicKey


@dataclass(frozen=True, slots=True)
class Verified:
    """What a valid signature said; its nonce must not come again before `expires`."""

    key_id: str
    nonce: str
    expires: datetime


class RequestSigner:
    """Signs requests with the installation's Ed25519 key."""

    def __init__(self, seed: bytes) -> None:
        """`seed` is 32 secret bytes, the same in every process of the installation."""
        key = Ed25519PrivateKey.from_private_bytes(seed)
        self._jwk = jwk_of(key.public_key())
        self.key_id = thumbprint(key.public_key())
        resolver = MappingKeyResolver(private_keys={self.key_id: key}, public_keys={})
        self._signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=resolver)

    def headers(self, method: str, url: str, body: bytes | None) -> dict[str, str]:
        """The header fields that sign a request: `Signature`, `Signature-Input` and, with a body, `Content-Digest`."""
        message = SignedMessage(method, url, {})
        now = datetime.now(UTC)
        self._signer.sign(
            message,
            key_id=self.key_id,
            created=now,
            expires=now + LIFETIME,
            nonce=base64.urlsafe_b64encode(os.urandom(NONCE_BYTES)).decode().rstrip("="),
            label="auralink",
            tag=TAG,
            covered_component_ids=COMPONENTS,
            body=body,
        )
        return dict(message.headers)

    def directory(self) -> dict[str, Any]:
        """The public key as a key set (draft-meunier-http-message-signatures-directory)."""
        return {"keys": [{**self._jwk, "kid": self.key_id, "use": "sig"}]}


def verify(message: SignedMessage, body: bytes, keys: Sequence[KnownKey]) -> Verified:
    """Verifies the request's one signature with our tag against one of `keys`. That its nonce is new is for the caller to check.

    Raises:
        SignatureInvalid: saying what is wrong.
    """
    problem = "no key is registered"
    for name, algorithm in _ALGORITHMS.items():
        public_keys = {key.key_id: key.key for key in keys if key.algorithm == name}
        if not public_keys:
            continue
        verifier = HTTPMessageVerifier(
            signature_algorithm=algorithm, key_resolver=MappingKeyResolver(private_keys={}, public_keys=public_keys)
        )
        verifier.max_clock_skew = SKEW
        try:
            results = verifier.verify(message, max_age=LIFETIME, expect_tag=TAG, require_components=COMPONENTS, body=body)
        except InvalidSignature as error:
            problem = str(error) or type(error.__cause__).__name__
        else:
            return _complete(results)
    raise SignatureInvalid(f"the request's signature is not valid: {problem[:300]}; sign it as docs/how-to/signing.md says")


def thumbprint(key: PublicKey) -> str:
    """The key's JWK thumbprint (RFC 7638), which is its `keyid`."""
    members = orjson.dumps(jwk_of(key), option=orjson.OPT_SORT_KEYS)
    return base64.urlsafe_b64encode(hashlib.sha256(members).digest()).decode().rstrip("=")


def algorithm_of(key: object) -> Algorithm | None:
    """The algorithm that a key is for; None for a key of another kind."""
    if isinstance(key, Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ecdsa-p256-sha256"
    return None


def jwk_of(key: PublicKey) -> dict[str, str]:
    """The required members of the key's JWK (RFC 8037 §2, RFC 7518 §6.2)."""
    if isinstance(key, Ed25519PublicKey):
        return {"crv": "Ed25519", "kty": "OKP", "x": _base64url(key.public_bytes(Encoding.Raw, PublicFormat.Raw))}
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {"crv": "P-256", "kty": "EC", "x": _base64url(point[1:33]), "y": _base64url(point[33:])}


def _complete(results: Sequence[VerifyResult]) -> Verified:
    """Our rules beyond the library's: one signature, with `expires` and a `nonce` of bounded length."""
    if len(results) != 1:
        raise SignatureInvalid(f"the request carries {len(results)} signatures with the tag {TAG!r}; send one")
    parameters = results[0].parameters
    key_id, nonce = parameters.get("keyid"), parameters.get("nonce")
    created, expires = parameters.get("created"), parameters.get("expires")
    if not isinstance(nonce, str) or not 1 <= len(nonce) <= MAX_NONCE or not nonce.isprintable():
        raise SignatureInvalid(f"the signature needs a nonce of 1 to {MAX_NONCE} characters")
    if not isinstance(created, int) or not isinstance(expires, int) or not isinstance(key_id, str):
        raise SignatureInvalid("the signature needs created, expires and keyid")
    oldest = datetime.fromtimestamp(created, UTC) + LIFETIME
    return Verified(key_id, nonce, min(oldest, datetime.fromtimestamp(expires, UTC)) + SKEW)


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
