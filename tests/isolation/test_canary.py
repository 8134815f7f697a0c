"""P-SECRET from outside: a credential that an upstream shouts back is found nowhere but in the upstream's own answer.

The service is a process of its own, with its log in a file. Looked through are every answer it gives, its log, its metrics,
and a dump of every table as the superuser.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from auralink.vault.crypto import generate_master_key
from tests.conftest import Server, TestDatabase
from tests.isolation.process import ServiceProcess, serving
from tests.isolation.support import cloned_database
from tests.isolation.upstream import echo_server, listening, misbehaving
from tests.service import API, connected, unique

pytestmark = [pytest.mark.promise("P-SECRET"), pytest.mark.asyncio(loop_scope="module")]

REFUSALS = ("unauthorized", "forbidden", "redirect", "failing", "garbage", "refused-in-json", "odd-revision")
TABLES = """SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"""


@dataclass
class Scene:
    """A service with two upstreams in its registry, and everything that it has answered so far."""

    service: ServiceProcess
    database: TestDatabase
    admin: httpx2.AsyncClient
    echo_url: str
    bad_url: str
    answers: list[str] = field(default_factory=list)

    async def register(self, endpoint: str, **fields: Any) -> str:
        name = unique("up")
        body = {"name": name, "transport": "http", "endpoint": endpoint, "auth_type": "bearer", "retry_attempts": 0, **fields}
        answer = await self.admin.post(f"{API}/mcp/servers", json=body)
        assert answer.status_code == 201, answer.text
        return name

    def listen(self, client: httpx2.AsyncClient) -> None:
        """Keeps every answer that this client is given."""

        async def keep(response: httpx2.Response) -> None:
            await response.aread()
            self.answers.append(f"{response.headers!r} {response.text}")

        client.event_hooks["response"].append(keep)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    place: Path = tmp_path_factory.mktemp("canary")
    settings = {"MCP_ENCRYPTION_KEY": generate_master_key().reveal()}
    with cloned_database(postgres) as database:
        settings["DATABASE_URL"] = database.service.reveal()
        async with (
            listening(echo_server().streamable_http_app()) as echo_url,
            listening(misbehaving) as bad_url,
            serving(place / "data", place / "log", **settings) as service,
            service.client("root", role="admin") as admin,
        ):
            yield Scene(service, database, admin, f"{echo_url}/mcp", bad_url)


def forms(canary: str) -> list[str]:
    """How a secret looks in the clear, in a dump of bytes, and in an encoding that hides nothing."""
    return [canary, canary.encode().hex(), base64.b64encode(canary.encode()).decode().rstrip("=")[:-2], canary[::-1]]


def places_of(canary: str, places: dict[str, str]) -> list[str]:
    return [
        f"{name}: …{text[max(0, text.find(form) - 200) :][:400]}"
        for name, text in places.items()
        for form in forms(canary)
        if form in text
    ]


def dump(database: TestDatabase) -> dict[str, str]:
    """Every row of every table, as `COPY` writes it for the superuser."""
    texts = {}
    with psycopg.connect(database.superuser.reveal()) as session:
        for schema, name in session.execute(TABLES).fetchall():
            with session.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema, name))) as rows:
                texts[f"table {schema}.{name}"] = b"".join(bytes(row) for row in rows).decode("utf-8", "replace")
    return texts


async def everything(scene: Scene, client: httpx2.AsyncClient) -> dict[str, str]:
    """What the service shows, keeps and writes: each place by its name."""
    paths = ("/metrics", f"{API}/audit?format=ndjson", f"{API}/mcp/connections", f"{API}/mcp/servers", f"{API}/mcp/usage/stats")
    for asking in (client, scene.admin):
        for path in (*paths, f"{API}/mcp/usage/popular", "/health/ready", "/openapi.json"):
            answer = await asking.get(path)
            assert answer.status_code == 200, answer.text
            scene.answers.append(answer.text)
    said = {f"answer {number}": text for number, text in enumerate(scene.answers)}
    return {**said, "log": scene.service.log.read_text(), **dump(scene.database)}


async def test_a_credential_that_works_is_only_in_the_upstreams_own_answer(scene: Scene) -> None:
    canary = f"canary{uuid4().hex}"
    server = await scene.register(scene.echo_url)
    async with scene.service.client(unique()) as client:
        connection = await connected(client, server, name="echo", credentials={"token": canary})
        echo = await client.post(f"{API}/mcp/tools/echo__echo_headers/call", json={"arguments": {}})
        assert canary in echo.text, "the upstream was not sent the credential, so nothing is proved"
        failed = await client.post(f"{API}/mcp/tools/echo__fail_with_headers/call", json={"arguments": {}})
        assert failed.status_code == 200
        assert failed.json()["result"]["isError"]
        scene.listen(client)
        rejected = await client.post(f"{API}/mcp/tools/echo__reject_with_headers/call", json={"arguments": {}})
        assert rejected.status_code == 502, rejected.text
        assert "never with these" in rejected.json()["message"]
        for path in (f"{API}/mcp/connections/{connection}", f"{API}/mcp/tools"):
            assert (await client.get(path)).status_code == 200
        assert (await client.post(f"{API}/mcp/connections/{connection}/test")).status_code == 200
        malformed = {"token": canary, "api_key": canary}
        refused = await client.put(f"{API}/mcp/connections/{connection}/credentials", json=malformed)
        assert refused.status_code == 422
        wrong = await client.post(f"{API}/mcp/connect", json={"server_type": server, "credentials": {"token": [canary]}})
        assert wrong.status_code == 422
        unknown = await client.post(f"{API}/mcp/connect", json={"server_type": server, "credentials": {"password": canary}})
        assert unknown.status_code == 422
        assert places_of(canary, await everything(scene, client)) == []


@pytest.mark.parametrize("auth_type", ["bearer", "api_key"])
@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_credential_that_a_failing_upstream_quotes_is_found_nowhere(scene: Scene, kind: str, auth_type: str) -> None:
    canary = f"canary{uuid4().hex}"
    server = await scene.register(f"{scene.bad_url}/{kind}", auth_type=auth_type, timeout=5)
    async with scene.service.client(unique()) as client:
        scene.listen(client)
        answer = await client.post(f"{API}/mcp/connect", json={"server_type": server, "credentials": {"token": canary}})
        assert answer.status_code == 502, answer.text
        log = (await client.get(f"{API}/audit")).json()["items"]
        assert [entry["outcome"] for entry in log] == [answer.json()["code"]]
        assert places_of(canary, await everything(scene, client)) == []


async def test_a_credential_that_stopped_working_is_not_in_the_connections_last_error(scene: Scene) -> None:
    canary, server = f"canary{uuid4().hex}", await scene.register(scene.echo_url)
    async with scene.service.client(unique()) as client:
        scene.listen(client)
        connection = await connected(client, server, name="echo", credentials={"token": canary})
        servers = (await scene.admin.get(f"{API}/mcp/servers")).json()["items"]
        server_id = next(item["server_id"] for item in servers if item["name"] == server)
        for kind in REFUSALS:
            moved = await scene.admin.patch(f"{API}/mcp/servers/{server_id}", json={"endpoint": f"{scene.bad_url}/{kind}"})
            assert moved.status_code == 200, moved.text
            async with asyncio.timeout(10):
                while (answer := await client.post(f"{API}/mcp/connections/{connection}/test")).status_code == 200:
                    await asyncio.sleep(0.02)  # until the announcement of the change has arrived
            assert answer.status_code == 502, answer.text
            view = (await client.get(f"{API}/mcp/connections/{connection}")).json()
            assert view["last_error"] == answer.json()["message"]
            call = await client.post(f"{API}/mcp/tools/echo__count/call", json={"arguments": {"number": 1}})
            assert call.status_code == 502
        assert places_of(canary, await everything(scene, client)) == []


async def test_a_server_that_names_itself_after_the_credential_is_not_stored_so(scene: Scene) -> None:
    canary = f"canary{uuid4().hex}"
    server = await scene.register(f"{scene.bad_url}/talkative")
    async with scene.service.client(unique()) as client:
        await connected(client, server, name="talk", credentials={"token": canary})
        listed = (await client.get(f"{API}/mcp/tools")).json()["items"]
        call = await client.post(f"{API}/mcp/tools/{listed[0]['name']}/call", json={"arguments": {}})
        assert call.status_code == 200, call.text
        assert places_of(canary, await everything(scene, client)) == []


async def test_a_replaced_and_a_deleted_credential_leave_nothing_behind(scene: Scene) -> None:
    first, second = f"canary{uuid4().hex}", f"canary{uuid4().hex}"
    server = await scene.register(scene.echo_url)
    async with scene.service.client(unique()) as client:
        connection = await connected(client, server, name="echo", credentials={"token": first})
        scene.listen(client)
        replaced = await client.put(f"{API}/mcp/connections/{connection}/credentials", json={"token": second})
        assert replaced.status_code == 200
        assert replaced.json()["has_credentials"]
        assert (await client.post(f"{API}/mcp/disconnect/{connection}")).status_code == 204
        for canary in (first, second):
            assert places_of(canary, await everything(scene, client)) == []
    with psycopg.connect(scene.database.superuser.reveal()) as session:
        query = "SELECT encrypted_credentials FROM auralink.user_mcp_connections WHERE id = %s"
        assert session.execute(query, [connection]).fetchone() == (None,)


async def test_a_token_of_the_service_is_in_no_answer_and_no_log(scene: Scene) -> None:
    async with scene.service.client(unique()) as client:
        token = client.headers["Authorization"].removeprefix("Bearer ")
        scene.listen(client)
        await client.get(f"{API}/mcp/connections")
        await client.get(f"{API}/audit?cursor=broken")
        forged = {"Authorization": f"Bearer {token[:-4]}AAAA"}
        assert (await client.get(f"{API}/audit", headers=forged)).status_code == 401
        signature = token.rsplit(".", 1)[1][:30]
        assert places_of(signature, await everything(scene, client)) == []
