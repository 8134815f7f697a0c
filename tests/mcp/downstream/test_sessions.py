"""Session ids and request states: bound to their user, served by any replica, and refused when forged."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.mcp.downstream.signed import Signer
from auralink.vault.crypto import KeyRing
from tests.conftest import eventually
from tests.mcp.across import service_of
from tests.mcp.raw_client import MODERN, RawClient, Refused
from tests.service import Service, connected, running_service, unique
from tests.upstreams import eras

HANDSHAKE = "2025-11-25"
ASK = {"name": "eras__ask_user", "arguments": {}}


@contextlib.asynccontextmanager
async def replicas(dsn: Secret, data_dir: Path, ring: KeyRing, user: str) -> AsyncIterator[tuple[Service, Service]]:
    """Two services on one database with one key, in front of one server of the handshake era."""
    async with eras.over_http(HANDSHAKE) as url:
        config = MCPConfig.model_validate({"mcp_servers": {"eras": {"transport": "http", "endpoint": url}}})
        async with running_service(dsn, data_dir / "1", ring, config=config) as one:
            async with running_service(dsn, data_dir / "2", ring, config=config) as two, one.client(user) as rest:
                await connected(rest, "eras")
                yield one, two


def test_a_token_of_another_user_purpose_or_key_is_none() -> None:
    user, key = uuid4(), b"k" * 32
    token = Signer(key, "session").sign(user, {"a": [1, "ä"]})
    assert Signer(key, "session").read(user, token) == {"a": [1, "ä"]}
    assert Signer(key, "session").read(uuid4(), token) is None
    assert Signer(key, "request state").read(user, token) is None
    assert Signer(b"x" * 32, "session").read(user, token) is None
    for place in range(0, len(token), 7):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert Signer(key, "session").read(user, changed) is None
    for nonsense in ("", "x", "ä", "=" * 50, "A" * 10_000):
        assert Signer(key, "session").read(user, nonsense) is None


@pytest.mark.promise("P-ERA")
async def test_a_session_is_its_users_alone_and_ends_when_it_is_deleted(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user, other = unique(), unique()
    async with service_of(dsn, tmp_path, ring, HANDSHAKE, user) as service:
        async with service.client(user) as http, service.client(other) as stranger:
            client = RawClient(http, "/mcp", HANDSHAKE)
            await client.open()
            assert client.session_id is not None
            assert all("!" <= character <= "~" for character in client.session_id)
            for session_id, expected in ((client.session_id, 404), (client.session_id[:-2], 404), ("made-up", 404), (None, 400)):
                thief = RawClient(stranger, "/mcp", HANDSHAKE)
                thief.session_id = session_id
                with pytest.raises(Refused) as refused:
                    await thief.request("tools/list", {})
                assert refused.value.status == expected
            headers = {"Mcp-Session-Id": client.session_id}
            assert (await stranger.delete("/mcp", headers=headers)).status_code == 404
            assert (await stranger.get("/mcp", headers=headers)).status_code == 404
            assert await client.request("tools/list", {})
            assert (await http.delete("/mcp", headers=headers)).status_code == 200
            with pytest.raises(Refused) as refused:
                await client.request("tools/list", {})
            assert refused.value.status == 404


@pytest.mark.promise("P-ERA")
async def test_another_replica_serves_the_session(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with replicas(dsn, tmp_path, ring, user) as (one, two), one.client(user) as first, two.client(user) as second:
        client = RawClient(first, "/mcp", HANDSHAKE)
        await client.open()
        moved = RawClient(second, "/mcp", HANDSHAKE)
        moved.session_id = client.session_id
        assert (await moved.call("eras__ask_user"))["content"][0]["text"] == "accept Ada"


@pytest.mark.promise("P-ERA")
async def test_a_call_that_waits_is_resumed_where_it_waits_and_refused_elsewhere(
    dsn: Secret, tmp_path: Path, ring: KeyRing
) -> None:
    user, other = unique(), unique()
    async with replicas(dsn, tmp_path, ring, user) as (one, two), one.client(user) as first:
        client = RawClient(first, "/mcp", MODERN)
        asked = await client.once("tools/call", ASK)
        assert asked["resultType"] == "input_required"
        [key] = asked["inputRequests"]
        answered = {
            **ASK,
            "inputResponses": {key: {"action": "accept", "content": {"name": "Eve"}}},
            "requestState": asked["requestState"],
        }
        async with two.client(user) as second:
            with pytest.raises(Refused, match="another process holds it") as refused:
                await RawClient(second, "/mcp", MODERN).once("tools/call", answered)
            assert refused.value.error["data"] == {"code": "call_not_waiting", "retry": True}
        async with one.client(other) as stranger:
            with pytest.raises(Refused, match="not one that you were given"):
                await RawClient(stranger, "/mcp", MODERN).once("tools/call", answered)
        for forged in (asked["requestState"][:-3] + "AAA", asked["requestState"] + "x", "forged", 7, {"call": "x"}):
            with pytest.raises(Refused, match="not one that you were given") as refused:
                await client.once("tools/call", {**answered, "requestState": forged})
            assert (refused.value.status, refused.value.error["code"]) == (400, -32602)
        result = await client.once("tools/call", answered)
        assert result["content"][0]["text"] == "accept Eve"
        with pytest.raises(Refused, match="make it again"):
            await client.once("tools/call", answered)


@pytest.mark.promise("P-ERA")
async def test_an_answer_that_reaches_another_replica_is_refused_with_the_reason(
    dsn: Secret, tmp_path: Path, ring: KeyRing
) -> None:
    user = unique()
    async with replicas(dsn, tmp_path, ring, user) as (one, two), one.client(user) as first, two.client(user) as second:
        client = RawClient(first, "/mcp", HANDSHAKE, answers={"elicitation/create": None})
        await client.open()
        call = asyncio.create_task(client.once("tools/call", ASK))
        await eventually(lambda: client.asked)
        body = {"jsonrpc": "2.0", "id": client.asked[0]["id"], "result": {"action": "decline"}}
        headers = {"Mcp-Session-Id": str(client.session_id), "Accept": "application/json, text/event-stream"}
        elsewhere = await second.post("/mcp", json=body, headers=headers)
        assert (elsewhere.status_code, elsewhere.json()["error"]["data"]["code"]) == (404, "call_not_waiting")
        assert (await first.post("/mcp", json=body, headers=headers)).status_code == 202
        assert (await call)["content"][0]["text"] == "decline None"


@pytest.mark.promise("P-ERA")
async def test_a_server_that_takes_its_question_back_takes_it_back_from_the_client(
    dsn: Secret, tmp_path: Path, ring: KeyRing
) -> None:
    user = unique()
    async with service_of(dsn, tmp_path, ring, HANDSHAKE, user) as service, service.client(user) as http:
        client = RawClient(http, "/mcp", HANDSHAKE, answers={"elicitation/create": None})
        await client.open()
        assert (await client.call("eras__ask_and_forget"))["content"][0]["text"] == "never mind"
        [cancelled] = [note for note in client.heard if note["method"] == "notifications/cancelled"]
        assert cancelled["params"]["requestId"] == client.asked[0]["id"]


async def test_a_client_that_cannot_be_asked_is_not_asked(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with service_of(dsn, tmp_path, ring, HANDSHAKE, user) as service, service.client(user) as http:
        for revision in (MODERN, HANDSHAKE):
            client = RawClient(http, "/mcp", revision, capabilities={})
            await client.open()
            with pytest.raises(Refused):
                await client.call("eras__ask_user")
            assert client.asked == []


async def test_a_request_without_authorization_is_told_where_to_get_it(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with running_service(dsn, tmp_path, ring) as service, httpx2.AsyncClient(base_url=service.url, trust_env=False) as http:
        answer = await http.post("/mcp", json={})
        assert answer.status_code == 401
        assert 'resource_metadata="http' in answer.headers["WWW-Authenticate"]


async def test_a_batch_is_answered_in_one_stream_where_the_revision_has_batches(
    dsn: Secret, tmp_path: Path, ring: KeyRing
) -> None:
    user = unique()
    async with service_of(dsn, tmp_path, ring, MODERN, user) as service, service.client(user) as http:
        calls = [
            {"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "eras__echo", "arguments": {"n": n}}}
            for n in range(3)
        ]
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}
        headers = {"Accept": "application/json, text/event-stream"}
        for revision, status in (("2025-03-26", 200), (HANDSHAKE, 400)):
            client = RawClient(http, "/mcp", revision)
            await client.open()
            headers["Mcp-Session-Id"] = str(client.session_id)
            answer = await http.post("/mcp", json=[*calls, note], headers=headers)
            assert answer.status_code == status
        assert answer.json()["error"]["message"] == "revision 2025-11-25 has no batches; send one message at a time"
        client = RawClient(http, "/mcp", "2025-03-26")
        await client.open()
        headers["Mcp-Session-Id"] = str(client.session_id)
        answer = await http.post("/mcp", json=[*calls, note], headers=headers)
        events = [json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:")]
        said = {event["id"]: event["result"]["structuredContent"]["said"] for event in events}
        assert said == {n: {"n": n} for n in range(3)}
        assert (await http.post("/mcp", json=[note], headers=headers)).status_code == 202
        assert (await http.post("/mcp", json=[], headers=headers)).status_code == 400
        assert (await http.post("/mcp", json=[1], headers=headers)).status_code == 400
