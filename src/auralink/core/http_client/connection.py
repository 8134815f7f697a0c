"""One connection to an HTTP server, which carries one exchange at a time (RFC 9112)."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from auralink.core.http_client.errors import HttpBadAnswer, HttpClosed, HttpFailed, HttpTimeout
from auralink.core.http_client.request import Origin
from auralink.core.http_client.response import Headers, Response

MAX_HEAD_BYTES = 64 * 1024
"""Bytes that a server may send without a byte of a body among them: heads of all kinds, trailers, chunk extensions."""
NO_BODY = frozenset({204, 304})
SWITCHING_PROTOCOLS = 101
OK = 200


class Connection(asyncio.Protocol):
    """Sends requests and takes their answers apart. `on_free` is told when it can be used again, `on_lost` when it is gone."""

    def __init__(self, origin: Origin, on_free: Callable[["Connection"], None], on_lost: Callable[["Connection"], None]) -> None:
        self._origin = origin
        self._on_free = on_free
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._head: asyncio.Future[Response] | None = None
        self._response: Response | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fields: dict[bytes, bytes] = {}
        self._overhead = 0
        self._ended = self._lasting = True
        self._paused = False
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether it is open and no exchange is under way."""
        return self._transport is not None and not self._transport.is_closing() and self._head is None

    async def exchange(self, request: bytes, deadline: float | None) -> Response:
        """Sends a request and waits for the head of its answer; `deadline` (monotonic) is for all of the answer.

        Raises:
            HttpFailed: the connection is closed then.
        """
        if self._transport is None or self._transport.is_closing():
            raise HttpClosed(f"{self._origin} closed the connection before the request was sent", sent=False)
        head: asyncio.Future[Response] = self._loop.create_future()
        self._head = head
        self._ended = self._lasting = False
        self._overhead = 0
        if deadline is not None:
            self._timer = self._loop.call_later(max(deadline - time.monotonic(), 0), self._time_out)
        self._transport.write(request)
        try:
            return await head
        except asyncio.CancelledError:
            if self._head is head:
                self.abandon()
            raise

    def abandon(self) -> None:
        """Closes at once; what is under way fails."""
        self._fail(HttpClosed(f"the exchange with {self._origin} was given up", sent=True))

    def pause(self) -> None:
        """Reads no more for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._paused = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            self.abandon()
            return
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail(HttpBadAnswer(f"{self._origin} answered in another protocol", sent=True))
        except HttpParserError as error:
            if not self._ended:
                self._fail(HttpBadAnswer(f"{self._origin} did not answer in HTTP: {error}", sent=True))
            self._lasting = False
        if self._response is not None and self._ended:
            self._conclude(self._response)
        elif self._overhead > MAX_HEAD_BYTES:
            self._fail(HttpBadAnswer(f"{self._origin} sent headers of more than {MAX_HEAD_BYTES} bytes", sent=True))

    def eof_received(self) -> None:
        if self._response is not None and not self._ended and not self._is_framed():
            self._ended = True
            self._conclude(self._response)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(HttpClosed(f"{self._origin} closed the connection before it had answered", sent=True))
        self._transport = None
        del self._parser  # it holds on to this object
        self._on_lost(self)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A second answer to one request ends the connection; so does what follows an interim one that never ends."""
        if self._ended:
            self._lasting = False
        self._fields = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._response is not None or self._ended:
            return
        name = name.lower()
        known = self._fields.get(name)
        self._fields[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._ended or self._head is None or self._head.done() or (status < OK and status != SWITCHING_PROTOCOLS):
            return
        refusal = self._refusal(status)
        if refusal is not None:
            self._fail(HttpBadAnswer(f"{self._origin} {refusal}", sent=True))
            return
        self._response = Response(status, Headers(self._fields), self)
        self._head.set_result(self._response)

    def on_body(self, data: bytes) -> None:
        self._overhead = 0
        if self._response is not None and not self._ended:
            self._response.feed(data)

    def on_message_complete(self) -> None:
        if self._response is not None and not self._ended:
            self._ended = True
            self._lasting = self._parser.should_keep_alive()

    def _refusal(self, status: int) -> str | None:
        """Why an answer with this head is not taken."""
        if (
            self._overhead > MAX_HEAD_BYTES
            and sum(len(name) + len(value) for name, value in self._fields.items()) > MAX_HEAD_BYTES
        ):
            return f"sent headers of more than {MAX_HEAD_BYTES} bytes"
        if status == SWITCHING_PROTOCOLS:
            return "answered in another protocol"
        if self._fields.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            return "compressed its answer, which was not asked for"
        if self._fields.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
            return "answered in a transfer encoding that is not chunked"
        return None

    def _is_framed(self) -> bool:
        """Whether the answer itself says where its body ends."""
        assert self._response is not None
        return b"content-length" in self._fields or b"transfer-encoding" in self._fields or self._response.status in NO_BODY

    def _time_out(self) -> None:
        self._fail(HttpTimeout(f"{self._origin} did not answer in time", sent=True))

    def _conclude(self, response: Response) -> None:
        """The answer is whole: whoever reads it has no more to do with this connection."""
        assert self._transport is not None
        response.finish()
        self._reset()
        if not self._lasting or self._transport.is_closing() or self._transport.get_write_buffer_size():
            self._transport.abort()
            return
        self.resume()
        self._on_free(self)

    def _fail(self, failure: HttpFailed) -> None:
        if self._response is not None:
            self._response.fail(failure)
        elif self._head is not None and not self._head.done():
            self._head.set_exception(failure)
            self._head.exception()
        self._reset()
        self._ended, self._lasting = True, False
        if self._transport is not None:
            self._transport.abort()

    def _reset(self) -> None:
        self._head = self._response = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
