"""Open sessions with MCP servers, one per connection and credential, reused by every call and closed when idle.

A key is used for one user's connection with one version of its credential, so no session and no answer crosses either. The
number of open sessions is bounded for the process; the one that has been idle longest makes room.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from auralink.core.errors import AuralinkError
from auralink.core.telemetry import mcp_sessions
from auralink.mcp.upstream.errors import UpstreamClosed, UpstreamError
from auralink.mcp.upstream.session import UpstreamSession

log = structlog.get_logger(__name__)

IDLE_SECONDS = 300.0
REAP_EVERY = 30.0

Opener = Callable[[], Awaitable[UpstreamSession]]


class SessionPool:
    """Sessions by key. A session is opened by the first caller while the others wait for it."""

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._sessions: dict[Any, UpstreamSession] = {}
        self._opening: dict[Any, asyncio.Task[UpstreamSession]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Starts closing what is idle."""
        self._reaper = asyncio.create_task(self._reap())

    async def close(self) -> None:
        """Closes every session."""
        if self._reaper is not None:
            self._reaper.cancel()
        opening = list(self._opening.values())
        self._opening.clear()
        await asyncio.gather(*opening, return_exceptions=True)
        for key in list(self._sessions):
            self.discard(key)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def get(self, key: Any, opener: Opener) -> UpstreamSession:
        """The session of `key`, opened by `opener` if there is none. Raises what the opener raises."""
        session = self._sessions.get(key)
        if session is not None and session.usable and getattr(session.transport, "alive", True):
            return session
        if session is not None:
            self.discard(key)
        task = self._opening.get(key)
        if task is None:
            task = asyncio.create_task(self._open(key, opener))
            self._opening[key] = task
            task.add_done_callback(lambda done: self._opened(key, done))
        try:
            return await asyncio.shield(task)
        except AuralinkError as error:
            raise error.twin() from error

    def find(self, key: Any) -> UpstreamSession | None:
        """The open session of `key`, if there is one."""
        return self._sessions.get(key)

    async def _open(self, key: Any, opener: Opener) -> UpstreamSession:
        self._make_room()
        session = await opener()
        if self._opening.get(key) is not asyncio.current_task():
            await _close(session)
            raise UpstreamClosed(f"the connection to MCP server {session.server!r} was changed or closed meanwhile", sent=False)
        self._sessions[key] = session
        mcp_sessions.set(len(self._sessions))
        return session

    def _opened(self, key: Any, task: "asyncio.Task[UpstreamSession]") -> None:
        if self._opening.get(key) is task:
            del self._opening[key]
        if not task.cancelled():
            task.exception()  # every caller may have gone away; then nobody else takes note of it

    def discard(self, key: Any) -> None:
        """Forgets the session of `key` and closes it in the background."""
        session = self._sessions.pop(key, None)
        mcp_sessions.set(len(self._sessions))
        if session is not None:
            task = asyncio.create_task(_close(session))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def discard_matching(self, matches: Callable[[Any], bool]) -> None:
        """Forgets every session whose key `matches`, also one that is just being opened."""
        for key in [key for key in self._opening if matches(key)]:
            del self._opening[key]
        for key in [key for key in self._sessions if matches(key)]:
            self.discard(key)

    def _make_room(self) -> None:
        while len(self._sessions) >= self._max_sessions:
            oldest = min(self._sessions, key=lambda key: self._sessions[key].last_used)
            self.discard(oldest)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_EVERY)
            limit = time.monotonic() - IDLE_SECONDS
            for key in [key for key, session in self._sessions.items() if session.last_used < limit and not session.watched]:
                self.discard(key)


async def _close(session: UpstreamSession) -> None:
    try:
        await session.close()
    except UpstreamError as error:
        log.info("closing an upstream session failed", server=session.server, reason=error.message)
