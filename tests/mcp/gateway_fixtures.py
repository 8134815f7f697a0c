"""A service in front of one raw upstream server, for tests of what the gateway decides."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing
from tests.service import API, Service, connected, running_service, unique
from tests.upstreams.raw import Exchange, RawServer, running

DELETE = {
    "name": "delete",
    "description": "Deletes a thing.",
    "inputSchema": {"type": "object"},
    "annotations": {"destructiveHint": True},
}
READ = {
    "name": "read",
    "description": "Reads a thing.",
    "inputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": True},
}
WRITE = {"name": "write", "description": "Writes a thing.", "inputSchema": {"type": "object"}}


@dataclass
class Gateway:
    """A running service, its one upstream, and a user who is connected to it."""

    service: Service
    upstream: RawServer
    user: str
    rest: httpx2.AsyncClient
    connection_id: str
    tools: list[dict[str, Any]]

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> httpx2.Response:
        """Calls a tool through REST."""
        return await self.rest.post(f"{API}/mcp/tools/up__{tool}/call", json={"arguments": dict(arguments or {})})

    def calls(self) -> int:
        """How many calls have reached the upstream."""
        return self.upstream.count("tools/call")

    @contextlib.asynccontextmanager
    async def mcp(self, **options: Any) -> AsyncIterator[Client]:
        """The SDK's client at `/mcp`, as the user."""
        headers = {"Authorization": f"Bearer {self.service.token(self.user)}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
            async with Client(streamable_http_client(f"{self.service.url}/mcp", http_client=http), **options) as client:
                yield client


@contextlib.asynccontextmanager
async def gateway(
    dsn: Secret,
    data_dir: Path,
    ring: KeyRing,
    tools: Sequence[dict[str, Any]] = (DELETE, READ, WRITE),
    *,
    server: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    policy: Mapping[str, Any] | None = None,
) -> AsyncIterator[Gateway]:
    """`tools` are what the upstream lists (the list may be changed later); `server` and `config` add to the configuration."""
    listed = list(tools)

    async def list_tools(exchange: Exchange) -> None:
        await exchange.result({"tools": listed, "ttlMs": 1})

    async with running(RawServer(on={"tools/list": list_tools})) as upstream:
        entry = {"transport": "http", "endpoint": upstream.url, "retry_attempts": 0, **(server or {})}
        made = MCPConfig.model_validate({"mcp_servers": {"up": entry}, **(config or {})})
        async with running_service(dsn, data_dir, ring, config=made) as service:
            user = unique()
            async with service.client(user) as rest:
                fields = {"policy": dict(policy)} if policy else {}
                connection_id = await connected(rest, "up", **fields)
                yield Gateway(service, upstream, user, rest, connection_id, listed)
