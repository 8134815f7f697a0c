"""Named subsets of tools, and the tool that finds tools."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing
from tests.mcp.raw_client import MODERN, REVISIONS, RawClient, Refused
from tests.service import API, Service, connected, running_service, unique
from tests.upstreams import eras, sdk

TOOLSETS = f"{API}/mcp/toolsets"
ECHOES = ["eras__echo", "sdk__echo"]


@pytest.fixture
async def service(dsn: Secret, tmp_path: Path, ring: KeyRing) -> AsyncIterator[Service]:
    """A service with two servers."""
    async with eras.over_http() as one, sdk.over_http() as two:
        servers = {"eras": {"transport": "http", "endpoint": one}, "sdk": {"transport": "http", "endpoint": two.url}}
        async with running_service(dsn, tmp_path, ring, config=MCPConfig.model_validate({"mcp_servers": servers})) as running:
            yield running


async def _user(service: Service) -> str:
    user = unique()
    async with service.client(user) as rest:
        for server in ("eras", "sdk"):
            await connected(rest, server)
    return user


async def _names(client: RawClient) -> list[str]:
    return [tool["name"] for tool in (await client.request("tools/list", {}))["tools"]]


async def test_a_toolset_is_made_shown_changed_and_deleted(service: Service) -> None:
    user = unique()
    async with service.client(user) as rest, service.client(unique()) as stranger:
        made = await rest.post(TOOLSETS, json={"name": "few", "tools": [*ECHOES, "sdk__echo"]})
        assert (made.status_code, made.json()["tools"]) == (201, ECHOES)
        path = f"{TOOLSETS}/{made.json()['toolset_id']}"
        kept = {**made.json(), "warnings": []}
        assert (await rest.get(path)).json() == kept
        assert (await rest.get(TOOLSETS)).json() == {"items": [kept], "next_cursor": None}
        assert (await rest.post(TOOLSETS, json={"name": "few", "tools": ["x"]})).json()["code"] == "toolset_name_taken"
        for wrong in (
            {"name": "Few!", "tools": ["x"]},
            {"name": "a", "tools": []},
            {"name": "a", "tools": ["\0"]},
            {"name": "a"},
        ):
            assert (await rest.post(TOOLSETS, json=wrong)).status_code == 422
        changed = await rest.patch(path, json={"name": "fewer", "tools": ["eras__echo"]})
        assert (changed.json()["name"], changed.json()["tools"]) == ("fewer", ["eras__echo"])
        assert (await rest.patch(path, json={})).status_code == 422
        assert (await stranger.get(path)).status_code == 404
        assert (await stranger.patch(path, json={"name": "mine"})).status_code == 404
        assert (await stranger.delete(path)).status_code == 404
        assert (await stranger.get(TOOLSETS)).json()["items"] == []
        assert (await rest.delete(path)).status_code == 204
        assert (await rest.get(path)).json()["code"] == "toolset_not_found"


async def test_a_tool_that_no_connection_lists_is_warned_of_with_what_is_near(service: Service) -> None:
    user = await _user(service)
    async with service.client(user) as rest:
        made = (await rest.post(TOOLSETS, json={"name": "few", "tools": ["eras__echo", "sdk__ehco", "pay"]})).json()
        [warning] = made["warnings"]
        assert warning["pointer"] == "/tools/1"
        assert "'sdk__ehco' (did you mean 'sdk__echo'" in warning["message"]
        path = f"{TOOLSETS}/{made['toolset_id']}"
        assert (await rest.patch(path, json={"name": "fewer"})).json()["warnings"] == []
        assert (await rest.patch(path, json={"tools": ECHOES})).json()["warnings"] == []
        [gone] = (await rest.patch(path, json={"tools": ["zeppelin__fly"]})).json()["warnings"]
        assert "did you mean" not in gone["message"]


async def test_an_address_with_a_toolset_shows_and_calls_its_tools_only(service: Service) -> None:
    user = await _user(service)
    async with service.client(user) as rest:
        await rest.post(TOOLSETS, json={"name": "few", "tools": [*ECHOES, "gone__tool"]})
        for revision in REVISIONS:
            client = RawClient(rest, "/mcp?toolset=few", revision)
            await client.open()
            assert await _names(client) == ECHOES
            assert (await client.call("sdk__echo", {"text": "hi"}))["content"][0]["text"] == "hi"
            with pytest.raises(Refused, match="not among the tools"):
                await client.call("sdk__pay", {"amount": 1})
            assert (await client.request("prompts/get", {"name": "eras__greet", "arguments": {"who": "Ada"}}))["messages"]
        assert await _names(RawClient(rest, "/mcp?toolset=few&tools=sdk__pay", MODERN)) == [*ECHOES, "sdk__pay"]
        assert await _names(RawClient(rest, "/mcp?tools=sdk__pay,sdk__fail", MODERN)) == ["sdk__fail", "sdk__pay"]
        assert await _names(RawClient(rest, "/mcp/sdk?tools=pay", MODERN)) == ["pay"]
        missing = await rest.post("/mcp?toolset=none", json={})
        assert (missing.status_code, missing.json()["code"]) == (404, "toolset_not_found")
    async with service.client(unique()) as stranger:
        assert (await stranger.post("/mcp?toolset=few", json={})).status_code == 404


async def test_a_changed_toolset_is_announced_and_shown_at_once(service: Service) -> None:
    user = await _user(service)
    async with service.client(user) as rest:
        made = (await rest.post(TOOLSETS, json={"name": "few", "tools": ECHOES})).json()
        client = RawClient(rest, "/mcp?toolset=few", MODERN)
        async with client.listening() as queue:
            assert await _names(client) == ECHOES
            await rest.patch(f"{TOOLSETS}/{made['toolset_id']}", json={"tools": ["sdk__pay"]})
            assert await _names(client) == ["sdk__pay"]
            async with asyncio.timeout(10):
                while (await queue.get())["method"] != "notifications/tools/list_changed":
                    pass
        await rest.delete(f"{TOOLSETS}/{made['toolset_id']}")
        with pytest.raises(KeyError):  # a problem document, no JSON-RPC
            await _names(client)


async def test_a_toolset_that_is_used_is_not_read_again_for_each_call(service: Service) -> None:
    user = await _user(service)
    async with service.client(user) as rest:
        await rest.post(TOOLSETS, json={"name": "few", "tools": ECHOES})
        toolsets = service.app.state.mcp.toolsets
        client = RawClient(rest, "/mcp?toolset=few", MODERN)

        async def remembered() -> bool:
            await client.call("sdk__echo", {"text": "x"})
            return len(toolsets._remembered) == 1

        async with asyncio.timeout(10):
            while not await remembered():
                pass
        [(version, tools)] = toolsets._remembered.values()
        assert tools == frozenset(ECHOES)
        assert version == service.app.state.mcp.resolver.version


@pytest.mark.parametrize("revision", [MODERN, "2025-11-25"])
async def test_find_tools_finds_what_can_then_be_called(service: Service, revision: str) -> None:
    user = await _user(service)
    async with service.client(user) as rest:
        client = RawClient(rest, "/mcp?find_tools=1", revision)
        await client.open()
        assert await _names(client) == ["find_tools"]
        found: dict[str, Any] = (await client.call("find_tools", {"query": "pay money twice"}))["structuredContent"]
        assert [tool["name"] for tool in found["tools"]] == ["sdk__pay"]
        assert found["tools"][0]["inputSchema"]["properties"]["amount"]
        assert (await client.call("sdk__pay", {"amount": 2}))["content"][0]["text"] == "paid 2"
        for form in ("payments", "paying", "Payers"):
            assert (await client.call("find_tools", {"query": form}))["structuredContent"]["tools"][0]["name"] == "sdk__pay", form
        two = (await client.call("find_tools", {"query": "echo", "limit": 1}))["structuredContent"]
        assert (len(two["tools"]), two["found"]) == (1, 2)
        assert (await client.call("find_tools", {"query": "zeppelin"}))["structuredContent"] == {"tools": [], "found": 0}
        for wrong in ({}, {"query": " "}, {"query": "x", "limit": 0}, {"query": "x", "limit": True}):
            with pytest.raises(Refused):
                await client.call("find_tools", wrong)
        recorded = (await rest.get(f"{API}/audit", params={"tool": "find_tools"})).json()["items"]
        assert [row["outcome"] for row in recorded] == ["invalid_request"] * 4 + ["ok"] * 6
        some = RawClient(rest, "/mcp?find_tools=1&tools=sdk__echo", revision)
        await some.open()
        assert await _names(some) == ["find_tools", "sdk__echo"]
        everything = RawClient(rest, "/mcp", revision)
        await everything.open()
        with pytest.raises(Refused, match="is not the name of a tool here"):
            await everything.call("find_tools", {"query": "x"})


async def test_find_tools_says_which_servers_it_could_not_search(service: Service) -> None:
    user = await _user(service)
    async with sdk.over_http() as third, service.client("operator", role="admin") as admin, service.client(user) as rest:
        await admin.post(f"{API}/mcp/servers", json={"name": "third", "transport": "http", "endpoint": third.url})
        await connected(rest, "third")
    async with service.client(user) as rest:
        client = RawClient(rest, "/mcp?find_tools=1", MODERN)
        result = await client.call("find_tools", {"query": "pay"})
        assert [tool["name"] for tool in result["structuredContent"]["tools"]] == ["sdk__pay"]
        assert [missing["connection"] for missing in result["_meta"]["auralink/degraded"]] == ["third"]
