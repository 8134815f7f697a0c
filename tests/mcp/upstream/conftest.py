"""What the tests of the upstream clients share."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from auralink.core.egress import EgressGuard
from auralink.core.http_client import HttpClient
from auralink.mcp.upstream.http import HttpTransport
from auralink.mcp.upstream.session import UpstreamSession
from auralink.mcp.upstream.transport import Message

OpenSession = Callable[..., Awaitable[UpstreamSession]]
SERVER = "a-server"


class Listener:
    """A peer that can be asked nothing and keeps what it is told."""

    capabilities: Mapping[str, Any] = {}
    log_level: str | None = None

    def __init__(self) -> None:
        self.heard: list[Message] = []

    async def notify(self, message: Message) -> None:
        """Keeps it."""
        self.heard.append(message)

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Is never reached: no capability is declared."""
        raise AssertionError(method)


def soon(seconds: float = 10.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    """The client that sessions with servers of the registry share."""
    async with HttpClient(EgressGuard(), trusted=True) as client:
        yield client


@pytest.fixture
async def open_session(http: HttpClient) -> AsyncIterator[OpenSession]:
    """Opens sessions over HTTP; they are closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def opened(url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 10.0) -> UpstreamSession:
            session = UpstreamSession(HttpTransport(http, SERVER, url, lambda: headers or {}), SERVER)
            await session.open(timeout)
            stack.push_async_callback(session.close)
            return session

        yield opened
