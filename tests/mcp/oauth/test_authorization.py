"""A user authorises a connection: the whole flow, over real sockets, with a real MCP server that checks the tokens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import psycopg
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing
from tests.conftest import TestDatabase
from tests.mcp.oauth.authority import Authority, ProtectedServer, protected_server, running_authority
from tests.service import API, Service, running_service, unique

LOOPBACK = (ip_network("127.0.0.0/8"),)


@asynccontextmanager
async def world(
    dsn: Secret, data_dir: Path, ring: KeyRing, *, settings: dict[str, Any] | None = None, **behaviour: Any
) -> AsyncIterator[tuple[Service, Authority, ProtectedServer]]:
    """The service, an authorization server and an MCP server that it protects."""
    async with running_authority(**behaviour) as authority, protected_server(authority) as server:
        async with running_service(dsn, data_dir, ring, allowed_networks=LOOPBACK, **(settings or {})) as service:
            yield service, authority, server


async def connect(client: httpx2.AsyncClient, server: ProtectedServer, name: str = "mine") -> dict[str, Any]:
    """Connects the server; it wants to be authorised."""
    answer = await client.post(f"{API}/mcp/connect", json={"server_type": "custom", "name": name, "endpoint": server.url})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def consent(url: str) -> dict[str, str]:
    """What a user's browser brings back from the authorization server: the parameters of the callback."""
    async with httpx2.AsyncClient(trust_env=False) as browser:
        answer = await browser.get(url, follow_redirects=False)
    assert answer.status_code == 302, answer.text
    location = urlsplit(answer.headers["location"])
    assert location.path == "/oauth/callback"
    return {name: values[0] for name, values in parse_qs(location.query).items()}


async def come_back(service: Service, answer: dict[str, str], **headers: str) -> httpx2.Response:
    """The browser's request to our callback; it carries no token of ours."""
    async with service.client() as browser:
        return await browser.get("/oauth/callback", params=answer, headers=headers)


async def authorised(service: Service, client: httpx2.AsyncClient, server: ProtectedServer, name: str = "mine") -> str:
    """A connection that was authorised."""
    connection = await connect(client, server, name)
    page = await come_back(service, await consent(connection["authorization_url"]))
    assert (page.status_code, "Connected" in page.text) == (200, True), page.text
    return str(connection["connection_id"])


async def greet(client: httpx2.AsyncClient, name: str = "mine") -> httpx2.Response:
    return await client.post(f"{API}/mcp/tools/{name}__greet/call", json={"arguments": {"name": "Ada"}})


