"""A session with one MCP server, of whichever revision it speaks.

2026-07-28 is stateless: each request carries version, client and capabilities in `_meta`. The revisions before it open with
`initialize`. `open()` asks `server/discover` first and falls back to the handshake, as the specification says
(2026-07-28, basic/lifecycle, "Negotiation"); after that a caller does not see the difference.
"""

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import Any

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
    mcp_param_headers,
    x_mcp_header_map,
)
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

from auralink import __version__
from auralink.mcp.upstream.errors import SessionLost, UpstreamBadAnswer, UpstreamError, UpstreamRejected
from auralink.mcp.upstream.transport import Message, OnMessage, Transport

CLIENT_INFO = {"name": "auralink", "version": __version__}
CLIENT_CAPABILITIES: dict[str, Any] = {}
MAX_PAGES = 100
"""Pages of a list that are read: a server whose cursor never ends costs no more than this."""


class UpstreamSession:
    """What is agreed with one server: revision, capabilities, and the tools it has."""

    def __init__(self, transport: Transport, server: str) -> None:
        self.transport = transport
        self.server = server
        self.protocol_version = LATEST_MODERN_VERSION
        self.modern = True
        self.server_info: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self.tools: dict[str, dict[str, Any]] | None = None
        self.tools_lock = asyncio.Lock()
        self.reopening = asyncio.Lock()
        self.generation = 0
        self.last_used = time.monotonic()
        self._ids = itertools.count(1)
        self._header_maps: dict[str, Mapping[tuple[str, ...], str]] = {}

    async def open(self, timeout: float) -> None:
        """Agrees on a revision within `timeout` seconds.

        Raises:
            UpstreamError: the server cannot be reached, refuses the credential, or speaks no revision that we speak.
        """
        deadline = time.monotonic() + timeout
        self.modern, self.protocol_version = True, LATEST_MODERN_VERSION
        try:
            result = await self._request("server/discover", {}, deadline)
        except UpstreamRejected as error:
            supported = (error.data or {}).get("supported", []) if isinstance(error.data, dict) else []
            if (
                error.rpc_code == UNSUPPORTED_PROTOCOL_VERSION
                and supported
                and not set(supported) & set(HANDSHAKE_PROTOCOL_VERSIONS)
            ):
                raise
            await self._initialize(deadline)
        except UpstreamBadAnswer:
            await self._initialize(deadline)
        else:
            if LATEST_MODERN_VERSION not in result.get("supportedVersions", ()):
                await self._initialize(deadline)
            else:
                self._adopt(result, result.get("_meta", {}).get(SERVER_INFO_META_KEY) or {})
        self.generation += 1

    async def _initialize(self, deadline: float) -> None:
        self.modern, self.protocol_version = False, ""
        params = {"protocolVersion": LATEST_HANDSHAKE_VERSION, "capabilities": CLIENT_CAPABILITIES, "clientInfo": CLIENT_INFO}
        result = await self._request("initialize", params, deadline)
        version = result.get("protocolVersion")
        if version not in HANDSHAKE_PROTOCOL_VERSIONS:
            raise UpstreamBadAnswer(
                f"MCP server {self.server!r} speaks protocol revision {version!r}, which we do not", sent=True
            )
        self.protocol_version = version
        self._adopt(result, result.get("serverInfo") or {})
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await self.transport.send(note, headers=self._headers(note), timeout=max(deadline - time.monotonic(), 0.001))

    def _adopt(self, result: Mapping[str, Any], server_info: dict[str, Any]) -> None:
        self.capabilities = result.get("capabilities") or {}
        self.instructions = result.get("instructions")
        self.server_info = server_info

    async def request(
        self, method: str, params: Mapping[str, Any], deadline: float, *, on_message: OnMessage | None = None
    ) -> dict[str, Any]:
        """Sends a request and returns its result as raw JSON. `deadline` is on the monotonic clock.

        A session that the server has forgotten is opened again, once: the server has said that it did not execute the request.

        Raises:
            UpstreamRejected: the server answered with a JSON-RPC error.
            UpstreamError: anything else that kept it from answering.
        """
        self.last_used = time.monotonic()
        generation = self.generation
        try:
            return await self._request(method, params, deadline, on_message)
        except SessionLost:
            async with self.reopening:
                if self.generation == generation:
                    self.transport.session_id = None  # type: ignore[attr-defined]  # only HTTP has sessions to lose
                    await self.open(deadline - time.monotonic())
            return await self._request(method, params, deadline, on_message)

    async def list_tools(self, deadline: float, *, refresh: bool = False) -> dict[str, dict[str, Any]]:
        """The server's tools by name, as it describes them; read once and kept until `refresh`."""
        async with self.tools_lock:
            if self.tools is None or refresh:
                self.tools = {tool["name"]: tool for tool in await self._all_pages("tools/list", "tools", deadline)}
                self._header_maps = {
                    name: headers for name, tool in self.tools.items() if (headers := x_mcp_header_map(tool.get("inputSchema")))
                }
            return self.tools

    async def _all_pages(self, method: str, key: str, deadline: float) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            result = await self.request(method, {"cursor": cursor} if cursor else {}, deadline)
            page = result.get(key)
            if not isinstance(page, list) or not all(isinstance(i, dict) and isinstance(i.get("name"), str) for i in page):
                raise UpstreamBadAnswer(f"MCP server {self.server!r} answered {method} without a list of {key}", sent=True)
            items += page
            cursor = result.get("nextCursor")
            if not cursor:
                return items
        raise UpstreamBadAnswer(f"MCP server {self.server!r} answered {method} in more than {MAX_PAGES} pages", sent=True)

    async def _request(
        self, method: str, params: Mapping[str, Any], deadline: float, on_message: OnMessage | None = None
    ) -> dict[str, Any]:
        message: Message = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": self._with_meta(params)}
        timeout = max(deadline - time.monotonic(), 0.001)
        response = await self.transport.exchange(message, headers=self._headers(message), timeout=timeout, on_message=on_message)
        if (error := response.get("error")) is not None:
            raise self._rejected(method, error)
        result = response.get("result")
        if not isinstance(result, dict):
            raise UpstreamBadAnswer(f"MCP server {self.server!r} answered {method} without a result", sent=True)
        return result

    def _rejected(self, method: str, error: Any) -> UpstreamError:
        if not isinstance(error, dict) or not isinstance(error.get("code"), int):
            return UpstreamBadAnswer(f"MCP server {self.server!r} answered {method} with a malformed error", sent=True)
        text = f"MCP server {self.server!r} rejected {method}: {str(error.get('message', ''))[:500]} (code {error['code']})"
        return UpstreamRejected(text, rpc_code=error["code"], data=error.get("data"))

    def _with_meta(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if not self.modern:
            return dict(params)
        envelope = {
            PROTOCOL_VERSION_META_KEY: self.protocol_version,
            CLIENT_INFO_META_KEY: CLIENT_INFO,
            CLIENT_CAPABILITIES_META_KEY: CLIENT_CAPABILITIES,
        }
        return {**params, "_meta": {**envelope, **params.get("_meta", {})}}

    def _headers(self, message: Message) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self.protocol_version:
            headers[MCP_PROTOCOL_VERSION_HEADER] = self.protocol_version
        if not self.modern:
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
        await self.transport.close()
