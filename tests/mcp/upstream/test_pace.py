"""Servers that say more than anybody wants to hear: how far they are read, and that others do not wait for it."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import pytest

from auralink.mcp.upstream import http as http_module
from auralink.mcp.upstream import pace
from auralink.mcp.upstream.errors import UpstreamFloods, UpstreamTimeout
from auralink.mcp.upstream.pace import Pace, PacedStream
from auralink.mcp.upstream.session import UpstreamSession
from auralink.mcp.upstream.stdio import StdioTransport
from tests.mcp.upstream.conftest import SERVER, Listener, OpenSession, soon
from tests.upstreams import faults, raw

RATE = 100
PAY = {"name": "pay", "arguments": {}, "_meta": {"progressToken": "mine"}}


class Counting(Pace):
    """Counts, and lets everything through."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = self.size = 0

    async def keep(self, *, messages: int = 0, size: int = 0) -> None:
        """Counts."""
        self.messages += messages
        self.size += size


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    """A stream's bytes."""
    for chunk in chunks:
        yield chunk


@pytest.fixture
def slow_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MESSAGES_PER_SECOND", RATE)
    monkeypatch.setattr(pace, "BURST_SECONDS", 0.1)


@pytest.mark.usefixtures("slow_pace")
async def test_calls_of_a_server_that_floods_are_read_at_the_pace_of_one(open_session: OpenSession) -> None:
    peers = [Listener() for _ in range(5)]
    async with raw.running(raw.RawServer(on={"tools/call": faults.flood})) as server:
        session = await open_session(server.url)
        started = time.monotonic()
        calls = (session.request("tools/call", PAY, soon(0.5), peer=peer) for peer in peers)
        ended = await asyncio.gather(*calls, return_exceptions=True)
        seconds = time.monotonic() - started
    assert {type(end) for end in ended} == {UpstreamTimeout}
    assert sum(len(peer.heard) for peer in peers) <= RATE * (seconds + 0.1) + len(peers)


async def test_others_are_answered_while_a_server_floods(open_session: OpenSession) -> None:
    async with raw.running(raw.RawServer(on={"tools/call": faults.flood})) as flooding, raw.running() as good:
        flooded, neighbour = await open_session(flooding.url), await open_session(good.url)
        floods = [asyncio.create_task(flooded.request("tools/call", PAY, soon(30), peer=Listener())) for _ in range(5)]
        for _ in range(20):
            assert await neighbour.request("tools/call", {"name": "echo", "arguments": {}}, soon())
        assert not any(task.done() for task in floods)
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)


async def test_a_call_that_gets_messages_instead_of_an_answer_is_given_up(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "MAX_UNASKED", 50)
    peer = Listener()
    async with raw.running(raw.RawServer(on={"tools/call": faults.flood})) as server:
        session = await open_session(server.url)
        with pytest.raises(UpstreamFloods, match="50 messages instead of an answer") as caught:
            await session.request("tools/call", PAY, soon(), peer=peer)
        assert (caught.value.sent, caught.value.transient, len(peer.heard)) == (True, False, 50)
        del server.on["tools/call"]
        assert await session.request("tools/call", PAY, soon(), peer=peer)


async def test_what_is_neither_message_nor_answer_is_paced_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MAX_ANSWER_BYTES", 1000)
    counting = Counting()
    stream = PacedStream(pieces(*[b":\n" * 100] * 20), counting)
    assert [len(chunk) async for chunk in stream.chunks()] == [200] * 20
    assert (counting.messages, counting.size) == (0, 3000)


async def test_answers_are_not_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MAX_ANSWER_BYTES", 1000)
    counting = Counting()
    stream = PacedStream(pieces(*[b"x" * 900] * 20), counting)
    async for _ in stream.chunks():
        await stream.admit({"jsonrpc": "2.0", "id": 1, "result": {}})
    assert (counting.messages, counting.size) == (0, 0)


async def test_who_was_quiet_may_say_much_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MESSAGES_PER_SECOND", 0.1)
    monkeypatch.setattr(pace, "BURST_SECONDS", 1000.0)
    quiet = Pace()
    async with asyncio.timeout(10):
        for _ in range(100):
            await quiet.keep(messages=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await quiet.keep(messages=1)


@pytest.mark.usefixtures("slow_pace")
async def test_a_program_that_writes_without_end_keeps_nobody_waiting() -> None:
    transport = StdioTransport(SERVER, sys.executable, ["-m", "tests.upstreams.child", "chatter"], {})
    await transport.start()
    session = UpstreamSession(transport, SERVER)
    await session.open(20)
    call = asyncio.create_task(session.request("tools/call", PAY, soon(0.5)))
    turns = 0
    while not call.done():
        await asyncio.sleep(0.005)
        turns += 1
    with pytest.raises(UpstreamTimeout):
        await call
    assert turns > 5
    await session.close()
