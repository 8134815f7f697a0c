"""MCP over Streamable HTTP, client side: one POST a message, the answer as JSON or as an event stream.

Implements the transport of revisions 2025-03-26 to 2026-07-28 (spec: basic/transports, "Streamable HTTP"). It keeps raw JSON
and one pooled aiohttp session for all upstreams; the SDK's client costs 3.5 to 6 ms a call (peers.md), this one a tenth.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp

from auralink.core.egress import EgressGuard
from auralink.mcp.upstream.errors import (
    SessionLost,
    UpstreamAnswerTooLarge,
    UpstreamBadAnswer,
    UpstreamClosed,
    UpstreamRedirects,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from auralink.mcp.upstream.transport import MAX_ANSWER_BYTES, Message, OnMessage, bytes_of, message_of

SESSION_ID = "Mcp-Session-Id"
CONNECT_SECONDS = 10.0
MAX_CONNECTIONS_TO_ONE_HOST = 256
STREAM_END_SECONDS = 0.01
"""How long the end of an event stream is awaited after the answer."""
SHOWN = 300
"""Characters of a server's own words in a message of ours."""
BAD_REQUEST = 400
SERVER_ERROR = -32000
TOO_MANY_REQUESTS = 429
BASE_HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}

HeaderSource = Callable[[], Mapping[str, str]]
"""Gives the headers that authenticate the call; asked for each request, so that a secret is opened only here."""


def http_client(guard: EgressGuard, *, trusted: bool) -> aiohttp.ClientSession:
    """The client that all sessions of one kind share. Connections are bounded for each server and not in all, so that a server
    that hangs takes none from the others; no request follows a redirect."""
    connector = guard.connector(trusted=trusted, limit=0, limit_per_host=MAX_CONNECTIONS_TO_ONE_HOST)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


