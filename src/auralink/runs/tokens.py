"""The words of a model as they come: `token` events of an engine, handed by NOTIFY to whoever follows the run, and kept nowhere.

They are lost where nobody follows, where the database is away and where a follower is slow; a run never waits for them. What it says
in the end is a stored event, announced on the same channel, so that followers get words and events in their order.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg import Error as DatabaseError

from auralink.core.db import Database, DatabaseUnavailable
from auralink.core.http import dumps
from auralink.runs import store

ANNOUNCE_EVERY, REMEMBERED = 10.0, 30.0
MAX_FOLLOWED = 10_000
BATCH_SECONDS = 0.05
PATIENCE = 1.0
MAX_BYTES = 7_800
"""Of one notice: Postgres takes fewer than 8,000."""
MAX_UNSENT = 1_000
PLAIN = (str, int, float, type(None))


def notice_of(payload: str) -> tuple[UUID, str]:
    """The run that a notice of ours is about, and its words as JSON, empty where an event was stored."""
    run_id, _, words = payload.split(":", 2)
    return UUID(run_id), words


class Followed:
    """The runs that somebody follows, as far as this process has heard."""

    def __init__(self) -> None:
        self._until: dict[UUID, float] = {}

    def add(self, run_id: UUID) -> None:
        """Somebody follows it, for a while from now on."""
        if len(self._until) >= MAX_FOLLOWED:
            now = time.monotonic()
            self._until = {known: until for known, until in self._until.items() if until > now}
        self._until[run_id] = time.monotonic() + REMEMBERED

    def __contains__(self, run_id: UUID) -> bool:
        return self._until.get(run_id, 0.0) > time.monotonic()


@dataclass
class Words:
    """What the models of an attempt say just now."""

    db: Database
    run_id: UUID
    followed: Followed
    _unsent: list[Mapping[str, Any]] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    _sent: int = 0

    def hear(self, said: Any) -> None:
        """Takes the data of a `token` event: names and plain values. Returns at once."""
        plain = isinstance(said, Mapping) and all(isinstance(value, PLAIN) for value in said.values())
        if plain and self.run_id in self.followed and len(self._unsent) < MAX_UNSENT:
            self._unsent.append(said)
            self._more.set()

    async def send(self) -> None:
        """Hands on what comes, in batches, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            await asyncio.sleep(BATCH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Hands on what was heard; what cannot be handed on quickly is lost."""
        async with self._sending:
            said, self._unsent = self._unsent, []
            if not said:
                return
            notices = [self._notice(words.decode()) for words in _in_pieces(said)]
            try:
                async with asyncio.timeout(PATIENCE), self.db.connection() as connection:
                    await store.notify(connection, notices)
            except (TimeoutError, DatabaseUnavailable, DatabaseError):
                return

    def stored(self) -> list[str]:
        """What tells followers that an event was stored, in the transaction that stores it; nothing where nobody follows."""
        return [self._notice("")] if self.run_id in self.followed else []

    def _notice(self, words: str) -> str:
        self._sent += 1  # Postgres drops a notice that is the same as another of its transaction
        return f"{self.run_id}:{self._sent}:{words}"


def _in_pieces(said: list[Mapping[str, Any]]) -> Iterator[bytes]:
    """The words as JSON, those of one place joined, and cut where they are too long for a notice."""
    joined: list[dict[str, Any]] = []
    for words in said:
        if joined and _place(joined[-1]) == _place(words) and isinstance(words.get("text"), str):
            joined[-1]["text"] += words["text"]
        else:
            joined.append(dict(words))
    for words in joined:
        if len(dumps(_place(words))) < MAX_BYTES // 2:
            yield from _cut(words)


def _cut(words: dict[str, Any]) -> Iterator[bytes]:
    raw, text = dumps(words), words.get("text")
    if len(raw) <= MAX_BYTES:
        yield raw
    elif isinstance(text, str):
        half = len(text) // 2
        for part in (text[:half], text[half:]):
            yield from _cut({**words, "text": part})


def _place(words: Mapping[str, Any]) -> dict[str, Any]:
    """Whose words they are: all but the text, if that is one."""
    return {name: value for name, value in words.items() if name != "text" or not isinstance(value, str)}
