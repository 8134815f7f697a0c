"""JSON from and to authorization servers. Every address is one that somebody else has named, so each goes through the egress guard.

Addresses must be https; http is taken only where no public address is behind the name (development, or a network that the operator
has listed). No redirect is followed, and an answer is read up to `MAX_BYTES`.
"""

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from auralink.core.addresses import Kind, kind_of
from auralink.core.egress import EgressGuard, HostNotFound
from auralink.mcp.oauth.errors import AuthorizationServerFailed, DiscoveryFailed
from auralink.mcp.upstream.http import http_client

MAX_BYTES = 256 * 1024
TIMEOUT = aiohttp.ClientTimeout(total=10)


class OAuthHttp:
    """Two clients: one may reach loopback, for servers that the operator runs there (`local`), the other may not."""

    def __init__(self, guard: EgressGuard) -> None:
        self._guard = guard
        self._clients: dict[bool, aiohttp.ClientSession] = {}

    async def open(self) -> None:
        """Makes the clients."""
        self._clients = {local: http_client(self._guard, trusted=local) for local in (False, True)}

    async def close(self) -> None:
        """Closes the clients."""
        for client in self._clients.values():
            await client.close()

    async def check(self, url: str, *, local: bool) -> str:
        """The address in its canonical spelling, if it may be used.

        Raises:
            EgressRefused: it is not a URL, or not where this service connects to.
            DiscoveryFailed: it is http on the public internet.
            AuthorizationServerFailed: its host has no address.
        """
        try:
            target = await self._guard.check(url, trusted=local)
        except HostNotFound as error:
            raise AuthorizationServerFailed(f"the authorization server cannot be found: {error.message}") from error
        if target.url.startswith("http:") and any(kind_of(address) is Kind.PUBLIC for address in target.addresses):
            raise DiscoveryFailed(f"{url[:200]} is not https; tokens are not asked for over an open line")
        return target.url

    async def find(self, url: str, *, local: bool) -> dict[str, Any] | None:
        """The JSON object at an address; None if nothing of that kind is there.

        Raises:
            AuthorizationServerFailed: no answer, or a failure of the server, which says nothing about what is there.
        """
        status, document = await self._request("GET", url, local=local, headers={"Accept": "application/json"})
        return document if status == 200 else None

    async def post_form(
        self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str], local: bool
    ) -> tuple[int, dict[str, Any] | None]:
        """Status and JSON object that a form leads to. Raises as `find`."""
        return await self._request("POST", url, local=local, headers={"Accept": "application/json", **headers}, data=dict(form))

    async def post_json(self, url: str, document: Mapping[str, Any], *, local: bool) -> tuple[int, dict[str, Any] | None]:
        """Status and JSON object that a document leads to. Raises as `find`."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        return await self._request("POST", url, local=local, headers=headers, data=orjson.dumps(document))

    async def _request(self, method: str, url: str, *, local: bool, **options: Any) -> tuple[int, dict[str, Any] | None]:
        checked = await self.check(url, local=local)
        try:
            async with self._clients[local].request(
                method, checked, timeout=TIMEOUT, allow_redirects=False, **options
            ) as response:
                body = await response.content.read(MAX_BYTES + 1)
                while len(body) <= MAX_BYTES and (more := await response.content.read(MAX_BYTES + 1 - len(body))):
                    body += more
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AuthorizationServerFailed(f"{url[:200]} does not answer ({type(error).__name__}); try again") from error
        if status >= 500 or status == 429:
            raise AuthorizationServerFailed(f"{url[:200]} answered HTTP {status}; try again")
        if len(body) > MAX_BYTES:
            raise AuthorizationServerFailed(f"{url[:200]} answered more than {MAX_BYTES // 1024} KiB")
        return status, _object(body)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
