"""JSON from and to authorization servers. Every address is one that somebody else has named, so each goes through the egress guard.

Addresses must be https; http is taken only where no public address is behind the name (development, or a network that the operator
has listed). No redirect is followed, and an answer is read up to `MAX_BYTES`.
"""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import orjson

from auralink.core.addresses import Kind, kind_of
from auralink.core.egress import EgressGuard, HostNotFound
from auralink.core.http_client import HttpAnswerTooLarge, HttpClient, HttpFailed
from auralink.mcp.oauth.errors import AuthorizationServerFailed, DiscoveryFailed

MAX_BYTES = 256 * 1024
TIMEOUT = 10.0
ACCEPT = {"Accept": "application/json"}


class OAuthHttp:
    """Two clients: one may reach loopback, for servers that the operator runs there (`local`), the other may not."""

    def __init__(self, guard: EgressGuard) -> None:
        self._guard = guard
        self._clients: dict[bool, HttpClient] = {}

    async def open(self) -> None:
        """Makes the clients."""
        self._clients = {local: HttpClient(self._guard, trusted=local) for local in (False, True)}

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
        status, document = await self._request("GET", url, local=local, headers=ACCEPT)
        return document if status == 200 else None

    async def post_form(
        self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str], local: bool
    ) -> tuple[int, dict[str, Any] | None]:
        """Status and JSON object that a form leads to. Raises as `find`."""
        headers = {**ACCEPT, "Content-Type": "application/x-www-form-urlencoded", **headers}
        return await self._request("POST", url, local=local, headers=headers, body=urlencode(form).encode())

    async def post_json(self, url: str, document: Mapping[str, Any], *, local: bool) -> tuple[int, dict[str, Any] | None]:
        """Status and JSON object that a document leads to. Raises as `find`."""
        headers = {**ACCEPT, "Content-Type": "application/json"}
        return await self._request("POST", url, local=local, headers=headers, body=orjson.dumps(document))

    async def _request(
        self, method: str, url: str, *, local: bool, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, dict[str, Any] | None]:
        checked, deadline = await self.check(url, local=local), time.monotonic() + TIMEOUT
        try:
            async with await self._clients[local].request(
                method, checked, headers=headers, body=body, deadline=deadline
            ) as response:
                answer = await response.read(MAX_BYTES)
        except HttpAnswerTooLarge as error:
            raise AuthorizationServerFailed(f"{url[:200]} answered more than {MAX_BYTES // 1024} KiB") from error
        except HttpFailed as error:
            raise AuthorizationServerFailed(f"{url[:200]} does not answer ({error.message}); try again") from error
        if response.status >= 500 or response.status == 429:
            raise AuthorizationServerFailed(f"{url[:200]} answered HTTP {response.status}; try again")
        return response.status, _object(answer)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
