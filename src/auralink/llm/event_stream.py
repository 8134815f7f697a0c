"""The event stream of an answer at `/v1`, and a client that goes away in the middle of one."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any

from starlette.types import Message, Receive, Send

from auralink.core.errors import AuralinkError
from auralink.llm.schemas import ModelCall

SLOW_READER_SECONDS = 30.0
"""How long a client may take to take one event before it is dropped."""
KEEPALIVE_SECONDS = 15.0
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]

Fields = list[tuple[bytes, bytes]]
Written = Callable[[str], Iterable[bytes]]
"""Writes the data of an event, as the gateway gives it, as events for the client."""
Failed = Callable[[AuralinkError], Iterable[bytes]]
"""Writes the events that tell the client of a failure in the middle."""


class SlowReader(Exception):
    """The client does not read its event stream."""


class ClientGone(Exception):
    """The client has closed the connection before it had its answer."""


class EventStream:
    """Answers one request with events."""

    def __init__(self, send: Send, headers: Callable[[ModelCall], Fields]) -> None:
        self._send = send
        self._headers = headers
        self._writing = asyncio.Lock()
        self._quiet = True

    async def relay(self, events: AsyncGenerator[ModelCall | str], written: Written, failed: Failed) -> None:
        """Sends an answer as the gateway gives it. A failure before the first event is raised; a later one is told on the stream."""
        async with contextlib.aclosing(events):
            call = await anext(events)
            assert isinstance(call, ModelCall)
            await self._within({"type": "http.response.start", "status": 200, "headers": HEADERS + self._headers(call)})
            keeper = asyncio.create_task(self._keep_alive())
            try:
                async for data in events:
                    assert isinstance(data, str)
                    await self._write(written(data))
            except AuralinkError as error:
                await self._write(failed(error))
            finally:
                keeper.cancel()
            await self._within({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, chunks: Iterable[bytes]) -> None:
        self._quiet = False
        if body := b"".join(chunks):
            async with self._writing:
                await self._within({"type": "http.response.body", "body": body, "more_body": True})

    async def _keep_alive(self) -> None:
        """Sends a comment where nothing else was sent for a while, so that no proxy takes the connection for dead."""
        while True:
            await asyncio.sleep(KEEPALIVE_SECONDS)
            if self._quiet:
                await self._write((b": keep-alive\n\n",))
            self._quiet = True

    async def _within(self, message: Message) -> None:
        try:
            async with asyncio.timeout(SLOW_READER_SECONDS):
                await self._send(message)
        except TimeoutError as error:
            raise SlowReader from error


async def while_there(receive: Receive, answering: Coroutine[Any, Any, None]) -> None:
    """Answers as long as the client is there.

    Raises:
        ClientGone: it went away, and the answer was given up.
    """
    task = asyncio.ensure_future(answering)
    watcher = asyncio.create_task(_cancel_when_gone(receive, task))
    try:
        await task
    except asyncio.CancelledError:
        if watcher.done() and not watcher.cancelled():
            raise ClientGone from None
        task.cancel()
        raise
    finally:
        watcher.cancel()


async def _cancel_when_gone(receive: Receive, task: "asyncio.Task[None]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
