"""What all providers' errors have in common: how HTTP says it, and how a prompt that is too long is told from other mistakes."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from auralink.llm.providers.protocol import ErrorKind, Failure

REQUEST_ID_HEADERS = ("request-id", "x-request-id")
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum context|prompt is too long|input is too long|too many (input )?tokens"
    r"|token count .{0,80}exceeds|exceeds? the (model'?s? )?(available |maximum )?context|too large for model",
    re.IGNORECASE,
)


def failure(
    kind: ErrorKind, message: str, headers: Mapping[str, str], *, retry_after: float | None = None, request_id: str | None = None
) -> Failure:
    """A failure in a provider's words. The id by which the provider knows the request is put at the end; when the provider names
    no time itself, `Retry-After` does. An invalid request whose message says so is a prompt that is too long."""
    lower = {name.lower(): value for name, value in headers.items()}
    known_as = request_id or next((lower[name] for name in REQUEST_ID_HEADERS if name in lower), None)
    if kind == "invalid_request" and _TOO_LONG.search(message):
        kind = "context_length"
    shown = message.strip() or "no message"
    said = f"{shown} (request {known_as})" if known_as and known_as not in shown else shown
    return Failure(kind, said, retry_after if retry_after is not None else retry_after_of(lower))


def kind_of(status: int) -> ErrorKind:
    """What an HTTP status says. 402 is `unauthorized`: the key has to be paid for before it is of use."""
    if status >= 500:
        return "overloaded" if status in {503, 529} else "server_error"
    kinds: dict[int, ErrorKind] = {
        401: "unauthorized",
        402: "unauthorized",
        403: "unauthorized",
        404: "not_found",
        408: "server_error",
        429: "rate_limited",
    }
    return kinds.get(status, "invalid_request")


def json_of(content: bytes) -> Any:
    """The JSON in an answer; None if it is none."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def text_of(content: bytes, status: int) -> str:
    """What to show of an answer that is not the provider's JSON, such as a proxy's page."""
    text = re.sub(r"<[^>]*>|\s+", " ", content.decode(errors="replace")).strip()
    return f"HTTP {status}: {text}" if text else f"HTTP {status}"


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait (RFC 9110 §10.2.3, or `retry-after-ms`), from headers with lower-case names."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value) * unit
    return _until(headers.get("retry-after", ""), headers.get("date", ""))


def _until(moment: str, sent: str) -> float | None:
    try:
        then = parsedate_to_datetime(moment)
    except ValueError:
        return None
    try:
        now = parsedate_to_datetime(sent)
    except ValueError:
        now = datetime.now(UTC)
    return max(0.0, (then - now).total_seconds())
