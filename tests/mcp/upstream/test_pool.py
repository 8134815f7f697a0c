"""The pool of sessions: one opening for all who wait, nothing kept that was given up meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from auralink.mcp.upstream import pool as pool_module
from auralink.mcp.upstream.errors import UpstreamClosed, UpstreamUnreachable
from auralink.mcp.upstream.pool import SessionPool
from auralink.mcp.upstream.session import UpstreamSession
from auralink.mcp.upstream.transport import Message, OnMessage
from tests.conftest import eventually


class Wire:
    """A transport that only says whether it was closed."""

    def __init__(self) -> None:
        self.unsolicited: OnMessage | None = None
        self.alive = True
        self.closed = False

    async def exchange(
        self, message: Message, *, headers: Mapping[str, str], timeout: float, on_message: OnMessage | None = None
    ) -> Message:
        """Is not asked."""
        raise AssertionError

    async def send(self, message: Message, *, headers: Mapping[str, str], timeout: float) -> None:
        """Is not asked."""

    def forget_session(self) -> None:
        """Has none."""

    async def close(self) -> None:
        """Notes it."""
        self.closed = True


class Opener:
    """Opens sessions when it is let, and counts them."""

    def __init__(self) -> None:
        self.sessions: list[tuple[UpstreamSession, Wire]] = []
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.failure: Exception | None = None
        self.asked = 0

    async def __call__(self) -> UpstreamSession:
        self.asked += 1
        await self.may_open.wait()
        if self.failure is not None:
            raise self.failure
        wire = Wire()
        session = UpstreamSession(wire, "a-server")
        self.sessions.append((session, wire))
        return session


@pytest.fixture
async def pool() -> AsyncIterator[SessionPool]:
    made = SessionPool(max_sessions=3)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def opener() -> Opener:
    return Opener()


async def test_callers_share_one_opening(pool: SessionPool, opener: Opener) -> None:
    opener.may_open.clear()
    waiting = [asyncio.create_task(pool.get("key", opener)) for _ in range(10)]
    await eventually(lambda: opener.asked)
    opener.may_open.set()
    assert len({id(session) for session in await asyncio.gather(*waiting)}) == opener.asked == 1


async def test_a_failed_opening_gives_each_caller_an_error_of_its_own(pool: SessionPool, opener: Opener) -> None:
    opener.failure = UpstreamUnreachable("no", sent=False)
    errors = await asyncio.gather(*(pool.get("key", opener) for _ in range(3)), return_exceptions=True)
    assert opener.asked == 1
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert isinstance(error, UpstreamUnreachable)
        assert (error.message, error.sent, error.extra) == ("no", False, {})
    assert len({id(error.extra) for error in errors if isinstance(error, UpstreamUnreachable)}) == 3


async def test_a_failed_opening_that_nobody_waits_for_is_quiet(pool: SessionPool, opener: Opener) -> None:
    opener.may_open.clear()
    opener.failure = UpstreamUnreachable("no", sent=False)
    caller = asyncio.create_task(pool.get("key", opener))
    await eventually(lambda: opener.asked)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    opener.may_open.set()
    opener.failure = None
    assert await pool.get("key", opener)


async def test_a_session_discarded_while_it_is_opened_is_closed_and_not_kept(pool: SessionPool, opener: Opener) -> None:
    opener.may_open.clear()
    caller = asyncio.create_task(pool.get(("connection", 1), opener))
    await eventually(lambda: opener.asked)
    pool.discard_matching(lambda key: key[0] == "connection")
    opener.may_open.set()
    with pytest.raises(UpstreamClosed):
        await caller
    assert opener.sessions[0][1].closed
    assert await pool.get(("connection", 1), opener) is opener.sessions[1][0]


async def test_a_dead_session_is_replaced(pool: SessionPool, opener: Opener) -> None:
    first = await pool.get("key", opener)
    opener.sessions[0][1].alive = False
    second = await pool.get("key", opener)
    second.usable = False
    third = await pool.get("key", opener)
    assert len({id(first), id(second), id(third)}) == 3
    await eventually(lambda: opener.sessions[0][1].closed and opener.sessions[1][1].closed)


async def test_the_one_idle_longest_makes_room(pool: SessionPool, opener: Opener) -> None:
    for key in ("a", "b", "c"):
        (await pool.get(key, opener)).last_used = ord(key)
    await pool.get("d", opener)
    await eventually(lambda: opener.sessions[0][1].closed)
    assert [wire.closed for _, wire in opener.sessions] == [True, False, False, False]


async def test_idle_sessions_are_closed(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "REAP_EVERY", 0.01)
    pool = SessionPool(max_sessions=3)
    await pool.open()
    (await pool.get("old", opener)).last_used -= pool_module.IDLE_SECONDS
    await pool.get("new", opener)
    await eventually(lambda: opener.sessions[0][1].closed)
    assert not opener.sessions[1][1].closed
    await pool.close()


async def test_closing_the_pool_closes_what_is_open_and_what_is_being_opened(pool: SessionPool, opener: Opener) -> None:
    await pool.get("open", opener)
    opener.may_open.clear()
    caller = asyncio.create_task(pool.get("opening", opener))
    await eventually(lambda: opener.asked == 2)
    closing = asyncio.create_task(pool.close())
    opener.may_open.set()
    await closing
    await asyncio.gather(caller, return_exceptions=True)
    assert all(wire.closed for _, wire in opener.sessions)
