"""MCP over HTTP+SSE, the transport of revision 2024-11-05, client side: one event stream for everything that the server says, and
an address for what it is told, which the stream's first event gives.

Later revisions do not have it, so a session over it opens with the handshake.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urljoin, urlsplit

import structlog

from auralink.core.http_client import Response
from auralink.core.server_events import EventReader, EventTooLarge
from auralink.mcp.upstream.errors import UpstreamBadAnswer, UpstreamClosed, UpstreamError, UpstreamTimeout
from auralink.mcp.upstream.http import CONNECT_SECONDS, SHOWN, HttpTransport
from auralink.mcp.upstream.pace import PacedStream
from auralink.mcp.upstream.transport import MAX_ANSWER_BYTES, Message, OnMessage

log = structlog.get_logger(__name__)


class SseTransport(HttpTransport):
    """Messages over one event stream. It must be started with `start()`."""

    _reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the stream and waits for the address. Raises `UpstreamError`."""
        self._pending: dict[int | str, asyncio.Future[Message]] = {}
        self._failure: UpstreamError | None = None
        self._address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read_stream())
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                self.address_messages_to(await self._address)
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"MCP server {self._server!r} did not say within {CONNECT_SECONDS:.0f} s where it takes messages", sent=False
            ) from error

    @property
    def alive(self) -> bool:
        """Whether the stream is open."""
        return self._reader is not None and not self._reader.done()

    async def exchange(
        self, message: Message, *, headers: Mapping[str, str], timeout: float, on_message: OnMessage | None = None
    ) -> Message:
        """As every transport. The stream does not say which call a message belongs to, so `on_message` hears nothing: all that is no
        response goes to `unsolicited`."""
        request_id = message["id"]
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = answer
        try:
            async with asyncio.timeout(timeout):
                await self.send(message, headers=headers, timeout=timeout)
                return await answer
        except TimeoutError as error:
            self._withdraw(message, headers)
            raise UpstreamTimeout(
                f"MCP server {self._server!r} did not answer {message['method']} within {timeout:.1f} s", sent=True
            ) from error
        except asyncio.CancelledError:
            self._withdraw(message, headers)
            raise
        finally:
            del self._pending[request_id]
            answer.cancel()

    async def send(self, message: Message, *, headers: Mapping[str, str], timeout: float) -> None:
        if self._failure is not None:
            raise UpstreamClosed(self._failure.message, sent=False)
        async with self._post(message, headers, timeout) as response:
            await response.read(MAX_ANSWER_BYTES)
        if response.status >= 400:
            raise UpstreamBadAnswer(f"MCP server {self._server!r} answered HTTP {response.status}", sent=True)

    async def listen(self, *, headers: Mapping[str, str], on_message: OnMessage, established: asyncio.Event) -> bool:
        """There is nothing more to listen to."""
        established.set()
        return False

    async def close(self) -> None:
        await asyncio.gather(*self._withdrawals)
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._fail(UpstreamClosed(f"the session with MCP server {self._server!r} was closed", sent=True))

    async def _read_stream(self) -> None:
        try:
            async with self._get({}, None) as response:
                if response.status >= 400 or response.content_type != "text/event-stream":
                    raise UpstreamBadAnswer(
                        f"MCP server {self._server!r} answered HTTP {response.status} without an event stream", sent=False
                    )
                async for message in self._events(response):
                    await self._take(message)
        except UpstreamError as error:
            self._fail(error)
        else:
            self._fail(UpstreamClosed(f"MCP server {self._server!r} closed its event stream", sent=True))

    async def _events(self, response: Response) -> AsyncIterator[Message]:
        stream = PacedStream(response, self._pace)
        try:
            async for event in EventReader().read(stream.chunks()):
                if event.name == "endpoint":
                    self._take_address(event.data.decode(errors="replace"))
                    continue
                message = self._parse(event.data)
                await stream.admit(message)
                yield message
        except EventTooLarge:
            raise self._too_large() from None

    def _take_address(self, given: str) -> None:
        """The credential goes to the address, so it must be at the origin that was connected."""
        address = urljoin(self._endpoint, given)
        if urlsplit(address)[:2] != urlsplit(self._endpoint)[:2]:
            raise UpstreamBadAnswer(
                f"MCP server {self._server!r} wants messages at another origin than its own: {given[:SHOWN]}", sent=False
            )
        if not self._address.done():
            self._address.set_result(address)

    async def _take(self, message: Message) -> None:
        if "method" in message:
            if self.unsolicited is not None:
                with contextlib.suppress(UpstreamError):
                    await self.unsolicited(message)
        elif (answer := self._pending.get(message.get("id") or "")) is not None and not answer.done():
            answer.set_result(message)

    def _fail(self, error: UpstreamError) -> None:
        self._failure = self._failure or error
        if not self._address.done():
            self._address.set_exception(error)
            self._address.exception()
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(self._failure.twin())
