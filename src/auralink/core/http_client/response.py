"""The answer to a request: its head at once, its body as it comes in.

What has come in and is not read yet is bounded: beyond `HIGH_WATER` bytes the connection is read no further until it has been
taken.
"""

import asyncio
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Protocol, Self

from auralink.core.http_client.errors import HttpAnswerTooLarge, HttpFailed

HIGH_WATER = 64 * 1024
"""Bytes of a body that are held for its reader."""


class Source(Protocol):
    """The connection that a body comes from."""

    def pause(self) -> None:
        """Reads no more for now."""

    def resume(self) -> None:
        """Reads on."""

    def abandon(self) -> None:
        """Closes: nobody wants the rest."""


class Headers(Mapping[str, str]):
    """Header fields by name in any case; those that came several times are joined with a comma."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        """`fields` by their names in lower case."""
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower().encode()].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class Response:
    """An answer. Read its body to the end or close it (`async with` does): until then it occupies its connection.

    Iterating gives the body in pieces as they come. `read` and the iteration raise `HttpFailed` when the body does not come to
    its end: closed, too late, malformed.
    """

    __slots__ = ("_chunks", "_complete", "_failure", "_held", "_paused", "_source", "_waiter", "headers", "status")

    def __init__(self, status: int, headers: Headers, source: Source) -> None:
        self.status = status
        self.headers = headers
        self._source = source
        self._chunks: list[bytes] = []
        self._held = 0
        self._paused = False
        self._complete = False
        self._failure: HttpFailed | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case; empty if none is given."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            HttpAnswerTooLarge: it has more than `limit` bytes; the connection is closed.
            HttpFailed: it did not come to its end.
        """
        declared = int(self.headers.get("content-length", "0"))
        taken: list[bytes] = []
        size = 0
        while declared <= limit and (chunk := await self._next()) is not None:
            size += len(chunk)
            if size > limit:
                break
            taken.append(chunk)
        if max(size, declared) > limit:
            self.close()
            raise HttpAnswerTooLarge(f"the answer is larger than {limit} bytes", sent=True)
        return b"".join(taken)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._next()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the exchange. A connection whose body has not been received to its end is not used again."""
        if not self._complete and self._failure is None:
            self._source.abandon()
        self._chunks.clear()

    async def _next(self) -> bytes | None:
        """What has come in since the last time; None at the end."""
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._complete:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._held = 0
        if self._paused:
            self._paused = False
            self._source.resume()
        return chunk

    def feed(self, data: bytes) -> None:
        """A piece of the body has come in."""
        self._chunks.append(data)
        self._held += len(data)
        if self._held > HIGH_WATER and not self._paused:
            self._paused = True
            self._source.pause()
        self._wake()

    def finish(self) -> None:
        """The body has come to its end; the connection is no longer ours."""
        self._complete = True
        self._paused = False
        self._wake()

    def fail(self, failure: HttpFailed) -> None:
        """The body will not come to its end."""
        self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
