"""All of a user's servers as one: what users of other gateways suffer from, each as a test."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing
from tests.conftest import eventually
from tests.mcp.raw_client import MODERN, REVISIONS, RawClient
from tests.service import API, connected, running_service, unique
from tests.upstreams import faults, raw, sdk

HANDSHAKE = "2025-11-25"
LONG = "a_tool_whose_name_is_so_long_that_no_model_vendor_takes_it_even_without_the_name_of_its_server"


def config(**servers: Mapping[str, Any]) -> MCPConfig:
    """A configuration of servers over HTTP."""
    entries = {name: {"transport": "http", "retry_attempts": 0, **server} for name, server in servers.items()}
    return MCPConfig.model_validate({"mcp_servers": entries})


def listing(*tools: dict[str, Any]) -> raw.Behaviour:
    """Lists these tools."""

    async def behave(exchange: raw.Exchange) -> None:
        await exchange.result({"tools": [{"inputSchema": {"type": "object"}, **tool} for tool in tools]})

    return behave


async def names(client: RawClient) -> list[str]:
    """The names in the tool list, in its order."""
    return [tool["name"] for tool in (await client.request("tools/list", {}))["tools"]]


@pytest.mark.promise("P-BULKHEAD")
async def test_a_dead_and_a_hanging_server_cost_their_own_entries_only(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with sdk.over_http() as well, raw.running() as hanging, raw.running() as dying:
        servers = config(
            well={"endpoint": well.url}, hanging={"endpoint": hanging.url, "timeout": 1}, dying={"endpoint": dying.url}
        )
        async with running_service(dsn, tmp_path, ring, config=servers) as service, service.client(user) as rest:
            for server in ("well", "hanging", "dying"):
                await connected(rest, server)
            hanging.on["server/discover"] = hanging.on["initialize"] = hanging.on["tools/list"] = faults.hang
            dying.on["server/discover"] = dying.on["tools/list"] = faults.close
            for revision in REVISIONS:
                client = RawClient(rest, "/mcp", revision)
                await client.open()
                result = await client.request("tools/list", {})
                assert [tool["name"] for tool in result["tools"]] == [f"well__{n}" for n in ("count", "echo", "fail", "pay")]
                missing = {entry["connection"]: entry for entry in result["_meta"]["auralink/degraded"]}
                assert missing.keys() == {"hanging", "dying"}
                assert (missing["hanging"]["code"], missing["dying"]["code"]) == ("upstream_timeout", "upstream_closed")
                assert all(name in entry["message"] for name, entry in missing.items())
                assert (await client.call("well__echo", {"text": "fine"}))["content"][0]["text"] == "fine"


async def test_an_error_names_its_server_its_class_and_its_cause(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with raw.running() as server:
        servers = config(up={"endpoint": server.url, "timeout": 0.5})
        async with running_service(dsn, tmp_path, ring, config=servers) as service, service.client(user) as rest:
            await connected(rest, "up")
            for revision in (MODERN, HANDSHAKE):
                client = RawClient(rest, "/mcp", revision)
                await client.open()
                server.on["tools/call"] = faults.hang
                async with asyncio.timeout(10):
                    result = await client.call("up__pay")
                assert result["isError"] is True
                facts = result["_meta"]["auralink/error"]
                assert (facts["code"], facts["status"]) == ("upstream_timeout", 504)
                assert "'up'" in result["content"][0]["text"]
                server.on["tools/call"] = faults.not_json
                facts = (await client.call("up__pay"))["_meta"]["auralink/error"]
                assert facts["code"] == "upstream_bad_answer"
                log = (await rest.get(f"{API}/audit?limit=1")).json()["items"][0]
                assert facts["log_id"] == log["log_id"]


async def test_names_are_short_distinct_reversible_and_do_not_change(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    twins = [{"name": LONG + end} for end in ("_1", "_2")]
    odd = [{"name": "with.dots"}, {"name": "with dots"}, {"name": "with_dots"}, {"name": "ä/ö"}]
    async with raw.running() as one, raw.running() as two:
        one.on["tools/list"] = listing(*twins, *odd)
        two.on["tools/list"] = listing(*twins, {"name": "with_dots"})
        servers = config(one={"endpoint": one.url}, two={"endpoint": two.url})
        async with running_service(dsn, tmp_path, ring, config=servers) as service, service.client(user) as rest:
            await connected(rest, "one")
            client = RawClient(rest, "/mcp", MODERN)
            alone = await names(client)
            assert len(alone) == 6
            await connected(rest, "two")
            together = await names(client)
            assert [name for name in together if name.startswith("one__")] == alone
            assert together == sorted(together) == await names(client)
            assert len(set(together)) == len(together) == 9
            assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name) for name in together)
            called = []
            for name in together:
                await client.call(name)
                server = one if name.startswith("one__") else two
                called.append((name.split("__")[0], server.requests[-1].message["params"]["name"]))
            assert sorted(called) == sorted(
                [("one", tool["name"]) for tool in (*twins, *odd)]
                + [("two", t) for t in (*(t["name"] for t in twins), "with_dots")]
            )


async def test_many_clients_and_calls_share_one_upstream_session(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with raw.running(raw.RawServer(handshake=True)) as server:
        async with running_service(dsn, tmp_path, ring, config=config(up={"endpoint": server.url})) as service:
            async with service.client(user) as rest:
                await connected(rest, "up")
                before = server.count("initialize")
                clients = [RawClient(rest, "/mcp", revision, capabilities={}) for revision in REVISIONS * 10]
                for client in clients:
                    await client.open()
                    await client.call("up__pay", {"n": 1})
                assert server.count("initialize") == before + 1
                assert server.count("tools/call") == len(clients)


async def test_sessions_that_are_opened_and_abandoned_leave_nothing(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with running_service(dsn, tmp_path, ring) as service, service.client(user) as rest:
        doors = [door for middleware in service.app.user_middleware for door in middleware.kwargs.get("doors", ())]
        endpoint = next(door.endpoint for door in doors if door.path == "/mcp")
        era = endpoint._legacy
        for _ in range(300):
            await RawClient(rest, "/mcp", HANDSHAKE).open()
        assert (len(era._sessions._memories), len(era._sessions._ended), era._running, era._waiting) == (0, 0, {}, {})


async def test_a_call_that_its_client_gave_up_harms_no_other(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with raw.running(raw.RawServer(handshake=True)) as server:
        async with running_service(dsn, tmp_path, ring, config=config(up={"endpoint": server.url})) as service:
            async with service.client(user) as rest:
                await connected(rest, "up")
                client = RawClient(rest, "/mcp", MODERN)
                server.on["tools/call"] = faults.hang
                waiting = asyncio.create_task(client.call("up__pay"))
                await eventually(lambda: server.count("tools/call") == 1)
                waiting.cancel()
                await eventually(lambda: server.count("notifications/cancelled") == 1)
                del server.on["tools/call"]
                assert (await client.call("up__pay", {"n": 2}))["content"][0]["text"] == '{"n": 2}'


async def test_a_link_to_a_resource_leads_to_it(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    link = {"type": "resource_link", "uri": "file:///a", "name": "a", "vendor": 1}
    shown = {"type": "resource", "resource": {"uri": "ui://b", "text": "b"}}

    async def answer(exchange: raw.Exchange) -> None:
        await exchange.result({"content": [link, shown, {"type": "text", "text": "t"}]})

    async with raw.running(raw.RawServer(on={"tools/call": answer})) as server:
        async with running_service(dsn, tmp_path, ring, config=config(up={"endpoint": server.url})) as service:
            async with service.client(user) as rest:
                await connected(rest, "up")
                content = (await RawClient(rest, "/mcp", MODERN).call("up__pay"))["content"]
                assert content == [{**link, "uri": "auralink://up/file:///a"}, shown, {"type": "text", "text": "t"}]
                assert (await RawClient(rest, "/mcp/up", MODERN).call("pay"))["content"][0] == link
