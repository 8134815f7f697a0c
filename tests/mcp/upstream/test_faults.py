"""Servers that fail in every way: what the caller of the REST route gets, how often the server was called, what is recorded."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.isolation.support import cloned_database
from tests.service import API, Service, running_service, unique
from tests.upstreams import faults, raw
from tests.upstreams.raw import Behaviour

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE = 0.4
ATTEMPTS = 3
BOUND = 15.0
"""Seconds after which a test that should have met a deadline of `DEADLINE` has hung."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """The service of all the module's tests; each registers servers of its own, as a user of its own."""
    config = MCPConfig.model_validate({"circuit_breaker": {"failure_threshold": 1000}})
    place, ring = tmp_path_factory.mktemp("data"), KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with running_service(database.service, place, ring, config=config) as running:
            yield running


async def registered(service: Service, **fields: Any) -> str:
    """Registers a server as an admin and returns its name."""
    name = unique("server")
    body = {"name": name, "transport": "http", "timeout": 10, "retry_attempts": ATTEMPTS - 1, **fields}
    async with service.client("root", role="admin") as admin:
        answer = await admin.post(f"{API}/mcp/servers", json=body)
        assert answer.status_code == 201, answer.text
    return name


async def connect(client: httpx2.AsyncClient, server: str, **fields: Any) -> httpx2.Response:
    """Connects a registered server under the name `it`."""
    return await client.post(f"{API}/mcp/connect", json={"server_type": server, "name": "it", **fields})


async def call(client: httpx2.AsyncClient, tool: str = "pay", **arguments: Any) -> httpx2.Response:
    """Calls a tool of the connection `it`; a call that hangs fails the test."""
    async with asyncio.timeout(BOUND):
        return await client.post(f"{API}/mcp/tools/it__{tool}/call", json={"arguments": arguments})


