"""Tokens that we hand to a client and take back unchanged: session ids and request states, signed and bound to the user.

Nothing is stored, so any replica that has the key takes them. They are not secret: what is in them the client told us or may see.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Any
from uuid import UUID

import orjson

MAC_BYTES = 16


class Signer:
    """Signs small JSON documents for one purpose: a token of another is none here."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._key = hmac.new(key, purpose.encode(), hashlib.sha256).digest()

    def sign(self, user_id: UUID, document: Any) -> str:
        """A token of visible ASCII that carries `document` for a user."""
        body = orjson.dumps(document)
        return base64.urlsafe_b64encode(self._mac(user_id, body) + body).rstrip(b"=").decode()

    def read(self, user_id: UUID, token: str) -> Any:
        """The document in a token; None if it is not one that we gave to this user."""
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (ValueError, binascii.Error):
            return None
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(user_id, body)):
            return None
        return orjson.loads(body)

    def _mac(self, user_id: UUID, body: bytes) -> bytes:
        return hmac.new(self._key, user_id.bytes + body, hashlib.sha256).digest()[:MAC_BYTES]
