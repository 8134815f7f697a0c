"""Keeps what a server says beside its answers to a pace. Beyond it the server is read no further for a while: its own calls get
slower, and nobody else's.

The pace is far above what people or models can follow, so that a server notices it only when it floods.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from auralink.mcp.upstream.transport import MAX_ANSWER_BYTES, Message

MESSAGES_PER_SECOND = 500
BYTES_PER_SECOND = 1024 * 1024
BURST_SECONDS = 1.0
"""How much of it a server that was quiet may say at once."""


class Pace:
    """That of one session, over all of its streams."""

    def __init__(self) -> None:
        self._due = 0.0

    async def keep(self, *, messages: int = 0, size: int = 0) -> None:
        """Counts messages and bytes, and returns when more may be taken. Who says nothing for long waits behind at most one
        message of each other call."""
        now = time.monotonic()
        self._due = max(self._due, now - BURST_SECONDS) + messages / MESSAGES_PER_SECOND + size / BYTES_PER_SECOND
        if self._due > now:
            await asyncio.sleep(self._due - now)


class PacedStream:
    """One event stream. Its answers are free, and so are as many bytes as one may have: they could be its beginning."""

    def __init__(self, chunks: AsyncIterator[bytes], pace: Pace) -> None:
        self._chunks = chunks
        self._pace = pace
        self._unanswered = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """The stream's bytes, when they may be taken."""
        async for chunk in self._chunks:
            self._unanswered += len(chunk)
            if self._unanswered > MAX_ANSWER_BYTES:
                await self._pace.keep(size=len(chunk))
            yield chunk

    async def admit(self, message: Message) -> None:
        """Returns when a message of the stream may be handed on."""
        if "method" in message:
            await self._pace.keep(messages=1)
        else:
            self._unanswered = 0
