"""P-SECRET at the model gateway: a key that a provider shouts back is in no answer, no log line, no metric and no table.

The provider puts the headers that it was sent into whatever it says about its failures. The service is a process of its own; looked
through are its answers, its log, its metrics, and a dump of every table as the superuser.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from aiohttp import web

from auralink.vault.crypto import generate_master_key
from tests.conftest import Server, TestDatabase
from tests.isolation.process import ServiceProcess, serving
from tests.isolation.support import cloned_database
from tests.isolation.test_canary import dump, places_of
from tests.llm.conftest import FORMATS, MODELS
from tests.service import API, unique

pytestmark = [pytest.mark.promise("P-SECRET"), pytest.mark.asyncio(loop_scope="module")]

HEADERS = {"openai": "Authorization", "anthropic": "x-api-key", "google": "x-goog-api-key"}
WAYS = ("error", "long-error", "broken-body", "odd-body", "error-event", "late-error-event", "broken-event", "redirect")
SPLIT_AT = range(985, 1016)
"""Where a message may be cut: a key that stands across it must not be halved."""


def talkative(request: web.Request, size: int = 0) -> str:
    """The headers as they came, and the key by itself."""
    key = next(request.headers[name] for name in HEADERS.values() if name in request.headers)
    bare = key.removeprefix("Bearer ")
    return "x" * (size - len(bare) // 2) + f"{bare} {dict(request.headers)}"


async def misbehave(request: web.Request) -> web.StreamResponse:
    """Fails in the way that the request's path begins with."""
    way, said = request.match_info["way"], talkative(request)
    if way in ("error", "long-error"):
        size = SPLIT_AT[hash(said) % len(SPLIT_AT)] if way == "long-error" else 0
        error = {"message": talkative(request, size), "type": said, "code": said, "status": said}
        return web.json_response(
            {"error": error, "detail": said}, status=500, headers={"Retry-After": "60", "x-request-id": said[:80]}
        )
    if way == "broken-body":
        return web.Response(status=503, text=f"<html>{said}", content_type="text/html", headers={"Retry-After": "60"})
    if way == "odd-body":
        return web.json_response({"type": said, "choices": said, "candidates": said, "content": said, "data": said})
    if way == "redirect":
        return web.Response(status=302, headers={"Location": f"http://127.0.0.1:9/{said[:40]}"})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    if way == "late-error-event":
        await response.write(
            b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
        )
    if way == "broken-event":
        await response.write(f"event: error\ndata: {said} is no JSON\n\n".encode())
    else:
        event = web.json_response({"type": "error", "error": {"type": said, "code": 500, "message": said}}).text
        await response.write(f"event: error\ndata: {event}\n\n".encode())
    return response


