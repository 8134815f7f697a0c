"""Tenants apart at the door: every route of the OpenAPI document, called by another user and by nobody.

The routes come from the document, so a new route is examined without a change here, or fails because nothing says how to call it.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from auralink.app import build_app
from auralink.bootstrap import Foundation
from auralink.core.settings import Settings
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server, TestDatabase
from tests.isolation.support import cloned_database, tables
from tests.service import API, JWT_SECRET, Service, connected, running_service, unique

pytestmark = [pytest.mark.promise("P-RLS"), pytest.mark.asyncio(loop_scope="module")]

OPEN_TO_ALL = {
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/oauth/callback",  # a browser comes back with a signed state
    "/.well-known/http-message-signatures-directory",
    f"{API}/hooks/{{hook_id}}",  # a delivery is signed with the webhook's secret
}
SHARED_IDS = {"server_id"}
"""Ids of what belongs to no user: changing it needs an admin."""
FOREIGN_IDS = {"client_id", "project_id", "model_id", "room_id", "hook_id"}
"""Names of things elsewhere, not of rows of ours; a webhook's door is opened by a signature."""
TABLE_OF_ID = {
    "connection_id": "user_mcp_connections",
    "signing_key_id": "signing_keys",
    "approval_id": "approvals",
    "pin_id": "tool_pins",
    "toolset_id": "mcp_toolsets",
    "run_id": "runs",
    "preference_id": "user_llm_preferences",
    "call_id": "llm_performance_metrics",
    "agent_id": "agents",
    "thread_id": "agent_threads",
    "workflow_id": "agent_workflows",
    "team_id": "agent_teams",
    "member_id": "team_members",
    "conversation_id": "runs",
    "comparison_id": "team_comparisons",
    "flow_id": "prefect_flows",
    "schedule_id": "schedules",
    "webhook_id": "webhooks",
    "definition_id": "agents",  # of the kind that BODIES names
}
"""Where the rows are that the ids name; a row of another user is made in each."""
ACTS_ON_NO_ROW = {
    f"POST {API}/mcp/connect",
    f"POST {API}/mcp/servers",
    f"POST {API}/mcp/tools/{{name}}/call",  # by the connection's name, see below
    f"POST {API}/mcp/toolsets",
    f"POST {API}/signing-keys",
    f"PUT {API}/limits",
    f"PUT {API}/llm/keys/{{provider}}",
    f"DELETE {API}/llm/keys/{{provider}}",
    f"POST {API}/llm/preferences",
    f"POST {API}/llm/preferences/default",
    f"POST {API}/agents",
    f"POST {API}/teams",
    f"POST {API}/flows",
    f"POST {API}/hooks/{{hook_id}}",
}
PARAMETERS = {"operation": "search", "seq": "1", "provider": "openai", "model_id": "auto"}
"""Values for parameters that are not ids."""
BODIES: Mapping[str, Any] = {
    "credentials": {"token": "something"},
    "endpoint": "https://mcp.example/",
    "transport": "http",
    "server_type": "deepwiki",
    "kind": "agent",
}
"""Values for fields for which a value of the right type alone does not do."""
WHOLE_BODIES: Mapping[str, Any] = {f"{API}/mcp/memory/{{operation}}": {"connection_id": "", "query": "something"}}
"""Bodies whose fields the document does not tell."""
METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Route:
    """An operation of the document."""

    method: str
    path: str
    parameters: tuple[str, ...]
    body: Mapping[str, Any] | None
    """An example of the body, with the names of its fields."""

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"

    @property
    def ids(self) -> set[str]:
        """The ids that the route takes, in its path or its body."""
        return {name for name in (*self.parameters, *(self.body or {})) if name.endswith("_id")} - FOREIGN_IDS


def routes(document: Mapping[str, Any]) -> Iterator[Route]:
    for path, operations in document["paths"].items():
        for method in METHODS:
            if operation := operations.get(method):
                parameters = tuple(p["name"] for p in operation.get("parameters", ()) if p["in"] == "path")
                content = operation.get("requestBody", {}).get("content", {}).get("application/json")
                body = WHOLE_BODIES.get(path) or (content and example(document, content["schema"]))
                yield Route(method, path, parameters, body)


