"""The HTTP answer to one POST: a JSON body, or an event stream as soon as there is something to say before the result.

A client that reads too slowly is dropped; a call that is silent for long is kept alive with comments.
"""

import asyncio
from typing import Any

from starlette.types import Message, Send

from auralink.core.http import dumps

JSON_TYPE = (b"content-type", b"application/json")
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
KEEPALIVE_SECONDS = 15.0
SLOW_READER_SECONDS = 30.0
"""How long one event may take to be taken by the client before it is dropped."""

Headers = list[tuple[bytes, bytes]]


class SlowReader(Exception):
    """The client does not read its event stream."""


class Reply:
    """Answers one request."""

    def __init__(self, send: Send, headers: Headers | None = None) -> None:
        self._send = send
        self._headers = headers or []
        self._writing = asyncio.Lock()
        self.streaming = False
        self.finished = False

    async def event(self, message: Any) -> None:
        """Sends a message as a server-sent event, and begins the stream with the first."""
        await self._stream(b"event: message\r\ndata: " + dumps(message) + b"\r\n\r\n")

    async def keep_alive(self) -> None:
        """Sends a comment, so that no proxy takes the connection for dead."""
        await self._stream(b": ping\r\n\r\n")

    async def finish(self, message: Any, status: int = 200) -> None:
        """Sends the last message: as a JSON body, or as the last event."""
        if self.streaming:
            await self.event(message)
            await self.end()
            return
        body = dumps(message)
        headers = [JSON_TYPE, (b"content-length", str(len(body)).encode()), *self._headers]
        self.finished = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def accepted(self) -> None:
        """202 without a body: what a notification gets."""
        self.finished = True
        await self._send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0"), *self._headers]})
        await self._send({"type": "http.response.body", "body": b""})

    async def end(self) -> None:
        """Ends the event stream."""
        self.finished = True
        await self._within({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, chunk: bytes) -> None:
        async with self._writing:
            if self.finished:
                return
            if not self.streaming:
                self.streaming = True
                await self._within({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS + self._headers})
            await self._within({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _within(self, message: Message) -> None:
        try:
            async with asyncio.timeout(SLOW_READER_SECONDS):
                await self._send(message)
        except TimeoutError as error:
            self.finished = True
            raise SlowReader from error


class Part(Reply):
    """Answers one request of a batch, on the event stream that answers them all."""

    def __init__(self, whole: Reply) -> None:
        super().__init__(whole._send)
        self._whole = whole
        self.streaming = True

    async def event(self, message: Any) -> None:
        """Sends a message on the common stream."""
        await self._whole.event(message)

    async def keep_alive(self) -> None:
        """Keeps the common stream alive."""
        await self._whole.keep_alive()

    async def finish(self, message: Any, status: int = 200) -> None:
        """Sends this request's answer; the stream goes on."""
        self.finished = True
        await self._whole.event(message)

    async def accepted(self) -> None:
        """There is no answer."""
        self.finished = True

    async def end(self) -> None:
        """The stream goes on."""
        self.finished = True
