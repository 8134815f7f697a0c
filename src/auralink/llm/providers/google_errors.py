"""Google's errors (https://cloud.google.com/apis/design/errors): a status by name, and details that may say how long to wait."""

from collections.abc import Mapping
from typing import Any

from auralink.llm.providers.failures import failure, kind_of
from auralink.llm.providers.protocol import ErrorKind, Failure

KINDS: Mapping[str, ErrorKind] = {
    "INVALID_ARGUMENT": "invalid_request",
    "FAILED_PRECONDITION": "invalid_request",
    "OUT_OF_RANGE": "invalid_request",
    "UNAUTHENTICATED": "unauthorized",
    "PERMISSION_DENIED": "unauthorized",
    "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "rate_limited",
    "UNAVAILABLE": "overloaded",
    "INTERNAL": "server_error",
    "UNKNOWN": "server_error",
    "DEADLINE_EXCEEDED": "server_error",
}
KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED"})


def error_in(body: object) -> Mapping[str, Any] | None:
    """The error object of an answer, which is also sent as the only element of a list."""
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, Mapping) else None
    return error if isinstance(error, Mapping) else None


def failure_of(error: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Failure:
    """What an error object says. A bad key is an invalid argument for Google, told by the reason in the details."""
    details = [detail for detail in error.get("details") or () if isinstance(detail, Mapping)]
    code = error.get("code")
    kind = KINDS.get(str(error.get("status")), kind_of(code if isinstance(code, int) else status))
    if KEY_REASONS & {str(detail.get("reason")) for detail in details}:
        kind = "unauthorized"
    return failure(kind, str(error.get("message", "")), headers, retry_after=_retry_delay(details))


def _retry_delay(details: list[Mapping[str, Any]]) -> float | None:
    """Seconds, from a `google.rpc.RetryInfo` such as `{"retryDelay": "34.07s"}`."""
    for detail in details:
        delay = str(detail.get("retryDelay", "")).removesuffix("s")
        if delay.replace(".", "", 1).isdigit():
            return float(delay)
    return None
