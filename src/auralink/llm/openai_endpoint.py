"""The ASGI application at `/v1`: the OpenAI wire format, as any client of it expects, errors included.

Source: https://platform.openai.com/docs/api-reference. It reads its requests itself, like `/mcp`: FastAPI's way from a request to
parameters costs more than the rest of the gateway.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from auralink.audit.group_commit import AuditUnavailable
from auralink.auth.dependencies import bearer_token
from auralink.auth.principal import Principal
from auralink.auth.run_tokens import Verifier
from auralink.core.errors import AuralinkError, NotFound
from auralink.core.http import RefusedBody, dumps
from auralink.llm.errors import NoModelAvailable, ProviderError
from auralink.llm.event_stream import ClientGone, EventStream, Fields, SlowReader, while_there
from auralink.llm.listing import Listing
from auralink.llm.requests import InvalidModelRequest
from auralink.llm.responses_answer import response_object
from auralink.llm.responses_request import chat_body
from auralink.llm.responses_stream import ResponseStream
from auralink.llm.schemas import ModelCall
from auralink.llm.service import DONE, ModelGateway

log = structlog.get_logger(__name__)

BODY_SECONDS = 30.0
"""How long a client may take to send its body."""
TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
FINAL = (AuditUnavailable, NoModelAvailable)
"""Errors of the server that the official clients would repeat by themselves: the first was made and billed, the second stays."""
SOURCE, RESPONSES = "v1", "responses"

ONE_MODEL = "/v1/models/"

Body = dict[str, Any]
Handler = Callable[[Send, Principal, Body, bool], Coroutine[Any, Any, None]]
RETRY_COUNT = "x-stainless-retry-count"
"""In which the official clients say that they repeat a request."""


class OpenAIEndpoint:
    """Authenticates a request and answers it."""

    def __init__(self, verifier: Verifier, gateway: ModelGateway, listing: Listing) -> None:
        self._verifier = verifier
        self._gateway = gateway
        self._listing = listing
        self._handlers: Mapping[tuple[str, str], Handler] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/responses"): self._responses,
            ("POST", "/v1/embeddings"): self._embeddings,
            ("GET", "/v1/models"): self._models,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            principal = await self._verifier.verify(bearer_token(request.headers))
            handler = self._handler(scope)
            body = await _json(request) if scope["method"] == "POST" else {}
            answering = handler(send, principal, body, request.headers.get(RETRY_COUNT, "0") not in ("0", ""))
            if principal.run is not None:
                await answering  # what a run asks for is finished, whether it listens or not
            else:
                await while_there(receive, answering)
        except AuralinkError as error:
            await _refuse(send, error)
        except RefusedBody as error:
            await _refuse(send, error.reason)
        except (ClientDisconnect, ClientGone, SlowReader) as gone:
            log.info("a client of /v1 went away or did not read", path=scope["path"], reason=type(gone).__name__)

    def _handler(self, scope: Scope) -> Handler:
        method, path = scope["method"], scope["path"].rstrip("/")
        handler = self._handlers.get((method, path))
        if handler is None and method == "GET" and path.startswith(ONE_MODEL):
            return functools.partial(self._model, path.removeprefix(ONE_MODEL))
        if handler is None:
            doors = ", ".join(f"{verb} {door}" for verb, door in self._handlers)
            raise NotFound(f"there is no {method} {path}; there is {doors}")
        return handler

    async def _chat(self, send: Send, principal: Principal, body: Body, again: bool) -> None:
        if not body.get("stream"):
            answer = await self._gateway.complete(principal, body, source=SOURCE, client_retry=again)
            await _reply(send, answer.body, headers_of(answer.call))
            return
        events = self._gateway.stream(principal, body, source=SOURCE, client_retry=again)
        await EventStream(send, headers_of).relay(events, _as_data, _failed_chat)

    async def _responses(self, send: Send, principal: Principal, asked: Body, again: bool) -> None:
        body = chat_body(asked)
        if not asked.get("stream"):
            answer = await self._gateway.complete(principal, body, source=SOURCE, endpoint=RESPONSES, client_retry=again)
            await _reply(send, response_object(asked, answer.body, completed_at=time.time()), headers_of(answer.call))
            return
        events = self._gateway.stream(principal, body, source=SOURCE, endpoint=RESPONSES, client_retry=again)
        translator = ResponseStream(asked)
        await EventStream(send, headers_of).relay(
            events, functools.partial(_as_response_events, translator), functools.partial(_failed_response, translator)
        )

    async def _embeddings(self, send: Send, principal: Principal, body: Body, again: bool) -> None:
        answer = await self._gateway.embed(principal, body, source=SOURCE, client_retry=again)
        await _reply(send, answer.body, headers_of(answer.call))

    async def _models(self, send: Send, principal: Principal, _body: Body, _again: bool) -> None:
        await _reply(send, {"object": "list", "data": await self._listing.for_openai(principal)})

    async def _model(self, name: str, send: Send, principal: Principal, _body: Body, _again: bool) -> None:
        await _reply(send, await self._listing.one_for_openai(principal, name))


def _as_data(data: str) -> Iterable[bytes]:
    return (b"data: ", data.encode(), b"\n\n")


def _failed_chat(error: AuralinkError) -> Iterable[bytes]:
    return (b"data: ", dumps(error_body(error)), b"\n\n")


def _as_response_events(translator: ResponseStream, data: str) -> Iterable[bytes]:
    events = translator.finish(completed_at=time.time()) if data == DONE else translator.feed(orjson.loads(data))
    return map(_named, events)


def _failed_response(translator: ResponseStream, error: AuralinkError) -> Iterable[bytes]:
    return map(_named, translator.fail(str(error.extra.get("kind", error.code)), error.message))


def _named(event: Body) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + dumps(event) + b"\n\n"


async def _json(request: Request) -> dict[str, Any]:
    """The JSON object of a body. Raises `InvalidModelRequest`."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = orjson.loads(await request.body())
    except TimeoutError:
        raise InvalidModelRequest(f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
    except orjson.JSONDecodeError as error:
        raise InvalidModelRequest(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidModelRequest("the body must be a JSON object")
    return body


def headers_of(call: ModelCall) -> Fields:
    """Which model was taken, why, with whose key, the id under which the call is in the operation log, and its step in a run."""
    values = {
        b"x-auralink-call-id": str(call.id),
        b"x-auralink-model": call.model_id or "",
        b"x-auralink-reason": call.reason or "",
        b"x-auralink-key": call.key_source or "",
    }
    if call.step is not None:
        values[b"x-auralink-step"] = str(call.step)
    return [(name, value.encode("ascii", "replace")) for name, value in values.items()]


def error_body(error: AuralinkError) -> dict[str, Any]:
    """An error in the OpenAI shape, with what ours says beside it (provider, model, cause, what is left of a budget)."""
    extra = {name: value for name, value in error.extra.items() if name != "param"}
    status = status_of(error)
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": error.message, "type": kind, "param": error.extra.get("param"), "code": error.code, **extra}}


async def _refuse(send: Send, error: AuralinkError) -> None:
    if isinstance(error, FINAL):
        error.headers.setdefault("x-should-retry", "false")
    headers = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in error.headers.items()]
    await _reply(send, error_body(error), headers, status=status_of(error))


def status_of(error: AuralinkError) -> int:
    """The status for a client: a provider's own where that tells the client what to do (wait, mend the request), else ours."""
    if isinstance(error, ProviderError):
        return {"rate_limited": 429, "invalid_request": 400, "context_length": 400, "not_found": 404}.get(
            error.kind, error.status
        )
    return error.status


async def _reply(send: Send, body: Any, headers: Fields = [], *, status: int = 200) -> None:  # noqa: B006  # it is only read
    content = dumps(body)
    fields = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})
