"""Allow, ask, deny: through REST, and through MCP clients of both eras that can ask their user."""

from pathlib import Path
from typing import Any

import pytest
from mcp_types import ElicitResult

from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing
from tests.mcp.gateway_fixtures import gateway
from tests.service import API, unique


async def test_a_destructive_call_waits_for_one_approval_of_exactly_that_call(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with gateway(dsn, tmp_path, ring) as gate:
        refused = await gate.call("delete", {"id": 1})
        assert (refused.status_code, refused.json()["code"]) == (403, "approval_required")
        again = await gate.call("delete", {"id": 1})
        assert again.json()["approval_id"] == refused.json()["approval_id"], "the same call waits once"
        where = refused.json()["approval"]
        shown = (await gate.rest.get(where)).json()
        assert (shown["tool"], shown["arguments"], shown["status"]) == ("delete", {"id": 1}, "pending")
        async with gate.service.client(unique()) as stranger:
            assert (await stranger.get(where)).status_code == 404
            assert (await stranger.post(where, json={"decision": "approve"})).status_code == 404
        assert (await gate.rest.post(where, json={"decision": "approve"})).json()["status"] == "approved"
        twice = (await gate.rest.post(where, json={"decision": "deny"})).json()
        assert twice["code"] == "approval_closed"
        assert twice["message"].endswith("is approved; make the call it is for; it goes through once")
        assert (await gate.call("delete", {"id": 2})).json()["code"] == "approval_required", "other arguments are another call"
        assert gate.calls() == 0
        assert (await gate.call("delete", {"id": 1})).status_code == 200
        assert (await gate.call("delete", {"id": 1})).json()["code"] == "approval_required", "an approval is for once"
        assert "the call was made" in (await gate.rest.post(where, json={"decision": "approve"})).json()["message"]
        assert gate.calls() == 1


async def test_a_denied_call_is_not_made(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with gateway(dsn, tmp_path, ring) as gate:
        where = (await gate.call("delete")).json()["approval"]
        assert (await gate.rest.post(where, json={"decision": "deny", "note": "no"})).json()["status"] == "denied"
        assert (await gate.call("delete")).json()["approval"] != where, "asking again asks anew"
        assert gate.calls() == 0


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("action", "decision", "reaches"), [("accept", "approve", 1), ("accept", "deny", 0), ("decline", None, 0)]
)
async def test_a_client_that_can_elicit_asks_its_user_on_the_spot(
    dsn: Secret, tmp_path: Path, ring: KeyRing, mode: str, action: Any, decision: str | None, reaches: int
) -> None:
    asked: list[str] = []

    async def answer(_context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action=action, content={"decision": decision} if decision else None)

    async with gateway(dsn, tmp_path, ring) as gate:
        async with gate.mcp(mode=mode, elicitation_callback=answer) as client:
            result = await client.call_tool("up__delete", {"id": 7})
        assert len(asked) == 1
        assert "delete of up" in asked[0]
        assert "7" in asked[0]
        assert gate.calls() == reaches
        assert bool(result.is_error) is not bool(reaches)
        decided = (await gate.rest.get(f"{API}/approvals")).json()["items"]
        assert [item["status"] for item in decided] == ["used" if reaches else "denied"], "the decision is written down"


async def test_a_client_that_cannot_elicit_is_told_where_the_approval_is(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with gateway(dsn, tmp_path, ring) as gate:
        async with gate.mcp() as client:
            result = await client.call_tool("up__delete", {})
        assert result.is_error
        assert result.meta is not None
        assert result.meta["auralink/error"]["code"] == "approval_required"
        assert "/api/v1/approvals/" in str(result.content)


async def test_a_policy_decides_for_named_tools_and_for_the_rest(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    policy = {"default": "deny", "tools": {"delete": "allow", "write": "ask"}}
    async with gateway(dsn, tmp_path, ring, policy=policy) as gate:
        assert (await gate.call("delete")).status_code == 200
        assert (await gate.call("write")).json()["code"] == "approval_required"
        assert (await gate.call("read")).json()["code"] == "tool_denied"
        async with gate.mcp() as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["up__delete", "up__write"]
        await gate.rest.patch(f"{API}/mcp/connections/{gate.connection_id}", json={"policy": {"default": "allow"}})
        assert (await gate.call("read")).status_code == 200


async def test_the_operators_allow_list_comes_first(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with gateway(dsn, tmp_path, ring, server={"tools": ["read"]}, policy={"default": "allow"}) as gate:
        assert (await gate.call("read")).status_code == 200
        assert (await gate.call("write")).json()["code"] == "tool_denied"


async def test_a_tool_has_a_limit_of_its_own(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with gateway(dsn, tmp_path, ring, policy={"rate_limits": {"write": 2}}) as gate:
        assert [(await gate.call("write")).status_code for _ in range(3)] == [200, 200, 429]
        limited = await gate.call("write")
        assert limited.json()["code"] == "rate_limited"
        assert int(limited.headers["retry-after"]) >= 1
        assert (await gate.call("read")).status_code == 200
