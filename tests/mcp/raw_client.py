"""An MCP client of any revision that shows the raw JSON, for tests of what passes through the gateway."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx2

MODERN = "2026-07-28"
REVISIONS = (MODERN, "2025-11-25", "2025-06-18", "2025-03-26")
PREFIX = "io.modelcontextprotocol/"
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
Json = dict[str, Any]
CAPABILITIES: Json = {"elicitation": {}, "sampling": {}, "roots": {}}
ANSWERS: Mapping[str, Json] = {
    "elicitation/create": {"action": "accept", "content": {"name": "Ada"}},
    "sampling/createMessage": {"role": "assistant", "model": "m", "content": {"type": "text", "text": "Paris"}},
    "roots/list": {"roots": []},
}


class Refused(Exception):
    """The request was answered with an error."""

    def __init__(self, status: int, error: Json) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


class RawClient:
    """One client. `heard` is what it was told, `asked` what it was asked; `answers` by method, None: it does not answer."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        path: str,
        revision: str,
        *,
        answers: Mapping[str, Json | None] = ANSWERS,
        capabilities: Json | None = None,
        log_level: str | None = None,
    ) -> None:
        self.http = http
        self.path = path
        self.revision = revision
        self.modern = revision == MODERN
        self.session_id: str | None = None
        self.heard: list[Json] = []
        self.asked: list[Json] = []
        self.answers = answers
        self.capabilities = CAPABILITIES if capabilities is None else capabilities
        self.log_level = log_level
        self._ids = itertools.count(1)

    async def open(self) -> Json:
        """What the server says of itself."""
        if self.modern:
            return await self.request("server/discover", {})
        params = {
            "protocolVersion": self.revision,
            "capabilities": self.capabilities,
            "clientInfo": {"name": "t", "version": "1"},
        }
        result = await self.request("initialize", params)
        assert result["protocolVersion"] == self.revision
        await self.notify("notifications/initialized", {})
        return result

    async def call(self, name: str, arguments: Json | None = None, **meta: Any) -> Json:
        """A tool's result."""
        return await self.request("tools/call", {"name": name, "arguments": arguments or {}, **({"_meta": meta} if meta else {})})

    async def request(self, method: str, params: Json, **options: Any) -> Json:
        """A result; what the client is asked meanwhile it answers. Raises `Refused`."""
        for _ in range(10):
            result = await self.once(method, params, **options)
            if result.get("resultType") != "input_required":
                return result
            self.asked += result["inputRequests"].values()
            responses = {key: self.answers[asked["method"]] for key, asked in result["inputRequests"].items()}
            params = {**params, "inputResponses": responses}
            if "requestState" in result:
                params["requestState"] = result["requestState"]
        raise AssertionError("asked ten times")

    async def once(self, method: str, params: Json, *, request_id: int | None = None) -> Json:
        """The result of one request, also if it asks for more."""
        body = self._body(method, params, next(self._ids) if request_id is None else request_id)
        async with self.http.stream("POST", self.path, json=body, headers=self._headers(method, params)) as response:
            self.session_id = response.headers.get("mcp-session-id", self.session_id)
            if response.headers["content-type"] != "text/event-stream":
                return self._result(response.status_code, json.loads(await response.aread()))
            async for message in events(response):
                if "method" not in message:
                    return self._result(response.status_code, message)
                await self._take(message)
        raise AssertionError("the stream ended without an answer")

    async def notify(self, method: str, params: Json) -> None:
        """Sends a notification."""
        body = {"jsonrpc": "2.0", "method": method, "params": params}
        answer = await self.http.post(self.path, json=body, headers=self._headers(method, params))
        assert answer.status_code == 202, answer.text

    @contextlib.asynccontextmanager
    async def listening(
        self, *, uris: tuple[str, ...] = (), wanted: Callable[[Json], bool] = lambda _: True
    ) -> AsyncIterator[Any]:
        """A queue of what is heard outside any call."""
        queue: asyncio.Queue[Json] = asyncio.Queue()
        ready = asyncio.Event()
        task = asyncio.create_task(self._listen(queue, ready, list(uris)))
        try:
            async with asyncio.timeout(10):
                await ready.wait()
            if not self.modern:
                for uri in uris:
                    await self.request("resources/subscribe", {"uri": uri})
            yield queue
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self, queue: "asyncio.Queue[Json]", ready: asyncio.Event, uris: list[str]) -> None:
        if not self.modern:
            headers = {**self._headers("", {}), "Accept": "text/event-stream"}
            async with self.http.stream("GET", self.path, headers=headers, timeout=None) as response:
                async for line in response.aiter_lines():
                    ready.set()
                    if line.startswith("data:"):
                        queue.put_nowait(json.loads(line[5:]))
            return
        flags = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
        params: Json = {"notifications": {**flags, "resourceSubscriptions": uris}}
        body = self._body("subscriptions/listen", params, next(self._ids))
        headers = self._headers("subscriptions/listen", params)
        async with self.http.stream("POST", self.path, json=body, headers=headers, timeout=None) as response:
            async for message in events(response):
                if message["method"] == "notifications/subscriptions/acknowledged":
                    ready.set()
                else:
                    queue.put_nowait(message)

    async def _take(self, message: Json) -> None:
        if "id" not in message:
            self.heard.append(message)
            return
        self.asked.append(message)
        answer = self.answers[message["method"]]
        if answer is not None:
            body = {"jsonrpc": "2.0", "id": message["id"], "result": answer}
            response = await self.http.post(self.path, json=body, headers=self._headers("", {}))
            assert response.status_code == 202, response.text

    def _body(self, method: str, params: Json, request_id: int) -> Json:
        if self.modern:
            envelope = {f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": self.capabilities}
            if self.log_level:
                envelope[f"{PREFIX}logLevel"] = self.log_level
            params = {**params, "_meta": {**params.get("_meta", {}), **envelope}}
        return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}

    def _headers(self, method: str, params: Json) -> dict[str, str]:
        headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": self.revision}
        if self.modern:
            headers["Mcp-Method"] = method
            if method in NAMED:
                headers["Mcp-Name"] = params[NAMED[method]]
        elif self.session_id is not None:
            headers["Mcp-Session-Id"] = self.session_id
        return headers

    def _result(self, status: int, message: Json) -> Json:
        if "error" in message:
            raise Refused(status, message["error"])
        result: Json = message["result"]
        return result


async def events(response: httpx2.Response) -> AsyncIterator[Json]:
    """The messages of an event stream."""
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            yield json.loads(line[5:])
