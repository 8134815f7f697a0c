"""A session with one MCP server, of whichever revision it speaks.

2026-07-28 is stateless: each request carries version, client and capabilities in `_meta`. The revisions before it open with
`initialize`. `open()` asks `server/discover` first and falls back to the handshake, as the specification says
(2026-07-28, basic/lifecycle, "Negotiation"); after that a caller does not see the difference.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
    find_invalid_x_mcp_header,
    mcp_param_headers,
    x_mcp_header_map,
)
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    LOG_LEVEL_META_KEY,
    METHOD_NOT_FOUND,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

from auralink import __version__
from auralink.core.redaction import NOTHING_TO_HIDE, Redactor
from auralink.mcp.peer import NOBODY, Peer
from auralink.mcp.upstream import shapes
from auralink.mcp.upstream.conversation import Conversation
from auralink.mcp.upstream.errors import SessionLost, UpstreamBadAnswer, UpstreamError, UpstreamRejected, UpstreamTimeout
from auralink.mcp.upstream.listening import Listening
from auralink.mcp.upstream.sse import SseTransport
from auralink.mcp.upstream.transport import Message, OnMessage, Transport

CLIENT_INFO = {"name": "auralink", "version": __version__}
HANDSHAKE_CAPABILITIES: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
"""What a handshake-era server is told that we can be asked: a session outlives one client, and what the client of a call cannot
answer is refused when it is asked."""
MAX_PAGES = 100
"""Pages of a list that are read: a server whose cursor never ends costs no more than this."""
LIST_SECONDS = 60.0
"""How long a list is reused, unless the server's `ttlMs` says shorter."""

OnAnnouncement = Callable[[str, str | None], None]
"""Is told a notification's method and, for a changed resource, its address."""
Kind = Literal["tools", "prompts", "resources", "resourceTemplates"]
LIST_METHODS: Mapping[Kind, str] = {
    "tools": "tools/list",
    "prompts": "prompts/list",
    "resources": "resources/list",
    "resourceTemplates": "resources/templates/list",
}
CAPABILITY_OF_LIST: Mapping[Kind, str] = {
    "tools": "tools",
    "prompts": "prompts",
    "resources": "resources",
    "resourceTemplates": "resources",
}
KINDS_OF_CHANGE: Mapping[str, tuple[Kind, ...]] = {
    "notifications/tools/list_changed": ("tools",),
    "notifications/prompts/list_changed": ("prompts",),
    "notifications/resources/list_changed": ("resources", "resourceTemplates"),
}
RESOURCE_UPDATED = "notifications/resources/updated"
ENVELOPE_KEYS = frozenset({PROTOCOL_VERSION_META_KEY, CLIENT_INFO_META_KEY, CLIENT_CAPABILITIES_META_KEY, LOG_LEVEL_META_KEY})
"""What a client of 2026-07-28 puts into `_meta` for us. A server of the handshake era must not see it: it could take the request
for one of that revision."""
KEY_OF_ITEM: Mapping[Kind, str] = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}

CONTENT_METHODS = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})
"""Their results are the user's and stay as they are; every other answer is cleaned of the connection's secrets."""


@dataclass(slots=True)
class Listing:
    """A list as the server gave it, by the key of its items, and until when it may be reused (monotonic)."""

    items: dict[str, dict[str, Any]]
    fresh_until: float


