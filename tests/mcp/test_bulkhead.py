"""One broken server harms only its own calls (P-BULKHEAD), and in development its built-in twin stands in (P-FALLBACK)."""

import asyncio
from pathlib import Path

import pytest

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing
from tests.mcp.gateway_fixtures import WRITE, gateway
from tests.service import API, connected, running_service, unique
from tests.upstreams.raw import Exchange

BREAKER = {"circuit_breaker": {"failure_threshold": 2, "success_threshold": 1, "timeout": 0.2}}


async def broken(exchange: Exchange) -> None:
    """Answers with garbage."""
    await exchange.http(b"<html>", status="502 Bad Gateway")


@pytest.mark.promise("P-BULKHEAD")
async def test_a_failing_server_is_left_alone_and_comes_back(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with gateway(dsn, tmp_path, ring, (WRITE,), config=BREAKER) as gate:
        gate.upstream.on["tools/call"] = broken
        codes = [(await gate.call("write")).json()["code"] for _ in range(2)]
        assert codes == ["upstream_bad_answer", "upstream_bad_answer"]
        reached = gate.calls()
        opened = await gate.call("write")
        assert (opened.status_code, opened.json()["code"]) == (503, "circuit_open")
        assert opened.json()["retry_after"] >= 1
        assert "retry-after" in opened.headers
        assert gate.calls() == reached, "an open breaker sends nothing"
        del gate.upstream.on["tools/call"]
        async with asyncio.timeout(10):
            while (answer := await gate.call("write")).status_code != 200:
                assert answer.json()["code"] == "circuit_open"
        assert (await gate.call("write")).status_code == 200


@pytest.mark.promise("P-BULKHEAD")
async def test_the_list_stays_and_says_what_is_missing(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    dead = {"dead": {"transport": "http", "endpoint": "http://127.0.0.1:9/mcp", "retry_attempts": 0}}
    config = {"mcp_servers": {"deepwiki": {"transport": "in_process"}, **dead}}
    async with running_service(dsn, tmp_path, ring, config=MCPConfig.model_validate(config)) as service:
        async with service.client(unique()) as client:
            assert (await client.post(f"{API}/mcp/connect", json={"server_type": "dead"})).json()[
                "code"
            ] == "upstream_unreachable"
            await connected(client)
            page = (await client.get(f"{API}/mcp/tools")).json()
            assert len(page["items"]) == 4
            assert page["degraded"] == []


@pytest.mark.promise("P-FALLBACK")
@pytest.mark.parametrize("mode", ["development", "production"])
async def test_a_hosted_server_that_cannot_be_reached(dsn: Secret, tmp_path: Path, ring: KeyRing, mode: str) -> None:
    (tmp_path / "repo").mkdir()
    hosted = {"transport": "http", "endpoint": "http://127.0.0.1:9/mcp", "server_type": "deepwiki", "timeout": 60}
    config = MCPConfig.model_validate({"environment": {"mode": mode}, "mcp_servers": {"hosted-wiki": hosted}})
    async with running_service(dsn, tmp_path / "data", ring, config=config, wiki_repo_roots=(tmp_path,)) as service:
        async with service.client(unique()) as client:
            answer = await client.post(f"{API}/mcp/connect", json={"server_type": "deepwiki"})
            if mode == "production":
                assert (answer.status_code, answer.json()["code"]) == (502, "upstream_unreachable")
                assert "hosted-wiki" in answer.json()["message"]
                return
            assert answer.json()["served_by"] == "built-in:deepwiki (fallback for hosted-wiki)"
            (tmp_path / "repo" / "README.md").write_text("# Doors\n\nThe door code is on the fridge.\n")
            body = {
                "connection_id": answer.json()["connection_id"],
                "repo_name": str(tmp_path / "repo"),
                "question": "Where is the door code?",
            }
            asked = await client.post(f"{API}/mcp/deepwiki/ask", json=body)
            assert asked.status_code == 200, asked.text
            assert asked.json()["served_by"] == "built-in:deepwiki (fallback for hosted-wiki)"
            assert "fridge" in asked.json()["answer"]
