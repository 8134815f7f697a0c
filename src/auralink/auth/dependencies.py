"""The principal as a FastAPI parameter: `async def read(principal: Authenticated) -> …`.

The token is taken from the `Authorization` header only, never from a query or a form (RFC 6750 §2.3 calls that a risk).
"""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers

from auralink.auth.errors import Unauthenticated
from auralink.auth.policy import require_admin
from auralink.auth.principal import Principal
from auralink.auth.tokens import TokenVerifier

_documented = HTTPBearer(auto_error=False, bearerFormat="JWT", description="`auralink token` makes one in embedded mode.")


def bearer_token(headers: Headers) -> str:
    """The token of the request's one `Authorization: Bearer` header.

    Raises:
        Unauthenticated: none, several, or another scheme.
    """
    values = headers.getlist("authorization")
    if not values:
        raise Unauthenticated("the request carries no token; send Authorization: Bearer <token>")
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the Authorization header must stand once and read: Bearer <token>")
    return token.strip()


async def current(
    request: Request, _openapi: Annotated[HTTPAuthorizationCredentials | None, Security(_documented)] = None
) -> Principal:
    """The principal of the request, by `app.state.verifier`.

    Raises:
        Unauthenticated: with the code `unauthenticated`, `token_invalid` or `token_expired`.
        KeysUnavailable: the identity provider was never reached.
    """
    verifier: TokenVerifier = request.app.state.verifier
    return await verifier.verify(bearer_token(request.headers))


Authenticated = Annotated[Principal, Depends(current)]
"""Any principal with a valid token."""


async def current_admin(principal: Authenticated) -> Principal:
    """The principal of the request, if it is an admin (else `Forbidden`)."""
    require_admin(principal)
    return principal


Admin = Annotated[Principal, Depends(current_admin)]
"""A principal with the role admin."""
