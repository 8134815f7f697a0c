"""Bearer tokens (JWT, RFC 7519) verified as RFC 8725 advises (P-JWT), and issued for the embedded mode.

A verifier is bound to one kind of key when it is built: a shared secret (HS256), or a JWKS URL (RS256, ES256, EdDSA). The
token's header chooses among the keys of that kind and nothing else.
"""

import base64
import json
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from datetime import timedelta
from hashlib import sha256
from typing import Any

import jwt
from aiohttp import ClientSession
from jwt import PyJWK
from jwt.types import Options

from auralink.auth import jwks
from auralink.auth.errors import TokenExpired, TokenInvalid
from auralink.auth.principal import Principal, Role, user_id_of
from auralink.core.errors import StartupError
from auralink.core.secret import Secret

ISSUER = "auralink"
AUDIENCE = "auralink"
MIN_SECRET_BYTES = 32
MAX_LEEWAY = 60.0
MAX_TOKEN = 16 * 1024
CACHE_SECONDS = 60.0
"""How long a verified token is believed without being verified again."""
CACHE_SIZE = 4096

_HMAC = frozenset({"HS256"})
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_FORBIDDEN_HEADERS = ("crit", "b64", "jwk", "jku", "x5u", "x5c")
_KID = re.compile(r"(?!/)(?!.*\.\.)[A-Za-z0-9._:=+/@~-]{1,200}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SEGMENT = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_OPTIONS: Options = {
    "require": ["sub", "exp", "iss", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_jti": False,
}
"""Times are checked here, strictly and by the verifier's own clock."""


class TokenVerifier:
    """Turns a bearer token into a principal."""

    def __init__(
        self,
        *,
        secret: Secret | None = None,
        jwks_url: str | None = None,
        issuer: str = ISSUER,
        audience: str = AUDIENCE,
        leeway: float = 30.0,
        session: ClientSession | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Exactly one of `secret` and `jwks_url`. `leeway` is seconds; `session` fetches the JWKS; `clock` is Unix time.

        Raises:
            StartupError: none or both, a secret under 32 bytes, a leeway over 60 s, an empty issuer or audience.
        """
        if (secret is None) == (jwks_url is None):
            raise StartupError("set either JWT_SECRET or JWT_JWKS_URL, not both and not neither")
        if not issuer or not audience:
            raise StartupError("JWT_ISSUER and JWT_AUDIENCE must not be empty")
        if not 0 <= leeway <= MAX_LEEWAY:
            raise StartupError(f"the leeway for token times must be 0 to {MAX_LEEWAY:.0f} seconds")
        self._secret = None if secret is None else _checked_secret(secret)
        self._keys = None if jwks_url is None else jwks.KeySet(jwks_url, session=session)
        self._algorithms = _HMAC if jwks_url is None else jwks.ALGORITHMS
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._clock = clock
        self._verified: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """The principal of a valid token.

        Raises:
            TokenExpired: it was valid.
            TokenInvalid: anything else is wrong with it.
            KeysUnavailable: the identity provider's keys were never reached.
        """
        digest = sha256(token.encode("utf-8", "replace")).digest()
        cached = self._verified.get(digest)
        if cached is not None and self._clock() < cached[0]:
            self._verified.move_to_end(digest)
            return cached[1]
        claims = await self._verified_claims(token)
        principal = _principal(claims, self._issuer)
        self._remember(digest, claims["exp"], principal)
        return principal

    async def close(self) -> None:
        """Closes what fetches keys."""
        if self._keys is not None:
            await self._keys.close()

    def _remember(self, digest: bytes, expires: float, principal: Principal) -> None:
        now = self._clock()
        self._verified[digest] = (min(expires, now + CACHE_SECONDS), principal)
        self._verified.move_to_end(digest)
        if len(self._verified) > CACHE_SIZE:
            self._verified.popitem(last=False)

    async def _verified_claims(self, token: str) -> dict[str, Any]:
        header = _header(token)
        _check_header(header, self._algorithms)
        key = await self._key(header)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=self._audience,
                issuer=self._issuer,
                options=_OPTIONS,
            )
        except jwt.MissingRequiredClaimError as error:
            raise TokenInvalid(f"the token lacks the claim {error.claim}") from None
        except jwt.InvalidAudienceError:
            raise TokenInvalid("the token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise TokenInvalid("the token is from another issuer") from None
        except jwt.PyJWTError:
            raise TokenInvalid("the token's signature or form is not valid") from None
        self._check_times(claims)
        return claims

    async def _key(self, header: dict[str, Any]) -> PyJWK | bytes:
        if self._keys is not None:
            return await self._keys.key(header.get("kid"), header["alg"])
        assert self._secret is not None
        return self._secret.reveal().encode()

    def _check_times(self, claims: dict[str, Any]) -> None:
        now = self._clock()
        if now >= _numeric_date(claims, "exp") + self._leeway:
            raise TokenExpired("the token has expired; get a new one")
        for claim in ("nbf", "iat"):
            if claim in claims and now < _numeric_date(claims, claim) - self._leeway:
                raise TokenInvalid(f"the token is not valid yet ({claim}); check the issuer's clock")


def issue_token(
    secret: Secret,
    *,
    subject: str,
    role: Role,
    ttl: timedelta,
    email: str | None = None,
    scopes: Collection[str] = (),
    issuer: str = ISSUER,
    audience: str = AUDIENCE,
) -> str:
    """A token that a verifier with the same secret accepts for `ttl`. For the embedded mode, which has no identity provider.

    Raises:
        StartupError: the secret is under 32 bytes.
        ValueError: `subject` is empty, too long or unprintable, or `ttl` is not positive.
    """
    if not _is_subject(subject) or ttl <= timedelta(0):
        raise ValueError("a token needs a printable subject of 1 to 255 characters and a positive lifetime")
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "iat": now,
        "exp": now + math.ceil(ttl.total_seconds()),
        "role": role,
    }
    if email is not None:
        claims["email"] = email
    if scopes:
        claims["scope"] = " ".join(sorted(scopes))
    return jwt.encode(claims, _checked_secret(secret).reveal(), algorithm="HS256")


def _checked_secret(secret: Secret) -> Secret:
    size = len(secret.reveal().encode())
    if size < MIN_SECRET_BYTES:
        raise StartupError(
            f"JWT_SECRET has {size} bytes and needs {MIN_SECRET_BYTES} or more; make one with: openssl rand -base64 48"
        )
    return secret


def _header(token: str) -> dict[str, Any]:
    """The token's header, not yet trusted; the three segments are base64url without padding (RFC 7515 §2)."""
    segments = token.split(".") if len(token) <= MAX_TOKEN else []
    if len(segments) != 3 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise TokenInvalid("the token is not a JSON Web Token")
    try:
        header = json.loads(base64.urlsafe_b64decode(segments[0] + "=" * (-len(segments[0]) % 4)))
    except (ValueError, RecursionError):
        raise TokenInvalid("the token is not a JSON Web Token") from None
    if not isinstance(header, dict):
        raise TokenInvalid("the token is not a JSON Web Token")
    return header


def _check_header(header: dict[str, Any], algorithms: Collection[str]) -> None:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise TokenInvalid(f"the token's algorithm is not accepted; sign it with {' or '.join(sorted(algorithms))}")
    for name in _FORBIDDEN_HEADERS:
        if name in header:
            raise TokenInvalid(f"the token's header carries {name}, which is not accepted")
    kid = header.get("kid", "-")
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise TokenInvalid("the token's kid is not a short plain string")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenInvalid("the token is of another type (typ) than JWT or at+jwt")


def _numeric_date(claims: dict[str, Any], name: str) -> float:
    """A NumericDate (RFC 7519 §2). `true`, strings, `Infinity` and `NaN`, which Python's parser accepts, are not."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise TokenInvalid(f"the token's {name} is not a time")
    return float(value)


def _principal(claims: dict[str, Any], issuer: str) -> Principal:
    """A role other than `admin` is `user`: identity providers put words of their own there."""
    subject = claims["sub"]
    if not _is_subject(subject):
        raise TokenInvalid("the token's sub is not a printable string of 1 to 255 characters")
    scope = claims.get("scope", "")
    email = claims.get("email")
    if not isinstance(scope, str) or not isinstance(email, str | None) or _CONTROL.search(f"{scope}{email}"):
        raise TokenInvalid("the token's scope or email is not a printable string")
    return Principal(
        user_id=user_id_of(issuer, subject),
        subject=subject,
        issuer=issuer,
        email=email,
        role="admin" if claims.get("role") == "admin" else "user",
        scopes=frozenset(scope.split()),
    )


def _is_subject(subject: object) -> bool:
    return isinstance(subject, str) and 1 <= len(subject) <= 255 and not _CONTROL.search(subject)
