"""Whose announcements are wanted: as long as a client listens to a connection, its server is listened to.

A session is opened for it once, when the interest begins, and not again when the pool closes it to make room: the next call does
that, and then the server is listened to again. So many listening clients cannot keep sessions opening each other out.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from uuid import UUID

import structlog

from auralink.auth.principal import Principal, acting_as
from auralink.core.errors import AuralinkError
from auralink.mcp.schemas import ConnectionRecord
from auralink.mcp.upstream.session import UpstreamSession
from auralink.mcp.upstreams import Upstreams

log = structlog.get_logger(__name__)


class Watches:
    """Counts who is interested in what."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
        self._listeners: Counter[UUID] = Counter()
        self._uris: dict[UUID, Counter[str]] = {}
        self._beginning: set[asyncio.Task[None]] = set()
        upstreams.on_opened = self._listen

    @contextlib.contextmanager
    def watching(
        self, principal: Principal, record: ConnectionRecord, uris: Iterable[str] = ()
    ) -> "Iterator[asyncio.Task[None]]":
        """Listens to a connection's server for changed lists, and for changes of these resources, while the block runs. The task
        is done as soon as the server is heard, or evidently is not to be."""
        wanted = list(uris)
        self._listeners[record.id] += 1
        self._uris.setdefault(record.id, Counter()).update(wanted)
        task = asyncio.create_task(self._begin(principal, record))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        try:
            yield task
        finally:
            self._listeners[record.id] -= 1
            self._uris[record.id].subtract(wanted)
            self._end(record)

    def wants(self, record: ConnectionRecord, uri: str) -> bool:
        """Whether anybody is interested in a resource."""
        return self._uris.get(record.id, Counter())[uri] > 0

    async def close(self) -> None:
        """Stops opening sessions."""
        for task in self._beginning:
            task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)

    async def _begin(self, principal: Principal, record: ConnectionRecord) -> None:
        try:
            with acting_as(principal):
                session = await self._upstreams.session(principal, record, time.monotonic() + record.server.timeout)
        except AuralinkError as error:
            log.info("cannot listen to an MCP server", server=record.server.name, reason=error.message)
            return
        self._listen(record, session)
        await session.listening.established()

    def _listen(self, record: ConnectionRecord, session: UpstreamSession) -> None:
        if self._listeners[record.id] > 0:
            session.watched = True
            session.listening.start(uri for uri, count in self._uris[record.id].items() if count > 0)

    def _end(self, record: ConnectionRecord) -> None:
        session = self._upstreams.open_already(record)
        if self._listeners[record.id] > 0:
            if session is not None:
                self._listen(record, session)
            return
        del self._listeners[record.id], self._uris[record.id]
        if session is not None:
            session.watched = False
            session.listening.stop()
