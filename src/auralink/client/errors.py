"""What a call of the client can fail with."""

from typing import Any


class ApiError(Exception):
    """The service answered with a problem (RFC 9457). `code` is stable; the message says what to do."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("message") or problem.get("detail") or problem.get("title") or "the service failed")
        self.problem = problem
        self.code: str = problem.get("code", "http_error")
        self.status: int = problem.get("status", 500)
        self.trace_id: str | None = problem.get("trace_id")


class ServiceUnreachable(Exception):
    """No service answers at the address."""
