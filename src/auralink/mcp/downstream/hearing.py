"""What one client hears outside any call, on its GET stream or its `subscriptions/listen`.

While it listens, the servers in its view are listened to. When its user's connections change, so do those servers.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from auralink.auth.principal import Principal
from auralink.core.errors import AuralinkError
from auralink.mcp.downstream.announcer import LIST_CHANGES, Announcement, Announcer, Queue
from auralink.mcp.errors import ToolNotFound
from auralink.mcp.federation import Federation, View
from auralink.mcp.schemas import ConnectionRecord
from auralink.mcp.watches import Watches

READY_SECONDS = 1.0
"""How long the servers may take to be heard before a client is told that they are."""
MAX_SUBSCRIPTIONS = 100
"""Resources that one client hears of; further ones are not honoured."""
Params = dict[str, Any]


class Hearing:
    """One listening client."""

    def __init__(self, principal: Principal, view: View, queue: Queue, federation: Federation, watches: Watches) -> None:
        self._principal = principal
        self._view = view
        self._queue = queue
        self._federation = federation
        self._watches = watches
        self._watching: dict[UUID, tuple[ConnectionRecord, frozenset[str], contextlib.ExitStack]] = {}
        self._subscribed: dict[tuple[str, str], str] = {}
        self._beginning: set[asyncio.Task[None]] = set()

    async def subscribe(self, uris: list[str]) -> list[str]:
        """Hears of changes of these resources too; gives those that are honoured."""
        honoured = []
        for uri in uris:
            with contextlib.suppress(ToolNotFound):
                route = self._view.route_uri(uri)
                if route in self._subscribed or len(self._subscribed) < MAX_SUBSCRIPTIONS:
                    self._subscribed[route] = uri
                    honoured.append(uri)
        await self.refresh()
        return honoured

    async def unsubscribe(self, uri: str) -> None:
        """Hears no more of a resource."""
        with contextlib.suppress(ToolNotFound):
            self._subscribed.pop(self._view.route_uri(uri), None)
        await self.refresh()

    async def refresh(self) -> None:
        """Listens to the servers that are in the view now."""
        try:
            records = await self._federation.records(self._principal, self._view)
        except AuralinkError:
            return
        for gone in self._watching.keys() - {record.id for record in records}:
            self._watching.pop(gone)[2].close()
        for record in records:
            self._watch(record)

    async def ready(self) -> None:
        """Returns when the servers are heard, or have had their time."""
        if self._beginning:
            await asyncio.wait(self._beginning, timeout=READY_SECONDS)

    async def next(self) -> tuple[str, Params] | None:
        """The next notification: method and parameters. None: the client was too slow."""
        while (announcement := await self._queue.get()) is not None:
            if announcement.record is None and announcement.method == LIST_CHANGES[0]:
                await self.refresh()
            if (params := self._params(announcement)) is not None:
                return announcement.method, params
        return None

    def close(self) -> None:
        """Stops listening."""
        for _, _, stack in self._watching.values():
            stack.close()

    def _watch(self, record: ConnectionRecord) -> None:
        uris = frozenset(uri for name, uri in self._subscribed if name == record.name)
        before = self._watching.get(record.id)
        if before is not None and before[:2] == (record, uris):
            return
        stack = contextlib.ExitStack()
        task = stack.enter_context(self._watches.watching(self._principal, record, uris))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        self._watching[record.id] = (record, uris, stack)
        if before is not None:
            before[2].close()

    def _params(self, announcement: Announcement) -> Params | None:
        record = announcement.record
        if record is None:
            return {}
        if self._view.connection not in (None, record.name):
            return None
        if announcement.uri is None:
            return {}
        public = self._subscribed.get((record.name, announcement.uri))
        return None if public is None else {"uri": public}


class Hearings:
    """Makes them."""

    def __init__(self, federation: Federation, watches: Watches, announcer: Announcer) -> None:
        self._federation = federation
        self._watches = watches
        self._announcer = announcer

    @contextlib.asynccontextmanager
    async def open(self, principal: Principal, view: View) -> AsyncIterator[Hearing]:
        """A client that hears while the block runs."""
        with self._announcer.listening(principal.user_id) as queue:
            hearing = Hearing(principal, view, queue, self._federation, self._watches)
            try:
                await hearing.refresh()
                yield hearing
            finally:
                hearing.close()
