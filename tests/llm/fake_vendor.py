"""A vendor that can be reached: speaks the three wire formats over a real socket, says what it is told to, checks what it is sent,
and misbehaves on request."""

import asyncio
import base64
import contextlib
import json
from array import array
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from auralink.core.secret import Secret
from auralink.llm.providers.protocol import Target
from tests.llm.vendor_wire import WIRES, Answer, Event, Wire

KEY = "sk-a-key-of-the-fake-vendor"


@dataclass(frozen=True)
class Error:
    """An answer with an error status, in the vendor's shape. `echo` puts the request's headers into the message, key and all."""

    status: int
    message: str = "no"
    headers: Mapping[str, str] = field(default_factory=dict)
    echo: bool = False


@dataclass(frozen=True)
class Raw:
    """An answer as it is written here: a body, or events if there are any."""

    body: Any = None
    events: Sequence[Event] = ()
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Trouble:
    """An answer that goes wrong after so many events: cut off, ended with an error event, or held until it is released.

    `reached` is set when it has come to that point.
    """

    answer: Answer = field(default_factory=Answer)
    after: int = 2
    how: str = "cut"
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


Scripted = Answer | Error | Raw | Trouble


@dataclass(frozen=True)
class Received:
    """A request as it came in."""

    wire_format: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def stream(self) -> bool:
        """Whether events are asked for."""
        return "streamGenerateContent" in self.path or bool(self.body.get("stream"))


@dataclass
class FakeVendor:
    """The server. What is scripted is said in its order; after that, and without a script, `otherwise`."""

    url: str = ""
    key: str = KEY
    otherwise: Answer = field(default_factory=Answer)
    script: deque[Scripted] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)

    def say(self, *answers: Scripted) -> None:
        """Adds to the script."""
        self.script.extend(answers)

    def base_url(self, wire_format: str) -> str:
        """The base URL by which a format's clients know a vendor."""
        return f"{self.url}/v1" if wire_format == "openai" else self.url

    def target(self, wire_format: str, *, model: str = "a-model", provider: str | None = None, key: str | None = None) -> Target:
        """This vendor as a target; the provider is called like its format unless it is said."""
        return Target(provider or wire_format, model, self.base_url(wire_format), Secret(key or self.key))

    def application(self) -> web.Application:
        """The routes of all three vendors."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._openai)
        app.router.add_post("/v1/messages", self._anthropic)
        app.router.add_post(r"/v1beta/models/{call:.+}", self._google)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/embeddings", self._embeddings)
        return app

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "openai", request.headers.get("Authorization") == f"Bearer {self.key}")

    async def _anthropic(self, request: web.Request) -> web.StreamResponse:
        known = request.headers.get("x-api-key") == self.key and request.headers.get("anthropic-version") == "2023-06-01"
        return await self._answer(request, "anthropic", known)

    async def _google(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "google", request.headers.get("x-goog-api-key") == self.key)

    async def _models(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response(WIRES["openai"].error(401, "Incorrect API key provided"), status=401)
        return web.json_response({"object": "list", "data": [{"id": "a-model", "object": "model", "owned_by": "fake"}]})

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.received.append(Received("openai", request.path_qs, dict(request.headers), body))
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vectors = [array("f", [float(len(text)), 0.5]) for text in inputs]
        in_base64 = body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode() if in_base64 else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
        return web.json_response({"object": "list", "model": body["model"], "data": data, "usage": usage})

    async def _answer(self, request: web.Request, wire_format: str, known: bool) -> web.StreamResponse:
        received = Received(wire_format, request.path_qs, dict(request.headers), await request.json())
        self.received.append(received)
        wire = WIRES[wire_format]
        if not known or request.content_type != "application/json":
            return web.json_response(wire.error(401, "this key is not known here"), status=401)
        model = str(received.body.get("model") or request.match_info["call"].partition(":")[0])
        scripted = self.script.popleft() if self.script else self.otherwise
        if isinstance(scripted, Error):
            message = f"{scripted.message} {dict(request.headers)}" if scripted.echo else scripted.message
            return web.json_response(wire.error(scripted.status, message), status=scripted.status, headers=scripted.headers)
        if isinstance(scripted, Raw):
            return await _raw(request, scripted)
        return await self._said(request, received, wire, model, scripted)

    async def _said(
        self, request: web.Request, received: Received, wire: Wire, model: str, scripted: Answer | Trouble
    ) -> web.StreamResponse:
        answer = scripted.answer if isinstance(scripted, Trouble) else scripted
        if not received.stream:
            if isinstance(scripted, Trouble):
                scripted.reached.set()
                await scripted.released.wait()
            return web.json_response(wire.body(answer, model))
        include_usage = bool((received.body.get("stream_options") or {}).get("include_usage"))
        events = list(wire.events(answer, model, include_usage=include_usage))
        return await _stream(request, wire, events, scripted if isinstance(scripted, Trouble) else None)


async def _raw(request: web.Request, raw: Raw) -> web.StreamResponse:
    if raw.events:
        return await _stream(request, WIRES["openai"], raw.events, None)
    body = raw.body if isinstance(raw.body, str) else json.dumps(raw.body)
    return web.Response(text=body, status=raw.status, content_type=raw.content_type, headers=raw.headers)


async def _stream(request: web.Request, wire: Wire, events: Sequence[Event], trouble: Trouble | None) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"})
    await response.prepare(request)
    for index, event in enumerate(events):
        if trouble is not None and index == trouble.after:
            trouble.reached.set()
            if trouble.how == "cut":
                assert request.transport is not None
                request.transport.abort()
                return response
            if trouble.how == "error":
                await response.write(_written(wire.error_event("the vendor has failed")))
                return response
            await trouble.released.wait()
        await response.write(_written(event))
    return response


def _written(event: Event) -> bytes:
    name, data = event
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[FakeVendor]:
    """A vendor on a free port of the loopback address."""
    vendor = FakeVendor()
    runner = web.AppRunner(vendor.application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    vendor.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield vendor
    finally:
        await runner.cleanup()
