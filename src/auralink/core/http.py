"""What every HTTP request of the service has in common: a trace id, a bounded body, and errors as RFC 9457 problem+json.

Errors are rendered here and nowhere else.
"""

import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auralink.core.errors import AuralinkError
from auralink.core.logging import trace_id

log = structlog.get_logger(__name__)

Body = TypeVar("Body", bound=BaseModel)

TRACEPARENT = re.compile(rb"^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$")
"""W3C Trace Context, https://www.w3.org/TR/trace-context/#traceparent-header."""

PROMPT_BODIES = 32
"""How many times `MAX_BODY_BYTES` a prompt may have."""

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
STRICT_PATHS = "/api/"
"""Where bodies are JSON for people; the MCP and OpenAI doors have errors of their own for what is none."""

STATUS_CODES: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "Bad request"),
    401: ("unauthenticated", "Authentication required"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
    413: ("body_too_large", "Body too large"),
}


class BodyTooLarge(AuralinkError):
    """The request body is larger than `MAX_BODY_BYTES`, or a prompt than `PROMPT_BODIES` times that."""

    code = "body_too_large"
    status = 413
    title = "Body too large"


class MalformedJSON(AuralinkError):
    """The request body is not JSON."""

    code = "malformed_json"
    status = 400
    title = "Malformed JSON"


class JSONBytes(Response):
    """A JSON response rendered by orjson (Decimal and other strangers as strings)."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return dumps(content)


def dumps(content: Any) -> bytes:
    """JSON bytes of `content`; UUIDs and datetimes natively, everything else that JSON lacks as its string."""
    return orjson.dumps(content, default=str, option=orjson.OPT_UTC_Z)


def problem(
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    instance: str = "",
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """An RFC 9457 answer, as in docs/reference/errors.md."""
    body = {
        "type": f"urn:auralink:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": code,
        "message": detail,
        "trace_id": trace_id.get(),
        **(extra or {}),
    }
    return Response(dumps(body), status_code=status, media_type="application/problem+json", headers=dict(headers or {}))


def problem_of(error: AuralinkError, instance: str = "") -> Response:
    """The answer to one of our own errors."""
    return problem(
        status=error.status,
        code=error.code,
        title=error.title,
        detail=error.message,
        instance=instance,
        headers=error.headers,
        extra=error.extra,
    )


class RefusedBody(HTTPException):
    """An error of ours about a body, in the one form that FastAPI lets through while it reads one."""

    def __init__(self, reason: AuralinkError) -> None:
        super().__init__(reason.status, reason.message)
        self.reason = reason


class RequestContext:
    """ASGI middleware: gives each request its trace id, bounds and checks its body, and turns what escapes into a problem."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        token = trace_id.set(_trace_id_of(scope["headers"]))
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (b"x-trace-id", trace_id.get().encode())]
            await send(message)

        try:
            await self.app(scope, self._checked(scope, receive), sending)
        except Exception:
            log.exception("request failed", path=scope["path"])
            if started:
                raise
            await _internal_error(scope["path"])(scope, receive, sending)
        finally:
            trace_id.reset(token)

    def _checked(self, scope: Scope, receive: Receive) -> Receive:
        """`receive` of a body that is not too large and, where the API takes JSON, is JSON (RFC 8259).

        Python's parser also takes NaN, Infinity and half surrogate pairs, which no other program would understand.
        """
        declared = _header(scope, b"content-length")
        most = self._most(scope["path"])
        too_large = declared.isdigit() and int(declared) > most
        is_json = scope["path"].startswith(STRICT_PATHS) and b"json" in _header(scope, b"content-type")
        received = bytearray()

        async def receiving() -> Message:
            if too_large:
                raise _too_large(most, scope["path"])
            message = await receive()
            received.extend(message.get("body", b""))
            if len(received) > most:
                raise _too_large(most, scope["path"])
            if is_json and received and not message.get("more_body"):
                _check_json(received)
            return message

        return receiving

    def _most(self, path: str) -> int:
        """Bytes that a body may have; prompts may hold images."""
        return self.max_body_bytes * (PROMPT_BODIES if _holds_prompt(path) else 1)


class PlainDoors:
    """ASGI middleware: addresses that are answered by plain ASGI, before FastAPI is asked, which takes its time to find a route.

    What stands behind one renders its own errors, `RefusedBody` among them; `Plainly` does.
    """

    def __init__(self, app: ASGIApp, *, doors: Sequence[Route]) -> None:
        self.app = app
        self.doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for door in self.doors:
                match, found = door.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    await door.app(scope, receive, send)
                    return
        await self.app(scope, receive, send)


class Plainly:
    """A route's function as plain ASGI: request in, response out, errors rendered as everywhere."""

    def __init__(self, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self.endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self.endpoint(Request(scope, receive))
        except (AuralinkError, RequestValidationError, HTTPException) as error:
            response = rendered(error, scope["path"])
        await response(scope, receive, send)


async def body_of(request: Request, model: type[Body]) -> Body:
    """The request's JSON body, with the errors that FastAPI would give. For routes whose every microsecond counts: FastAPI's own
    way from a request to parameters costs more than a whole call to a server.

    Raises:
        RequestValidationError: the body is not JSON, or not of the model.
    """
    raw = await request.body()
    if b"json" not in _header(request.scope, b"content-type"):
        message = "the body must be a JSON object, sent as application/json"
        raise RequestValidationError([{"type": "model_attributes_type", "loc": ("body",), "msg": message, "input": None}])
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        document = None if details[0]["type"] == "json_invalid" else from_json(raw)
        raise RequestValidationError([{**detail, "loc": ("body", *detail["loc"])} for detail in details], body=document) from None


def documented_body(model: type[BaseModel], *path_parameters: str) -> dict[str, Any]:
    """What the OpenAPI document says of a route that reads its request itself (`openapi_extra`)."""
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in path_parameters]
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"parameters": parameters, "requestBody": {"content": content, "required": True}, "security": [{"HTTPBearer": []}]}


