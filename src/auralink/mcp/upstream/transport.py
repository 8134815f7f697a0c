"""What the three ways to an MCP server have in common: JSON-RPC messages as plain dicts, in and out.

Messages are not parsed into typed models: vendor fields and `_meta` pass through as they are, and a call costs no validation
of what the gateway does not need to understand.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import orjson

from auralink.core.errors import InvalidRequest

Message = dict[str, Any]
OnMessage = Callable[[Message], Awaitable[None]]
"""Receives what the server sends while a request is under way: notifications and its own requests."""

IDEMPOTENCY_KEY = "auralink/idempotencyKey"
"""In the `_meta` of a run's call its key, which a server over HTTP also finds in the header `Idempotency-Key`; in that of a tool's
definition `true`: the server honours such keys."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""The largest answer taken from a server, in bytes after decompression."""


class Transport(Protocol):
    """One way to one server. `exchange` and `send` raise only the errors of `upstream/errors.py`.

    `unsolicited` receives what the server sends outside any exchange.
    """

    unsolicited: OnMessage | None

    async def exchange(
        self, message: Message, *, headers: Mapping[str, str], timeout: float, on_message: OnMessage | None = None
    ) -> Message:
        """Sends a request and returns the response with its id. `headers` matter to HTTP only; `timeout` is in seconds."""
        ...

    async def send(self, message: Message, *, headers: Mapping[str, str], timeout: float) -> None:
        """Sends a notification or a response."""
        ...

    def forget_session(self) -> None:
        """The server has forgotten the session: the next message opens another."""
        ...

    async def close(self) -> None:
        """Ends the connection or process; requests under way fail with `UpstreamClosed`."""
        ...


MANY_BRACKETS = 200
NOT_CANCELLABLE = frozenset({"initialize", "server/discover"})


def cancellation_of(request: Message) -> Message:
    """The notification that nobody waits for a request's answer any more."""
    params = {"requestId": request["id"], "reason": "the caller no longer waits"}
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}


def bytes_of(message: Message) -> bytes:
    """The message as JSON.

    Raises:
        InvalidRequest: it is nested too deep.
    """
    try:
        return orjson.dumps(message)
    except TypeError:  # integers beyond 64 bits, and half of a surrogate pair, are JSON that orjson does not write
        try:
            return json.dumps(message, separators=(",", ":")).encode()
        except RecursionError:
            raise InvalidRequest("the request is nested too deep to be sent on") from None


def message_of(data: bytes) -> Message | None:
    """The JSON-RPC message in `data`, or None if it is not one: what is read from it later must have the right shape, and must
    not be nested deeper than can be written again."""
    try:
        message = orjson.loads(data)
        if data.count(b"[") + data.count(b"{") > MANY_BRACKETS:
            orjson.dumps(message)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("id"), int | str | None):
        return None
    if "method" in message:
        is_call = isinstance(message["method"], str) and isinstance(message.get("params"), dict | None)
        return message if is_call else None
    return message if "result" in message or "error" in message else None
