"""The `state` that goes out with a user and comes back with whoever holds the browser: signed, and good for one authorization.

It names the user, the connection and the authorization; that the last is used once and in time is kept in Postgres.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

from auralink.mcp.oauth.errors import StateInvalid

MAC_BYTES = 32


@dataclass(frozen=True, slots=True)
class State:
    """What a state stands for."""

    user_id: UUID
    connection_id: UUID
    authorization_id: UUID


class States:
    """Signs states with a key of their own."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, state: State) -> str:
        """The state as a parameter of a URL."""
        body = state.user_id.bytes + state.connection_id.bytes + state.authorization_id.bytes
        return _text_of(self._mac(body) + body)

    def read(self, text: str) -> State:
        """What `sign` was given.

        Raises:
            StateInvalid: it is not one of ours.
        """
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raw = b""
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if len(body) != 48 or _text_of(raw) != text or not hmac.compare_digest(mac, self._mac(body)):
            raise StateInvalid("the state is not one that this service has given; start the authorization again")
        return State(*(UUID(bytes=body[start : start + 16]) for start in (0, 16, 32)))

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()


def _text_of(raw: bytes) -> str:
    """The one way to write it: the last character has bits that say nothing."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
