"""The ASGI application at `/mcp` and `/mcp/<connection>`: who asks, for what view, in which era."""

import asyncio
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import quote, urlsplit

import orjson
from mcp_types import INVALID_REQUEST, PARSE_ERROR, PROTOCOL_VERSION_META_KEY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from auralink.auth.dependencies import bearer_token
from auralink.auth.errors import Unauthenticated
from auralink.auth.metadata import WELL_KNOWN, base_of
from auralink.auth.principal import Principal
from auralink.auth.run_tokens import Verifier
from auralink.core.errors import AuralinkError, Forbidden
from auralink.core.http import RefusedBody, problem_of
from auralink.mcp.downstream.errors import RpcError
from auralink.mcp.downstream.hearing import Hearings
from auralink.mcp.downstream.incoming import Incoming
from auralink.mcp.downstream.legacy import LegacyEra
from auralink.mcp.downstream.methods import Methods
from auralink.mcp.downstream.modern import Body, ModernEra
from auralink.mcp.downstream.reply import Reply, SlowReader
from auralink.mcp.downstream.signed import Signer
from auralink.mcp.federation import View
from auralink.mcp.toolsets import Toolsets

BODY_SECONDS = 10.0
"""How long a client may take to send its body."""
MAX_BATCH = 100
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class HostRefused(Forbidden):
    """The request names a host, or comes from a web page, that is not this service's (DNS rebinding)."""

    code = "host_refused"
    title = "Host refused"


class McpEndpoint:
    """Authenticates a request and hands it to its era."""

    def __init__(
        self,
        verifier: Verifier,
        methods: Methods,
        hearings: Hearings,
        toolsets: Toolsets,
        key: bytes,
        *,
        allowed_hosts: Collection[str] | None,
    ) -> None:
        """`key` signs session ids and request states; `allowed_hosts` are the names that `Host` may have (None: any)."""
        self._verifier = verifier
        self._toolsets = toolsets
        self._allowed_hosts = None if allowed_hosts is None else frozenset(allowed_hosts)
        self._modern = ModernEra(methods, Signer(key, "request state"), hearings)
        self._legacy = LegacyEra(methods, Signer(key, "session"), hearings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = Incoming(scope, receive)
        try:
            self._check_host(http)
            principal = await self._verifier.verify(bearer_token(Headers(scope=scope)))
            await self._dispatch(http, send, principal, await self._view(http, principal))
        except Unauthenticated as error:
            metadata = f"{base_of(HttpRequest(scope))}{WELL_KNOWN}{quote(scope['path'])}"
            error.headers["WWW-Authenticate"] += f', resource_metadata="{metadata}"'
            await problem_of(error, scope["path"])(scope, receive, send)
        except AuralinkError as error:
            await problem_of(error, scope["path"])(scope, receive, send)
        except RefusedBody as refused:
            await problem_of(refused.reason, scope["path"])(scope, receive, send)
        except RpcError as error:
            await Reply(send).finish({"jsonrpc": "2.0", "id": None, "error": error.error}, error.status or 400)
        except (SlowReader, ClientDisconnect):
            return

    async def _dispatch(self, http: Incoming, send: Send, principal: Principal, view: View) -> None:
        modern = http.headers.get("mcp-protocol-version") in MODERN_PROTOCOL_VERSIONS
        if http.method == "POST":
            body = await _body(http)
            if isinstance(body, list):
                await self._legacy.answer_batch(http, send, principal, view, body)
            elif modern or _has_envelope(body):
                await self._post_modern(http, send, principal, view, body)
            else:
                await self._legacy.answer(http, send, principal, view, body)
        elif http.method == "GET" and not modern:
            await self._legacy.stream(http, send, principal, view)
        elif http.method == "DELETE" and not modern:
            await self._legacy.end(http, send, principal)
        else:
            allowed = "POST" if modern else "GET, POST, DELETE"
            await Response(status_code=405, headers={"Allow": allowed})(http.scope, http.receive, send)

    async def _post_modern(self, http: Incoming, send: Send, principal: Principal, view: View, body: Body) -> None:
        if "method" not in body:
            raise RpcError(INVALID_REQUEST, "a client of this revision sends requests and notifications, no responses")
        if "id" not in body:
            await Reply(send).accepted()
            return
        await self._modern.answer(http, send, principal, view, body)

    async def _view(self, http: Incoming, principal: Principal) -> View:
        """What the address shows: a connection, the tools that it names, those of a toolset, one that finds the others."""
        asked = http.query
        names: set[str] | None = None
        if "tools" in asked:
            names = {name for name in asked["tools"].split(",") if name}
        if "toolset" in asked:
            names = (names or set()) | await self._toolsets.tools(principal, asked["toolset"])
        finding = asked.get("find_tools", "0") not in ("0", "false", "")
        return View(http.connection, None if names is None else frozenset(names), finding)

    def _check_host(self, http: Incoming) -> None:
        """Refuses what a web page on another site makes a browser send (spec: basic/transports, "Security warning")."""
        host = _host_name(http.headers.get("host", ""))
        if self._allowed_hosts is not None and host not in self._allowed_hosts:
            raise HostRefused(f"this service does not answer for the host {host!r}")
        origin = http.headers.get("origin")
        if origin is None:
            return
        name = urlsplit(origin).hostname
        if name != host and not {name, host} <= LOOPBACK_NAMES:
            raise HostRefused(f"a page of {origin!r} may not use this service")


async def _body(http: Incoming) -> Body | list[Body]:
    """The JSON-RPC message of a POST, or the messages of a batch. Raises `RpcError`."""
    accept = http.headers.get("accept", "")
    if "*/*" not in accept and ("application/json" not in accept or "text/event-stream" not in accept):
        raise RpcError(INVALID_REQUEST, "Accept must name application/json and text/event-stream", status=406)
    if not http.headers.get("content-type", "").lower().startswith("application/json"):
        raise RpcError(INVALID_REQUEST, "Content-Type must be application/json", status=415)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await http.body()
    except TimeoutError:
        raise RpcError(INVALID_REQUEST, f"the body did not arrive within {BODY_SECONDS:.0f} s", status=408) from None
    try:
        message = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise RpcError(PARSE_ERROR, "the body is not JSON") from None
    is_batch = isinstance(message, list) and 0 < len(message) <= MAX_BATCH
    if not all(_is_message(part) for part in message) if is_batch else not _is_message(message):
        raise RpcError(INVALID_REQUEST, "the body must be one JSON-RPC 2.0 request, notification or response")
    body: Body | list[Body] = message
    return body


def _is_message(message: object) -> bool:
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return False
    if "id" in message and (isinstance(message["id"], bool) or not isinstance(message["id"], str | int)):
        return False
    if "method" in message:
        return isinstance(message["method"], str) and isinstance(message.get("params", {}), dict)
    return "id" in message and ("result" in message or "error" in message)


def _has_envelope(body: Body) -> bool:
    meta = (body.get("params") or {}).get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta


@lru_cache(maxsize=256)
def _host_name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""
