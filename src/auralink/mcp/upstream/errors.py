"""What can go wrong between the gateway and an MCP server. Each names the server and says whether the call may have happened."""

from typing import Any, ClassVar

from auralink.core.errors import AuralinkError


class UpstreamError(AuralinkError):
    """A call to an MCP server failed; `sent` says whether the server may have carried it out, `transient` whether the same call
    may go better when it is made again."""

    code = "upstream_error"
    status = 502
    title = "The MCP server failed"
    transient: ClassVar[bool] = True

    def __init__(self, message: str, *, sent: bool, **extra: Any) -> None:
        super().__init__(message, extra=extra)
        self.sent = sent


class UpstreamUnreachable(UpstreamError):
    """No connection could be made (refused, no such host, process does not start)."""

    code = "upstream_unreachable"
    title = "The MCP server cannot be reached"


class UpstreamTimeout(UpstreamError):
    """The server did not answer within the deadline."""

    code = "upstream_timeout"
    status = 504
    title = "The MCP server did not answer in time"


class UpstreamClosed(UpstreamError):
    """The server closed the connection, or its process ended, before it had answered."""

    code = "upstream_closed"
    title = "The MCP server closed the connection"


class UpstreamBadAnswer(UpstreamError):
    """The server answered something that is not MCP."""

    code = "upstream_bad_answer"
    title = "The MCP server answered something that is not MCP"


class UpstreamAnswerTooLarge(UpstreamError):
    """The answer is larger than the gateway takes."""

    code = "upstream_answer_too_large"
    title = "The MCP server's answer is too large"
    transient = False


class UpstreamFloods(UpstreamError):
    """The server says so much beside the answer that it is not awaited any longer."""

    code = "upstream_floods"
    title = "The MCP server floods the call with messages"
    transient = False


class UpstreamRedirects(UpstreamError):
    """The server answers with a redirect, which is not followed: its credential is for the address that was connected."""

    code = "upstream_redirects"
    title = "The MCP server redirects"
    transient = False


class UpstreamUnauthorized(UpstreamError):
    """The server refused the connection's credential. `challenge` is the `WWW-Authenticate` it answered with; with a 403, which
    another token of the same kind does not help, `expired` is false."""

    code = "upstream_unauthorized"
    title = "The MCP server refused the credential"
    transient = False

    def __init__(self, message: str, *, sent: bool, challenge: str | None = None, expired: bool = False) -> None:
        super().__init__(message, sent=sent)
        self.challenge = challenge
        self.expired = expired


class UpstreamRejected(UpstreamError):
    """The server answered with a JSON-RPC error: it understood the request and will not do it."""

    code = "upstream_rejected"
    title = "The MCP server rejected the request"
    transient = False

    def __init__(self, message: str, *, rpc_code: int, reason: str, data: Any = None) -> None:
        super().__init__(message, sent=True, rpc_code=rpc_code)
        self.rpc_code = rpc_code
        self.reason = reason
        self.data = data


class SessionLost(UpstreamError):
    """The server no longer knows the session (HTTP 404); the request was not executed."""

    code = "upstream_session_lost"
    title = "The MCP server forgot the session"
    transient = False
