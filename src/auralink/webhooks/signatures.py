"""Signatures of deliveries, as Standard Webhooks 1.0 has them: HMAC-SHA256 over id, time and body.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from auralink.core.secret import Secret
from auralink.webhooks.errors import WebhookSignatureInvalid

PREFIX = "whsec_"
KEY_BYTES = 32
TOLERANCE = 300.0
"""Seconds that a delivery's time may be away from ours: an older one is taken for a replay."""
MAX_ID = 256
MAX_SIGNATURES = 20


@dataclass(frozen=True)
class Delivery:
    """What a sender signs."""

    delivery_id: str
    timestamp: str
    body: bytes
    signatures: str

    @classmethod
    def of(cls, headers: Mapping[str, str], body: bytes) -> "Delivery":
        """The delivery in a request. Raises WebhookSignatureInvalid if a header is missing."""
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        if missing := [name for name in names if not headers.get(name)]:
            raise WebhookSignatureInvalid(f"the request has no {', '.join(missing)}; sign it as Standard Webhooks says")
        return cls(headers[names[0]], headers[names[1]], body, headers[names[2]])


def new_secret() -> Secret:
    """A secret as senders take it."""
    return Secret(PREFIX + base64.b64encode(os.urandom(KEY_BYTES)).decode())


def signature(secret: Secret, delivery_id: str, timestamp: str, body: bytes) -> str:
    """The signature of a delivery, with its version."""
    key = base64.b64decode(secret.reveal().removeprefix(PREFIX))
    mac = hmac.new(key, b".".join((delivery_id.encode(), timestamp.encode(), body)), hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"


def check_time(delivery: Delivery, *, now: float | None = None) -> None:
    """Raises WebhookSignatureInvalid for a delivery whose id or time cannot be, or whose time is not about now."""
    if len(delivery.delivery_id) > MAX_ID or not delivery.delivery_id.isprintable():
        raise WebhookSignatureInvalid(f"webhook-id must be at most {MAX_ID} printable characters")
    if not delivery.timestamp.isdecimal() or len(delivery.timestamp) > MAX_ID // 16:
        raise WebhookSignatureInvalid("webhook-timestamp must be seconds since 1970, a whole number")
    if abs((time.time() if now is None else now) - int(delivery.timestamp)) > TOLERANCE:
        raise WebhookSignatureInvalid(f"webhook-timestamp is more than {TOLERANCE:.0f} seconds away from the service's clock")


def is_signed(delivery: Delivery, secret: Secret) -> bool:
    """Whether one of the delivery's signatures is made with the secret."""
    wanted = signature(secret, delivery.delivery_id, delivery.timestamp, delivery.body)
    given = delivery.signatures.split(" ")[:MAX_SIGNATURES]
    return any([_same(one, wanted) for one in given])  # noqa: C419  # all of them, so that the time tells nothing


def _same(given: str, wanted: str) -> bool:
    try:
        version, _, mac = given.partition(",")
        return version == "v1" and hmac.compare_digest(base64.b64decode(mac, validate=True), base64.b64decode(wanted[3:]))
    except (binascii.Error, ValueError):
        return False
