"""Bad input at the door: each is a problem+json with a stable code, and a message that names the cause."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import uuid4

import httpx2
import jwt
import orjson
import pytest
import pytest_asyncio
from pydantic import BaseModel, Field, ValidationError
from structlog.testing import capture_logs

from auralink.auth.tokens import issue_token
from auralink.core.http import invalid
from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.isolation.support import cloned_database
from tests.isolation.upstream import counting, listening
from tests.service import API, JWT_SECRET, Service, connected, running_service, unique

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 20_000
PROBLEM_FIELDS = {"type", "title", "status", "detail", "instance", "code", "message", "trace_id"}
CONNECT = f"{API}/mcp/connect"
CALL = f"{API}/mcp/tools/wiki__ask_question/call"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    place, ring = tmp_path_factory.mktemp("http"), KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with running_service(database.service, place, ring, max_body_bytes=LIMIT, wiki_repo_roots=(place,)) as service:
            yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    async with service.client(unique()) as client:
        await connected(client, name="wiki")
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream(service: Service, client: httpx2.AsyncClient) -> AsyncIterator[str]:
    """The name of a connection to a server over HTTP."""
    async with listening(counting) as url, service.client("root", role="admin") as admin:
        server = {"name": "counting", "transport": "http", "endpoint": url}
        assert (await admin.post(f"{API}/mcp/servers", json=server)).status_code == 201
        await connected(client, "counting", name="counting")
        yield "counting"


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem in an answer, after a look at what every problem has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() >= PROBLEM_FIELDS
    assert (body["status"], body["code"], body["message"]) == (status, code, body["detail"])
    assert body["trace_id"] == answer.headers["X-Trace-Id"]
    assert body["instance"] == answer.request.url.path
    assert body["message"]
    return body


async def post(client: httpx2.AsyncClient, content: bytes, path: str = CONNECT, **headers: str) -> httpx2.Response:
    return await client.post(path, content=content, headers={"Content-Type": "application/json", **headers})


@pytest.mark.parametrize(
    "content",
    [b"{", b"{'a': 1}", b'{"server_type": "deepwiki"', b"\xff\xfe", b'{"a": NaN}', b'{"a": Infinity}', b"[" * 10_000],
    ids=["open", "single quotes", "cut", "no UTF-8", "NaN", "Infinity", "deep"],
)
async def test_what_is_no_json_is_400(client: httpx2.AsyncClient, content: bytes) -> None:
    problem(await post(client, content), 400, "malformed_json")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/server_type"]),
        ([], [""]),
        ("text", [""]),
        (None, [""]),
        (..., [""]),
        ({"server_type": 1}, ["/server_type"]),
        ({"server_type": "x", "credentials": {"api_key": 1}}, ["/credentials/api_key"]),
        ({"server_type": "x", "credentials": {}}, ["/credentials"]),
        ({"server_type": "x", "unknown": 1}, ["/unknown"]),
        ({"server_type": "x", "a/b~c": 1}, ["/a~1b~0c"]),
        ({"server_type": "", "name": []}, ["/server_type", "/name"]),
        ({"server_type": "x", "policy": {"tools": {"t": "maybe"}}}, ["/policy/tools/t"]),
        ({"server_type": "x", "endpoint": "e" * 3000}, ["/endpoint"]),
    ],
)
async def test_a_wrong_shape_is_422_with_a_pointer_to_each_mistake(
    client: httpx2.AsyncClient, body: Any, pointers: list[str]
) -> None:
    answer = await (client.post(CONNECT) if body is ... else client.post(CONNECT, json=body))
    errors = problem(answer, 422, "validation_failed")["errors"]
    assert [error["pointer"] for error in errors] == pointers
    assert all(error["message"] and error["code"] for error in errors)


async def test_what_may_have_one_of_several_types_has_one_pointer_into_the_body(client: httpx2.AsyncClient) -> None:
    [error] = problem(
        await client.post(f"{API}/teams/{uuid4()}/execute", json={"task_description": "x", "additional_context": 3}),
        422,
        "validation_failed",
    )["errors"]
    assert error["pointer"] == "/additional_context"
    assert error["message"] == (
        "Input should be a valid dictionary; Input should be a valid list; Input should be a valid string"
    )


async def test_a_pointer_has_the_levels_of_the_document_only() -> None:
    class One(BaseModel):
        kind: Literal["one"]
        size: int

    class Other(BaseModel):
        kind: Literal["other"]
        name: str

    class Held(BaseModel):
        parts: list[Annotated[One | Other, Field(discriminator="kind")]]
        names: dict[str, int | None] = {}

    body = {"parts": [{"kind": "one"}, {"kind": "other", "name": 1}, {"kind": "third"}], "names": {"int": "x"}}
    with pytest.raises(ValidationError) as raised:
        Held.model_validate(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in raised.value.errors()]
    told = orjson.loads(bytes(invalid(errors, "/", body).body))["errors"]
    assert [error["pointer"] for error in told] == ["/parts/0/size", "/parts/1/name", "/parts/2", "/names/int"]


@pytest.mark.parametrize(
    "path", ["/mcp/connections?limit=0", "/mcp/connections?limit=201", "/audit?limit=x", "/audit?since=then"]
)
async def test_a_wrong_parameter_is_422_with_its_name(client: httpx2.AsyncClient, path: str) -> None:
    errors = problem(await client.get(API + path), 422, "validation_failed")["errors"]
    assert errors[0]["pointer"] == "/" + path.split("?")[1].split("=", maxsplit=1)[0]


async def test_an_id_that_is_none_is_422(client: httpx2.AsyncClient) -> None:
    problem(await client.get(f"{API}/mcp/connections/not-an-id"), 422, "validation_failed")


@pytest.mark.parametrize("cursor", ["x", "====", "AAAA", "\N{SNOWMAN}", "MjAyNi0xMS0yMnx4"])
async def test_a_cursor_that_we_did_not_give_is_422(client: httpx2.AsyncClient, cursor: str) -> None:
    for path in ("/audit", "/mcp/connections"):
        problem(await client.get(API + path, params={"cursor": cursor}), 422, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/mcp/connect", {"server_type": "a\0b"}),
        ("POST", "/mcp/connect", {"server_type": "deepwiki", "policy": {"tools": {"a\0b": "deny"}}}),
        ("GET", "/audit?server=%00", None),
        ("GET", "/audit?tool=a%00b", None),
    ],
)
async def test_text_that_cannot_be_stored_is_the_callers_mistake(
    client: httpx2.AsyncClient, method: str, path: str, body: Any
) -> None:
    answer = await client.request(method, API + path, json=body)
    assert answer.status_code in (404, 422), answer.text
    problem(answer, answer.status_code, answer.json()["code"])


@pytest.mark.parametrize("content", [rb'{"arguments": {"q": "half \ud800"}}', b'{"arguments": {"q": 1e999}}'])
async def test_what_only_python_takes_for_json_is_400(client: httpx2.AsyncClient, content: bytes) -> None:
    problem(await post(client, content, CALL), 400, "malformed_json")


@pytest.mark.parametrize(
    "argument",
    [b"123456789012345678901234567890", b"-9223372036854775809", b"[" * 300 + b"]" * 300, b'"a\\u0000b"', b"1e400"],
    ids=["a number of thirty digits", "a number of 65 bits", "three hundred arrays", "NUL", "a number without end"],
)
async def test_json_at_the_edge_reaches_no_internal_error(
    service: Service, client: httpx2.AsyncClient, upstream: str, argument: bytes
) -> None:
    content = b'{"arguments": {"number": 1, "more": ' + argument + b"}}"
    for tool in ("wiki__ask_question", f"{upstream}__count"):
        answer = await post(client, content, f"{API}/mcp/tools/{tool}/call")
        assert answer.status_code in (200, 400, 422), answer.text


async def test_a_body_that_says_it_is_too_large_is_413(client: httpx2.AsyncClient) -> None:
    body = problem(await post(client, b'{"server_type": "' + b"x" * LIMIT + b'"}'), 413, "body_too_large")
    assert f"{LIMIT} bytes (MAX_BODY_BYTES)" in body["message"]


async def test_a_prompt_may_be_larger_and_the_refusal_names_the_setting_that_counts(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/chat/completions", content=b" " * (32 * LIMIT + 1))
    assert answer.status_code == 413
    assert f"{32 * LIMIT} bytes (32 × MAX_BODY_BYTES)" in answer.text


@pytest.mark.parametrize("path", [CONNECT, CALL])
async def test_a_body_that_turns_out_too_large_is_413(client: httpx2.AsyncClient, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"server_type": "'
        for _ in range(10):
            yield b"x" * (LIMIT // 5)

    problem(await client.post(path, content=chunks(), headers={"Content-Type": "application/json"}), 413, "body_too_large")


async def test_a_body_just_under_the_limit_is_taken(client: httpx2.AsyncClient) -> None:
    body = b'{"server_type": "x"' + b" " * (LIMIT - 20) + b"}"
    problem(await post(client, body), 404, "unknown_server")


async def test_a_lie_about_the_length_does_no_harm(service: Service, client: httpx2.AsyncClient) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    token = client.headers["Authorization"]
    for length in ("-1", "abc", "99999999999999999999999", "1, 2"):
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {CONNECT} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + b"{}")
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert answer.split()[1] in (b"400", b"413"), answer
        writer.close()
    assert (await client.get("/health")).status_code == 200


def token(**changes: Any) -> str:
    values = {"subject": "somebody", "role": "user", "ttl": timedelta(hours=1), **changes}
    return issue_token(values.pop("secret", JWT_SECRET), **values)


def expired() -> str:
    key = JWT_SECRET.reveal()
    claims = jwt.decode(token(), key, algorithms=["HS256"], audience="auralink")
    return jwt.encode({**claims, "iat": claims["iat"] - 7200, "exp": claims["iat"] - 3600}, key, algorithm="HS256")


@pytest.mark.promise("P-JWT")
@pytest.mark.parametrize(
    ("credential", "code"),
    [
        (None, "unauthenticated"),
        ("Basic dXNlcjpwYXNz", "unauthenticated"),
        ("Bearer", "unauthenticated"),
        ("Bearer nonsense", "token_invalid"),
        (f"Bearer {token(secret=Secret('another secret, also of more than 32 bytes'))}", "token_invalid"),
        (f"Bearer {token(issuer='somebody else')}", "token_invalid"),
        (f"Bearer {token(audience='somebody else')}", "token_invalid"),
        (f"Bearer {expired()}", "token_expired"),
    ],
)
async def test_who_is_not_known_is_401_with_a_challenge(service: Service, credential: str | None, code: str) -> None:
    async with service.client() as nobody:
        answer = await nobody.get(f"{API}/mcp/connections", headers={"Authorization": credential} if credential else {})
    problem(answer, 401, code)
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="auralink"')
    assert ('error="invalid_token"' in challenge) == (code != "unauthenticated")


async def test_a_token_in_the_query_is_no_token(service: Service) -> None:
    async with service.client() as nobody:
        problem(await nobody.get(f"{API}/mcp/connections?access_token={token()}"), 401, "unauthenticated")


async def test_what_needs_an_admin_is_403_for_a_user(client: httpx2.AsyncClient) -> None:
    server = {"name": "mine", "transport": "stdio", "command": "/bin/sh"}
    problem(await client.post(f"{API}/mcp/servers", json=server), 403, "forbidden")


async def test_an_unknown_server_is_404_and_says_which_there_are(client: httpx2.AsyncClient) -> None:
    body = problem(await client.post(CONNECT, json={"server_type": "nowhere"}), 404, "unknown_server")
    assert "'nowhere'" in body["message"]
    assert "deepwiki" in body["message"]


async def test_an_unknown_connection_is_404_and_says_where_to_look(client: httpx2.AsyncClient) -> None:
    missing = str(uuid4())
    for answer in (
        await client.get(f"{API}/mcp/connections/{missing}"),
        await client.post(f"{API}/mcp/deepwiki/ask", json={"connection_id": missing, "repo_name": "a/b", "question": "why?"}),
    ):
        body = problem(answer, 404, "connection_not_found")
        assert missing in body["message"]
        assert "GET /api/v1/mcp/connections" in body["message"]


async def test_an_unknown_tool_is_404_and_says_which_there_are(client: httpx2.AsyncClient) -> None:
    body = problem(await client.post(f"{API}/mcp/tools/wiki__nothing/call", json={}), 404, "tool_not_found")
    assert "ask_question" in body["message"]


async def test_an_unknown_path_and_a_wrong_method_are_problems_too(client: httpx2.AsyncClient) -> None:
    problem(await client.get("/nowhere"), 404, "not_found")
    answer = await client.delete(CONNECT)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"
    body = problem(await client.put(f"{API}/mcp/connections/{uuid4()}"), 405, "method_not_allowed")
    assert body["message"].endswith("it takes GET, PATCH")


async def test_a_repository_that_is_not_there_is_named(client: httpx2.AsyncClient) -> None:
    connections = (await client.get(f"{API}/mcp/connections")).json()["items"]
    asked = {"connection_id": connections[0]["connection_id"], "repo_name": "/nowhere/at/all", "question": "why?"}
    answer = await client.post(f"{API}/mcp/deepwiki/ask", json=asked)
    assert answer.status_code in (422, 502), answer.text
    body = problem(answer, answer.status_code, answer.json()["code"])
    assert "/nowhere/at/all" in body["message"]


async def test_the_callers_trace_id_is_used_and_a_broken_one_is_not(client: httpx2.AsyncClient) -> None:
    mine = "0af7651916cd43dd8448eb211c80319c"
    answer = await client.get("/nowhere", headers={"traceparent": f"00-{mine}-b7ad6b7169203331-01"})
    assert problem(answer, 404, "not_found")["trace_id"] == mine
    broken = await client.get("/nowhere", headers={"traceparent": '00-"><script>-1-1'})
    assert len(problem(broken, 404, "not_found")["trace_id"]) == 32


async def test_every_refused_call_is_in_the_log(service: Service) -> None:
    async with service.client(unique()) as client:
        await client.post(CONNECT, json={"server_type": "nowhere"})
        await client.post(f"{API}/mcp/tools/none__tool/call", json={})
        await client.post(f"{API}/mcp/connections/{uuid4()}/test")
        log = (await client.get(f"{API}/audit")).json()["items"]
    assert [(entry["operation"], entry["outcome"]) for entry in reversed(log)] == [
        ("connect", "unknown_server"),
        ("tools/call", "connection_not_found"),
        ("test", "connection_not_found"),
    ]
    assert all(entry["trace_id"] and entry["error"] for entry in log)


async def test_a_mistake_of_ours_is_a_problem_that_tells_nothing_but_the_trace_id(
    service: Service, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("inner details")

    monkeypatch.setattr(service.app.state.mcp.registry, "page", broken)
    with capture_logs() as logged:
        body = problem(await client.get(f"{API}/mcp/servers"), 500, "internal_error")
    assert [entry["event"] for entry in logged if entry["log_level"] == "error"] == ["request failed"]
    assert "inner details" not in body["message"]
    assert body["trace_id"] in body["message"]