class UpstreamSession:
    """What is agreed with one server: revision, capabilities, and the lists that it gave."""

    def __init__(self, transport: Transport, server: str, redactor: Redactor = NOTHING_TO_HIDE) -> None:
        self.transport = transport
        self.server = server
        self.redactor = redactor
        self.protocol_version = LATEST_MODERN_VERSION
        self.modern = True
        self.server_info: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self.last_used = time.monotonic()
        self.on_announcement: OnAnnouncement = lambda _method, _uri: None
        self.watched = False
        self.listening = Listening(self)
        self._conversations: dict[Conversation, None] = {}
        self._listings: dict[Kind, Listing] = {}
        self._list_locks: dict[Kind, asyncio.Lock] = {kind: asyncio.Lock() for kind in LIST_METHODS}
        self.usable = True
        self._reopening = asyncio.Lock()
        self._generation = 0
        self._ids = itertools.count(1)
        self._header_maps: dict[str, Mapping[tuple[str, ...], str]] = {}

    async def open(self, timeout: float) -> None:
        """Agrees on a revision within `timeout` seconds.

        Raises:
            UpstreamError: the server cannot be reached, refuses the credential, or speaks no revision that we speak.
        """
        deadline = time.monotonic() + timeout
        self.transport.unsolicited = self.unsolicited
        if isinstance(self.transport, SseTransport) or not await self._greet(timeout / 2):
            try:
                await self._initialize(deadline)
            except UpstreamRejected as error:
                if error.rpc_code != UNSUPPORTED_PROTOCOL_VERSION or not await self._greet(deadline - time.monotonic()):
                    raise
        self._generation += 1

    async def _greet(self, timeout: float) -> bool:
        """Agrees on 2026-07-28, if the server speaks it and says so in time. One that starts slowly may have read a greeting that
        we gave up, and then refuses the handshake; hence it may be greeted again."""
        self.modern, self.protocol_version = True, LATEST_MODERN_VERSION
        discovered = await self._discover(timeout)
        if discovered is None or LATEST_MODERN_VERSION not in shapes.strings(discovered.get("supportedVersions")):
            return False
        self._adopt(discovered, shapes.mapping(discovered.get("_meta")).get(SERVER_INFO_META_KEY))
        return True

    async def _discover(self, timeout: float) -> dict[str, Any] | None:
        """What a server of 2026-07-28 says of itself; None from any other. One that refuses the revision and then names it is
        asked again."""
        deadline = time.monotonic() + timeout
        for again in (True, False):
            try:
                return await self._request("server/discover", {}, deadline)
            except UpstreamRejected as error:
                supported = shapes.strings(shapes.mapping(error.data).get("supported"))
                if error.rpc_code != UNSUPPORTED_PROTOCOL_VERSION or set(supported) & set(HANDSHAKE_PROTOCOL_VERSIONS):
                    return None
                if supported and not (again and LATEST_MODERN_VERSION in supported):
                    raise
            except (UpstreamBadAnswer, UpstreamTimeout):
                return None
        return None

    async def _initialize(self, deadline: float) -> None:
        self.modern, self.protocol_version = False, ""
        params = {"protocolVersion": LATEST_HANDSHAKE_VERSION, "capabilities": HANDSHAKE_CAPABILITIES, "clientInfo": CLIENT_INFO}
        result = await self._request("initialize", params, deadline)
        version = result.get("protocolVersion")
        if version not in HANDSHAKE_PROTOCOL_VERSIONS:
            raise UpstreamBadAnswer(
                f"MCP server {self.server!r} speaks protocol revision {version!r}, which we do not", sent=True
            )
        self.protocol_version = version
        self._adopt(result, result.get("serverInfo"))
        await self.notify("notifications/initialized", None, deadline)

    def _adopt(self, result: Mapping[str, Any], server_info: Any) -> None:
        self.capabilities = shapes.mapping(result.get("capabilities"))
        self.instructions = shapes.text(result.get("instructions"))
        self.server_info = shapes.server_info(server_info)

    async def request(self, method: str, params: Mapping[str, Any], deadline: float, *, peer: Peer = NOBODY) -> dict[str, Any]:
        """Sends a request and returns its result as raw JSON. `deadline` is on the monotonic clock; it stands still while the
        peer is asked something.

        A session that the server has forgotten is opened again, once: the server has said that it did not execute the request.

        Raises:
            UpstreamRejected: the server answered with a JSON-RPC error.
            UpstreamError: anything else that kept it from answering.
        """
        self.last_used = time.monotonic()
        if self._reopening.locked():
            async with self._reopening:
                pass
        if peer.capabilities and not self.modern:
            await self.listening.ready_for_questions()
        generation = self._generation
        try:
            return await self._request(method, params, deadline, peer)
        except SessionLost as lost:
            await self._reopen(generation, deadline, lost)
            return await self._request(method, params, deadline, peer)

    async def _reopen(self, lost_generation: int, deadline: float, lost: SessionLost) -> None:
        """Opens the session again, unless another call has done so meanwhile. If that fails the session is of no more use."""
        async with self._reopening:
            if not self.usable:
                raise lost
            if self._generation != lost_generation:
                return
            self.transport.forget_session()
            self.forget_lists()
            self.usable = False
            await self.open(deadline - time.monotonic())
            self.usable = True
            if self.listening.active or self.watched:
                self.listening.restart()

    async def notify(self, method: str, params: Mapping[str, Any] | None, deadline: float) -> None:
        """Sends a notification."""
        message: Message = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = dict(params)
        await self.transport.send(message, headers=self.headers_of(message), timeout=max(deadline - time.monotonic(), 0.001))

    async def list_tools(self, deadline: float, *, refresh: bool = False) -> dict[str, dict[str, Any]]:
        """The server's tools by name, as it describes them."""
        return await self.listed("tools", deadline, refresh=refresh)

    async def listed(self, kind: Kind, deadline: float, *, refresh: bool = False) -> dict[str, dict[str, Any]]:
        """What the server lists, by name or URI; empty if it has not declared the capability. Reused while it is fresh."""
        listing = self._listings.get(kind)
        if listing is not None and not refresh and listing.fresh_until > time.monotonic():
            return listing.items
        async with self._list_locks[kind]:
            current = self._listings.get(kind)
            if current is not listing and current is not None:
                return current.items
            if CAPABILITY_OF_LIST[kind] not in self.capabilities:
                return {}
            return await self._read_list(kind, deadline)

    def forget_lists(self) -> None:
        """Drops the lists: they may have changed."""
        for method in KINDS_OF_CHANGE:
            self.forget_list(method)

    def forget_list(self, change: str) -> None:
        """Drops the list that a notification says has changed, and passes that on."""
        for kind in KINDS_OF_CHANGE.get(change, ()):
            self._listings.pop(kind, None)
        self.on_announcement(change, None)

    async def _read_list(self, kind: Kind, deadline: float) -> dict[str, dict[str, Any]]:
        items, ttl = await self._all_pages(kind, deadline)
        if kind == "tools" and self.modern:
            items = [tool for tool in items if find_invalid_x_mcp_header(tool.get("inputSchema")) is None]
        listing = Listing({item[KEY_OF_ITEM[kind]]: item for item in items}, time.monotonic() + ttl)
        self._listings[kind] = listing
        if kind == "tools":
            maps = ((name, x_mcp_header_map(tool.get("inputSchema"))) for name, tool in listing.items.items())
            self._header_maps = {name: header_map for name, header_map in maps if header_map}
        return listing.items

    async def _all_pages(self, kind: Kind, deadline: float) -> tuple[list[dict[str, Any]], float]:
        method, key = LIST_METHODS[kind], KEY_OF_ITEM[kind]
        items: list[dict[str, Any]] = []
        ttl, cursor = LIST_SECONDS, None
        for _ in range(MAX_PAGES):
            result = await self.request(method, {"cursor": cursor} if cursor else {}, deadline)
            page = shapes.items(result.get(kind), key)
            if page is None:
                raise UpstreamBadAnswer(f"MCP server {self.server!r} answered {method} without a list of {kind}", sent=True)
            items += page
            if isinstance(result.get("ttlMs"), int) and result["ttlMs"] > 0:
                ttl = min(ttl, result["ttlMs"] / 1000)
            cursor = result.get("nextCursor")
            if not cursor:
                return items, ttl
        raise UpstreamBadAnswer(f"MCP server {self.server!r} answered {method} in more than {MAX_PAGES} pages", sent=True)

    async def _request(self, method: str, params: Mapping[str, Any], deadline: float, peer: Peer = NOBODY) -> dict[str, Any]:
        message: Message = {
            "jsonrpc": "2.0",
            "id": next(self._ids),
            "method": method,
            "params": self._with_meta(params, peer),
        }
        conversation = Conversation(self, peer, message, deadline)
        try:
            response = await conversation.exchange()
        except UpstreamError as failure:
            self.redactor.clean(failure)
            raise
        if "error" in response or method not in CONTENT_METHODS:
            response = self.redactor.data(response)
        if (error := response.get("error")) is not None:
            raise self._rejected(method, error)
        result: dict[str, Any] | None = response.get("result")
        if result is None or not shapes.is_result(method, result):
            raise UpstreamBadAnswer(f"MCP server {self.server!r} answered {method} without a result", sent=True)
        return result

    async def respond(self, request_id: int | str, answer: Mapping[str, Any]) -> None:
        """Sends the response to a request of the server's; `answer` is `{"result": …}` or `{"error": …}`."""
        message: Message = {"jsonrpc": "2.0", "id": request_id, **answer}
        await self.transport.send(message, headers=self.headers_of(message), timeout=LIST_SECONDS)

    async def listen(self, params: Mapping[str, Any], timeout: float, on_message: OnMessage) -> None:
        """Keeps a `subscriptions/listen` open until the server ends it. Raises `UpstreamError`."""
        meta = self._with_meta(params, NOBODY)
        message: Message = {"jsonrpc": "2.0", "id": next(self._ids), "method": "subscriptions/listen", "params": meta}
        response = await self.transport.exchange(
            message, headers=self.headers_of(message), timeout=timeout, on_message=on_message
        )
        if (error := response.get("error")) is not None:
            raise self._rejected("subscriptions/listen", error)

    @contextlib.contextmanager
    def in_conversation(self, conversation: Conversation) -> Iterator[None]:
        """While the block runs, what the server says outside any stream may be meant for this call."""
        self._conversations[conversation] = None
        try:
            yield
        finally:
            del self._conversations[conversation]

    async def unsolicited(self, message: Message) -> None:
        """Takes what the server sends outside the stream of a call. A change is announced; a request goes to the client of the
        call that began last and can be asked; anything else to all calls under way, each of which knows what is its own."""
        method = message.get("method", "")
        if method in KINDS_OF_CHANGE:
            self.forget_list(method)
        elif method == RESOURCE_UPDATED:
            self.on_announcement(method, shapes.text(shapes.mapping(message.get("params")).get("uri")))
        elif "id" in message:
            await self._answer_unsolicited(message)
        else:
            for conversation in list(self._conversations):
                await conversation.receive(message)

    async def _answer_unsolicited(self, request: Message) -> None:
        method = request["method"]
        asked = next((talk for talk in reversed(self._conversations) if talk.can_be_asked(method)), None)
        if method == "ping":
            await self.respond(request["id"], {"result": {}})
        elif asked is not None:
            await asked.receive(request)
        else:
            error = {"code": METHOD_NOT_FOUND, "message": f"nobody is there to answer {method}"}
            await self.respond(request["id"], {"error": error})

    def _rejected(self, method: str, error: Any) -> UpstreamError:
        if not isinstance(error, dict) or not isinstance(error.get("code"), int):
            return UpstreamBadAnswer(f"MCP server {self.server!r} answered {method} with a malformed error", sent=True)
        reason = str(error.get("message", ""))[:500]
        text = f"MCP server {self.server!r} rejected {method}: {reason} (code {error['code']})"
        return UpstreamRejected(text, rpc_code=error["code"], reason=reason, data=error.get("data"))

    def _with_meta(self, params: Mapping[str, Any], peer: Peer) -> dict[str, Any]:
        meta = params.get("_meta")
        if not self.modern:
            if meta and not ENVELOPE_KEYS.isdisjoint(meta):
                return {**params, "_meta": {key: value for key, value in meta.items() if key not in ENVELOPE_KEYS}}
            return dict(params)
        envelope = {
            PROTOCOL_VERSION_META_KEY: self.protocol_version,
            CLIENT_INFO_META_KEY: CLIENT_INFO,
            CLIENT_CAPABILITIES_META_KEY: dict(peer.capabilities),
        }
        if peer.log_level is not None:
            envelope[LOG_LEVEL_META_KEY] = peer.log_level
        return {**params, "_meta": {**(meta or {}), **envelope}}

    def headers_of(self, message: Message) -> dict[str, str]:
        """The HTTP headers that repeat what a message says (2026-07-28, basic/transports, "Standard headers")."""
        headers: dict[str, str] = {}
        if self.protocol_version:
            headers[MCP_PROTOCOL_VERSION_HEADER] = self.protocol_version
        if not self.modern or "method" not in message:
            return headers
        method = message["method"]
        headers[MCP_METHOD_HEADER] = method
        if name_key := NAME_BEARING_METHODS.get(method):
            name = message["params"].get(name_key, "")
            headers[MCP_NAME_HEADER] = encode_header_value(str(name))
            if header_map := self._header_maps.get(name):
                headers |= mcp_param_headers(header_map, message["params"].get("arguments") or {})
        return headers

    async def close(self) -> None:
        """Ends the session with the server."""
        await self.listening.close()
        await self.transport.close()
