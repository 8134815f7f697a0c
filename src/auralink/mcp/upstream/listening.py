"""What a server says of itself outside any call: that a list has changed, or a resource.

2026-07-28 has `subscriptions/listen` for it; over HTTP the revisions before it have the GET stream, where a server may also ask the
client something that belongs to a call; over stdio and SSE everything arrives by itself.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog

from auralink.mcp.upstream import shapes
from auralink.mcp.upstream.conversation import ANNOUNCEMENTS
from auralink.mcp.upstream.errors import SessionLost, UpstreamError, UpstreamRejected
from auralink.mcp.upstream.http import HttpTransport
from auralink.mcp.upstream.transport import Message

if TYPE_CHECKING:
    from auralink.mcp.upstream.session import UpstreamSession

log = structlog.get_logger(__name__)

LISTEN_SECONDS = 3600.0
"""After this long a subscription is made anew."""
ESTABLISH_SECONDS = 2.0
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 60.0
FLAGS = {"tools": "toolsListChanged", "prompts": "promptsListChanged", "resources": "resourcesListChanged"}


class Listening:
    """Listens to one session's server, for as long as it is wanted."""

    def __init__(self, session: "UpstreamSession") -> None:
        self._session = session
        self._uris: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None
        self._established = asyncio.Event()
        self._subscribing: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> bool:
        """Whether the server is being listened to."""
        return self._task is not None and not self._task.done()

    def start(self, uris: Iterable[str] = ()) -> None:
        """Listens for changed lists and for changes of these resources, in place of those given before."""
        wanted = frozenset(uris)
        new, self._uris = wanted - self._uris, wanted
        if self._task is None or (self._session.modern and new):
            self.restart()
        elif new:
            task = asyncio.create_task(self._subscribe(new))
            self._subscribing.add(task)
            task.add_done_callback(self._subscribing.discard)

    def restart(self) -> None:
        """Listens again, if it was: the session is a new one."""
        self._cancel()
        self._established.clear()
        self._task = asyncio.create_task(self._run(), name="upstream listener")

    def stop(self) -> None:
        """Listens no more. The stream of a handshake-era session stays open as long as that: calls under way may need it."""
        self._uris = frozenset()
        if self._session.modern:
            self._cancel()
            self._task = None

    async def close(self) -> None:
        """Stops for good."""
        tasks = [task for task in (self._task, *self._subscribing) if task is not None]
        self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def established(self) -> None:
        """Returns as soon as the server is heard, or evidently is not to be."""
        await self._established.wait()

    async def ready_for_questions(self) -> None:
        """Returns as soon as a server of the handshake era can ask something outside the stream of a call, as it may."""
        if self._established.is_set() or not isinstance(self._session.transport, HttpTransport):
            return
        if self._task is None:
            self.restart()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ESTABLISH_SECONDS):
                await self._established.wait()
        self._established.set()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        backoff = FIRST_BACKOFF
        while True:
            started = time.monotonic()
            try:
                if not await self._listen_once():
                    return
            except UpstreamRejected as error:
                log.info("an MCP server does not announce changes", server=self._session.server, reason=error.message)
                return
            except SessionLost:
                return  # the next call opens the session again, and then this starts anew
            except UpstreamError as error:
                log.debug("listening to an MCP server failed", server=self._session.server, reason=error.message)
            finally:
                self._established.set()
            backoff = FIRST_BACKOFF if time.monotonic() - started > LAST_BACKOFF else min(backoff * 2, LAST_BACKOFF)
            await asyncio.sleep(backoff)

    async def _listen_once(self) -> bool:
        """Listens until the server ends it; False if there is nothing to wait for."""
        session = self._session
        if session.modern:
            wanted = self._filter()
            if wanted:
                await session.listen({"notifications": wanted}, LISTEN_SECONDS, self._heard)
            return bool(wanted)
        await self._subscribe(self._uris)
        transport = session.transport
        if not isinstance(transport, HttpTransport):
            return False
        return await transport.listen(
            headers=session.headers_of({}), on_message=session.unsolicited, established=self._established
        )

    def _filter(self) -> dict[str, Any]:
        declared = self._session.capabilities
        wanted: dict[str, Any] = {
            flag: True for name, flag in FLAGS.items() if shapes.mapping(declared.get(name)).get("listChanged") is True
        }
        return {**wanted, "resourceSubscriptions": sorted(self._uris)} if self._uris else wanted

    async def _heard(self, message: Message) -> None:
        """Takes what comes with a subscription. Over a pipe that is also what belongs to a call, which has heard it already."""
        if message["method"] == ACKNOWLEDGED:
            self._established.set()
        elif message["method"] in ANNOUNCEMENTS:
            await self._session.unsolicited(message)

    async def _subscribe(self, uris: Iterable[str]) -> None:
        for uri in uris:
            with contextlib.suppress(UpstreamError):
                await self._session.request("resources/subscribe", {"uri": uri}, time.monotonic() + ESTABLISH_SECONDS)