def _holds_prompt(path: str) -> bool:
    return path.startswith("/v1/")


def _too_large(most: int, path: str) -> RefusedBody:
    setting = f"{PROMPT_BODIES} × MAX_BODY_BYTES" if _holds_prompt(path) else "MAX_BODY_BYTES"
    return RefusedBody(BodyTooLarge(f"the request body is larger than {most} bytes ({setting})"))


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _check_json(body: bytes | bytearray) -> None:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedBody(MalformedJSON(f"the body is not JSON: {error}")) from None


def _trace_id_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"traceparent" and (match := TRACEPARENT.match(value)):
            return match.group(1).decode()
    return os.urandom(16).hex()


def _internal_error(path: str) -> Response:
    detail = f"the service failed on this request; its log has the cause under trace id {trace_id.get()}"
    return problem(status=500, code="internal_error", title="Internal error", detail=detail, instance=path)


def install_error_handlers(app: FastAPI) -> None:
    """Renders our errors, validation errors and the framework's own as problem+json."""

    async def render(request: Request, error: Exception) -> Response:
        assert isinstance(error, AuralinkError | RequestValidationError | HTTPException)
        if isinstance(error, HTTPException) and error.status_code == 405:
            error.headers = {"Allow": ", ".join(_methods_at(app, request.scope))}
        return rendered(error, request.url.path)

    for kind in (AuralinkError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, render)


def rendered(error: AuralinkError | RequestValidationError | HTTPException, path: str) -> Response:
    """The answer to an error of ours, of validation, or of the framework."""
    if isinstance(error, AuralinkError):
        return problem_of(error, path)
    if isinstance(error, RequestValidationError):
        return invalid(error.errors(), path, error.body)
    if isinstance(error, RefusedBody):
        return problem_of(error.reason, path)
    code, title = STATUS_CODES.get(error.status_code, ("http_error", "Request failed"))
    detail = _in_words(error, path)
    return problem(status=error.status_code, code=code, title=title, detail=detail, instance=path, headers=error.headers)


def _methods_at(app: FastAPI, scope: Scope) -> list[str]:
    """What can be asked at an address; the framework names the methods of the first route there only."""
    address = {name: scope[name] for name in ("type", "path", "root_path", "headers")}
    asked = [{**address, "method": method} for method in METHODS]
    return [one["method"] for one in asked if any(route.matches(one)[0] is Match.FULL for route in app.routes)]


def _in_words(error: HTTPException, path: str) -> str:
    """What the framework's own refusals say, with what to do instead."""
    allowed = (error.headers or {}).get("Allow")
    if error.status_code == 404:
        return f"there is nothing at {path}; /docs lists the addresses"
    if error.status_code == 405 and allowed:
        return f"{path} does not take this method; it takes {allowed}"
    return str(error.detail)


def invalid(errors: Sequence[Mapping[str, Any]], path: str, body: Any = None) -> Response:
    """422 for a body or parameter of the wrong shape, with a JSON pointer to each place; 400 for what is no JSON at all."""
    if errors and errors[0]["type"] == "json_invalid":
        return problem_of(MalformedJSON(f"the body is not JSON: {errors[0].get('ctx', {}).get('error', errors[0]['msg'])}"), path)
    items = _problems_in(errors, body)
    detail = "; ".join(f"{item['pointer'] or 'body'}: {item['message']}" for item in items[:5])
    return problem(
        status=422,
        code="validation_failed",
        title="Invalid request",
        detail=detail,
        instance=path,
        extra={"errors": items},
    )


def _problems_in(errors: Sequence[Mapping[str, Any]], body: Any) -> list[dict[str, str]]:
    """One item for each place. What may have one of several types has an error for each of them: their messages are joined."""
    found: dict[str, dict[str, str]] = {}
    for error in errors:
        pointer, message = _pointer(error, body), error["msg"]
        item = found.setdefault(pointer, {"pointer": pointer, "message": message, "code": error["type"]})
        if message not in item["message"]:
            item["message"] += f"; {message}"
    return list(found.values())


def _pointer(error: Mapping[str, Any], body: Any) -> str:
    location = error["loc"]
    if location and location[0] in ("query", "path", "header", "cookie"):
        parts = location[1:2]
    else:
        parts = _places(location[location[:1] == ("body",) :], body, is_missing=error["type"] == "missing")
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _places(location: Sequence[str | int], body: Any, *, is_missing: bool) -> Iterator[str | int]:
    """The parts of a location that are levels of the document: pydantic also puts the types that it tried into it."""
    for at, part in enumerate(location):
        known = isinstance(body, Mapping) and part in body
        if known or (isinstance(body, list) and part in range(len(body))):
            body = body[part]
            yield part
        elif is_missing and at == len(location) - 1:
            yield part
