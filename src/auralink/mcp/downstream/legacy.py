"""Revisions 2025-03-26 to 2025-11-25: `initialize`, a session id, and requests from server to client.

The session id is signed, not stored: it says who opened the session and what the client can do, so any replica serves it. What
lives in one process is what waits there: a call that can be cancelled, a question that the client has yet to answer.
"""

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from mcp_types import INVALID_REQUEST
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from starlette.types import Receive, Send

from auralink.auth.principal import Principal
from auralink.mcp.downstream.errors import RpcError
from auralink.mcp.downstream.exchange import ClientGone, first_of
from auralink.mcp.downstream.hearing import MAX_SUBSCRIPTIONS, Hearing, Hearings
from auralink.mcp.downstream.incoming import Incoming
from auralink.mcp.downstream.methods import Methods, Request
from auralink.mcp.downstream.reply import Part, Reply
from auralink.mcp.downstream.sessions import Sessions
from auralink.mcp.downstream.signed import Signer
from auralink.mcp.federation import View
from auralink.mcp.peer import LOG_LEVELS, PeerRefused, is_logged
from auralink.mcp.upstream.transport import Message

SESSION_ID = "mcp-session-id"
BATCHING_VERSION = "2025-03-26"
SUPPORTED_VERSIONS = HANDSHAKE_PROTOCOL_VERSIONS[1:]
ANSWER_SECONDS = 900.0
"""How long a client has to answer a question."""
UNSET_LEVEL = "info"
"""From which level on a client that has not set one is shown the log of a server that sends what it is asked for."""
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Session:
    """What a session id says."""

    key: str
    capabilities: Mapping[str, Any]
    version: str