@dataclass
class Scene:
    """The service, the provider that shouts, and all that the service has answered."""

    service: ServiceProcess
    database: TestDatabase
    provider: str
    operator_key: str
    answers: list[str] = field(default_factory=list)

    def base_url(self, wire_format: str, way: str) -> str:
        return f"{self.provider}/{way}" + ("/v1" if wire_format == "openai" else "")

    def heard(self, client: httpx2.AsyncClient) -> httpx2.AsyncClient:
        """Keeps every answer that this client is given."""

        async def keep(response: httpx2.Response) -> None:
            await response.aread()
            self.answers.append(f"{response.headers!r} {response.text}")

        client.event_hooks["response"].append(keep)
        return client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    place: Path = tmp_path_factory.mktemp("canary")
    app = web.Application()
    app.router.add_route("*", "/{way}/{rest:.*}", misbehave)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider, operator_key = f"http://127.0.0.1:{runner.addresses[0][1]}", f"canary{uuid4().hex}"
    with cloned_database(postgres) as database:
        settings = {
            "MCP_ENCRYPTION_KEY": generate_master_key().reveal(),
            "DATABASE_URL": database.service.reveal(),
            "ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        for wire_format in FORMATS:
            settings |= {
                f"{wire_format.upper()}_API_KEY": operator_key,
                f"{wire_format.upper()}_BASE_URL": f"{provider}/error" + ("/v1" if wire_format == "openai" else ""),
            }
        async with serving(place / "data", place / "log", **settings) as service:
            yield Scene(service, database, provider, operator_key)
    await runner.cleanup()


async def found(scene: Scene, client: httpx2.AsyncClient, canary: str) -> list[str]:
    """Where the key is, of all that the service shows, keeps and writes."""
    for path in ("/metrics", f"{API}/audit?format=ndjson", f"{API}/llm/providers", f"{API}/llm/compare", f"{API}/llm/costs"):
        answer = await client.get(path)
        assert answer.status_code == 200, answer.text
    halves = (canary[: len(canary) // 2], canary[len(canary) // 2 :])
    places = {f"answer {number}": text for number, text in enumerate(scene.answers)}
    places |= {"log": scene.service.log.read_text(), **dump(scene.database)}
    return [place for form in (canary, *halves) for place in places_of(form, places)]


def body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello?"}], **fields}


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_a_users_key_that_a_failing_provider_quotes_is_found_nowhere(scene: Scene, wire_format: str) -> None:
    canaries = []
    async with scene.heard(scene.service.client(unique())) as client:
        for way in WAYS:
            canaries.append(canary := f"canary{uuid4().hex}")
            key = {"api_key": canary, "base_url": scene.base_url(wire_format, way)}
            checked = await client.put(f"{API}/llm/keys/{wire_format}", json=key)
            assert checked.status_code == (200 if way in ("odd-body", "error-event", "late-error-event", "broken-event") else 422)
            assert (await client.put(f"{API}/llm/keys/{wire_format}", json={**key, "skip_check": True})).status_code == 200
            for stream in (False, True):
                answer = await client.post("/v1/chat/completions", json=body(MODELS[wire_format], stream=stream))
                assert answer.status_code >= 400 or '"error"' in answer.text, (way, answer.text)
                assert canary not in answer.text
            answer = await client.post("/v1/embeddings", json={"model": "openai/text-embedding-3-small", "input": "x"})
            assert answer.status_code >= 400
        for canary in canaries:
            assert await found(scene, client, canary) == []


async def test_the_operators_key_that_a_failing_provider_quotes_is_found_nowhere(scene: Scene) -> None:
    async with scene.heard(scene.service.client(unique())) as client:
        for model in (*MODELS.values(), "auto", list(MODELS.values())):
            for stream in (False, True):
                answer = await client.post("/v1/chat/completions", json=body(model, stream=stream))  # type: ignore[arg-type]
                assert answer.status_code in (502, 503), answer.text
                assert "***" in answer.text or answer.status_code == 503
        assert await found(scene, client, scene.operator_key) == []


async def test_a_key_in_a_request_that_is_refused_is_found_nowhere(scene: Scene) -> None:
    canary = f"canary{uuid4().hex}"
    async with scene.heard(scene.service.client(unique())) as client:
        path = f"{API}/llm/keys/openai"
        for wrong in ({"api_key": [canary]}, {"api_key": canary, canary: 1}, {"key": canary}, {"api_key": f"{canary}\n"}, canary):
            assert (await client.put(path, json=wrong)).status_code == 422
        assert (await client.put(path, content=f'{{"api_key": "{canary}"'.encode())).status_code in (400, 422)
        elsewhere = {"api_key": canary, "base_url": "http://10.1.2.3/v1"}
        assert (await client.put(path, json=elsewhere)).status_code == 422
        quiet = [answer for answer in scene.answers if canary in answer]
        assert all(f"/{canary}" in answer for answer in quiet), "an unknown field is named; its name is the client's own"
        scene.answers[:] = [answer for answer in scene.answers if answer not in quiet]
        assert await found(scene, client, canary) == []