def example(document: Mapping[str, Any], schema: Mapping[str, Any], name: str = "") -> Any:
    """A value that the schema admits: the fields that must be there, and those that are ids."""
    if name in BODIES:
        return BODIES[name]
    if reference := schema.get("$ref"):
        definition = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
        return BODIES["credentials"] if reference.endswith("/Credentials") else example(document, definition, name)
    if "anyOf" in schema:
        return example(document, schema["anyOf"][0], name)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            chosen = [field for field in fields if field in schema.get("required", ()) or field.endswith("_id")]
            return {field: example(document, fields[field], field) for field in chosen or list(fields)[:1]}
        case "array":
            return []
        case "integer" | "number":
            return 1
        case "boolean":
            return True
    return schema["enum"][0] if "enum" in schema else str(uuid4()) if schema.get("format") == "uuid" else "something"


def document() -> Mapping[str, Any]:
    """The document of the application as it is built, without running it."""
    key, nowhere = generate_master_key(), Path("/nonexistent")
    settings = Settings(_env_file=None, auralink_data_dir=nowhere)  # type: ignore[call-arg]
    app = build_app(settings, MCPConfig(), Foundation(nowhere, JWT_SECRET, JWT_SECRET, KeyRing.parse(key)))
    return app.openapi()


ROUTES = sorted(routes(document()), key=str)
OF_USERS = [route for route in ROUTES if route.ids - SHARED_IDS]
LISTS = [route for route in ROUTES if route.method == "get" and not route.parameters and route.path not in OPEN_TO_ALL]


@dataclass(frozen=True)
class Neighbours:
    """Two users of one service. The other has a connection, has used it, and has a row in every table that ids name."""

    service: Service
    ours: httpx2.AsyncClient
    theirs: httpx2.AsyncClient
    ids: Mapping[str, str]
    """Their ids, by the name of the parameter."""
    connection: str
    log_id: str

    @property
    def connection_id(self) -> str:
        return self.ids["connection_id"]

    @property
    def marks(self) -> tuple[str, ...]:
        """What may appear in no answer to us."""
        return (*self.ids.values(), self.connection, self.log_id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbours(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Neighbours]:
    place = tmp_path_factory.mktemp("http-matrix")
    ring = KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with (
            running_service(database.service, place, ring, wiki_repo_roots=(place,)) as service,
            service.client(unique("ours")) as ours,
            service.client(unique("theirs")) as theirs,
        ):
            name = unique("wiki")
            connection_id = await connected(theirs, name=name)
            call = await theirs.post(f"{API}/mcp/tools/{name}__read_wiki_structure/call", json={"arguments": {"repoName": "x/y"}})
            assert call.status_code == 200, call.text
            ids = rows_of(call_owner(database, call.json()["log_id"]), database)
            yield Neighbours(service, ours, theirs, {**ids, "connection_id": connection_id}, name, call.json()["log_id"])


def call_owner(database: TestDatabase, log_id: str) -> UUID:
    with psycopg.connect(database.superuser.reveal()) as session:
        row = session.execute("SELECT user_id FROM auralink.mcp_operation_logs WHERE id = %s", [log_id]).fetchone()
    assert row is not None
    return UUID(str(row[0]))


def rows_of(user_id: UUID, database: TestDatabase) -> dict[str, str]:
    """A row of the user in each table that ids name."""
    ids = {}
    with psycopg.connect(database.superuser.reveal(), autocommit=True) as session:
        session.execute("SET session_replication_role = replica")
        named = {table.name: table for table in tables(session)}
        for name, table in TABLE_OF_ID.items():
            row = session.execute(named[table].insert(session, user_id) + sql.SQL(" RETURNING id")).fetchone()
            assert row is not None
            ids[name] = str(row[0])
    return ids


async def send(client: httpx2.AsyncClient, route: Route, ids: Mapping[str, str]) -> httpx2.Response:
    values = {"name": f"{ids['connection']}__read_wiki_structure", **PARAMETERS, **ids}
    parameters = {name: values[name] for name in route.parameters}
    body = None if route.body is None else {**route.body, **{name: ids[name] for name in route.ids if name in route.body}}
    return await client.request(route.method.upper(), route.path.format(**parameters), json=body)


async def test_the_document_has_the_routes_of_users() -> None:
    assert {f"POST {API}/mcp/disconnect/{{connection_id}}", f"POST {API}/mcp/deepwiki/ask"} <= {str(r) for r in OF_USERS}
    assert len(ROUTES) > 20


async def test_every_route_that_changes_something_says_what_it_acts_on() -> None:
    unknown = [str(r) for r in ROUTES if r.method != "get" and not r.ids and str(r) not in ACTS_ON_NO_ROW]
    assert unknown == [], "give it an example in WHOLE_BODIES, or say in ACTS_ON_NO_ROW that it touches no row by its id"


@pytest.mark.parametrize("route", OF_USERS, ids=str)
async def test_another_users_id_is_not_found(neighbours: Neighbours, route: Route) -> None:
    unexplained = route.ids - SHARED_IDS - TABLE_OF_ID.keys()
    assert not unexplained, f"say in TABLE_OF_ID whose id {unexplained} of {route} is"
    theirs = {**neighbours.ids, "connection": neighbours.connection}
    answer = await send(neighbours.ours, route, theirs)
    assert answer.status_code == 404, answer.text
    missing = {name: str(uuid4()) for name in neighbours.ids}
    nothing = await send(neighbours.ours, route, {**theirs, **missing})
    message = answer.json()["message"]
    for name in route.ids:
        message = message.replace(neighbours.ids[name], missing[name])
    assert (nothing.status_code, nothing.json()["code"], nothing.json()["message"]) == (404, answer.json()["code"], message), (
        "an answer tells another user's object from none"
    )


async def test_another_users_tool_is_not_found(neighbours: Neighbours) -> None:
    answer = await neighbours.ours.post(
        f"{API}/mcp/tools/{neighbours.connection}__read_wiki_structure/call", json={"arguments": {}}
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "connection_not_found")


async def test_after_all_that_the_other_users_connection_is_untouched(neighbours: Neighbours) -> None:
    view = (await neighbours.theirs.get(f"{API}/mcp/connections/{neighbours.connection_id}")).json()
    assert (view["name"], view["status"], view["has_credentials"]) == (neighbours.connection, "active", False)


@pytest.mark.parametrize("route", LISTS, ids=str)
async def test_no_list_shows_another_users_things(neighbours: Neighbours, route: Route) -> None:
    async with neighbours.service.client(unique("stranger")) as stranger:
        answer = await stranger.get(route.path)
    assert answer.status_code in (200, 403), answer.text
    assert [mark for mark in neighbours.marks if mark in answer.text] == []


async def test_the_lists_do_show_the_owner_what_they_hide_from_others(neighbours: Neighbours) -> None:
    shown = {route.path: (await neighbours.theirs.get(route.path)).text for route in LISTS}
    for path in (f"{API}/mcp/connections", f"{API}/mcp/tools", f"{API}/audit"):
        assert neighbours.connection_id in shown[path], path


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if r.ids & SHARED_IDS or r.path.endswith(("/servers", "/detailed"))], ids=str
)
async def test_what_all_share_is_changed_by_admins_only(neighbours: Neighbours, route: Route) -> None:
    if route.method == "get" and route.path.endswith("/servers"):
        return
    answer = await send(neighbours.ours, route, {"server_id": str(uuid4()), "connection": ""})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), answer.text