class HttpTransport:
    """Messages to one endpoint. Keeps the session id that a handshake-era server has given."""

    def __init__(self, http: aiohttp.ClientSession, server: str, endpoint: str, credentials: HeaderSource) -> None:
        self._http = http
        self._server = server
        self._endpoint = endpoint
        self._credentials = credentials
        self.session_id: str | None = None
        self.unsolicited: OnMessage | None = None

    async def exchange(
        self, message: Message, *, headers: Mapping[str, str], timeout: float, on_message: OnMessage | None = None
    ) -> Message:
        deadline = time.monotonic() + timeout
        session_id = self.session_id
        async with self._post(message, headers, timeout) as response:
            if session_id is None and (given := response.headers.get(SESSION_ID)):
                self.session_id = given
            if response.content_type == "text/event-stream":
                return await self._response_in_stream(response, message["id"], on_message, deadline)
            body = await self._read(response)
            if not body and response.status == 202:
                raise UpstreamBadAnswer(f"MCP server {self._server!r} acknowledged a request without answering it", sent=True)
            answer = self._checked(body, message["id"], response.status)
        if response.status == BAD_REQUEST and session_id is not None and _is_about_session(answer["error"]):
            raise self._session_lost()
        return answer

    async def send(self, message: Message, *, headers: Mapping[str, str], timeout: float) -> None:
        async with self._post(message, headers, timeout) as response:
            await self._read(response)

    def forget_session(self) -> None:
        """Drops the session id, which the server no longer knows."""
        self.session_id = None

    async def close(self) -> None:
        """Tells a handshake-era server that the session is over; its answer does not matter."""
        if self.session_id is None:
            return
        headers = {**self._credentials(), SESSION_ID: self.session_id}
        self.session_id = None
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._http.delete(
                self._endpoint, headers=headers, timeout=aiohttp.ClientTimeout(total=2), allow_redirects=False
            ):
                pass

    @contextlib.asynccontextmanager
    async def _post(self, message: Message, headers: Mapping[str, str], timeout: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends one message; every failure of the connection comes out as an error of ours, with whether it was sent."""
        all_headers = {**BASE_HEADERS, **headers, **self._credentials()}
        session_id = self.session_id
        if session_id is not None:
            all_headers[SESSION_ID] = session_id
        try:
            async with self._http.post(
                self._endpoint,
                data=bytes_of(message),
                headers=all_headers,
                timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS),
                allow_redirects=False,
            ) as response:
                self._check_status(response, session_id)
                yield response
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or str(error.os_error)
            raise UpstreamUnreachable(
                f"MCP server {self._server!r} at {self._endpoint} cannot be reached: {reason}", sent=False
            ) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamTimeout(
                f"MCP server {self._server!r} at {self._endpoint} did not take the connection", sent=False
            ) from error
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"MCP server {self._server!r} did not answer {message.get('method', 'a response')} within {timeout:.1f} s",
                sent=True,
            ) from error
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise UpstreamClosed(
                f"MCP server {self._server!r} closed the connection before it had answered", sent=True
            ) from error
        except aiohttp.ClientError as error:
            raise UpstreamBadAnswer(
                f"MCP server {self._server!r} did not answer in HTTP: {str(error)[:SHOWN]}", sent=True
            ) from error

    def _check_status(self, response: aiohttp.ClientResponse, session_id: str | None) -> None:
        """Refuses what its status alone settles; other errors may carry a JSON-RPC error, which says more."""
        status = response.status
        if status in (401, 403):
            raise UpstreamUnauthorized(
                f"MCP server {self._server!r} refused the credential (HTTP {status}); replace it with "
                "PUT /api/v1/mcp/connections/{id}/credentials",
                sent=False,
            )
        if status == 404 and session_id is not None:
            raise self._session_lost()
        if 300 <= status < 400:
            location = response.headers.get("Location", "elsewhere")[:SHOWN]
            raise UpstreamRedirects(f"MCP server {self._server!r} redirects to {location}; connect with that address", sent=False)

    def _session_lost(self) -> SessionLost:
        return SessionLost(f"MCP server {self._server!r} no longer knows the session", sent=False)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        length = response.content_length
        if length is not None and length > MAX_ANSWER_BYTES:
            raise self._too_large(response)
        chunks, size = [], 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise self._too_large(response)
            chunks.append(chunk)
        return b"".join(chunks)

    def _too_large(self, response: aiohttp.ClientResponse) -> UpstreamAnswerTooLarge:
        response.close()
        return UpstreamAnswerTooLarge(
            f"MCP server {self._server!r} answered more than {MAX_ANSWER_BYTES // 2**20} MiB; ask it for less", sent=True
        )

    def _parse(self, body: bytes) -> Message:
        message = message_of(body)
        if message is None:
            raise UpstreamBadAnswer(f"MCP server {self._server!r} answered something that is not a JSON-RPC message", sent=True)
        return message

    def _checked(self, body: bytes, request_id: int | str, status: int) -> Message:
        """The response in a JSON body. A body without an id is accepted only as an error: the server could not read ours."""
        message = message_of(body) if status >= 400 else self._parse(body)
        if message is None or (status >= 400 and "error" not in message):
            raise UpstreamBadAnswer(f"MCP server {self._server!r} answered HTTP {status}", sent=status != TOO_MANY_REQUESTS)
        if message.get("id") != request_id and not ("error" in message and message.get("id") is None):
            raise UpstreamBadAnswer(f"MCP server {self._server!r} answered another request than ours", sent=True)
        return message

    async def _response_in_stream(
        self, response: aiohttp.ClientResponse, request_id: int | str, on_message: OnMessage | None, deadline: float
    ) -> Message:
        async with asyncio.timeout(deadline - time.monotonic()):
            async for data in self._events(response):
                message = self._parse(data)
                if "method" not in message:
                    if message.get("id") != request_id:
                        raise UpstreamBadAnswer(f"MCP server {self._server!r} answered another request than ours", sent=True)
                    await self._await_end(response)
                    return message
                if on_message is not None:
                    await on_message(message)
        raise UpstreamClosed(f"MCP server {self._server!r} closed the stream before it had answered", sent=True)

    async def _await_end(self, response: aiohttp.ClientResponse) -> None:
        """Reads the end of a stream that has given its answer, so that its connection can be used again; else closes it."""
        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(STREAM_END_SECONDS):
                if not await response.content.read(1):
                    return
        response.close()

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The data of each server-sent event (WHATWG HTML §9.2), comments and empty events left out."""
        buffer, size = b"", 0
        data: list[bytes] = []
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise self._too_large(response)
            *lines, buffer = (buffer + chunk).replace(b"\r\n", b"\n").split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    data.append(line[5:].removeprefix(b" "))
                elif not line and data:
                    event = b"\n".join(data)
                    data.clear()
                    if event:
                        yield event


def _is_about_session(error: object) -> bool:
    """Whether a 400 means a lost session: servers built on the TypeScript SDK's examples answer so instead of 404."""
    if not isinstance(error, dict) or error.get("code") != SERVER_ERROR:
        return False
    return "session" in str(error.get("message", "")).lower()
