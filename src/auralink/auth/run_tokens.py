"""Run tokens: what an engine shows to the two gateways, and opens nothing else.

A JWT of an issuer and audience of its own, signed with a key derived from the master key, valid for the run's time limit, since
stock clients fix their headers when they are built. Whether its attempt is still the current one is asked of the journal on every
call, so that a token of an earlier attempt is worthless however long it is valid.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import UUID

import jwt

from auralink.auth.errors import TokenExpired, TokenInvalid
from auralink.auth.principal import Principal
from auralink.core.secret import Secret

ISSUER = "auralink-run"
AUDIENCE = "auralink-gateways"
PURPOSE = "run token"
"""What the key is derived for (`KeyRing.derive`)."""
ALGORITHM = "HS256"
TYPE = "run+jwt"

_HEADER = jwt.encode({}, bytes(32), algorithm=ALGORITHM, headers={"typ": TYPE}).partition(".")[0] + "."


class Verifier(Protocol):
    """Turns a bearer token into a principal."""

    async def verify(self, token: str) -> Principal:
        """Raises `Unauthenticated`."""
        ...


class RunTokens:
    """Issues and verifies run tokens."""

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        """`key` is `ring.derive(PURPOSE)`; `clock` is Unix time."""
        self._key = key
        self._clock = clock

    def issue(self, *, user_id: UUID, run: UUID, attempt: int, seconds: float) -> Secret:
        """A token for one attempt at a run, valid for `seconds`."""
        now = self._clock()
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "run": str(run),
            "attempt": attempt,
            "iat": int(now),
            "exp": int(now + seconds) + 1,
        }
        return Secret(jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"typ": TYPE}))

    async def verify(self, token: str) -> Principal:
        """The principal: the run's user, with `run` and `attempt`. Never an admin, whoever started the run.

        Raises:
            TokenExpired, TokenInvalid.
        """
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["sub", "exp", "iss", "aud", "run", "attempt"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            raise TokenInvalid("the run token's signature or form is not valid") from None
        if self._clock() >= claims["exp"]:
            raise TokenExpired("the run token has expired: the run's time limit is over")
        return _principal(claims)


class EitherToken:
    """Users' tokens and run tokens, for the two gateways."""

    def __init__(self, users: Verifier, runs: RunTokens) -> None:
        self._users = users
        self._runs = runs

    async def verify(self, token: str) -> Principal:
        """The principal of a valid token of either kind. Raises as the verifier of that kind."""
        return await (self._runs if is_run_token(token) else self._users).verify(token)


def is_run_token(token: str) -> bool:
    """Whether a token has the header of those that we issue to runs; only its verification shows whether it is one."""
    return token.startswith(_HEADER)


def _principal(claims: Mapping[str, Any]) -> Principal:
    try:
        user_id, run, attempt = UUID(claims["sub"]), UUID(claims["run"]), int(claims["attempt"])
    except (TypeError, ValueError, AttributeError):
        raise TokenInvalid("the run token's claims are not those of a run") from None
    return Principal(user_id, str(user_id), ISSUER, None, "user", frozenset(), run, attempt)
