"""Which rows have changed, as Postgres announces it (LISTEN): what a process may keep in memory, it keeps until it hears so.

Triggers in the migrations announce `table:row:user`. While the listener is not connected a change could be missed, so whoever
remembers anything is told when it is lost, and remembers nothing until `listening` says that it is back.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol
from uuid import UUID

import psycopg
import structlog
from psycopg import sql

from auralink.core.secret import Secret

log = structlog.get_logger(__name__)

RECONNECT_EVERY = 1.0
CHANNEL = "auralink_changed"
Hear = Callable[[str], None]
"""Takes the payload of a notice."""


class Change(NamedTuple):
    """A row that was inserted, updated or deleted; `user_id` is None for one that belongs to nobody."""

    table: str
    row_id: UUID
    user_id: UUID | None


class Subscriber(Protocol):
    """Whoever remembers rows."""

    def changed(self, change: Change) -> None:
        """A row has changed. Called for every table."""
        ...

    def lost(self) -> None:
        """From now on changes may be missed."""
        ...


class Changes:
    """One listening connection for all subscribers."""

    def __init__(self, dsn: Secret) -> None:
        self._dsn = dsn
        self._subscribers: list[Subscriber] = []
        self._hears: dict[str, list[Hear]] = {}
        self._task: asyncio.Task[None] | None = None
        self.listening = False

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tells `subscriber` of what comes."""
        self._subscribers.append(subscriber)

    def listen(self, channel: str, hear: Hear) -> None:
        """Tells `hear` what is said on another channel; to be called before `open`. What is said while nobody listens is lost."""
        self._hears.setdefault(channel, []).append(hear)

    async def open(self) -> None:
        """Starts listening."""
        self._task = asyncio.create_task(self._listen(), name="change listener")

    async def close(self) -> None:
        """Stops listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                await self._follow()
            except psycopg.Error as error:
                log.warning("change listener lost; what was remembered is read from the database", reason=str(error).strip())
            finally:
                self.listening = False
                for subscriber in self._subscribers:
                    subscriber.lost()
            await asyncio.sleep(RECONNECT_EVERY)

    async def _follow(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._dsn.reveal(), autocommit=True, connect_timeout=5, application_name="auralink listener"
        )
        async with connection:
            for channel in (CHANNEL, *self._hears):
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            self.listening = True
            async for notice in connection.notifies():
                for hear in self._hears.get(notice.channel, ()):
                    hear(notice.payload)
                if notice.channel != CHANNEL:
                    continue
                change = change_of(notice.payload)
                for subscriber in self._subscribers:
                    subscriber.changed(change)


def change_of(payload: str) -> Change:
    """The change that a notice of ours announces."""
    table, row_id, *user_id = payload.split(":")
    return Change(table, UUID(row_id), UUID(user_id[0]) if user_id else None)
