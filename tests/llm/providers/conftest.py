"""What the tests of the wire formats share: a vendor, and the way to it that the gateway takes."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from auralink.llm.providers.protocol import Body, HttpRequest, Stream
from tests.llm.fake_vendor import FakeVendor, running
from tests.llm.vendor_wire import Event

FIXTURES = Path(__file__).parent / "fixtures"


def exchanges(name: str) -> list[Any]:
    """The wire examples of a file, as parameters that are called by their names."""
    return [pytest.param(example, id=example["name"]) for example in json.loads((FIXTURES / name).read_text())]


@dataclass
class Reply:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    content: bytes
    events: list[Event] = field(default_factory=list)
    broken_off: bool = False


@dataclass
class Wire:
    """A vendor and an HTTP client."""

    vendor: FakeVendor
    http: aiohttp.ClientSession

    async def send(self, request: HttpRequest) -> Reply:
        """Sends a translated request and reads the whole answer."""
        async with self.http.post(request.url, headers=dict(request.headers), data=request.content) as response:
            content, broken_off = b"", False
            try:
                async for piece in response.content.iter_any():
                    content += piece
            except aiohttp.ClientError:
                broken_off = True
            return Reply(response.status, dict(response.headers), content, events_in(content), broken_off)


def events_in(content: bytes) -> list[Event]:
    """The server-sent events in a body."""
    events = []
    for block in content.decode().split("\n\n"):
        fields = [line.partition(": ") for line in block.splitlines()]
        data = [value for name, _, value in fields if name == "data"]
        if data:
            events.append((next((value for name, _, value in fields if name == "event"), ""), "\n".join(data)))
    return events


def fed(stream: Stream, events: list[Event]) -> list[Body]:
    """All chunks of a stream."""
    return [chunk for event, data in events for chunk in stream.feed(event, data)]


def assembled(chunks: list[Body], index: int = 0) -> dict[str, Any]:
    """The message that the chunks of one choice make up, and how it ends."""
    message: dict[str, Any] = {}
    finish_reason = None
    for choice in (choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index):
        finish_reason = choice["finish_reason"] or finish_reason
        for name, value in choice["delta"].items():
            if name == "tool_calls":
                _add_calls(message.setdefault("tool_calls", []), value)
            elif name in {"content", "reasoning_content"}:
                message[name] = message.get(name, "") + (value or "")
            else:
                message[name] = value
    return {"message": message, "finish_reason": finish_reason}


def _add_calls(calls: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    for piece in pieces:
        if piece["index"] == len(calls):
            calls.append({name: value for name, value in piece.items() if name != "index"})
        else:
            calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what says nothing, so that a whole one and an assembled one can be compared."""
    return {name: value for name, value in message.items() if value not in (None, "", [])}


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """A vendor that can be reached."""
    async with running() as vendor, aiohttp.ClientSession() as http:
        yield Wire(vendor, http)
