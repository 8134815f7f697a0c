"""An authorization server and an MCP server that it protects, over real sockets. The first is our own, after the RFCs; the second is
the official SDK's."""

import asyncio
import base64
import contextlib
import hashlib
import secrets
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlencode

import uvicorn
from aiohttp import web
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import AnyHttpUrl
from starlette.types import ASGIApp, Receive, Scope, Send

SCOPE = "tools"


@dataclass
class Token:
    """An access token and what it is for."""

    resource: str
    ends: float
    family: str


@dataclass
class Authority:
    """The authorization server. Its fields are how it behaves; what happened is in the lists."""

    url: str = ""
    documents: bool = False
    registers: bool = True
    names_itself: bool = True
    pkce: tuple[str, ...] = ("S256",)
    methods: tuple[str, ...] = ("none", "client_secret_basic")
    lifetime: float = 3600
    rotates: bool = True
    refreshes: bool = True
    down: bool = False
    published: dict[str, Any] = field(default_factory=dict)
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    """The family of each that may still be used."""
    spent: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    token_requests: list[dict[str, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Refreshes wait for it."""

    def application(self) -> web.Application:
        """Its HTTP."""
        app = web.Application(middlewares=[self._noted])
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_post("/register", self._register)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        return app

    def expire(self) -> None:
        """Ends every access token, as the server may do at any time."""
        self.tokens.clear()

    def revoke(self) -> None:
        """Ends everything that was granted."""
        self.tokens.clear()
        self.refresh_tokens.clear()

    @property
    def refreshed(self) -> int:
        """How often a refresh token was presented."""
        return sum(form["grant_type"] == "refresh_token" for form in self.token_requests)

    @web.middleware
    async def _noted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if self.down:
            return web.Response(status=503)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _metadata(self, _request: web.Request) -> web.Response:
        document = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": list(self.pkce),
            "token_endpoint_auth_methods_supported": list(self.methods),
            "client_id_metadata_document_supported": self.documents,
            "authorization_response_iss_parameter_supported": self.names_itself,
            "scopes_supported": [SCOPE, "offline_access"],
        }
        if self.registers:
            document["registration_endpoint"] = f"{self.url}/register"
        return web.json_response(document | self.published)

    async def _register(self, request: web.Request) -> web.Response:
        client = dict(await request.json())
        client["client_id"] = f"client-{len(self.clients) + 1}"
        if client["token_endpoint_auth_method"] != "none":
            client["client_secret"] = secrets.token_urlsafe(24) + "+/ ü"
        self.clients[client["client_id"]] = client
        return web.json_response(client, status=201)

    async def _authorize(self, request: web.Request) -> web.Response:
        """Every user consents at once."""
        query = dict(request.query)
        client = self.clients.get(query["client_id"]) or ({"redirect_uris": [query["redirect_uri"]]} if self.documents else None)
        assert client is not None, "an unknown client"
        assert query["redirect_uri"] in client["redirect_uris"]
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        answer = {"code": code, "state": query["state"]} | ({"iss": self.url} if self.names_itself else {})
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = {str(name): str(value) for name, value in (await request.post()).items()}
        self.token_requests.append(form)
        client_id = self._authenticated_client(request, form)
        if client_id is None:
            return web.json_response({"error": "invalid_client"}, status=401)
        if form["grant_type"] == "authorization_code":
            return self._for_code(form, client_id)
        await self.gate.wait()
        return self._for_refresh_token(form)

    def _authenticated_client(self, request: web.Request, form: dict[str, str]) -> str | None:
        header = request.headers.get("Authorization")
        if header is None:
            client_id, secret = form["client_id"], form.get("client_secret")
        else:
            pair = base64.b64decode(header.removeprefix("Basic ")).decode()
            client_id, secret = (unquote_plus(part) for part in pair.split(":"))
        if self.documents and client_id.startswith("https://"):
            return client_id
        known = self.clients.get(client_id)
        return client_id if known is not None and known.get("client_secret") == secret else None

    def _for_code(self, form: dict[str, str], client_id: str) -> web.Response:
        asked = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or (asked["client_id"], asked["redirect_uri"]) != (client_id, form["redirect_uri"]):
            return web.json_response({"error": "invalid_grant", "error_description": f"no code {form['code']}"}, status=400)
        if asked["code_challenge"] != challenge or asked["resource"] != form["resource"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return self._grant(form["resource"], secrets.token_urlsafe(8))

    def _for_refresh_token(self, form: dict[str, str]) -> web.Response:
        presented = form["refresh_token"]
        if presented in self.spent:
            self.revoke()  # RFC 9700 §4.14.2: a refresh token that comes twice was stolen
        family = self.refresh_tokens.get(presented)
        if family is None:
            return web.json_response({"error": "invalid_grant", "error_description": f"unknown {presented}"}, status=400)
        if self.rotates:
            self.spent[presented] = self.refresh_tokens.pop(presented)
        return self._grant(form["resource"], family)

    def _grant(self, resource: str, family: str) -> web.Response:
        access = secrets.token_urlsafe(24)
        self.tokens[access] = Token(resource, time.time() + self.lifetime, family)
        answer: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "expires_in": self.lifetime, "scope": SCOPE}
        if self.refreshes and (self.rotates or family not in self.refresh_tokens.values()):
            refresh = secrets.token_urlsafe(24)
            self.refresh_tokens[refresh] = family
            answer["refresh_token"] = refresh
        return web.json_response(answer)


@contextlib.asynccontextmanager
async def running_authority(**behaviour: Any) -> AsyncIterator[Authority]:
    """The authorization server on a port of its own."""
    authority = Authority(**behaviour)
    authority.gate.set()
    runner = web.AppRunner(authority.application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    authority.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield authority
    finally:
        await runner.cleanup()


@dataclass
class ProtectedServer:
    """An MCP server that lets in whom its authority does."""

    url: str
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def heard(self) -> str:
        """All that ever came in, as one text."""
        return "\n".join([*(str(headers) for headers in self.headers), *(body.decode() for body in self.bodies)])


class _Verifier(TokenVerifier):
    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def verify_token(self, token: str) -> AccessToken | None:
        found = self._authority.tokens.get(token)
        if found is None or found.ends < time.time():
            return None
        return AccessToken(token=token, client_id="any", scopes=[SCOPE], resource=found.resource, subject=found.family)


def build_protected(authority: Authority, url: str) -> MCPServer:
    """The SDK's server with the SDK's checks."""
    settings = AuthSettings(
        issuer_url=AnyHttpUrl(authority.url),
        resource_server_url=AnyHttpUrl(url),
        required_scopes=[SCOPE],
        validate_token_resource=True,
    )
    server = MCPServer("protected", version="1", auth=settings, token_verifier=_Verifier(authority))

    @server.tool()
    async def greet(name: str) -> str:
        """Greets."""
        return f"hello {name}"

    @server.tool()
    async def leak() -> str:
        """Fails with what it knows."""
        raise ToolError(f"my tokens: {' '.join(authority.tokens)}")

    return server


class _Noting:
    """ASGI middleware: notes headers and bodies."""

    def __init__(self, app: ASGIApp, server: ProtectedServer) -> None:
        self.app = app
        self.server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.server.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})

        async def noting() -> Any:
            message = await receive()
            if message.get("body"):
                self.server.bodies.append(message["body"])
            return message

        await self.app(scope, noting, send)


@contextlib.asynccontextmanager
async def serving(build: Any) -> AsyncIterator[ProtectedServer]:
    """A server of the SDK, made by `build(url)`, on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    noted = ProtectedServer(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp")
    app = _Noting(build(noted.url).streamable_http_app(json_response=True, stateless_http=True), noted)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1, ws="none"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]  # the test runner's signals stay its own
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    try:
        yield noted
    finally:
        server.should_exit = True
        await task
        listener.close()


@contextlib.asynccontextmanager
async def protected_server(authority: Authority) -> AsyncIterator[ProtectedServer]:
    """An MCP server that `authority` protects."""
    async with serving(lambda url: build_protected(authority, url)) as server:
        yield server
