"""Who waits for something to happen to a run, in this process, and what is heard of it."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from auralink.core.changes import Change, Changes
from auralink.runs import store
from auralink.runs.schemas import Token
from auralink.runs.tokens import notice_of

MAX_UNREAD = 1_000


@dataclass(eq=False)
class Follower:
    """One who waits for something to happen to a run: for words, and (None) for what is in the database."""

    heard: deque[Token | None] = field(default_factory=lambda: deque(maxlen=MAX_UNREAD))
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, words: Token | None) -> None:
        """Something has happened."""
        self.heard.append(words)
        self._more.set()

    async def words(self, within: float) -> AsyncIterator[Token]:
        """Words as they come, until there is something to look for in the database, or for so many seconds."""
        until = asyncio.get_running_loop().time() + within
        while True:
            while self.heard:
                words = self.heard.popleft()
                if words is None:
                    return
                yield words
            self._more.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._more.wait()
            except TimeoutError:
                return


class Following:
    """Everybody who waits."""

    def __init__(self, changes: Changes) -> None:
        self._followers: dict[UUID, set[Follower]] = {}
        changes.subscribe(self)
        changes.listen(store.TOKENS, self._hear)

    def changed(self, change: Change) -> None:
        """A run has another status: whoever waits for it looks."""
        if change.table == "runs":
            self._tell(change.row_id, None)

    def lost(self) -> None:
        """Nothing is remembered: who waits looks now and then in any case."""

    @contextlib.contextmanager
    def following(self, run_id: UUID) -> Iterator[Follower]:
        """One more who waits for a run, in this block."""
        follower = Follower()
        self._followers.setdefault(run_id, set()).add(follower)
        try:
            yield follower
        finally:
            followers = self._followers[run_id]
            followers.discard(follower)
            if not followers:
                del self._followers[run_id]

    def _hear(self, payload: str) -> None:
        run_id, words = notice_of(payload)
        if run_id in self._followers:
            self._tell(run_id, Token(data=orjson.loads(words)) if words else None)

    def _tell(self, run_id: UUID, words: Token | None) -> None:
        for follower in self._followers.get(run_id, ()):
            follower.tell(words)