class LegacyPeer:
    """The client of one call, asked and told on the call's own event stream."""

    answers_rounds = False
    _ids = itertools.count(1)

    def __init__(
        self,
        reply: Reply,
        session: Session,
        waiting: "dict[tuple[str, Any], asyncio.Future[Message]]",
        log_level: str | None,
    ) -> None:
        self.capabilities = session.capabilities
        self.log_level: str | None = log_level or UNSET_LEVEL
        self._shown_level = log_level or LOG_LEVELS[0]
        self._reply = reply
        self._session = session
        self._waiting = waiting

    async def notify(self, message: Message) -> None:
        """Passes a notification on, unless it is of a log level below the one that the client has set."""
        if is_logged(message, self._shown_level):
            await self._reply.event(message)

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Sends the client a request and waits for the response that it posts."""
        request_id = f"auralink-{next(self._ids)}"
        key = (self._session.key, request_id)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        try:
            await self._reply.event({"jsonrpc": "2.0", "id": request_id, "method": method, "params": dict(params)})
            async with asyncio.timeout(ANSWER_SECONDS):
                message = await answer
        except TimeoutError:
            raise PeerRefused(f"the client did not answer {method} within {ANSWER_SECONDS:.0f} s") from None
        except asyncio.CancelledError:
            params = {"requestId": request_id, "reason": "the answer is no longer needed"}
            await self._reply.event({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
            raise
        finally:
            self._waiting.pop(key, None)
        if "error" in message:
            error = message["error"] if isinstance(message["error"], dict) else {}
            raise PeerRefused(str(error.get("message", "")), code=error.get("code", INVALID_REQUEST), data=error.get("data"))
        result = message.get("result")
        return result if isinstance(result, dict) else {}


class LegacyEra:
    """Answers POST, GET and DELETE of the handshake revisions."""

    def __init__(self, methods: Methods, signer: Signer, hearings: Hearings) -> None:
        self._methods = methods
        self._signer = signer
        self._hearings = hearings
        self._sessions = Sessions()
        self._running: dict[tuple[str, Any], asyncio.Task[dict[str, Any]]] = {}
        self._waiting: dict[tuple[str, Any], asyncio.Future[Message]] = {}

    async def answer(self, http: Incoming, send: Send, principal: Principal, view: View, body: Body) -> None:
        """Answers one POST: a request, a notification, or the response to a request of ours."""
        if body.get("method") == "initialize":
            await self._initialize(send, principal, view, body)
            return
        reply = Reply(send)
        try:
            session = self._session(http, principal)
        except RpcError as error:
            await reply.finish({"jsonrpc": "2.0", "id": body.get("id"), "error": error.error}, error.status or 400)
            return
        if "method" not in body:
            await self._take_response(reply, session, body)
        elif "id" not in body:
            self._take_notification(session, body)
            await reply.accepted()
        else:
            await self._answer_request(reply, http.receive, principal, view, session, body)

    async def answer_batch(self, http: Incoming, send: Send, principal: Principal, view: View, batch: list[Body]) -> None:
        """Answers several messages at once, which 2025-03-26 has and no other revision; requests are answered in one stream."""
        reply, session = Reply(send), self._session(http, principal)
        if session.version != BATCHING_VERSION:
            raise RpcError(INVALID_REQUEST, f"revision {session.version} has no batches; send one message at a time")
        requests = []
        for body in batch:
            if "method" not in body:
                self._settle(session, body)
            elif "id" not in body:
                self._take_notification(session, body)
            else:
                requests.append(body)
        if not requests:
            await reply.accepted()
            return
        await asyncio.gather(
            *(self._answer_request(Part(reply), http.receive, principal, view, session, body) for body in requests)
        )
        await reply.end()

    async def stream(self, http: Incoming, send: Send, principal: Principal, view: View) -> None:
        """GET: announcements to the session's client, until it goes."""
        reply, session = Reply(send), self._session(http, principal)
        memory = self._sessions.remember(session.key)
        async with self._hearings.open(principal, view) as hearing:
            memory.hearings.append(hearing)
            try:
                await hearing.subscribe(list(memory.subscribed))
                await hearing.ready()
                await reply.keep_alive()
                while (heard := await self._next(reply, http.receive, hearing)) is not None:
                    method, params = heard
                    message = {"jsonrpc": "2.0", "method": method}
                    await reply.event({**message, "params": params} if params else message)
            finally:
                memory.hearings.remove(hearing)
        if not reply.finished:
            await reply.end()

    async def end(self, http: Incoming, send: Send, principal: Principal) -> None:
        """DELETE: the session's calls in this process are cancelled, and its id is no longer taken here."""
        reply, session = Reply(send), self._session(http, principal)
        self._sessions.end(session.key)
        for key in [key for key in self._running if key[0] == session.key]:
            self._running[key].cancel()
        await reply.finish({})

    async def _next(self, reply: Reply, receive: Receive, hearing: Hearing) -> tuple[str, dict[str, Any]] | None:
        getting = asyncio.ensure_future(hearing.next())
        try:
            await first_of(reply, receive, getting)
        except ClientGone:
            return None
        finally:
            getting.cancel()
        return getting.result()

    async def _initialize(self, send: Send, principal: Principal, view: View, body: Body) -> None:
        params = body.get("params") or {}
        requested = params.get("protocolVersion")
        version = requested if requested in SUPPORTED_VERSIONS else LATEST_HANDSHAKE_VERSION
        capabilities = params.get("capabilities")
        document = {"k": uuid4().hex, "v": version, "c": capabilities if isinstance(capabilities, dict) else {}}
        token = self._signer.sign(principal.user_id, document)
        try:
            result = {"protocolVersion": version, **await self._methods.describe(principal, view)}
        except RpcError as error:
            await Reply(send).finish({"jsonrpc": "2.0", "id": body.get("id"), "error": error.error})
            return
        reply = Reply(send, [(SESSION_ID.encode(), token.encode())])
        await reply.finish({"jsonrpc": "2.0", "id": body.get("id"), "result": result})

    def _session(self, http: Incoming, principal: Principal) -> Session:
        """The session of a request. Raises `RpcError` with status 400 or 404."""
        token = http.headers.get(SESSION_ID)
        if token is None:
            raise RpcError(INVALID_REQUEST, "the request has no Mcp-Session-Id; send initialize first", status=400)
        document = self._signer.read(principal.user_id, token)
        if not isinstance(document, dict) or self._sessions.has_ended(document["k"]):
            raise RpcError(INVALID_REQUEST, "there is no such session (any more); send initialize again", status=404)
        given = http.headers.get("mcp-protocol-version")
        if given is not None and given not in SUPPORTED_VERSIONS:
            supported = ", ".join(SUPPORTED_VERSIONS)
            raise RpcError(INVALID_REQUEST, f"Unsupported protocol version {given!r}; supported: {supported}", status=400)
        return Session(document["k"], document["c"], document["v"])

    async def _answer_request(
        self, reply: Reply, receive: Receive, principal: Principal, view: View, session: Session, body: Body
    ) -> None:
        memory = self._sessions.find(session.key)
        peer = LegacyPeer(reply, session, self._waiting, memory.log_level if memory is not None else None)
        request = Request(principal, view, body["method"], body.get("params") or {}, peer)
        task = asyncio.create_task(self._carry_out(request, session))
        key = (session.key, body["id"])
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))
        try:
            await first_of(reply, receive, task)
            answer = {"result": task.result()}
        except ClientGone:
            task.add_done_callback(_look_at)
            return
        except RpcError as error:
            answer = {"error": error.error}
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            await reply.end() if reply.streaming else await reply.accepted()
            return
        await reply.finish({"jsonrpc": "2.0", "id": body["id"], **answer})

    async def _carry_out(self, request: Request, session: Session) -> dict[str, Any]:
        """Carries a request out, and remembers what it says of the session."""
        if request.method == "resources/unsubscribe":
            await self._forget_subscription(session, request.text("uri"))
        result = await self._methods.carry_out(request)
        if request.method == "logging/setLevel":
            self._sessions.remember(session.key).log_level = request.text("level")
        elif request.method == "resources/subscribe":
            await self._remember_subscription(session, request.text("uri"))
        return result

    async def _remember_subscription(self, session: Session, uri: str) -> None:
        memory = self._sessions.remember(session.key)
        if len(memory.subscribed) < MAX_SUBSCRIPTIONS:
            memory.subscribed[uri] = None
        for hearing in list(memory.hearings):
            await hearing.subscribe([uri])
            await hearing.ready()

    async def _forget_subscription(self, session: Session, uri: str) -> None:
        memory = self._sessions.remember(session.key)
        memory.subscribed.pop(uri, None)
        for hearing in list(memory.hearings):
            await hearing.unsubscribe(uri)

    def _take_notification(self, session: Session, body: Body) -> None:
        if body["method"] != "notifications/cancelled":
            return
        running = self._running.get((session.key, (body.get("params") or {}).get("requestId")))
        if running is not None:
            running.cancel()

    def _settle(self, session: Session, body: Body) -> bool:
        """Gives a response to whoever waits for it here."""
        waiting = self._waiting.get((session.key, body.get("id")))
        if waiting is None or waiting.done():
            return False
        waiting.set_result(body)
        return True

    async def _take_response(self, reply: Reply, session: Session, body: Body) -> None:
        if self._settle(session, body):
            await reply.accepted()
            return
        error = {
            "code": INVALID_REQUEST,
            "message": "nothing waits for this response here (the call ended, or another process holds it); make the call again",
            "data": {"code": "call_not_waiting", "retry": True},
        }
        await reply.finish({"jsonrpc": "2.0", "id": body.get("id"), "error": error}, 404)


def _look_at(task: "asyncio.Task[dict[str, Any]]") -> None:
    """Takes the outcome of a call whose client has gone; it is in the operation log."""
    if not task.cancelled():
        task.exception()
