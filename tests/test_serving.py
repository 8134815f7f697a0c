"""The service as a process: its port, its pid file, and an embedded Postgres that belongs to the data directory."""

import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from auralink.core import embedded_postgres as embedded
from auralink.core.errors import StartupError
from auralink.serving import bound_socket, running_pids, stop
from tests.conftest import Server
from tests.isolation.process import (
    ServiceProcess,
    auralink_here,
    ended,
    free_port,
    installation,
    one_line,
    serving,
    start_service,
)
from tests.service import API, unique

pytestmark = pytest.mark.promise("P-TWO")

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with installation() as data_dir:
        yield data_dir


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


@asynccontextmanager
async def services(data_dir: Path, log: Path, number: int) -> AsyncIterator[list[ServiceProcess]]:
    """Several services that start on one data directory at the same time."""
    async with AsyncExitStack() as stack:
        started = [stack.enter_context(ended(start_service(data_dir, log.with_suffix(f".{n}")))) for n in range(number)]
        for service in started:
            await service.ready()
        yield started


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stop_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data_dir: Path) -> Command:
    """`auralink stop` in this process."""
    return lambda: auralink_here(monkeypatch, capsys, "stop", data_dir=data_dir)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`auralink serve` in this process, for starts that fail."""

    def run(data_dir: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        chosen = {"AURALINK_PORT": str(free_port()), **variables}
        return auralink_here(monkeypatch, capsys, "serve", data_dir=data_dir, **chosen)

    return run


async def test_two_services_share_a_data_directory_and_the_last_one_stops_postgres(data_dir: Path, tmp_path: Path) -> None:
    async with services(data_dir, tmp_path / "log", 2) as (first, second):
        assert set(running_pids(data_dir)) == {first.process.pid, second.process.pid}
        assert first.end() == 0
        assert embedded.status(data_dir) == "running"
        async with second.client(unique()) as client:
            assert (await client.get(f"{API}/mcp/connections")).status_code == 200
        assert second.end() == 0
        assert embedded.status(data_dir) == "stopped"


async def test_stop_ends_what_runs_and_what_kill_9_has_left(data_dir: Path, tmp_path: Path, stop_command: Command) -> None:
    async with services(data_dir, tmp_path / "log", 2) as (first, second):
        first.kill()
        done = stop_command()
        assert (done.returncode, done.stdout) == (0, f"stopped the service (process {second.process.pid})\n")
        assert second.process.wait(10) == 0
    assert embedded.status(data_dir) == "stopped"
    assert list(data_dir.glob("service-*.pid")) == []


def test_stop_after_kill_9_of_every_service_stops_postgres(data_dir: Path, stop_command: Command) -> None:
    embedded.start(data_dir)
    assert stop_command().stdout == "stopped the embedded Postgres\n"
    assert embedded.status(data_dir) == "stopped"
    assert stop_command().stdout.startswith("nothing was running on /")


def test_a_pid_that_another_program_has_by_now_is_not_stopped(data_dir: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as innocent:
        (data_dir / f"service-{innocent.pid}.pid").write_text("")
        assert stop(data_dir) == []
        assert innocent.poll() is None
        innocent.kill()


async def test_it_serves_says_when_postgres_is_away_serves_again_and_leaves_nothing_at_ctrl_c(
    data_dir: Path, tmp_path: Path
) -> None:
    async with serving(data_dir, tmp_path / "log") as service:
        assert running_pids(data_dir) == [service.process.pid]
        async with service.client(unique()) as client:
            assert (await client.get(f"{API}/mcp/connections")).status_code == 200
            embedded.stop(data_dir)
            answer = await client.get("/health/ready")
            assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
            refused = await client.get(f"{API}/mcp/connections")
            assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
            assert (await client.get("/health/live")).status_code == 200
            embedded.start(data_dir)
            assert (await client.get(f"{API}/mcp/connections")).status_code == 200
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(20) in (0, 130)
    assert embedded.status(data_dir) == "stopped"
    assert running_pids(data_dir) == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_taken_port_is_one_line_and_starts_nothing(data_dir: Path, serve: Command) -> None:
    with taken_port() as port:
        line = one_line(serve(data_dir, AURALINK_PORT=str(port)))
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line
    assert "AURALINK_PORT" in line
    assert embedded.status(data_dir) == "stopped"


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "::zz"])
def test_an_address_of_another_machine_is_one_line(data_dir: Path, serve: Command, host: str) -> None:
    assert f"cannot listen on {host}" in one_line(serve(data_dir, AURALINK_HOST=host))


def test_a_data_directory_that_cannot_be_written_is_one_line(serve: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for unusable in (tmp_path / "file" / "data", Path("/proc/auralink-data")):
        line = one_line(serve(unusable))
        assert str(unusable.parent) in line
        assert "AURALINK_DATA_DIR" in line


def test_a_failing_start_leaves_no_postgres_behind(data_dir: Path, serve: Command) -> None:
    assert "MCP_ENCRYPTION_KEY" in one_line(serve(data_dir, MCP_ENCRYPTION_KEY="short"))
    assert embedded.status(data_dir) == "stopped"


@pytest.mark.promise("P-RLS")
@pytest.mark.parametrize("login", ["superuser", "owner"])
def test_a_database_role_that_could_bypass_is_refused_at_start(
    postgres: Server, tmp_path: Path, serve: Command, login: embedded.Login
) -> None:
    address = postgres.dsn(login, postgres.template).reveal()
    done = serve(tmp_path, DATABASE_URL=address, MCP_ENCRYPTION_KEY=KEY)
    assert "could bypass row level security" in one_line(done)


@pytest.mark.promise("P-SECRET")
@pytest.mark.parametrize(
    "address", ["postgresql://user:hidden-word@127.0.0.1:1/nothing", "hidden-word", "postgresql://u:pass@hidden-word@nowhere/db"]
)
def test_an_external_database_that_is_not_there_is_one_line_without_its_password(
    tmp_path: Path, serve: Command, address: str
) -> None:
    line = one_line(serve(tmp_path, DATABASE_URL=address, MCP_ENCRYPTION_KEY=KEY))
    assert "the database cannot be reached" in line
    assert "hidden-word" not in line


def test_a_port_is_bound_once() -> None:
    listener = bound_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with pytest.raises(StartupError, match=str(port)):
        bound_socket("127.0.0.1", port)
    listener.close()
    bound_socket("127.0.0.1", port).close()
