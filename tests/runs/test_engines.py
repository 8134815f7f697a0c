"""The engine host over real processes: a tiny engine, forked once per run, does well and misbehaves."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest

from auralink.core.secret import Secret
from auralink.runs.engine_manifest import BadManifest, EngineNotInstalled, EngineUnknown, find_places
from auralink.runs.engines import Engines, EngineUnavailable, Failure, Result, Start
from tests.conftest import eventually

ROOT = Path(__file__).resolve().parents[1] / "engines"
ACCEPTED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def a_start(do: str, *, engine: str = "tiny", run_id: UUID | None = None, seconds: float = 60, **given: Any) -> Start:
    return Start(
        run_id=run_id or uuid4(),
        attempt=1,
        engine=engine,
        definition={"do": do},
        input=given,
        mcp_url="http://127.0.0.1:1/mcp",
        llm_url="http://127.0.0.1:1/v1",
        token=Secret("run-token"),
        accepted_at=ACCEPTED,
        deadline=time.time() + seconds,
        memory_mb=64,
    )


class Heard:
    """The events of a run, and a way to wait for the first."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._first = asyncio.Event()

    async def __call__(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self._first.set()

    async def first(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            await self._first.wait()
        return self.events[0]


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    """Engines whose environment is the tests' own."""
    host = Engines(ROOT, Path(sys.executable))
    yield host
    await host.close()


async def test_a_run_gives_its_events_in_order_and_then_its_output(engines: Engines) -> None:
    heard = Heard()
    outcome = await engines.execute(a_start("count", to=500), heard)
    assert outcome == Result(500)
    assert heard.events == [{"type": "state", "data": {"number": number}} for number in range(500)]


async def test_a_run_sees_the_time_at_which_it_was_accepted(engines: Engines) -> None:
    start = a_start("echo", text="héllo")
    outcome = await engines.execute(start, Heard())
    expected = {"said": {"text": "héllo"}, "at": ACCEPTED.isoformat(), "run": str(start.run_id), "attempt": 1}
    assert outcome == Result(expected)


async def test_a_run_has_a_process_home_and_session_of_its_own_and_the_warmed_framework(engines: Engines) -> None:
    seen = (await described(engines))["seen"]
    assert seen["warmed_elsewhere"]
    assert seen["session"]
    assert seen["core"] == 0
    assert seen["threads"] == 1
    home = seen["environment"]["HOME"]
    assert seen["cwd"] == home == seen["environment"]["TMPDIR"]
    assert not Path(home).exists()
    assert len(seen["descriptors"]) < 10


@pytest.mark.promise("P-SECRET")
async def test_a_run_inherits_no_secret_and_has_telemetry_switched_off(monkeypatch: pytest.MonkeyPatch, engines: Engines) -> None:
    for name in ("OPENAI_API_KEY", "MCP_ENCRYPTION_KEY", "DATABASE_URL", "JWT_SECRET", "HTTPS_PROXY", "SOMETHING_PRIVATE"):
        monkeypatch.setenv(name, "keep-this-to-yourself")
    environment = (await described(engines))["seen"]["environment"]
    assert "keep-this-to-yourself" not in str(environment)
    assert "run-token" not in str(environment)
    expected = {
        "DO_NOT_TRACK": "1",
        "OTEL_SDK_DISABLED": "true",
        "LANGSMITH_TRACING": "false",
        "CREWAI_DISABLE_TELEMETRY": "true",
    }
    assert expected.items() <= environment.items()
    assert environment["TINY"] == "yes"


async def test_two_attempts_of_a_run_take_the_same_chances(engines: Engines) -> None:
    run_id = uuid4()
    first, second = [(await described(engines, run_id=run_id))["seen"] for _ in range(2)]
    assert (first["chance"], first["hash"]) == (second["chance"], second["hash"])
    assert first["chance"] != (await described(engines))["seen"]["chance"]


async def test_what_a_framework_prints_cannot_pass_for_a_message(engines: Engines) -> None:
    assert await engines.execute(a_start("noise"), Heard()) == Result("quiet")


async def test_a_failure_names_the_error_and_where(engines: Engines) -> None:
    outcome = await engines.execute(a_start("fail"), Heard())
    assert isinstance(outcome, Failure)
    assert (outcome.type, outcome.message) == ("ValueError", "the answer is no")
    assert "tiny_engine.py" in outcome.traceback
    assert not outcome.lost


async def test_a_gateway_that_is_gone_loses_the_attempt_and_does_not_fail_the_run(engines: Engines) -> None:
    outcome = await engines.execute(a_start("lose"), Heard())
    assert isinstance(outcome, Failure)
    assert outcome.lost
    assert outcome.message == "no gateway there"


@pytest.mark.parametrize(
    ("given", "said"),
    [({"status": 3}, "ended with status 3"), ({"signal": signal.SIGSEGV, "status": 0}, "was killed by SIGSEGV")],
)
async def test_a_process_that_dies_is_a_failure_with_its_status_and_last_words(
    engines: Engines, given: dict[str, int], said: str
) -> None:
    outcome = await engines.execute(a_start("crash", **given), Heard())
    assert isinstance(outcome, Failure)
    assert outcome.lost
    assert outcome.type == "ProcessDied"
    assert said in outcome.message
    assert "about to crash" in outcome.message
    assert "about to crash" in outcome.traceback


async def test_a_run_that_wants_too_much_memory_fails_alone(engines: Engines) -> None:
    small, large = await asyncio.gather(
        engines.execute(a_start("eat", mib=8), Heard()), engines.execute(a_start("eat", mib=300), Heard())
    )
    assert small == Result(8)
    assert isinstance(large, Failure)
    assert large.type == "MemoryError"
    assert "64 MiB" in large.message


async def test_a_run_that_uses_up_its_processor_time_is_ended(engines: Engines) -> None:
    outcome = await engines.execute(a_start("spin"), Heard())
    assert isinstance(outcome, Failure)
    assert outcome.type == "CpuLimit"
    assert not outcome.lost


async def test_a_run_that_is_cancelled_leaves_no_process(engines: Engines) -> None:
    heard, task = begun(engines, a_start("wait"))
    pid = (await heard.first())["data"]["pid"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(pid)


async def test_a_run_that_ignores_being_cancelled_is_killed_with_what_it_started(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auralink.runs.engines.PATIENCE", 0.3)
    heard, task = begun(engines, a_start("ignore"))
    pids = (await heard.first())["data"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not alive(pids["pid"]) and not alive(pids["grandchild"]))


async def test_a_run_past_its_deadline_is_ended(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auralink.runs.engines.PATIENCE", 0.2)
    outcome = await engines.execute(a_start("wait", seconds=1), Heard())
    assert isinstance(outcome, Failure)
    assert outcome.type == "DeadlineExceeded"


async def test_a_run_whose_events_cannot_be_stored_is_ended(engines: Engines) -> None:
    pids: list[int] = []

    async def refuse(event: dict[str, Any]) -> None:
        pids.append(event["data"]["pid"])
        raise OSError("the database is gone")

    with pytest.raises(OSError, match="the database is gone"):
        await engines.execute(a_start("wait"), refuse)
    assert not psutil.pid_exists(pids[0])


async def test_events_that_are_too_large_are_left_out_and_that_is_said(engines: Engines) -> None:
    heard = Heard()
    assert await engines.execute(a_start("shout", length=100_000), heard) == Result("y" * 100_000)
    assert heard.events[0]["type"] == "log"
    assert "was left out" in heard.events[0]["data"]["message"]
    assert heard.events[1]["data"]["text"] == "? alone"


@pytest.mark.parametrize(("do", "given"), [("shout", {"length": 9 * 1024 * 1024}), ("nan", {})])
async def test_an_output_that_cannot_be_sent_is_a_failure(engines: Engines, do: str, given: dict[str, int]) -> None:
    outcome = await engines.execute(a_start(do, **given), Heard())
    assert isinstance(outcome, Failure)
    assert outcome.type == "ValueError"


async def test_a_process_that_speaks_no_protocol_is_ended(engines: Engines) -> None:
    outcome = await engines.execute(a_start("break_protocol"), Heard())
    assert isinstance(outcome, Failure)
    assert outcome.type == "ProtocolViolation"


async def test_many_runs_at_once_do_not_meet(engines: Engines) -> None:
    heard = [Heard() for _ in range(20)]
    outcomes = await asyncio.gather(*(engines.execute(a_start("echo", n=n), heard[n]) for n in range(20)))
    assert [outcome.output["said"]["n"] for outcome in outcomes if isinstance(outcome, Result)] == list(range(20))
    assert [one.events[0]["data"]["update"]["n"] for one in heard] == list(range(20))


async def test_an_engine_that_is_killed_loses_its_runs_with_their_processes_and_comes_back(engines: Engines) -> None:
    begun_runs = [begun(engines, a_start("wait")) for _ in range(3)]
    pids = [(await heard.first())["data"]["pid"] for heard, _ in begun_runs]
    os.kill(psutil.Process(pids[0]).ppid(), signal.SIGKILL)
    outcomes = [await task for _, task in begun_runs]
    assert all(isinstance(outcome, Failure) and outcome.type == "EngineDied" and outcome.lost for outcome in outcomes)
    await until(lambda: not any(alive(pid) for pid in pids))
    assert await engines.execute(a_start("count", to=1), Heard()) == Result(1)


async def test_closing_leaves_no_process_and_no_file() -> None:
    engines = Engines(ROOT, Path(sys.executable))
    heard, task = begun(engines, a_start("wait"))
    child = psutil.Process((await heard.first())["data"]["pid"])
    parent, home = child.parent(), Path(child.cwd())
    await engines.close()
    outcome = await task
    assert isinstance(outcome, Failure)
    assert outcome.lost
    assert parent is not None
    assert not alive(child.pid)
    assert not alive(parent.pid)
    assert not home.parent.exists()


async def test_an_engine_is_warmed_before_its_first_run(tmp_path: Path) -> None:
    engines = Engines(ROOT, Path(sys.executable))
    engines.warm("tiny")
    engines.warm("nobody")
    try:
        await eventually(lambda: bool(psutil.Process(os.getpid()).children()))
        assert (await described(engines))["seen"]["warmed"]
    finally:
        await engines.close()


async def test_a_run_reaches_the_two_gateways_and_nothing_else(engines: Engines) -> None:
    async with answering() as mcp, answering() as llm, answering() as other:
        start = a_start("reach", urls=[f"{mcp}/mcp", f"{llm}/v1", f"{other}/x", "http://192.0.2.1/"])
        outcome = await engines.execute(replace(start, mcp_url=f"{mcp}/mcp", llm_url=f"{llm}/v1"), Heard())
    assert isinstance(outcome, Result)
    if not await isolated(engines):
        pytest.skip("this machine gives us no network namespaces; docs/explanation/engines.md says what that means")
    assert outcome.output == {f"{mcp}/mcp": 200, f"{llm}/v1": 200, f"{other}/x": "URLError", "http://192.0.2.1/": "URLError"}


async def test_a_gateway_with_a_name_is_found_where_there_is_no_name_service(engines: Engines) -> None:
    async with answering() as url:
        named = url.replace("127.0.0.1", "localhost")
        start = a_start("reach", urls=[f"{named}/v1"])
        outcome = await engines.execute(replace(start, mcp_url=f"{named}/mcp", llm_url=f"{named}/v1"), Heard())
    assert outcome == Result({f"{named}/v1": 200})


async def test_a_gateway_that_is_not_there_refuses_inside_of_the_run_as_well(engines: Engines) -> None:
    outcome = await engines.execute(a_start("reach", urls=["http://127.0.0.1:1/mcp"]), Heard())
    assert isinstance(outcome, Result)
    assert outcome.output["http://127.0.0.1:1/mcp"] in ("URLError", "RemoteDisconnected", "ConnectionResetError")


async def test_an_engine_whose_relay_dies_comes_back(engines: Engines) -> None:
    if not await isolated(engines):
        pytest.skip("this machine gives us no network namespaces")
    parent = psutil.Process((await described(engines))["seen"]["parent"])
    (relay,) = parent.children()
    relay.kill()
    await until(lambda: not alive(parent.pid))
    outcome = await engines.execute(a_start("count", to=1), Heard())
    if isinstance(outcome, Failure):  # its death was not yet known here: the attempt is lost, and the worker makes another
        assert outcome.lost
        outcome = await engines.execute(a_start("count", to=1), Heard())
    assert outcome == Result(1)


async def test_a_framework_that_cannot_be_forked_runs_in_a_pool_of_warmed_processes(engines: Engines) -> None:
    outcomes = await asyncio.gather(*(engines.execute(a_start("describe", engine="tiny_pool"), Heard()) for _ in range(5)))
    seen = [outcome.output for outcome in outcomes if isinstance(outcome, Result)]
    assert len({one["pid"] for one in seen}) == 5
    assert all(one["warmed"] and one["threads"] == 2 for one in seen)
    assert len({one["cwd"] for one in seen}) == 5
    large = await engines.execute(a_start("echo", engine="tiny_pool", text="z" * 500_000), Heard())
    assert isinstance(large, Result)
    assert len(large.output["said"]["text"]) == 500_000


async def test_a_pool_refuses_nothing_that_a_fork_takes(engines: Engines) -> None:
    outcome = await engines.execute(a_start("crash", engine="tiny_pool", status=4), Heard())
    assert isinstance(outcome, Failure)
    assert "ended with status 4" in outcome.message
    heard, task = begun(engines, a_start("wait", engine="tiny_pool"))
    pid = (await heard.first())["data"]["pid"]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not alive(pid)


async def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    make_engine(tmp_path, module="no_such_module")
    engines = Engines(tmp_path, Path(sys.executable))
    with pytest.raises(EngineUnavailable, match="no_such_module"):
        await engines.execute(a_start("echo", engine="broken"), Heard())
    await engines.close()


async def test_a_framework_with_threads_is_not_forked(tmp_path: Path) -> None:
    make_engine(tmp_path, module="threaded")
    (tmp_path / "broken" / "threaded.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    engines = Engines(tmp_path, Path(sys.executable))
    with pytest.raises(EngineUnavailable, match='set mode = "pool"'):
        await engines.execute(a_start("echo", engine="broken"), Heard())
    await engines.close()


def test_an_engine_that_is_not_installed_says_how_to_install_it() -> None:
    engines = Engines(ROOT)
    with pytest.raises(EngineNotInstalled, match="auralink engines install tiny"):
        engines.manifest("tiny")
    with pytest.raises(EngineUnknown, match=r"there are .*tiny, tiny_pool"):
        engines.manifest("nonesuch")


def test_an_engine_made_from_an_older_lock_is_not_used(tmp_path: Path) -> None:
    make_engine(tmp_path, module="json")
    (place,) = find_places(tmp_path)
    place.python.parent.mkdir(parents=True)
    place.python.symlink_to(sys.executable)
    place.stamp.write_text(place.lock_digest())
    assert Engines(tmp_path).manifest("broken").title == "Broken"
    place.lock.write_text("other==1\n")
    with pytest.raises(EngineNotInstalled, match="older lock"):
        Engines(tmp_path).manifest("broken")


def test_a_manifest_that_says_too_much_is_refused_by_name(tmp_path: Path) -> None:
    make_engine(tmp_path, module="json", more="colour = 'blue'")
    with pytest.raises(BadManifest, match=r"broken/engine\.toml: colour"):
        list(find_places(tmp_path))


@contextlib.asynccontextmanager
async def answering() -> AsyncIterator[str]:
    """An HTTP server that answers everything with 200."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def isolated(engines: Engines) -> bool:
    """Whether runs have a network of their own here: then their namespace is another than ours."""
    seen = (await described(engines))["seen"]
    return bool(seen["network"] != str(Path("/proc/self/ns/net").readlink()))


def make_engine(root: Path, *, module: str, more: str = "") -> None:
    folder = root / "broken"
    folder.mkdir()
    (folder / "requirements.txt").write_text("")
    text = f'name = "broken"\ntitle = "Broken"\nframework = "none"\nmodule = "{module}"\nkinds = ["workflow"]\n{more}\n'
    (folder / "engine.toml").write_text(text)


async def described(engines: Engines, run_id: UUID | None = None) -> dict[str, Any]:
    outcome = await engines.execute(a_start("describe", run_id=run_id), Heard())
    assert isinstance(outcome, Result), outcome
    return {"seen": outcome.output}


def begun(engines: Engines, start: Start) -> tuple[Heard, asyncio.Task[Result | Failure]]:
    heard = Heard()
    return heard, asyncio.create_task(engines.execute(start, heard))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