def assert_problem(answer: httpx2.Response, code: str, server: str, status: int = 502) -> dict[str, Any]:
    """The answer is a problem with this code that names the server."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body.get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert server in body["message"]
    assert body["message"] == body["detail"]
    return body


AT_ONCE: dict[str, tuple[Behaviour, str]] = {
    "closes": (faults.close, "upstream_closed"),
    "resets": (faults.reset, "upstream_closed"),
    "closes in the body": (faults.close_in_body, "upstream_closed"),
    "cuts a stream": (faults.half_stream, "upstream_closed"),
    "ends a stream without an answer": (faults.ended_stream, "upstream_closed"),
    "speaks no HTTP": (faults.not_http, "upstream_bad_answer"),
    "answers HTML": (faults.not_json, "upstream_bad_answer"),
    "answers other JSON": (faults.json_but_no_message, "upstream_bad_answer"),
    "answers deep JSON": (faults.deep_json, "upstream_bad_answer"),
    "answers another request": (faults.wrong_id, "upstream_bad_answer"),
    "answers another request in a stream": (faults.stream_of_another, "upstream_bad_answer"),
    "answers without a result": (faults.no_result, "upstream_bad_answer"),
    "compresses, and a bomb": (faults.gzip_bomb, "upstream_bad_answer"),
    "only acknowledges": (faults.acknowledged_only, "upstream_bad_answer"),
    "fails with 500": (faults.status("500 Internal Server Error"), "upstream_bad_answer"),
    "fails with 503": (faults.status("503 Service Unavailable"), "upstream_bad_answer"),
}
NEVER: dict[str, Behaviour] = {
    "hangs": faults.hang,
    "streams without an answer": faults.endless_stream,
    "drips": faults.slow_drip,
}
POINTLESS: dict[str, tuple[Behaviour, str]] = {
    "answers 10 MB": (faults.ten_megabytes, "upstream_answer_too_large"),
    "answers 10 MB in chunks": (faults.ten_megabytes_in_chunks, "upstream_answer_too_large"),
    "streams megabytes": (faults.stream_of_megabytes, "upstream_answer_too_large"),
    "redirects": (faults.redirect, "upstream_redirects"),
    "refuses the credential": (faults.status("401 Unauthorized"), "upstream_unauthorized"),
    "forbids": (faults.status("403 Forbidden"), "upstream_unauthorized"),
}
"""What is not worth asking again, not even for a tool that only reads."""


async def assert_faults(
    service: Service, cases: dict[str, tuple[Behaviour, str]], *, status: int, reads: int, **fields: Any
) -> None:
    """Each behaviour gives its code; the tool that pays is called once, the one that reads `reads` times; all is recorded."""
    async with raw.running() as server, service.client(unique()) as client:
        name = await registered(service, endpoint=server.url, **fields)
        connection = (await connect(client, name)).json()["connection_id"]
        expected = []
        for what, (behaviour, code) in cases.items():
            for tool, calls in (("pay", 1), ("echo", reads)):
                server.on["tools/call"] = behaviour
                before = server.count("tools/call")
                problem = assert_problem(await call(client, tool), code, name, status)
                assert server.count("tools/call") - before == calls, f"a server that {what}: {tool}"
                expected.append((problem["log_id"], tool, code))
        del server.on["tools/call"]
        assert (await call(client, text="well again")).status_code == 200
        log = (await client.get(f"{API}/audit", params={"limit": 200})).json()["items"]
        recorded = [(row["log_id"], row["tool"], row["outcome"]) for row in reversed(log) if row["operation"] == "tools/call"]
        assert recorded[:-1] == expected
        assert {row["connection_id"] for row in log} == {connection}


@pytest.mark.promise("P-BULKHEAD")
async def test_a_server_that_fails_at_once_gives_a_problem_with_its_cause(service: Service) -> None:
    await assert_faults(service, AT_ONCE, status=502, reads=ATTEMPTS)


@pytest.mark.promise("P-BULKHEAD")
async def test_what_is_not_worth_repeating_is_not_repeated(service: Service) -> None:
    await assert_faults(service, POINTLESS, status=502, reads=1)


@pytest.mark.promise("P-BULKHEAD")
async def test_a_server_that_never_answers_costs_no_more_than_the_deadline(service: Service) -> None:
    cases = {what: (behaviour, "upstream_timeout") for what, behaviour in NEVER.items()}
    await assert_faults(service, cases, status=504, reads=1, timeout=DEADLINE)


async def test_a_call_that_was_not_sent_is_repeated_whatever_the_tool(service: Service) -> None:
    async with raw.running() as server, service.client(unique()) as client:
        await connect(client, await registered(service, endpoint=server.url))
        server.on["tools/call"] = faults.once(faults.status("429 Too Many Requests"))
        assert (await call(client)).status_code == 200
        assert server.count("tools/call") == 2


async def test_a_reading_tool_succeeds_when_the_server_recovers(service: Service) -> None:
    async with raw.running() as server, service.client(unique()) as client:
        await connect(client, await registered(service, endpoint=server.url))
        server.on["tools/call"] = faults.once(faults.close)
        assert (await call(client, "echo", text="again")).status_code == 200
        log = (await client.get(f"{API}/audit")).json()["items"]
        assert [(row["operation"], row["outcome"]) for row in log] == [("tools/call", "ok"), ("connect", "ok")]


async def test_a_server_that_is_down_is_named_and_found_again_when_it_is_back(service: Service) -> None:
    async with service.client(unique()) as client:
        async with raw.running() as server:
            name = await registered(service, endpoint=server.url)
            await connect(client, name)
            assert (await call(client)).status_code == 200
        problem = assert_problem(await call(client), "upstream_unreachable", name)
        assert "Connect call failed" in problem["message"] or "refused" in problem["message"].lower()
        tools = (await client.get(f"{API}/mcp/tools")).json()
        assert tools["items"] or [item["code"] for item in tools["degraded"]] == ["upstream_unreachable"]
        port = int(server.url.rsplit(":", 1)[1].split("/")[0])
        async with raw.running(port=port):
            assert (await call(client)).status_code == 200


async def test_a_401_in_the_middle_leaves_the_connection_to_a_new_credential(service: Service) -> None:
    async def guarded(exchange: raw.Exchange) -> None:
        if exchange.request.headers.get("authorization") != "Bearer second":
            await faults.status("401 Unauthorized")(exchange)
        else:
            await exchange.result({"content": []})

    async with raw.running() as server, service.client(unique()) as client:
        name = await registered(service, endpoint=server.url, auth_type="bearer")
        made = await connect(client, name, credentials={"token": "first"})
        server.on["tools/call"] = guarded
        assert_problem(await call(client), "upstream_unauthorized", name)
        path = f"{API}/mcp/connections/{made.json()['connection_id']}/credentials"
        assert (await client.put(path, json={"token": "second"})).status_code == 200
        assert (await call(client)).status_code == 200


async def test_a_lost_session_costs_a_caller_nothing(service: Service) -> None:
    async with raw.running(raw.RawServer(handshake=True)) as server, service.client(unique()) as client:
        await connect(client, await registered(service, endpoint=server.url))
        assert (await call(client, n=1)).status_code == 200
        opened = server.count("initialize")
        server.sessions.clear()
        assert (await call(client, n=2)).json()["result"]["content"][0]["text"] == '{"n": 2}'
        assert server.count("initialize") == opened + 1
        assert server.count("tools/call") == 3, "one answered, one refused with 404, one answered"


async def test_a_server_that_loses_every_session_is_not_asked_for_ever(service: Service) -> None:
    async with raw.running(raw.RawServer(handshake=True)) as server, service.client(unique()) as client:
        name = await registered(service, endpoint=server.url)
        await connect(client, name)
        server.on["tools/call"] = faults.status("404 Not Found")
        assert_problem(await call(client, "echo"), "upstream_session_lost", name)
        assert server.count("tools/call") == 2


@pytest.mark.parametrize(
    ("behaviour", "code", "status"),
    [
        (faults.hang, "upstream_timeout", 504),
        (faults.not_json, "upstream_bad_answer", 502),
        (faults.status("401 Unauthorized"), "upstream_unauthorized", 502),
        (faults.redirect, "upstream_redirects", 502),
        (faults.gzip_bomb, "upstream_bad_answer", 502),
    ],
    ids=["hang", "garbage", "401", "redirect", "bomb"],
)
async def test_a_server_that_fails_while_connecting_is_not_stored(
    service: Service, behaviour: Behaviour, code: str, status: int
) -> None:
    async with raw.running() as server, service.client(unique()) as client:
        server.on |= {"server/discover": behaviour, "initialize": behaviour}
        name = await registered(service, endpoint=server.url, timeout=DEADLINE if behaviour is faults.hang else 10)
        async with asyncio.timeout(BOUND):
            assert_problem(await connect(client, name), code, name, status)
        assert (await client.get(f"{API}/mcp/connections")).json()["items"] == []
        log = (await client.get(f"{API}/audit")).json()["items"]
        assert [(row["operation"], row["server"], row["outcome"]) for row in log] == [("connect", name, code)]


async def test_a_port_where_nobody_listens_is_unreachable(service: Service) -> None:
    async with raw.running() as server:
        pass
    async with service.client(unique()) as client:
        name = await registered(service, endpoint=server.url)
        assert_problem(await connect(client, name), "upstream_unreachable", name)


async def test_a_certificate_that_nobody_signed_is_refused(service: Service, tmp_path: Path) -> None:
    async with raw.running(tls=_self_signed(tmp_path)) as server, service.client(unique()) as client:
        name = await registered(service, endpoint=server.url)
        problem = assert_problem(await connect(client, name), "upstream_unreachable", name)
        assert "certificate" in problem["message"]


@pytest.mark.promise("P-BULKHEAD")
async def test_a_server_that_hangs_takes_no_connection_from_the_others(service: Service) -> None:
    user = unique()
    async with raw.running() as slow, raw.running() as good, service.client(user) as client, service.client(user) as other:
        await connect(client, await registered(service, endpoint=slow.url))
        await client.post(
            f"{API}/mcp/connect", json={"server_type": await registered(service, endpoint=good.url), "name": "good"}
        )
        await call(client)
        slow.on["tools/call"] = faults.hang
        hanging = [asyncio.create_task(call(client)) for _ in range(120)]
        async with asyncio.timeout(BOUND):
            while slow.count("tools/call") < 60:
                await asyncio.sleep(0.005)
            answer = await other.post(f"{API}/mcp/tools/good__pay/call", json={})
        assert answer.status_code == 200
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_stdio_server_that_dies_in_a_call_is_started_again_for_the_next(service: Service, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    async with service.client(unique()) as client:
        name = await _registered_child(service, "die", calls)
        assert (await connect(client, name)).status_code == 201
        problem = assert_problem(await call(client), "upstream_closed", name)
        assert "panic: out of luck" in problem["message"]
        assert calls.read_text() == "pay\n", "what acts is not called again"
        assert_problem(await call(client, "echo"), "upstream_closed", name)
        assert calls.read_text() == "pay\n" + "echo\n" * ATTEMPTS
        log = (await client.get(f"{API}/audit")).json()["items"]
        assert [row["outcome"] for row in log] == ["upstream_closed", "upstream_closed", "ok"]


async def test_a_stdio_server_that_hangs_costs_no_more_than_the_deadline(service: Service, tmp_path: Path) -> None:
    async with service.client(unique()) as client:
        name = await _registered_child(service, "hang", tmp_path / "calls", timeout=3)
        assert (await connect(client, name)).status_code == 201
        assert_problem(await call(client), "upstream_timeout", name, 504)
        assert (tmp_path / "calls").read_text() == "pay\n"


async def test_a_command_that_is_not_there_is_unreachable(service: Service) -> None:
    async with service.client(unique()) as client:
        name = await registered(service, transport="stdio", endpoint=None, command="no-such-program")
        assert_problem(await connect(client, name), "upstream_unreachable", name)


MALFORMED: list[Any] = [
    {"content": 7},
    {"content": [7]},
    {"content": [{"type": "text", "text": 7}], "isError": True},
    {"content": [{"type": "text", "text": "a\x00b"}], "isError": True},
    {"content": [], "isError": "perhaps"},
    {"content": [], "structuredContent": [1], "_meta": 7},
    {"resultType": "input_required", "inputRequests": [1]},
    {"resultType": "input_required", "inputRequests": {"a": 1}},
    {"resultType": "input_required", "requestState": 7},
    {"resultType": 7},
    {},
]


@pytest.mark.parametrize("tool", ["pay", "echo"])
async def test_a_result_of_the_wrong_shape_is_an_answer_or_a_bad_answer(service: Service, tool: str) -> None:
    async with raw.running() as server, service.client(unique()) as client:
        await connect(client, await registered(service, endpoint=server.url, retry_attempts=0))
        for number, result in enumerate(MALFORMED):

            async def answer(exchange: raw.Exchange, result: Any = result) -> None:
                await exchange.result(result)

            server.on["tools/call"] = answer
            given = await call(client, tool, number=number)
            assert given.status_code == 200 or given.json()["code"] in ("upstream_bad_answer", "input_required"), given.text
        log = (await client.get(f"{API}/audit")).json()["items"]
        assert len(log) == len(MALFORMED) + 1
        assert {row["outcome"] for row in log} <= {"ok", "tool_error", "upstream_bad_answer", "input_required"}


async def test_any_arguments_reach_the_server_or_are_refused_as_the_callers(service: Service) -> None:
    async with raw.running() as server, service.client(unique()) as client:
        await connect(client, await registered(service, endpoint=server.url))
        deep = "[" * 400 + "]" * 400
        for value in (str(10**40), '"\\ud800"', deep, "1e400", "[" * 100_000 + "]" * 100_000):
            body = f'{{"arguments": {{"value": {value}}}}}'.encode()
            answer = await client.post(
                f"{API}/mcp/tools/it__pay/call", content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code in (200, 400, 422), answer.text
        assert server.count("tools/call") >= 1


async def _registered_child(service: Service, mode: str, calls: Path, **fields: Any) -> str:
    """Registers the program that misbehaves. An admin gives its environment with it."""
    args = ["-m", "tests.upstreams.child", mode, str(calls)]
    env = {"PYTHONPATH": str(Path(__file__).parents[3])}
    return await registered(service, transport="stdio", endpoint=None, command=sys.executable, args=args, env=env, **fields)


def _self_signed(directory: Path) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that it has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
