"""The client: a pool for each origin, and nothing shared between them."""

import asyncio
import ssl
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Self

from auralink.core.egress import EgressGuard
from auralink.core.http_client.pool import KEPT_IDLE_SECONDS, OriginPool
from auralink.core.http_client.request import Origin, bytes_of, target_of
from auralink.core.http_client.response import Response

CONNECTIONS_TO_ONE_ORIGIN = 256


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """The one TLS context of the process: to make one costs 30 ms of CPU."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class HttpClient:
    """Makes requests over kept connections. Open it inside the event loop that uses it, and close it there.

    Connections are bounded for each origin and not in all, so that a server that hangs takes none from the others.
    """

    def __init__(self, guard: EgressGuard, *, trusted: bool, connections: int = CONNECTIONS_TO_ONE_ORIGIN) -> None:
        """`trusted` is for addresses that the operator gives, which may be on loopback; `connections` bounds those to one origin."""
        self._guard = guard
        self._trusted = trusted
        self._connections = connections
        self._pools: dict[Origin, OriginPool] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: float | None = None,
    ) -> Response:
        """Sends a request (any method but HEAD and CONNECT) and returns the answer as soon as its head is there, whatever its
        status. `deadline` is on the monotonic clock and holds for the body, too.

        Raises:
            EgressRefused: the address is not one to connect to; nothing was sent.
            HttpFailed: `sent` says whether the server may have acted on it.
        """
        target = target_of(url)
        request = bytes_of(method, target, headers, body)
        pool = self._pools.get(target.origin) or self._add_pool(target.origin)
        connection = pool.find_idle() or await pool.take(deadline)
        return await connection.exchange(request, deadline)

    async def close(self) -> None:
        """Closes every connection; requests under way fail."""
        if self._sweep is not None:
            self._sweep.cancel()
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def _add_pool(self, origin: Origin) -> OriginPool:
        pool = OriginPool(origin, self._guard, tls_context(), trusted=self._trusted, places=self._connections)
        self._pools[origin] = pool
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(KEPT_IDLE_SECONDS, self._drop_stale)
        return pool

    def _drop_stale(self) -> None:
        for origin, pool in list(self._pools.items()):
            pool.drop_stale()
            if pool.empty:
                del self._pools[origin]
        self._sweep = None
        if self._pools:
            self._sweep = asyncio.get_running_loop().call_later(KEPT_IDLE_SECONDS, self._drop_stale)