async def test_a_server_that_wants_oauth_is_connected_authorised_and_called(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        connection = await connect(client, server)
        assert (connection["status"], connection["protocol_version"]) == ("authorization_required", None)
        refused = await greet(client)
        assert (refused.status_code, refused.json()["code"]) == (409, "authorization_required")
        assert refused.json()["connection_id"] == connection["connection_id"]
        (degraded,) = (await client.get(f"{API}/mcp/tools")).json()["degraded"]
        assert (degraded["connection"], degraded["code"]) == ("mine", "authorization_required")

        question = parse_qs(urlsplit(connection["authorization_url"]).query)
        assert question["resource"] == [server.url]
        assert question["code_challenge_method"] == ["S256"]
        assert question["scope"] == ["tools offline_access"]
        page = await come_back(service, await consent(connection["authorization_url"]))
        assert page.status_code == 200
        assert page.headers["cache-control"] == "no-store"

        view = (await client.get(f"{API}/mcp/connections/{connection['connection_id']}")).json()
        assert (view["status"], view["has_credentials"], view["server_name"]) == ("active", True, "protected")
        assert view["capabilities"] == ["greet", "leak"]
        called = await greet(client)
        assert called.json()["result"]["content"][0]["text"] == "hello Ada"
        assert [name for _, name in authority.requests] == [
            "/.well-known/oauth-authorization-server",
            "/register",
            "/authorize",
            "/token",
        ]
        operations = [entry["operation"] for entry in (await client.get(f"{API}/audit")).json()["items"]]
        assert operations == ["tools/call", "oauth_finish", "tools/call", "connect"]


@pytest.mark.promise("P-SECRET")
async def test_tokens_and_client_secrets_are_kept_sealed(test_database: TestDatabase, tmp_path: Path, ring: KeyRing) -> None:
    async with world(test_database.service, tmp_path, ring, methods=("client_secret_basic",)) as (service, authority, server):
        async with service.client(unique()) as client:
            await authorised(service, client, server)
    secrets = [*authority.tokens, *authority.refresh_tokens, authority.clients["client-1"]["client_secret"]]
    assert len(secrets) == 3
    with psycopg.connect(test_database.superuser.reveal()) as session:
        stored = session.execute("SELECT sealed_tokens, sealed_client_secret, terms::text FROM auralink.oauth_grants").fetchall()
        assert session.execute("SELECT count(*) FROM auralink.oauth_authorizations").fetchone() == (0,)
    assert len(stored) == 1
    assert not [secret for secret in secrets if secret.encode() in b"".join([*stored[0][:2], stored[0][2].encode()])]


async def test_a_state_is_good_for_one_use(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        answer = await consent((await connect(client, server))["authorization_url"])
        assert (await come_back(service, answer)).status_code == 200
        again = await come_back(service, answer)
        assert (again.status_code, again.json()["code"]) == (400, "oauth_state_invalid")
        assert len(authority.token_requests) == 1


async def test_a_state_that_is_not_ours_is_refused(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        answer = await consent((await connect(client, server))["authorization_url"])
        refused = await come_back(service, {**answer, "state": "A" * 43 + answer["state"][43:]})
        assert (refused.status_code, refused.json()["code"]) == (400, "oauth_state_invalid")
        assert authority.token_requests == []


@pytest.mark.parametrize(("iss", "why"), [("https://evil.example", "is from"), (None, "does not say")])
async def test_an_answer_of_another_authorization_server_is_refused(
    dsn: Secret, tmp_path: Path, ring: KeyRing, iss: str | None, why: str
) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        answer = await consent((await connect(client, server))["authorization_url"])
        assert answer.pop("iss") == authority.url
        refused = await come_back(service, answer | ({} if iss is None else {"iss": iss}))
        assert (refused.status_code, refused.json()["code"]) == (400, "oauth_refused")
        assert why in refused.json()["detail"]
        assert authority.token_requests == []


async def test_a_server_that_does_not_promise_iss_may_leave_it_out(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring, names_itself=False) as (service, _, server), service.client(unique()) as client:
        await authorised(service, client, server)


async def test_a_user_who_refuses_is_told_so_and_the_connection_waits(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, _, server), service.client(unique()) as client:
        connection = await connect(client, server)
        answer = await consent(connection["authorization_url"])
        del answer["code"]
        refused = await come_back(service, {**answer, "error": "access_denied", "error_description": "<b>no</b>"})
        assert (refused.status_code, refused.json()["code"]) == (400, "oauth_refused")
        assert refused.headers["content-type"] == "application/problem+json"
        assert "access_denied" in refused.json()["detail"]
        view = (await client.get(f"{API}/mcp/connections/{connection['connection_id']}")).json()
        assert view["status"] == "authorization_required"


async def test_a_wrong_code_is_refused_without_being_repeated(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, _, server), service.client(unique()) as client:
        answer = await consent((await connect(client, server))["authorization_url"])
        refused = await come_back(service, {**answer, "code": "a-code-that-somebody-made-up"})
        assert (refused.status_code, refused.json()["oauth_error"]) == (400, "invalid_grant")
        assert "a-code-that-somebody-made-up" not in refused.text


async def test_an_installation_with_an_https_address_is_its_own_client_id(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    public = {"auralink_url": "https://ai.example/"}
    async with world(dsn, tmp_path, ring, settings=public, documents=True) as (service, authority, server):
        async with service.client(unique()) as client:
            connection = await connect(client, server)
            question = parse_qs(urlsplit(connection["authorization_url"]).query)
            assert question["client_id"] == ["https://ai.example/oauth/client.json"]
            document = (await client.get("/oauth/client.json")).json()
            assert document["client_id"] == "https://ai.example/oauth/client.json"
            assert document["redirect_uris"] == question["redirect_uri"] == ["https://ai.example/oauth/callback"]
            assert (await come_back(service, await consent(connection["authorization_url"]))).status_code == 200
            assert (await greet(client)).status_code == 200
        assert authority.clients == {}


async def test_without_an_https_address_there_is_no_client_document(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with running_service(dsn, tmp_path, ring) as service, service.client() as client:
        assert (await client.get("/oauth/client.json")).status_code == 404


async def test_where_clients_are_not_registered_the_user_gives_one(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring, registers=False) as (service, authority, server), service.client(unique()) as client:
        body = {"server_type": "custom", "name": "mine", "endpoint": server.url}
        refused = await client.post(f"{API}/mcp/connect", json=body)
        assert (refused.status_code, "client_id" in refused.json()["detail"]) == (502, True)
        authority.registers = True
        connection = await connect(client, server)
        authority.registers = False
        redirect = parse_qs(urlsplit(connection["authorization_url"]).query)["redirect_uri"]
        authority.clients["theirs"] = {"redirect_uris": redirect, "client_secret": "a secret: of theirs"}
        start = f"{API}/mcp/connections/{connection['connection_id']}/oauth/start"
        started = await client.post(start, json={"client_id": "theirs", "client_secret": "a secret: of theirs", "scope": "tools"})
        assert started.status_code == 200, started.text
        assert (await come_back(service, await consent(started.json()["authorization_url"]))).status_code == 200
        assert (await greet(client)).status_code == 200
        again = await client.post(start)  # the client is remembered
        assert parse_qs(urlsplit(again.json()["authorization_url"]).query)["client_id"] == ["theirs"]


async def test_a_server_of_the_registry_may_be_on_loopback_with_its_authorization_server(
    dsn: Secret, tmp_path: Path, ring: KeyRing
) -> None:
    async with running_authority() as authority, protected_server(authority) as server:
        entry = {"transport": "http", "endpoint": server.url, "auth_type": "oauth"}
        config = MCPConfig.model_validate({"mcp_servers": {"partner": entry}})
        async with running_service(dsn, tmp_path, ring, config=config) as service, service.client(unique()) as client:
            connection = (await client.post(f"{API}/mcp/connect", json={"server_type": "partner"})).json()
            assert connection["status"] == "authorization_required"
            assert (await come_back(service, await consent(connection["authorization_url"]))).status_code == 200
            assert (await greet(client, "partner")).status_code == 200


async def test_another_users_connection_cannot_be_started(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, _, server):
        async with service.client(unique()) as client, service.client(unique()) as stranger:
            connection = await connect(client, server)
            answer = await stranger.post(f"{API}/mcp/connections/{connection['connection_id']}/oauth/start")
            assert answer.status_code == 404


async def test_each_user_has_tokens_of_their_own(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server):
        async with service.client(unique()) as one, service.client(unique()) as other:
            await authorised(service, one, server)
            await connect(other, server)
            assert (await greet(one)).status_code == 200
            assert (await greet(other)).status_code == 409
        assert len(authority.tokens) == 1


async def test_a_token_given_instead_ends_the_grant(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(unique()) as client:
        connection = await authorised(service, client, server)
        token = next(iter(authority.tokens))
        url = f"{API}/mcp/connections/{connection}/credentials"
        assert (await client.put(url, json={"token": token})).status_code == 200
        assert (await greet(client)).status_code == 200
        authority.expire()
        refused = await greet(client)
        assert (refused.status_code, refused.json()["code"]) == (502, "upstream_unauthorized")
        assert "oauth/start" in refused.json()["detail"]
        assert authority.refreshed == 0


async def test_a_closed_connection_keeps_nothing_and_cannot_be_finished(
    test_database: TestDatabase, tmp_path: Path, ring: KeyRing
) -> None:
    async with world(test_database.service, tmp_path, ring) as (service, _, server), service.client(unique()) as client:
        connection = await authorised(service, client, server)
        started = await client.post(f"{API}/mcp/connections/{connection}/oauth/start")
        answer = await consent(started.json()["authorization_url"])
        assert (await client.post(f"{API}/mcp/disconnect/{connection}")).status_code == 204
        assert (await come_back(service, answer)).status_code == 400
    with psycopg.connect(test_database.superuser.reveal()) as session:
        for table in ("oauth_grants", "oauth_authorizations"):
            assert session.execute(f"SELECT count(*) FROM auralink.{table}").fetchone() == (0,)


async def test_what_the_browser_accepts_decides_between_page_and_json(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    async with world(dsn, tmp_path, ring) as (service, _, server), service.client(unique()) as client:
        connection = await connect(client, server)
        answer = await come_back(service, await consent(connection["authorization_url"]), accept="application/json")
        assert answer.json()["connection_id"] == connection["connection_id"]


async def test_a_clients_own_token_never_reaches_a_server(dsn: Secret, tmp_path: Path, ring: KeyRing) -> None:
    user = unique()
    async with world(dsn, tmp_path, ring) as (service, authority, server), service.client(user) as client:
        await authorised(service, client, server)
        assert (await greet(client)).status_code == 200
        token = client.headers["authorization"].removeprefix("Bearer ")
        async with Client(streamable_http_client(f"{service.url}/mcp", http_client=client)) as mcp:
            result = await mcp.call_tool("mine__greet", {"name": "Grace"})
            assert result.content[0].text == "hello Grace"
        assert token not in server.heard
        assert token.split(".")[2] not in server.heard
        assert token not in str(authority.token_requests)
