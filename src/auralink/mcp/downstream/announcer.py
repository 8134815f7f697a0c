"""Tells clients that listen when the lists of their user have changed."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator
from uuid import UUID

MAX_BACKLOG = 100
"""Announcements that wait for a client; one that does not take them is dropped, and reads the lists anew when it returns."""
LIST_CHANGES = (
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
)


class Announcer:
    """Queues of announcements, one for each listening client, by user."""

    def __init__(self) -> None:
        self._queues: dict[UUID, set[asyncio.Queue[str | None]]] = defaultdict(set)

    @contextlib.contextmanager
    def listening(self, user_id: UUID) -> Iterator["asyncio.Queue[str | None]"]:
        """A queue of notification methods for a client of the user; None in it means that the client was too slow."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(MAX_BACKLOG)
        self._queues[user_id].add(queue)
        try:
            yield queue
        finally:
            self._queues[user_id].discard(queue)
            if not self._queues[user_id]:
                del self._queues[user_id]

    def lists_changed(self, user_id: UUID | None) -> None:
        """The lists of a user (None: of everybody) may have changed."""
        users = [user_id] if user_id is not None else list(self._queues)
        for user in users:
            for queue in self._queues.get(user, ()):
                self._put(queue)

    def _put(self, queue: "asyncio.Queue[str | None]") -> None:
        if queue.qsize() > MAX_BACKLOG - len(LIST_CHANGES) - 1:
            queue.put_nowait(None)
            return
        for method in LIST_CHANGES:
            queue.put_nowait(method)
