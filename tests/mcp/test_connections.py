"""Connections over REST: made only after the server has answered, named, given other credentials, tested, closed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server, eventually
from tests.isolation.support import cloned_database
from tests.service import API, Service, running_service, unique
from tests.upstreams import faults, raw, sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRIVATE = (
    "http://127.0.0.1:9/mcp",
    "http://localhost:9/mcp",
    "http://[::1]:9/mcp",
    "http://0x7f.1:9/mcp",
    "http://169.254.169.254/latest",
    "http://10.0.0.1/mcp",
    "http://[::ffff:192.168.0.1]/mcp",
    "file:///etc/passwd",
    "http://user:secret@example.com/mcp",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listening() -> AsyncIterator[raw.RawServer]:
    """The server of all the module's tests."""
    async with raw.running() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(postgres: Server, tmp_path_factory: pytest.TempPathFactory, listening: raw.RawServer) -> AsyncIterator[Service]:
    servers = {
        "notes": {"transport": "http", "endpoint": listening.url, "auth_type": "bearer", "retry_attempts": 0},
        "keyed": {"transport": "http", "endpoint": listening.url, "auth_type": "api_key", "api_key": "the-operators-key"},
    }
    config = MCPConfig.model_validate({"mcp_servers": servers})
    place, ring = tmp_path_factory.mktemp("data"), KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with running_service(database.service, place, ring, config=config) as running:
            yield running


@pytest.fixture
def upstream(listening: raw.RawServer) -> raw.RawServer:
    """The server, which has heard nothing and behaves."""
    listening.handshake = False
    listening.on.clear()
    listening.requests.clear()
    return listening


@pytest_asyncio.fixture(loop_scope="module")
async def client(service: Service, upstream: raw.RawServer) -> AsyncIterator[httpx2.AsyncClient]:
    """A user of the test's own; what is connected is disconnected in the end, so that no session is left to the next test."""
    async with service.client(unique()) as opened:
        yield opened
        for left in (await opened.get(f"{API}/mcp/connections")).json()["items"]:
            await opened.post(f"{API}/mcp/disconnect/{left['connection_id']}")


