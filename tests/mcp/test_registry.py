"""The registry over REST: filled by the configuration, extended by admins, read by users without what is the operator's."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.isolation.support import cloned_database
from tests.service import API, Service, running_service, unique
from tests.upstreams import raw

CONFIG = {"mcp_servers": {"notes": {"transport": "http", "endpoint": "https://notes.example/mcp"}}}


@pytest.fixture
async def service(dsn: Secret, tmp_path: Path, ring: KeyRing) -> AsyncIterator[Service]:
    async with running_service(dsn, tmp_path / "data", ring, config=MCPConfig.model_validate(CONFIG)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unchanged(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service for tests that leave its registry as it is."""
    place, ring = tmp_path_factory.mktemp("data"), KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with running_service(database.service, place, ring, config=MCPConfig.model_validate(CONFIG)) as running:
            yield running


@pytest.fixture
async def admin(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    async with service.client("root", role="admin") as opened:
        yield opened


@pytest.fixture
async def user(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    async with service.client(unique()) as opened:
        yield opened


def body(**fields: Any) -> dict[str, Any]:
    """A server over stdio that answers."""
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return {
        "name": "own",
        "transport": "stdio",
        "command": sys.executable,
        "args": ["-m", "tests.upstreams.sdk"],
        "env": env,
        **fields,
    }


async def test_only_an_admin_registers_and_users_do_not_see_the_command(
    admin: httpx2.AsyncClient, user: httpx2.AsyncClient
) -> None:
    answer = await user.post(f"{API}/mcp/servers", json=body())
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    made = await admin.post(f"{API}/mcp/servers", json=body())
    assert made.status_code == 201, made.text
    assert made.json()["command"] == sys.executable
    shown = {item["name"]: item for item in (await user.get(f"{API}/mcp/servers")).json()["items"]}
    assert set(shown) == {"notes", "own"}
    assert (shown["own"]["command"], shown["own"]["args"]) == (None, [])
    assert "PYTHONPATH" not in str(shown)


async def test_a_registered_program_serves_every_user_in_a_process_of_its_own(
    admin: httpx2.AsyncClient, user: httpx2.AsyncClient
) -> None:
    await admin.post(f"{API}/mcp/servers", json=body(server_type="mine"))
    for client in (user, admin):
        connected = await client.post(f"{API}/mcp/connect", json={"server_type": "mine"})
        assert connected.status_code == 201, connected.text
        answer = await client.post(f"{API}/mcp/tools/own__echo/call", json={"arguments": {"text": "hi"}})
        assert answer.json()["result"]["content"][0]["text"] == "hi"
    refused = await user.post(f"{API}/mcp/connect", json={"server_type": "own", "credentials": {"token": "t"}})
    assert refused.json()["code"] == "bad_credentials"


async def test_a_name_is_taken_once_and_the_configurations_entries_are_its_own(admin: httpx2.AsyncClient) -> None:
    made = (await admin.post(f"{API}/mcp/servers", json=body())).json()
    assert (await admin.post(f"{API}/mcp/servers", json=body())).json()["code"] == "server_name_taken"
    assert (await admin.post(f"{API}/mcp/servers", json=body(name="notes"))).json()["code"] == "server_name_taken"
    listed = {item["name"]: item for item in (await admin.get(f"{API}/mcp/servers")).json()["items"]}
    assert (listed["notes"]["source"], listed["own"]["source"]) == ("config", "admin")
    notes = f"{API}/mcp/servers/{listed['notes']['server_id']}"
    assert (await admin.patch(notes, json={"enabled": False})).json()["code"] == "server_in_use"
    assert (await admin.delete(notes)).json()["code"] == "server_in_use"
    own = f"{API}/mcp/servers/{made['server_id']}"
    assert (await admin.patch(own, json={"timeout": 5})).json()["timeout"] == 5
    assert (await admin.patch(own, json={})).json()["code"] == "invalid_request"
    assert (await admin.delete(own)).status_code == 204
    assert (await admin.delete(own)).json()["code"] == "unknown_server"


async def test_a_server_that_is_switched_off_is_neither_shown_nor_called(
    admin: httpx2.AsyncClient, user: httpx2.AsyncClient
) -> None:
    async with raw.running() as server:
        registered = {"name": "far", "transport": "http", "endpoint": server.url}
        made = (await admin.post(f"{API}/mcp/servers", json=registered)).json()
        assert (await user.post(f"{API}/mcp/connect", json={"server_type": "far"})).status_code == 201
        assert (await user.post(f"{API}/mcp/tools/far__echo/call", json={})).status_code == 200
        path = f"{API}/mcp/servers/{made['server_id']}"
        assert (await admin.delete(path)).json()["code"] == "server_in_use"
        assert (await admin.patch(path, json={"enabled": False})).status_code == 200
        assert "far" not in [item["name"] for item in (await user.get(f"{API}/mcp/servers")).json()["items"]]
        assert (await user.post(f"{API}/mcp/connect", json={"server_type": "far"})).json()["code"] == "unknown_server"
        for _ in range(200):
            answer = await user.post(f"{API}/mcp/tools/far__echo/call", json={})
            if answer.status_code == 404:
                break
        assert answer.json()["code"] == "connection_not_found"
        log = (await admin.get(f"{API}/audit")).json()["items"]
        assert [(row["operation"], row["outcome"]) for row in reversed(log) if row["operation"].endswith("_server")] == [
            ("register_server", "ok"),
            ("remove_server", "server_in_use"),
            ("change_server", "ok"),
        ]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"endpoint": "https://x.example"}, "validation_failed"),
        ({"command": None}, "validation_failed"),
        ({"transport": "http"}, "validation_failed"),
        ({"transport": "http", "command": None}, "validation_failed"),
        ({"transport": "carrier-pigeon"}, "validation_failed"),
        ({"name": "Upper Case"}, "validation_failed"),
        ({"timeout": 0}, "validation_failed"),
        ({"timeout": "NaN"}, "validation_failed"),
        ({"rate_limit": 0}, "validation_failed"),
        ({"surprise": 1}, "validation_failed"),
        ({"transport": "http", "command": None, "endpoint": "http://169.254.169.254/"}, "endpoint_not_allowed"),
        ({"transport": "http", "command": None, "endpoint": "gopher://x"}, "endpoint_not_allowed"),
        ({"command": "a\0b"}, "invalid_request"),
        ({"args": ["a\0b"]}, "invalid_request"),
        ({"env": {"A": "b\0"}}, "invalid_request"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_wrong_entry_is_refused(unchanged: Service, fields: dict[str, Any], code: str) -> None:
    async with unchanged.client("root", role="admin") as admin:
        answer = await admin.post(f"{API}/mcp/servers", json=body(**fields))
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


async def test_the_configuration_switches_off_what_it_no_longer_has(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    for names in (("a", "b"), ("b",)):
        entries = {name: {"transport": "http", "endpoint": f"https://{name}.example"} for name in names}
        config = MCPConfig.model_validate({"mcp_servers": entries})
        async with running_service(dsn, tmp_path / "data", ring, config=config) as service, service.client(unique()) as client:
            shown = (await client.get(f"{API}/mcp/servers")).json()["items"]
            assert [item["name"] for item in shown] == list(names)
