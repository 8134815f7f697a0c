"""MCP over Streamable HTTP, client side: one POST a message, the answer as JSON or as an event stream.

Implements the transport of revisions 2025-03-26 to 2026-07-28 (spec: basic/transports, "Streamable HTTP"). It keeps raw JSON
and one thin pooled client for all upstreams; the SDK's client costs 3.5 to 6 ms a call, this one a fiftieth.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from yarl import URL

from auralink.core.http_client import (
    HttpAnswerTooLarge,
    HttpBadAnswer,
    HttpClient,
    HttpClosed,
    HttpFailed,
    HttpInvalidRequest,
    HttpTimeout,
    Response,
)
from auralink.core.server_events import EventReader, EventTooLarge
from auralink.mcp.upstream.errors import (
    SessionLost,
    UpstreamAnswerTooLarge,
    UpstreamBadAnswer,
    UpstreamClosed,
    UpstreamError,
    UpstreamFloods,
    UpstreamRedirects,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from auralink.mcp.upstream.pace import Pace, PacedStream
from auralink.mcp.upstream.transport import (
    IDEMPOTENCY_KEY,
    MAX_ANSWER_BYTES,
    NOT_CANCELLABLE,
    Message,
    OnMessage,
    bytes_of,
    cancellation_of,
    message_of,
)

SESSION_ID = "Mcp-Session-Id"
LAST_EVENT_ID = "Last-Event-ID"
CONNECT_SECONDS = 10.0
STREAM_END_SECONDS = 0.01
"""How long the end of an event stream is awaited after the answer."""
MAX_UNASKED = 20_000
"""Messages in one stream before the answer that it was opened for."""
SHOWN = 300
"""Characters of a server's own words in a message of ours."""
BAD_REQUEST = 400
SERVER_ERROR = -32000
TOO_MANY_REQUESTS = 429
REPLACE = "replace it with PUT /api/v1/mcp/connections/{id}/credentials"
BASE_HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
FAREWELL_SECONDS = 2.0
"""How long a server may take to be told that its session is over."""
WITHDRAW_SECONDS = 5.0
"""How long a server may take to be told that nobody waits for an answer any more."""

HeaderSource = Callable[[], Mapping[str, str]]
"""Gives the headers that authenticate the call; asked for each request, so that a secret is opened only here."""
Renew = Callable[[Mapping[str, str], float], Awaitable[bool]]
"""Is told which of these headers were refused, and until when (monotonic) to have others; says whether there are others."""
Sign = Callable[[str, str, bytes | None], Mapping[str, str]]
"""Gives the headers that sign a request, from its method, target URI and body."""


Answering = contextlib.AbstractAsyncContextManager[Response]


