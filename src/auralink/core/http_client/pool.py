"""The connections to one origin: as many as allowed, used again while they are fresh, waited for in order."""

import asyncio
import contextlib
import os
import ssl
import time
from collections import deque

from auralink.core.addresses import Address
from auralink.core.egress import EgressGuard, HostNotFound
from auralink.core.http_client.connection import Connection
from auralink.core.http_client.errors import HttpClosed, HttpTimeout, HttpUnreachable
from auralink.core.http_client.request import Origin

KEPT_IDLE_SECONDS = 4.0
"""How long an idle connection is used again: shorter than the 5 s after which uvicorn and Node close it, since a call that meets
the closing may have been carried out and cannot be repeated."""
CONNECT_SECONDS = 10.0


class OriginPool:
    """Connections to one origin. A connection has a place in it from before it is dialled until it is lost."""

    def __init__(self, origin: Origin, guard: EgressGuard, tls: ssl.SSLContext, *, trusted: bool, places: int) -> None:
        self._origin = origin
        self._guard = guard
        self._tls = tls if origin.tls else None
        self._trusted = trusted
        self._places = places
        self._taken = 0
        self._open: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        self._queue: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False

    @property
    def empty(self) -> bool:
        """Whether nothing would be lost with it."""
        return not self._taken and not self._queue

    def find_idle(self) -> Connection | None:
        """A connection that is open and was used a moment ago."""
        oldest = time.monotonic() - KEPT_IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since > oldest:
                return connection
            connection.abandon()
        return None

    async def take(self, deadline: float | None) -> Connection:
        """A connection of one's own, dialled or waited for if need be.

        Raises:
            EgressRefused: the origin's address is not one to connect to.
            HttpUnreachable, HttpTimeout
        """
        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                return await self._take()
        except TimeoutError:
            raise HttpTimeout(f"{self._origin} did not take a connection in time", sent=False) from None

    async def _take(self) -> Connection:
        while (connection := self.find_idle()) is None:
            if self._taken < self._places:
                self._taken += 1
            elif (connection := await self._turn()) is not None:
                if connection.usable:
                    return connection
                continue
            return await self._dial_in_place()
        return connection

    async def _turn(self) -> Connection | None:
        """Waits for a connection that becomes free, or for the place (None) of one that is lost."""
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn.result())
            raise

    def _pass_on(self, connection: Connection | None) -> None:
        """Gives a free connection, or a place, to the next who waits."""
        if connection is not None and not connection.usable:
            return  # its place is passed on when it is lost
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        if connection is None:
            self._taken -= 1
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)

    def _lost(self, connection: Connection) -> None:
        if connection not in self._open:
            return  # never got as far as having a place of its own
        self._open.remove(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._pass_on(None)

    async def _dial_in_place(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._dial()
        except BaseException as error:
            self._pass_on(None)
            if isinstance(error, TimeoutError):
                raise HttpTimeout(f"{self._origin} did not take the connection", sent=False) from error
            raise

    async def _dial(self) -> Connection:
        """Connects to the addresses of the host in turn, all of them admitted, each for its share of the time."""
        try:
            addresses = await self._guard.resolve(self._origin.host, self._origin.port, trusted=self._trusted)
        except HostNotFound as error:
            raise HttpUnreachable(error.message, sent=False) from error
        share = CONNECT_SECONDS / len(addresses)
        failure: OSError | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(share):
                    return await self._connect(address)
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise HttpTimeout(f"{self._origin} did not take the connection", sent=False) from failure
        raise HttpUnreachable(f"{self._origin} cannot be reached: {_reason(failure)}", sent=False) from failure

    async def _connect(self, address: Address) -> Connection:
        name = self._origin.host if self._tls is not None else None
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._origin, self._pass_on, self._lost),
            str(address),
            self._origin.port,
            ssl=self._tls,
            server_hostname=name,
        )
        self._open.add(connection)
        if self._closed:
            connection.abandon()
        return connection

    def drop_stale(self) -> None:
        """Closes the connections that have been idle for too long."""
        oldest = time.monotonic() - KEPT_IDLE_SECONDS
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.popleft().abandon()

    def close(self) -> None:
        """Closes every connection and lets nobody wait."""
        self._closed = True
        for turn in self._queue:
            if not turn.done():
                turn.set_exception(HttpClosed(f"the client for {self._origin} was closed", sent=False))
        self._queue.clear()
        for connection in list(self._open):
            connection.abandon()


def _reason(failure: OSError | None) -> str:
    if failure is None:
        return "it has no address"
    if isinstance(failure, ssl.SSLError) or not failure.errno:
        return str(failure)
    return os.strerror(failure.errno)
