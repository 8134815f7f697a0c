"""What can go wrong between us and an HTTP server. Each says whether the server may have acted on the request."""

from auralink.core.errors import AuralinkError


class HttpFailed(AuralinkError):
    """A request brought no usable answer; `sent` says whether the server may have carried it out."""

    code = "http_failed"
    status = 502
    title = "The HTTP request failed"

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class HttpInvalidRequest(HttpFailed):
    """The request cannot be written: a header holds what no header may."""

    code = "http_invalid_request"
    status = 422
    title = "The HTTP request cannot be sent"


class HttpUnreachable(HttpFailed):
    """No connection could be made: no such host, refused, no trust in its certificate."""

    code = "http_unreachable"
    title = "The HTTP server cannot be reached"


class HttpTimeout(HttpFailed):
    """The server did not take the connection, or did not answer, in time."""

    code = "http_timeout"
    status = 504
    title = "The HTTP server did not answer in time"


class HttpClosed(HttpFailed):
    """The connection ended before the answer had."""

    code = "http_closed"
    title = "The HTTP server closed the connection"


class HttpBadAnswer(HttpFailed):
    """The server answered what is not HTTP/1.1, or what was not asked for (compression, another protocol)."""

    code = "http_bad_answer"
    title = "The HTTP server answered something else than HTTP"


class HttpAnswerTooLarge(HttpFailed):
    """The body is larger than its reader takes."""

    code = "http_answer_too_large"
    title = "The HTTP server's answer is too large"
