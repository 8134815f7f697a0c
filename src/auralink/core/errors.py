"""The one base of every error that reaches a user.

An error is a fact with a stable `code` (snake_case), an HTTP `status` and a `title`. Its message names what went wrong, with
which server, tool, model or run, and what to do next. Domains subclass it beside their own code; `core/http.py` renders it once.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self


class AuralinkError(Exception):
    """Something a user is told: rendered as RFC 9457 problem+json."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, message: str, *, headers: Mapping[str, str] | None = None, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def twin(self) -> Self:
        """The same error as an object of its own: callers that wait for one thing each add what is theirs (`log_id`)."""
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__, headers=dict(self.headers), extra=dict(self.extra))
        twin.__cause__ = self.__cause__
        return twin


class InvalidRequest(AuralinkError):
    """The request is well-formed but asks for something that cannot be."""

    code = "invalid_request"
    status = 422
    title = "Invalid request"


class NotFound(AuralinkError):
    """The object does not exist for this principal."""

    code = "not_found"
    status = 404
    title = "Not found"


class Forbidden(AuralinkError):
    """The principal is known but may not do this."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class Conflict(AuralinkError):
    """The request contradicts the present state."""

    code = "conflict"
    status = 409
    title = "Conflict"


class OutcomeUnknown(Conflict):
    """Whether something was done is not known, and it must not be done twice: that is for a person to say."""

    code = "outcome_unknown"
    title = "Outcome unknown"


class RateLimited(AuralinkError):
    """Too many in a minute; `Retry-After` says when to come back."""

    code = "rate_limited"
    status = 429
    title = "Too many calls"


class StartupError(AuralinkError):
    """The process cannot start; the message is one line that says why and what to do. Exit code 1."""

    code = "startup_failed"
    title = "Start-up failed"
