"""Tells clients that listen what their servers announce: a changed list, a changed resource."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from auralink.mcp.schemas import ConnectionRecord

MAX_BACKLOG = 100
"""Announcements that wait for a client; one that does not take them is dropped, and reads the lists anew when it returns."""
LIST_CHANGES = (
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
)


@dataclass(frozen=True, slots=True)
class Announcement:
    """A notification's method; whose server it comes from, None for a change of the connections themselves; and the resource's own
    address."""

    method: str
    record: ConnectionRecord | None = None
    uri: str | None = None


Queue = asyncio.Queue[Announcement | None]


class Announcer:
    """Queues of announcements, one for each listening client, by user."""

    def __init__(self) -> None:
        self._queues: dict[UUID, set[Queue]] = defaultdict(set)

    @contextlib.contextmanager
    def listening(self, user_id: UUID) -> Iterator[Queue]:
        """A queue of announcements for a client of the user; None in it means that the client was too slow."""
        queue: Queue = asyncio.Queue(MAX_BACKLOG)
        self._queues[user_id].add(queue)
        try:
            yield queue
        finally:
            self._queues[user_id].discard(queue)
            if not self._queues[user_id]:
                del self._queues[user_id]

    def lists_changed(self, user_id: UUID | None) -> None:
        """The connections of a user (None: of everybody) may have changed, and with them every list."""
        for user in [user_id] if user_id is not None else list(self._queues):
            for method in LIST_CHANGES:
                self._put(user, Announcement(method))

    def announced(self, record: ConnectionRecord, method: str, uri: str | None) -> None:
        """A connection's server has announced something."""
        self._put(record.user_id, Announcement(method, record, uri))

    def _put(self, user_id: UUID, announcement: Announcement) -> None:
        for queue in self._queues.get(user_id, ()):
            if queue.qsize() < MAX_BACKLOG - 1:
                queue.put_nowait(announcement)
            elif not queue.full():
                queue.put_nowait(None)
