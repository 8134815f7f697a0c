"""Servers over stdio as real processes: the SDK's, one from npm, and one that misbehaves in every way a process can."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auralink.mcp.upstream import child, stdio
from auralink.mcp.upstream.errors import (
    UpstreamAnswerTooLarge,
    UpstreamClosed,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from auralink.mcp.upstream.session import UpstreamSession
from tests.conftest import eventually
from tests.mcp.upstream.conftest import SERVER, Listener, soon
from tests.node import reference_server

PROJECT = Path(__file__).parents[3]


@contextlib.asynccontextmanager
async def started(command: str, *args: str, **env: str) -> AsyncIterator[UpstreamSession]:
    """A session with a program."""
    transport = stdio.StdioTransport(SERVER, command, args, {"PYTHONPATH": str(PROJECT), **env})
    await transport.start()
    session = UpstreamSession(transport, SERVER)
    try:
        await session.open(20)
        yield session
    finally:
        await session.close()


def misbehaving(mode: str, *args: str | Path) -> contextlib.AbstractAsyncContextManager[UpstreamSession]:
    """A session with the server that misbehaves in this way when it is called."""
    return started(sys.executable, "-m", "tests.upstreams.child", mode, *map(str, args))


async def call(session: UpstreamSession, tool: str = "pay", seconds: float = 10.0) -> str:
    """Calls a tool and returns its first text."""
    result = await session.request("tools/call", {"name": tool, "arguments": {}}, soon(seconds))
    return str(result["content"][0]["text"])


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.promise("P-ERA")
async def test_a_server_of_the_sdk_answers_over_stdio() -> None:
    async with started(sys.executable, "-m", "tests.upstreams.sdk", TESTS_CHATTER="1") as session:
        assert session.protocol_version == "2026-07-28"
        assert set(await session.list_tools(soon())) == {"echo", "pay", "fail", "count"}
        peer = Listener()
        params = {"name": "count", "arguments": {"to": 2}, "_meta": {"progressToken": "mine"}}
        result = await session.request("tools/call", params, soon(), peer=peer)
        assert result["structuredContent"] == {"result": 2}
        assert [message["params"]["progressToken"] for message in peer.heard] == ["mine", "mine"]
        texts = [f"{n} ä\u2028" for n in range(20)]
        calls = [session.request("tools/call", {"name": "echo", "arguments": {"text": text}}, soon()) for text in texts]
        assert [answer["content"][0]["text"] for answer in await asyncio.gather(*calls)] == texts


@pytest.mark.needs_node
@pytest.mark.promise("P-ERA")
async def test_the_reference_server_of_the_handshake_era_answers_over_stdio(tmp_path: Path) -> None:
    program = reference_server("server-memory", MEMORY_FILE_PATH=str(tmp_path / "memory.jsonl"))
    async with started(program.command, *program.args, **(program.env or {})) as session:
        assert session.protocol_version in ("2025-11-25", "2025-06-18")
        assert "create_entities" in await session.list_tools(soon())
        entity = {"name": "Ada", "entityType": "person", "observations": ["writes programs"]}
        await session.request("tools/call", {"name": "create_entities", "arguments": {"entities": [entity]}}, soon())
        found = await session.request("tools/call", {"name": "search_nodes", "arguments": {"query": "programs"}}, soon())
        assert "Ada" in found["content"][0]["text"]


async def test_a_server_that_starts_slowly_is_greeted_again() -> None:
    arguments = ("-m", "tests.upstreams.child", "late")
    transport = stdio.StdioTransport(SERVER, sys.executable, arguments, {"PYTHONPATH": str(PROJECT)})
    await transport.start()
    session = UpstreamSession(transport, SERVER)
    while True:
        try:
            await session.open(1.0)
            break
        except UpstreamTimeout:
            assert transport.alive
    assert session.protocol_version == "2026-07-28"
    await session.close()


async def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(UpstreamUnreachable, match="'a-server': cannot start 'no-such-program': No such file"):
        async with started("no-such-program"):
            pass


async def test_a_program_that_is_no_server_says_its_last_words() -> None:
    with pytest.raises(UpstreamClosed, match=r"'a-server' has ended with exit status 2: .*no-such-file") as failure:
        async with started(sys.executable, "no-such-file.py"):
            pass
    assert failure.value.code == "upstream_closed"


async def test_a_child_that_dies_in_a_call_fails_it_with_its_last_words(tmp_path: Path) -> None:
    async with misbehaving("die", tmp_path / "calls") as session:
        with pytest.raises(UpstreamClosed, match="exit status 3: panic: out of luck") as failure:
            await call(session)
        assert failure.value.sent
        with pytest.raises(UpstreamClosed) as refused:
            await call(session)
        assert not refused.value.sent, "the second call was never written"
        assert (tmp_path / "calls").read_text() == "pay\n"


async def test_every_call_under_way_fails_with_an_error_of_its_own(tmp_path: Path) -> None:
    async with misbehaving("hang", tmp_path / "calls") as session:
        calls = [asyncio.create_task(call(session)) for _ in range(3)]
        await eventually((tmp_path / "calls").exists)
        await session.close()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in errors] == [UpstreamClosed] * 3
        assert len({id(error) for error in errors}) == 3


async def test_a_hung_child_costs_no_more_than_the_deadline() -> None:
    async with asyncio.timeout(10), misbehaving("hang") as session:
        with pytest.raises(UpstreamTimeout, match=r"did not answer tools/call within 0\.2 s"):
            await call(session, seconds=0.2)


async def test_a_child_that_never_reads_is_bounded_in_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE", 0.1)
    monkeypatch.setattr(stdio, "MAX_UNREAD_BYTES", 300_000)
    transport = stdio.StdioTransport(
        SERVER, sys.executable, ("-m", "tests.upstreams.child", "deaf"), {"PYTHONPATH": str(PROJECT)}
    )
    await transport.start()
    big = {"jsonrpc": "2.0", "method": "tools/call", "params": {"text": "x" * 200_000}}
    async with asyncio.timeout(10):
        for number in (1, 2):
            with pytest.raises(UpstreamTimeout):
                await transport.exchange({**big, "id": number}, headers={}, timeout=0.05)
        with pytest.raises(UpstreamClosed, match="does not read its input"):
            await transport.exchange({**big, "id": 3}, headers={}, timeout=5)
        await transport.close()


@pytest.mark.parametrize("mode", ["garbage", "flood"])
async def test_noise_harms_no_call(mode: str) -> None:
    async with misbehaving(mode) as session:
        assert [await call(session), await call(session, "echo")] == [mode, mode]


async def test_a_line_of_ten_megabytes_ends_the_child() -> None:
    async with misbehaving("long-line") as session:
        with pytest.raises(UpstreamAnswerTooLarge, match="a line of more than 4 MiB"):
            await call(session)


async def test_a_child_that_closes_its_output_is_not_waited_for() -> None:
    async with misbehaving("close-stdout") as session:
        with pytest.raises(UpstreamClosed):
            await call(session)


@pytest.mark.parametrize("mode", ["grandchild", "runaway"])
async def test_what_a_dead_child_left_behind_holds_no_call(tmp_path: Path, mode: str) -> None:
    pid_file = tmp_path / "pid"
    try:
        async with misbehaving(mode, pid_file) as session:
            with pytest.raises(UpstreamClosed, match="exit status"):
                await call(session)
        if mode == "grandchild":
            await eventually(lambda: not is_running(int(pid_file.read_text())))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 9)


async def test_a_child_that_refuses_to_exit_is_killed_with_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE", 0.1)
    pid_file = tmp_path / "pid"
    async with misbehaving("stubborn", pid_file) as session:
        assert await call(session) == "stubborn"
        assert is_running(int(pid_file.read_text()))
    await eventually(lambda: not is_running(int(pid_file.read_text())))


async def test_a_cancelled_call_is_cancelled_at_the_server() -> None:
    echo = "import sys\nfor line in sys.stdin: print(line, file=sys.stderr, flush=True)"
    transport = stdio.StdioTransport(SERVER, sys.executable, ("-c", echo), {})
    await transport.start()
    request = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {}}
    with pytest.raises(UpstreamTimeout):
        await transport.exchange(request, headers={}, timeout=0.5)
    assert transport._child is not None
    await eventually(lambda: '"requestId":5' in transport._child.last_words())
    await transport.close()


async def test_a_child_gets_none_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_ENCRYPTION_KEY", "canary")
    show = "import os, sys; sys.stderr.write(' '.join(sorted(os.environ))); sys.exit(9)"
    with pytest.raises(UpstreamError) as failure:
        async with started(sys.executable, "-c", show, OWN="1"):
            pass
    assert "OWN" in failure.value.message
    assert "MCP_ENCRYPTION_KEY" not in failure.value.message
