"""The identity provider's public keys (RFC 7517), fetched over HTTP and kept through its outages.

Keys are refreshed in the background while the old ones go on serving. A token with a `kid` that is not known may cause one
fetch a minute, whoever sends how many of them. Fetching never follows a redirect, and reads no more than `MAX_BYTES`.
"""

import asyncio
import ipaddress
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK, PyJWTError
from yarl import URL

from auralink.auth.errors import KeysUnavailable, TokenInvalid
from auralink.core.errors import StartupError

FRESH = 300.0
"""Seconds after which cached keys are refreshed in the background."""
FORCED_INTERVAL = 60.0
"""Seconds between two fetches that unknown key ids can cause."""
BACKOFF = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Seconds to wait after the first, second, … failure in a row; the last one stays."""
TIMEOUT = ClientTimeout(total=5.0)
MAX_BYTES = 256 * 1024
MAX_KEYS = 100
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192

_KEY_TYPES = {"RS256": ("RSA", None), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}
ALGORITHMS = frozenset(_KEY_TYPES)

_log = structlog.get_logger(__name__)


class _Unusable(Exception):
    """The answer of the JWKS endpoint is not a key set."""


class KeySet:
    """The keys of one JWKS URL."""

    def __init__(self, url: str, *, session: ClientSession | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`session` stays the caller's; without one, a session is made at the first fetch. `clock` counts seconds.

        Raises:
            StartupError: the URL is not https, and not http on loopback.
        """
        self._url = _checked_url(url)
        self._session = session
        self._owns_session = session is None
        self._clock = clock
        self._keys: list[PyJWK] = []
        self._fetched_at = float("-inf")
        self._forced_at = float("-inf")
        self._retry_at = float("-inf")
        self._failures = 0
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: str | None, algorithm: str) -> PyJWK:
        """The key that verifies a token with this header; without a `kid`, the only key of that algorithm.

        Raises:
            TokenInvalid: no such key, or no `kid` and several keys.
            KeysUnavailable: no keys have been fetched yet.
        """
        await self._ensure_keys()
        found = self._find(kid, algorithm)
        if found is None and kid is not None and self._may_refresh_for_unknown():
            await self._refresh()
            found = self._find(kid, algorithm)
        if found is None:
            raise TokenInvalid("no key of the identity provider matches the token; get a new token")
        return found

    async def settled(self) -> None:
        """Returns when no fetch is under way."""
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    async def close(self) -> None:
        """Ends a fetch under way and closes the session if it is this object's own."""
        if self._fetching is not None:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError):
                await self._fetching
        if self._owns_session and self._session is not None:
            await self._session.close()

    async def _ensure_keys(self) -> None:
        now = self._clock()
        if not self._keys:
            if self._fetching is not None or now >= self._retry_at:
                await self._refresh()
            if not self._keys:
                raise KeysUnavailable(
                    f"the keys of the identity provider at {self._url.host} cannot be fetched; try again shortly",
                    headers={"Retry-After": "5"},
                )
        elif now - self._fetched_at >= FRESH and now >= self._retry_at:
            self._start()

    def _may_refresh_for_unknown(self) -> bool:
        """Joins a fetch under way for nothing; else takes the one forced fetch of this interval, if it is still there."""
        now = self._clock()
        if self._fetching is not None:
            return True
        if now - self._forced_at < FORCED_INTERVAL or now < self._retry_at:
            return False
        self._forced_at = now
        return True

    async def _refresh(self) -> None:
        await asyncio.shield(self._start())

    def _start(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(), name="jwks")
            self._fetching.add_done_callback(self._finished)
        return self._fetching

    def _finished(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        try:
            keys = _usable_keys(await self._download())
        except (ClientError, OSError, _Unusable) as error:
            self._retry_at = self._clock() + BACKOFF[min(self._failures, len(BACKOFF) - 1)]
            self._failures += 1
            _log.warning("jwks_fetch_failed", host=self._url.host, failures=self._failures, error=str(error))
            return
        self._keys, self._fetched_at, self._failures = keys, self._clock(), 0

    async def _download(self) -> Any:
        if self._session is None:
            self._session = ClientSession()
        async with self._session.get(self._url, allow_redirects=False, timeout=TIMEOUT) as response:
            if response.status != 200:
                raise _Unusable(f"status {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_chunked(16 * 1024):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise _Unusable(f"over {MAX_BYTES} bytes")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise _Unusable("not JSON") from None

    def _find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        matching = [k for k in self._keys if k.algorithm_name == algorithm and kid in (None, k.key_id)]
        return matching[0] if matching and (kid is not None or len(matching) == 1) else None


def _checked_url(url: str) -> URL:
    try:
        parsed = URL(url)
    except ValueError:
        raise StartupError("JWT_JWKS_URL is not a URL") from None
    if parsed.scheme == "https" and parsed.host:
        return parsed
    if parsed.scheme == "http" and _is_loopback(parsed.host or ""):
        return parsed
    raise StartupError("JWT_JWKS_URL must be an https URL; http is accepted on loopback only")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _usable_keys(document: Any) -> list[PyJWK]:
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise _Unusable("no list of keys")
    keys = [key for key in map(_usable_key, entries[:MAX_KEYS]) if key is not None]
    if not keys:
        raise _Unusable("no usable key")
    return keys


def _usable_key(entry: Any) -> PyJWK | None:
    """A public signing key of an allowed algorithm; None for whatever else a key set may hold."""
    if not isinstance(entry, dict) or "d" in entry or entry.get("use", "sig") != "sig":
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    algorithm = next((a for a, form in _KEY_TYPES.items() if form == (entry.get("kty"), _curve(entry))), None)
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        key = PyJWK(entry, algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key.key, RSAPublicKey) and not MIN_RSA_BITS <= key.key.key_size <= MAX_RSA_BITS:
        return None
    return key


def _curve(entry: dict[str, Any]) -> Any:
    return None if entry.get("kty") == "RSA" else entry.get("crv")
