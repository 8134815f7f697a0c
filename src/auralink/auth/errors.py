"""Refusals of a caller: not known (401, with the challenge of RFC 6750 §3) or known and not permitted (403)."""

from auralink.core.errors import AuralinkError, Forbidden

REALM = 'Bearer realm="auralink"'


class Unauthenticated(AuralinkError):
    """The request carries no bearer token."""

    code = "unauthenticated"
    status = 401
    title = "Authentication required"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"WWW-Authenticate": self._challenge(message)})

    def _challenge(self, _message: str) -> str:
        return REALM


class TokenInvalid(Unauthenticated):
    """The bearer token is malformed, forged, or not for this service."""

    code = "token_invalid"
    title = "Invalid token"

    def _challenge(self, message: str) -> str:
        return f'{REALM}, error="invalid_token", error_description="{_quotable(message)}"'


class TokenExpired(TokenInvalid):
    """The bearer token was valid once."""

    code = "token_expired"
    title = "Token expired"


class KeysUnavailable(AuralinkError):
    """The identity provider's keys have never been reached, so no token can be judged."""

    code = "keys_unavailable"
    status = 503
    title = "Identity provider unavailable"


class InsufficientScope(Forbidden):
    """The token lacks a scope."""

    code = "insufficient_scope"
    title = "Insufficient scope"

    def __init__(self, message: str, scope: str) -> None:
        challenge = f'{REALM}, error="insufficient_scope", scope="{_quotable(scope)}"'
        super().__init__(message, headers={"WWW-Authenticate": challenge})


def _quotable(text: str) -> str:
    """`text` reduced to what RFC 6750 §3 allows in a quoted attribute: printable ASCII without `"` and `\\`."""
    return "".join(c for c in text if " " <= c <= "~" and c not in '"\\')
