"""Keeps one server's trouble to itself (P-BULKHEAD): a circuit breaker and a cap on calls for each (server, credential).

A failure, to the breaker (core/breaker.py), is what says that the server is unwell; a refusal of this call is none.
"""

import asyncio
import time
from collections.abc import Hashable
from types import TracebackType

from auralink.core.breaker import Breaker, CircuitOpen
from auralink.core.errors import AuralinkError
from auralink.core.telemetry import mcp_breakers
from auralink.mcp.config import BreakerConfig
from auralink.mcp.schemas import ConnectionRecord, Server
from auralink.mcp.upstream.errors import (
    UpstreamBadAnswer,
    UpstreamClosed,
    UpstreamTimeout,
    UpstreamUnreachable,
)

FAILURES = (UpstreamBadAnswer, UpstreamClosed, UpstreamTimeout, UpstreamUnreachable)
MAX_UNDER_WAY = 64
"""Calls to one server with one credential at the same time; the next wait their turn."""
REMEMBERED = 10_000


class ServerBusy(AuralinkError):
    """Too many calls to the server are under way."""

    code = "server_busy"
    status = 503
    title = "Too many calls to the MCP server are under way"


class _Compartment:
    __slots__ = ("breaker", "slots", "under_way")

    def __init__(self, config: BreakerConfig) -> None:
        self.slots = asyncio.Semaphore(MAX_UNDER_WAY)
        self.breaker = Breaker(config)
        self.under_way = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost with it."""
        return self.breaker.is_untroubled and self.under_way == 0


class Bulkheads:
    """One compartment for each (server, credential)."""

    def __init__(self, config: BreakerConfig) -> None:
        self._config = config
        self._compartments: dict[Hashable, _Compartment] = {}

    def call(self, record: ConnectionRecord, deadline: float, *, proves_health: bool = True) -> "_Passage":
        """A call to a connection's server goes in this block; `proves_health` says whether its success speaks for the server.

        Raises:
            CircuitOpen: with `retry_after` in seconds.
            ServerBusy: no slot came free before the deadline (monotonic).
        """
        compartment = self._compartment((record.id, record.credential_version, record.server.transport))
        return _Passage(compartment, record.server, deadline, proves_health=proves_health)

    def _compartment(self, key: Hashable) -> _Compartment:
        compartment = self._compartments.get(key)
        if compartment is None:
            if len(self._compartments) >= REMEMBERED:
                self._forget_idle()
            compartment = self._compartments[key] = _Compartment(self._config)
        return compartment

    def _forget_idle(self) -> None:
        """Drops the compartments that hold no call and no failure; a new one starts in the same state."""
        for key, compartment in list(self._compartments.items()):
            if compartment.is_idle:
                del self._compartments[key]


class _Passage:
    """One call through a compartment."""

    __slots__ = ("_compartment", "_deadline", "_probe", "_proves_health", "_server")

    def __init__(self, compartment: _Compartment, server: Server, deadline: float, *, proves_health: bool) -> None:
        self._compartment = compartment
        self._server = server
        self._deadline = deadline
        self._proves_health = proves_health
        self._probe = False

    async def __aenter__(self) -> None:
        compartment = self._compartment
        _check(compartment.breaker, self._server.name)
        if compartment.slots.locked():
            await _wait_for_slot(compartment, self._server.name, self._deadline)
        else:
            await compartment.slots.acquire()
        compartment.under_way += 1
        self._probe = compartment.breaker.begin()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        compartment = self._compartment
        if isinstance(error, FAILURES):
            if compartment.breaker.failed():
                mcp_breakers.labels(self._server.label).inc()
        elif error is None and self._proves_health and compartment.breaker.succeeded():
            mcp_breakers.labels(self._server.label).dec()
        compartment.slots.release()
        compartment.under_way -= 1
        compartment.breaker.end(probe=self._probe)


def _check(breaker: Breaker, server: str) -> None:
    wait = breaker.wait
    if wait is None:
        return
    seconds = max(1, round(wait))
    raise CircuitOpen(
        f"MCP server {server!r} failed {breaker.failures} times in a row and is left alone; try again in {seconds} s",
        headers={"Retry-After": str(seconds)},
        extra={"retry_after": seconds},
    )


async def _wait_for_slot(compartment: _Compartment, server: str, deadline: float) -> None:
    try:
        async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
            await compartment.slots.acquire()
    except TimeoutError:
        raise ServerBusy(
            f"{MAX_UNDER_WAY} calls to MCP server {server!r} are under way and none ended in time; try again shortly",
            headers={"Retry-After": "1"},
            extra={"retry_after": 1},
        ) from None