async def connect(client: httpx2.AsyncClient, server: str = "notes", **fields: Any) -> dict[str, Any]:
    """Connects, and returns the answer."""
    answer = await client.post(f"{API}/mcp/connect", json={"server_type": server, **fields})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def refused(answer: httpx2.Response, status: int, code: str) -> str:
    """The message of a refusal with this status and code."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    return str(answer.json()["message"])


async def test_connecting_tells_what_the_server_is(client: httpx2.AsyncClient) -> None:
    made = await connect(client, credentials={"token": "t"})
    assert made["status"] == "active"
    assert (made["server_type"], made["server_name"], made["name"]) == ("notes", "raw", "notes")
    assert (made["capabilities"], made["protocol_version"], made["served_by"]) == (["echo", "pay"], "2026-07-28", "notes")
    shown = (await client.get(f"{API}/mcp/connections/{made['connection_id']}")).json()
    assert (shown["name"], shown["has_credentials"], shown["last_error"]) == ("notes", True, None)
    assert "token" not in str(shown)


async def test_names_are_made_up_distinct_and_kept_distinct(client: httpx2.AsyncClient) -> None:
    assert [(await connect(client))["name"] for _ in range(3)] == ["notes", "notes-2", "notes-3"]
    assert (await connect(client, name="My Notes!"))["name"] == "my_notes"
    answer = await client.post(f"{API}/mcp/connect", json={"server_type": "notes", "name": "notes-2"})
    assert "'notes-2'" in refused(answer, 409, "connection_name_taken")


async def test_two_who_want_the_same_name_at_once_do_not_both_get_it(client: httpx2.AsyncClient) -> None:
    body = {"server_type": "notes", "name": "mine"}
    answers = await asyncio.gather(*(client.post(f"{API}/mcp/connect", json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_a_renamed_connection_answers_to_its_new_name_only(client: httpx2.AsyncClient) -> None:
    made = await connect(client, name="old")
    path = f"{API}/mcp/connections/{made['connection_id']}"
    assert (await client.post(f"{API}/mcp/tools/old__echo/call", json={})).status_code == 200
    assert (await client.patch(path, json={"name": "new"})).json()["name"] == "new"
    refused(await client.post(f"{API}/mcp/tools/old__echo/call", json={}), 404, "connection_not_found")
    assert (await client.post(f"{API}/mcp/tools/new__echo/call", json={})).status_code == 200
    await connect(client, name="other")
    refused(await client.patch(path, json={"name": "other"}), 409, "connection_name_taken")
    for name in ("Upper", "a__b", "x" * 40):
        refused(await client.patch(path, json={"name": name}), 422, "invalid_request")


async def test_a_policy_that_names_a_tool_the_server_does_not_list_is_warned_of(
    client: httpx2.AsyncClient, upstream: raw.RawServer
) -> None:
    typo = {"tools": {"echo": "deny", "notes__pya": "ask"}, "rate_limits": {"a/b": 1}}
    made = await connect(client, policy=typo)
    assert [warning["pointer"] for warning in made["warnings"]] == ["/policy/tools/notes__pya", "/policy/rate_limits/a~1b"]
    assert "'notes__pya' (did you mean 'pay'?)" in made["warnings"][0]["message"]
    path = f"{API}/mcp/connections/{made['connection_id']}"
    changed = (await client.patch(path, json={"policy": typo})).json()
    assert (changed["warnings"], changed["policy"]["tools"]) == (made["warnings"], typo["tools"])
    assert (await client.get(path)).json()["warnings"] == []
    assert (await client.patch(path, json={"policy": {"tools": {"pay": "ask"}}})).json()["warnings"] == []


@pytest.mark.parametrize("name", ["", "%00", "a%00__echo", "nothing__echo", "__", "notes__", "notes__nothing", "x" * 300])
async def test_a_tool_that_is_not_there_is_not_found(client: httpx2.AsyncClient, name: str) -> None:
    await connect(client)
    answer = await client.post(f"{API}/mcp/tools/{name}/call", json={})
    assert answer.status_code in (404, 405), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_new_credential_opens_a_new_session_and_is_used_at_once(
    client: httpx2.AsyncClient, upstream: raw.RawServer
) -> None:
    upstream.handshake = True
    made = await connect(client, credentials={"token": "first"})
    assert (await client.post(f"{API}/mcp/tools/notes__pay/call", json={})).status_code == 200
    assert upstream.requests[-1].headers["authorization"] == "Bearer first"
    path = f"{API}/mcp/connections/{made['connection_id']}/credentials"
    assert (await client.put(path, json={"token": "second"})).status_code == 200
    await eventually(lambda: [request.verb for request in upstream.requests].count("DELETE") == 2)
    before = len(upstream.requests)
    assert (await client.post(f"{API}/mcp/tools/notes__pay/call", json={})).status_code == 200
    after = [request for request in upstream.requests[before:] if request.verb == "POST"]
    assert after[-1].method == "tools/call"
    assert "initialize" in [request.method for request in after]
    assert {request.headers["authorization"] for request in after} == {"Bearer second"}


async def test_calls_that_run_while_the_credential_changes_end_well_or_say_why(
    client: httpx2.AsyncClient, upstream: raw.RawServer
) -> None:
    made = await connect(client, credentials={"token": "first"})
    path = f"{API}/mcp/connections/{made['connection_id']}/credentials"
    calls = [
        asyncio.create_task(client.post(f"{API}/mcp/tools/notes__pay/call", json={"arguments": {"n": n}})) for n in range(20)
    ]
    changed = await client.put(path, json={"token": "second"})
    answers = await asyncio.gather(*calls)
    assert changed.status_code == 200
    assert {answer.status_code for answer in answers} <= {200, 502}
    sent = [request.message["params"]["arguments"]["n"] for request in upstream.requests if request.method == "tools/call"]
    assert len(sent) == len(set(sent)), "no call was made twice"


async def test_the_users_key_wins_over_the_operators(client: httpx2.AsyncClient, upstream: raw.RawServer) -> None:
    await connect(client, "keyed")
    await client.post(f"{API}/mcp/tools/keyed__echo/call", json={})
    assert upstream.requests[-1].headers["x-api-key"] == "the-operators-key"
    await connect(client, "keyed", credentials={"api_key": "my-own"})
    await client.post(f"{API}/mcp/tools/keyed-2__echo/call", json={})
    assert upstream.requests[-1].headers["x-api-key"] == "my-own"


@pytest.mark.parametrize("token", ["two\r\nlines: x", "nul\0", "tab\t", "ü", " "], ids=["crlf", "nul", "tab", "umlaut", "blank"])
async def test_a_credential_that_is_no_header_is_refused_or_sent_whole(
    client: httpx2.AsyncClient, upstream: raw.RawServer, token: str
) -> None:
    answer = await client.post(f"{API}/mcp/connect", json={"server_type": "notes", "credentials": {"token": token}})
    assert answer.status_code in (201, 422), answer.text
    assert all("x" not in request.headers and "lines" not in request.headers for request in upstream.requests)
    if token.strip() and answer.status_code == 422:
        assert token not in answer.text


async def test_disconnecting_ends_the_sessions_and_deletes_the_credential(
    client: httpx2.AsyncClient, upstream: raw.RawServer
) -> None:
    upstream.handshake = True
    made = await connect(client, credentials={"token": "t"})
    await client.post(f"{API}/mcp/tools/notes__echo/call", json={})
    path = f"{API}/mcp/disconnect/{made['connection_id']}"
    assert (await client.post(path)).status_code == 204
    await eventually(lambda: [request.verb for request in upstream.requests].count("DELETE") == 2)
    refused(await client.post(path), 404, "connection_not_found")
    refused(await client.post(f"{API}/mcp/tools/notes__echo/call", json={}), 404, "connection_not_found")
    assert (await client.get(f"{API}/mcp/connections")).json()["items"] == []
    assert (await connect(client))["name"] == "notes", "the name is free again"


async def test_testing_contacts_the_server_now_and_notes_how_it_went(client: httpx2.AsyncClient, upstream: raw.RawServer) -> None:
    made = await connect(client)
    path = f"{API}/mcp/connections/{made['connection_id']}"
    before = upstream.count("server/discover")
    tested = (await client.post(f"{path}/test")).json()
    assert upstream.count("server/discover") == before + 1
    assert (tested["status"], tested["server_name"], tested["server_version"]) == ("active", "raw", "1")
    assert (tested["tools"], tested["protocol_version"]) == (["echo", "pay"], "2026-07-28")
    assert tested["latency_ms"] > 0
    upstream.on["server/discover"] = upstream.on["initialize"] = faults.status("401 Unauthorized")
    refused(await client.post(f"{path}/test"), 502, "upstream_unauthorized")
    shown = (await client.get(path)).json()
    assert shown["status"] == "error"
    assert "refused the credential" in shown["last_error"]
    upstream.on.clear()
    await client.post(f"{path}/test")
    assert (await client.get(path)).json()["status"] == "active"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"server_type": "nothing"}, 404, "unknown_server"),
        ({"server_type": "notes", "endpoint": "https://example.com"}, 422, "invalid_request"),
        ({"server_type": "custom", "name": "x"}, 422, "invalid_request"),
        ({"server_type": "custom", "endpoint": "https://example.com"}, 422, "invalid_request"),
        ({"server_type": "notes", "credentials": {"dsn": "postgres://x"}}, 422, "bad_credentials"),
        ({"server_type": "notes", "credentials": {}}, 422, "validation_failed"),
        ({"server_type": "notes", "credentials": {"token": "a", "api_key": "b"}}, 422, "validation_failed"),
        ({"server_type": "notes", "surprise": 1}, 422, "validation_failed"),
        ({"server_type": "a\0b"}, 422, "invalid_request"),
        ({"server_type": "notes", "policy": {"default": "perhaps"}}, 422, "validation_failed"),
        ({}, 422, "validation_failed"),
    ],
)
async def test_what_cannot_be_connected_is_refused_with_a_reason(
    client: httpx2.AsyncClient, body: dict[str, Any], status: int, code: str
) -> None:
    assert refused(await client.post(f"{API}/mcp/connect", json=body), status, code)
    assert (await client.get(f"{API}/mcp/connections")).json()["items"] == []


@pytest.mark.parametrize("endpoint", PRIVATE)
async def test_an_endpoint_of_a_user_may_not_be_private(client: httpx2.AsyncClient, endpoint: str) -> None:
    body = {"server_type": "custom", "name": "mine", "endpoint": endpoint}
    message = refused(await client.post(f"{API}/mcp/connect", json=body), 422, "endpoint_not_allowed")
    assert "secret" not in message


async def test_a_custom_server_is_used_where_the_operator_allows_its_network(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    config = MCPConfig()
    async with (
        sdk.over_http() as server,
        running_service(dsn, tmp_path / "data", ring, config=config, allowed_networks="127.0.0.0/8") as service,
    ):
        async with service.client(unique()) as client:
            made = await connect(client, "custom", name="mine", endpoint=server.url, credentials={"token": "t"})
            assert (made["server_type"], made["server_name"]) == ("custom", "tests")
            answer = await client.post(f"{API}/mcp/tools/mine__echo/call", json={"arguments": {"text": "hi"}})
            assert answer.json()["result"]["content"][0]["text"] == "hi"
            assert server.authorizations[-1] == "Bearer t"
            metrics = (await client.get("/metrics")).text
            assert 'server="custom"' in metrics
            assert 'server="mine"' not in metrics


async def test_the_list_is_paged_oldest_first(client: httpx2.AsyncClient) -> None:
    names = [(await connect(client))["name"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = (await client.get(f"{API}/mcp/connections", params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        seen += [item["name"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == names
    refused(await client.get(f"{API}/mcp/connections", params={"cursor": "nonsense"}), 422, "invalid_request")


async def test_every_operation_on_connections_is_recorded(client: httpx2.AsyncClient) -> None:
    made = await connect(client)
    path = f"{API}/mcp/connections/{made['connection_id']}"
    await client.post(f"{path}/test")
    await client.put(f"{path}/credentials", json={"token": "t"})
    await client.post(f"{API}/mcp/connect", json={"server_type": "nothing"})
    await client.patch(path, json={"policy": {"default": "deny"}})
    await client.post(f"{API}/mcp/disconnect/{made['connection_id']}")
    log = (await client.get(f"{API}/audit")).json()["items"]
    assert [(row["operation"], row["outcome"]) for row in reversed(log)] == [
        ("connect", "ok"),
        ("test", "ok"),
        ("replace_credentials", "ok"),
        ("connect", "unknown_server"),
        ("change_connection", "ok"),
        ("disconnect", "ok"),
    ]