@pytest.mark.promise("P-JWT")
@pytest.mark.parametrize("route", [route for route in ROUTES if route.path not in OPEN_TO_ALL], ids=str)
@pytest.mark.parametrize("credential", [None, "Bearer not.a.token", "Basic dXNlcjpwYXNz"])
async def test_nobody_gets_in(neighbours: Neighbours, route: Route, credential: str | None) -> None:
    headers = {"Authorization": credential} if credential else {}
    async with neighbours.service.client() as nobody:
        nobody.headers.update(headers)
        answer = await send(nobody, route, dict.fromkeys((*route.ids, "connection"), str(uuid4())))
    assert answer.status_code == 401, answer.text
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_an_admin_reads_everybodys_log_and_a_user_never_does(neighbours: Neighbours) -> None:
    async with neighbours.service.client(unique("admin"), role="admin") as admin:
        everybodys = (await admin.get(f"{API}/audit")).text
    assert neighbours.log_id in everybodys
    assert neighbours.log_id not in (await neighbours.ours.get(f"{API}/audit?server=deepwiki")).text


async def test_another_users_cursor_opens_nothing(neighbours: Neighbours) -> None:
    assert (await neighbours.theirs.get(f"{API}/audit?limit=1")).status_code == 200
    cursor = (await neighbours.theirs.get(f"{API}/audit?limit=1")).json()["next_cursor"]
    async with neighbours.service.client(unique("stranger")) as stranger:
        answer = await stranger.get(f"{API}/audit", params={"cursor": cursor})
    assert answer.status_code == 200
    assert [mark for mark in neighbours.marks if mark in answer.text] == []
