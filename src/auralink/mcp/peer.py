"""The client at the other end of a call: what it can be asked and told while the call is under way.

A server may report progress, log, and ask the user something (elicitation, sampling, roots). The gateway passes that to the
peer of the call, whichever protocol revision and door it came through.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from mcp_types import METHOD_NOT_FOUND

from auralink.mcp.upstream.transport import Message

LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
CAPABILITY_OF_REQUEST = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}
"""What a client must have declared to be asked something."""


class PeerRefused(Exception):
    """The client cannot be asked this, or has refused; becomes the JSON-RPC error that the server gets."""

    def __init__(self, message: str, *, code: int = METHOD_NOT_FOUND, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Peer(Protocol):
    """A client during one call."""

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """What the client has declared, as in its `initialize` or `_meta`."""
        ...

    @property
    def log_level(self) -> str | None:
        """From which level on the client wants to see a server's log of this call; None: the server need not send any."""
        ...

    @property
    def answers_rounds(self) -> bool:
        """Whether the client takes `input_required` and asks again by itself (2026-07-28)."""
        ...

    async def notify(self, message: Message) -> None:
        """Passes a notification of the server on. A client that is gone is not an error."""
        ...

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Asks the client and waits for its answer. Raises `PeerRefused`."""
        ...


class Nobody:
    """The peer of a call that came through REST: nothing can be asked, and nobody listens."""

    capabilities: Mapping[str, Any] = {}
    log_level = None
    answers_rounds = False

    async def notify(self, message: Message) -> None:
        """Drops it."""

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Refuses."""
        raise PeerRefused(f"this call came through a door where nobody can answer {method}; use the MCP endpoint")


NOBODY = Nobody()


def is_logged(message: Message, level: str | None) -> bool:
    """Whether a notification is to be passed on to a client that wants to see logs from `level` on (None: none at all)."""
    if message.get("method") != "notifications/message":
        return True
    said = (message.get("params") or {}).get("level")
    return level in LOG_LEVELS and said in LOG_LEVELS and LOG_LEVELS.index(said) >= LOG_LEVELS.index(level)


def can_be_asked(peer: Peer, method: str) -> bool:
    """Whether the client has declared the capability that a request needs."""
    return CAPABILITY_OF_REQUEST.get(method, method) in peer.capabilities
