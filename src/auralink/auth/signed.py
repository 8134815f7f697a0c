"""The principal of a sensitive operation as a FastAPI parameter: `async def replace(principal: Signed) -> …`.

It is `Authenticated`, and the request is signed if its user has registered a key.
"""

from typing import Annotated

from fastapi import Depends, Request

from auralink.auth.dependencies import Authenticated
from auralink.auth.metadata import base_of
from auralink.auth.principal import Principal
from auralink.auth.signing import SignedMessage
from auralink.auth.signing_keys import SigningKeys


async def signed(request: Request, principal: Authenticated) -> Principal:
    """The principal, once `SigningKeys.demand` has let the request pass."""
    keys: SigningKeys = request.app.state.signing_keys
    message = SignedMessage(request.method, target_uri(request), request.headers)
    await keys.demand(principal, message, await request.body())
    return principal


def target_uri(request: Request) -> str:
    """The URI that the client meant: under the service's public address where it has one (a proxy hides what the client used)."""
    raw_path = request.scope.get("raw_path") or request.url.path.encode()
    query = request.scope.get("query_string", b"")
    return base_of(request) + raw_path.decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")


Signed = Annotated[Principal, Depends(signed)]
"""A principal whose request is signed, if it has registered a key."""
