"""What can go wrong between the gateway, a user's browser and an authorization server."""

from typing import Any

from auralink.core.errors import AuralinkError
from auralink.mcp.upstream.errors import UpstreamError


class AuthorizationRequired(UpstreamError):
    """The user has not authorised the connection, or what was authorised is no longer accepted."""

    code = "authorization_required"
    status = 409
    title = "Authorization required"
    transient = False

    def __init__(self, connection: str, connection_id: object) -> None:
        super().__init__(
            f"connection {connection!r} is not authorised at its server; POST /api/v1/mcp/connections/{connection_id}/oauth/start "
            "gives the address that its user opens in a browser",
            sent=False,
            connection_id=str(connection_id),
        )


class DiscoveryFailed(UpstreamError):
    """The server asks for OAuth but does not publish what a client needs, or publishes what it must not use."""

    code = "oauth_discovery_failed"
    title = "OAuth discovery failed"
    transient = False

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class AuthorizationServerFailed(UpstreamError):
    """The authorization server cannot be reached, is too slow, or answers something that is not OAuth."""

    code = "oauth_server_failed"
    title = "The authorization server failed"

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class AuthorizationRefused(AuralinkError):
    """The user, or the authorization server, said no."""

    code = "oauth_refused"
    status = 400
    title = "The authorization was refused"


class TokenRefused(AuthorizationRefused):
    """The authorization server refused a code or a refresh token, with the error of RFC 6749 §5.2."""

    def __init__(self, message: str, *, error: str, **extra: Any) -> None:
        super().__init__(message, extra={"oauth_error": error, **extra})
        self.error = error


class StateInvalid(AuralinkError):
    """The user came back with a state that is not ours, was used before, or is too old."""

    code = "oauth_state_invalid"
    status = 400
    title = "Invalid OAuth state"
