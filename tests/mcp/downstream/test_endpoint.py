"""`/mcp` with the official SDK's client, in both eras."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing
from tests.service import Service, connected, running_service, unique


@contextlib.asynccontextmanager
async def mcp_client(service: Service, user: str, path: str = "/mcp", **options: Any) -> AsyncIterator[Client]:
    """The SDK's client, connected to an address of the service as a user."""
    headers = {"Authorization": f"Bearer {service.token(user)}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
        async with Client(streamable_http_client(f"{service.url}{path}", http_client=http), **options) as client:
            yield client


@pytest.mark.promise("P-ERA")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_sdk_client_lists_and_calls_in_either_era(dsn: Secret, tmp_path: Path, ring: KeyRing, mode: str) -> None:
    user = unique()
    async with running_service(dsn, tmp_path, ring) as service:
        async with service.client(user) as rest:
            await connected(rest)
        async with mcp_client(service, user, mode=mode) as client:
            assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
            names = [tool.name for tool in (await client.list_tools()).tools]
            tools = ("ask_question", "read_wiki_contents", "read_wiki_structure", "search_docs")
            assert names == [f"deepwiki__{tool}" for tool in tools]
            result = await client.call_tool("deepwiki__search_docs", {"repoName": "../../etc", "query": "x"})
            assert result.is_error
            with pytest.raises(MCPError, match="nowhere"):
                await client.call_tool("nowhere__tool", {})
        async with mcp_client(service, user, "/mcp/deepwiki", mode=mode) as client:
            assert "ask_question" in [tool.name for tool in (await client.list_tools()).tools]