class HttpTransport:
    """Messages to one endpoint. Keeps the session id that a handshake-era server has given."""

    def __init__(
        self,
        http: HttpClient,
        server: str,
        endpoint: str,
        credentials: HeaderSource,
        *,
        renew: Renew | None = None,
        sign: Sign = lambda *_: {},
    ) -> None:
        self._http = http
        self._server = server
        self._endpoint = endpoint
        self._credentials = credentials
        self._renew = renew
        self._sign = sign
        self._target = _target_uri(endpoint)
        self.session_id: str | None = None
        self.unsolicited: OnMessage | None = None
        self._pace = Pace()
        self._withdrawals: set[asyncio.Task[None]] = set()

    def address_messages_to(self, endpoint: str) -> None:
        """Sends what follows to another address of the same server."""
        self._endpoint, self._target = endpoint, _target_uri(endpoint)

    async def exchange(
        self, message: Message, *, headers: Mapping[str, str], timeout: float, on_message: OnMessage | None = None
    ) -> Message:
        try:
            return await self._exchange(message, headers, timeout, on_message)
        except (asyncio.CancelledError, UpstreamTimeout):
            self._withdraw(message, headers)
            raise

    async def _exchange(
        self, message: Message, headers: Mapping[str, str], timeout: float, on_message: OnMessage | None
    ) -> Message:
        deadline = time.monotonic() + timeout
        session_id = self.session_id
        async with self._post(message, headers, timeout) as response:
            if session_id is None and (given := response.headers.get(SESSION_ID)):
                self.session_id = given
            if response.content_type == "text/event-stream":
                return await self._response_in_stream(response, message["id"], headers, on_message, deadline)
            body = await response.read(MAX_ANSWER_BYTES)
            if not body and response.status == 202:
                raise UpstreamBadAnswer(f"MCP server {self._server!r} acknowledged a request without answering it", sent=True)
            answer = self._checked(body, message["id"], response.status)
        if response.status == BAD_REQUEST and session_id is not None and _is_about_session(answer["error"]):
            raise self._session_lost()
        return answer

    async def send(self, message: Message, *, headers: Mapping[str, str], timeout: float) -> None:
        async with self._post(message, headers, timeout) as response:
            await response.read(MAX_ANSWER_BYTES)

    async def listen(self, *, headers: Mapping[str, str], on_message: OnMessage, established: asyncio.Event) -> bool:
        """Hears what a handshake-era server says outside any call (GET), until it ends the stream; False if it offers none.

        `established` is set as soon as the server can be heard. Raises as `exchange`.
        """
        reader = EventReader()
        async with self._get(headers, None) as response:
            established.set()
            if response.status == 405 or response.content_type != "text/event-stream":
                return False
            async for message in self._messages(response, reader):
                await on_message(message)
        return True

    def _withdraw(self, request: Message, headers: Mapping[str, str]) -> None:
        """Tells a handshake-era server that nobody waits any more. For 2026-07-28 the closed connection says so."""
        if headers.get(MCP_PROTOCOL_VERSION_HEADER) in MODERN_PROTOCOL_VERSIONS or request["method"] in NOT_CANCELLABLE:
            return
        task = asyncio.create_task(self._send_cancellation(request, headers))
        self._withdrawals.add(task)
        task.add_done_callback(self._withdrawals.discard)

    async def _send_cancellation(self, request: Message, headers: Mapping[str, str]) -> None:
        with contextlib.suppress(UpstreamError):
            await self.send(cancellation_of(request), headers=headers, timeout=WITHDRAW_SECONDS)

    def forget_session(self) -> None:
        """Drops the session id, which the server no longer knows."""
        self.session_id = None

    async def close(self) -> None:
        """Tells a handshake-era server that the session is over; its answer does not matter."""
        await asyncio.gather(*self._withdrawals)
        if self.session_id is None:
            return
        headers = {**self._credentials(), SESSION_ID: self.session_id, **self._sign("DELETE", self._target, None)}
        self.session_id = None
        with contextlib.suppress(HttpFailed):
            deadline = time.monotonic() + FAREWELL_SECONDS
            async with await self._http.request("DELETE", self._endpoint, headers=headers, deadline=deadline):
                pass

    def _post(self, message: Message, headers: Mapping[str, str], timeout: float) -> Answering:
        """Sends one message."""
        what = message.get("method", "a response")
        key = ((message.get("params") or {}).get("_meta") or {}).get(IDEMPOTENCY_KEY)
        keyed = {"Idempotency-Key": key} if isinstance(key, str) else {}
        return self._request("POST", {**BASE_HEADERS, **keyed, **headers}, bytes_of(message), timeout, what)

    def _get(self, headers: Mapping[str, str], last_id: str | None) -> Answering:
        """Opens an event stream: where `last_id` left off, or the one that belongs to no call."""
        asked = {"Accept": "text/event-stream", **headers}
        if last_id is not None:
            asked[LAST_EVENT_ID] = last_id
        return self._request("GET", asked, None, None, "a request for its events")

    @contextlib.asynccontextmanager
    async def _request(
        self, verb: str, headers: Mapping[str, str], body: bytes | None, timeout: float | None, what: str
    ) -> AsyncIterator[Response]:
        """Every failure of the connection comes out as an error of ours, with whether the request was sent."""
        try:
            async with await self._answer(verb, headers, body, timeout) as response:
                yield response
        except HttpFailed as failure:
            raise self._named(failure, what, timeout) from failure
        except TimeoutError as error:
            raise self._too_slow(what, timeout) from error

    def _named(self, failure: HttpFailed, what: str, timeout: float | None) -> UpstreamError:
        """The failure as one of this server."""
        match failure:
            case HttpTimeout(sent=True):
                return self._too_slow(what, timeout)
            case HttpTimeout():
                return UpstreamTimeout(f"MCP server {self._server!r} at {self._endpoint} did not take the connection", sent=False)
            case HttpClosed():
                message = f"MCP server {self._server!r} closed the connection before it had answered"
                return UpstreamClosed(message, sent=failure.sent)
            case HttpBadAnswer():
                return UpstreamBadAnswer(f"MCP server {self._server!r}: {failure.message[:SHOWN]}", sent=True)
            case HttpAnswerTooLarge():
                return self._too_large()
            case HttpInvalidRequest():
                return UpstreamUnauthorized(
                    f"the credential for MCP server {self._server!r} cannot be sent ({failure.message}); {REPLACE}", sent=False
                )
            case _:
                return UpstreamUnreachable(f"MCP server {self._server!r} at {self._endpoint}: {failure.message}", sent=False)

    def _too_slow(self, what: str, timeout: float | None) -> UpstreamTimeout:
        return UpstreamTimeout(f"MCP server {self._server!r} did not answer {what} within {timeout or 0:.1f} s", sent=True)

    async def _answer(self, verb: str, headers: Mapping[str, str], body: bytes | None, timeout: float | None) -> Response:
        """The response to a request, which is made again once if its credential has expired and there is another."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for may_renew in (True, False):
            credentials, session_id = self._credentials(), self.session_id
            session = {} if session_id is None else {SESSION_ID: session_id}
            response = await self._http.request(
                verb,
                self._endpoint,
                headers={**headers, **credentials, **session, **self._sign(verb, self._target, body)},
                body=body,
                deadline=deadline,
            )
            try:
                self._check_status(response, session_id)
            except UpstreamError as refusal:
                response.close()
                if not may_renew or not await self._has_renewed(refusal, credentials, deadline):
                    raise
            else:
                return response
        raise AssertionError("the second attempt returns or raises")

    async def _has_renewed(self, refusal: UpstreamError, credentials: Mapping[str, str], deadline: float | None) -> bool:
        if self._renew is None or not isinstance(refusal, UpstreamUnauthorized) or not refusal.expired:
            return False
        return await self._renew(credentials, time.monotonic() + CONNECT_SECONDS if deadline is None else deadline)

    def _check_status(self, response: Response, session_id: str | None) -> None:
        """Refuses what its status alone settles; other errors may carry a JSON-RPC error, which says more."""
        status = response.status
        if status in (401, 403):
            challenge = response.headers.get("WWW-Authenticate")
            remedy = REPLACE
            if challenge and "resource_metadata" in challenge:
                remedy = "authorise with POST /api/v1/mcp/connections/{id}/oauth/start, or " + remedy
            raise UpstreamUnauthorized(
                f"MCP server {self._server!r} refused the credential (HTTP {status}); {remedy}",
                sent=False,
                challenge=challenge,
                expired=status == 401,
            )
        if status == 404 and session_id is not None:
            raise self._session_lost()
        if 300 <= status < 400:
            location = response.headers.get("Location", "elsewhere")[:SHOWN]
            raise UpstreamRedirects(f"MCP server {self._server!r} redirects to {location}; connect with that address", sent=False)

    def _session_lost(self) -> SessionLost:
        return SessionLost(f"MCP server {self._server!r} no longer knows the session", sent=False)

    def _too_large(self) -> UpstreamAnswerTooLarge:
        return UpstreamAnswerTooLarge(
            f"MCP server {self._server!r} answered more than {MAX_ANSWER_BYTES // 2**20} MiB; ask it for less", sent=True
        )

    def _floods(self) -> UpstreamFloods:
        return UpstreamFloods(
            f"MCP server {self._server!r} sent {MAX_UNASKED:,} messages instead of an answer; the call was given up", sent=True
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
        self,
        response: Response,
        request_id: int | str,
        headers: Mapping[str, str],
        on_message: OnMessage | None,
        deadline: float,
    ) -> Message:
        """The answer in an event stream; one that ends before it but has given an id is taken up again where it left off."""
        reader = EventReader()
        async with asyncio.timeout(deadline - time.monotonic()):
            answer = await self._answer_in(response, reader, request_id, on_message)
            while answer is None and reader.last_id is not None:
                await asyncio.sleep(reader.retry)
                async with self._get(headers, reader.last_id) as resumed:
                    if resumed.content_type != "text/event-stream":
                        break
                    answer = await self._answer_in(resumed, reader, request_id, on_message)
        if answer is None:
            raise UpstreamClosed(f"MCP server {self._server!r} closed the stream before it had answered", sent=True)
        return answer

    async def _answer_in(
        self,
        response: Response,
        reader: EventReader,
        request_id: int | str,
        on_message: OnMessage | None,
    ) -> Message | None:
        on_message, unasked = on_message or self.unsolicited, 0
        async for message in self._messages(response, reader):
            if "method" in message:
                unasked += 1
                if unasked > MAX_UNASKED:
                    raise self._floods()
                if on_message is not None:
                    await on_message(message)
                continue
            if message.get("id") != request_id:
                raise UpstreamBadAnswer(f"MCP server {self._server!r} answered another request than ours", sent=True)
            await self._await_end(response)
            return message
        return None

    async def _await_end(self, response: Response) -> None:
        """Reads the end of a stream that has given its answer, so that its connection can be used again; else closes it."""
        with contextlib.suppress(TimeoutError, HttpFailed):
            async with asyncio.timeout(STREAM_END_SECONDS):
                if await anext(response, None) is None:
                    return
        response.close()

    async def _messages(self, response: Response, reader: EventReader) -> AsyncIterator[Message]:
        stream = PacedStream(response, self._pace)
        try:
            async for event in reader.read(stream.chunks()):
                message = self._parse(event.data)
                await stream.admit(message)
                yield message
        except EventTooLarge:
            raise self._too_large() from None


def _is_about_session(error: object) -> bool:
    """Whether a 400 means a lost session: servers built on the TypeScript SDK's examples answer so instead of 404."""
    if not isinstance(error, dict) or error.get("code") != SERVER_ERROR:
        return False
    return "session" in str(error.get("message", "")).lower()


def _target_uri(endpoint: str) -> str:
    """The endpoint as the server will see it (RFC 9421 §2.2.2): without a default port or a fragment."""
    url = URL(endpoint).with_fragment(None)
    return str(url.with_port(None) if url.is_default_port() else url)
