"""Only read-only tools are cached, and no answer crosses a user, a credential or a schema version (P-CACHE)."""

from pathlib import Path

import pytest

from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing
from tests.mcp.gateway_fixtures import READ, gateway
from tests.service import API, connected, unique


@pytest.mark.promise("P-CACHE")
async def test_a_read_is_answered_once_upstream_until_something_is_written(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with gateway(dsn, tmp_path, ring) as gate:
        first, second = await gate.call("read", {"id": 1}), await gate.call("read", {"id": 1})
        assert (first.json()["cached"], second.json()["cached"]) == (False, True)
        assert first.json()["result"] == second.json()["result"]
        assert not (await gate.call("read", {"id": 2})).json()["cached"]
        assert not (await gate.call("write")).json()["cached"]
        assert not (await gate.call("write")).json()["cached"]
        assert not (await gate.call("read", {"id": 1})).json()["cached"], "a write ends what was read"
        assert gate.calls() == 5
        log = (await gate.rest.get(f"{API}/audit", params={"tool": "read"})).json()["items"]
        assert [entry["cached"] for entry in log] == [False, False, True, False], "a cached answer is recorded as such"


@pytest.mark.promise("P-CACHE")
async def test_an_answer_crosses_no_user_credential_or_schema(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with gateway(dsn, tmp_path, ring) as gate:
        await gate.call("read")
        async with gate.service.client(unique()) as other:
            await connected(other, "up")
            assert not (await other.post(f"{API}/mcp/tools/up__read/call", json={})).json()["cached"]
        where = f"{API}/mcp/connections/{gate.connection_id}/credentials"
        assert (await gate.rest.put(where, json={"api_key": "another key"})).status_code == 200
        assert not (await gate.call("read")).json()["cached"], "another credential may see other things"
        assert (await gate.call("read")).json()["cached"]
        gate.tools[1] = {**READ, "description": "Reads another thing."}
        refused = await gate.call("read")
        await gate.rest.post(f"{API}/mcp/pins/{refused.json()['pin_id']}/approve")
        assert not (await gate.call("read")).json()["cached"], "another definition is another tool"


async def test_no_cache_where_the_configuration_says_so(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with gateway(dsn, tmp_path, ring, config={"mcp_global": {"cache_ttl": 0}}) as gate:
        assert [(await gate.call("read")).json()["cached"] for _ in range(2)] == [False, False]
