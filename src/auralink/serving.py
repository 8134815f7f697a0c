"""Runs the service as a process: one port, a pid file of its own, and an embedded Postgres that the last one to leave stops.

Several services may share a data directory. A pid file is locked by its process for as long as that lives, so that a killed one
is never mistaken for a running one, nor another program with its pid for it.
"""

import asyncio
import contextlib
import fcntl
import gc
import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from auralink.app import build_app
from auralink.bootstrap import Foundation, Progress, data_dir_of, lay_foundation
from auralink.core import embedded_postgres as embedded
from auralink.core.embedded_postgres.directory import in_one_line, prepare_data_dir
from auralink.core.embedded_postgres.os_user import database_user
from auralink.core.errors import StartupError
from auralink.core.logging import configure_logging
from auralink.core.settings import Settings
from auralink.mcp.config import MCPConfig
from auralink.runs.engine_manifest import default_root, find_places

log = structlog.get_logger(__name__)

PID_FILE = "service-{pid}.pid"
USERS_FILE = "service.lock"
BACKLOG = 2048
OBJECTS_BETWEEN_COLLECTIONS = 10_000
UNREAD_SECONDS = 30
"""How long a client may take nothing of what was sent to it. After that the kernel ends its connection: to close one, or to wait
for its end, would keep what it has not read for as long as it likes."""
DRAIN_SECONDS = 10
"""How long calls under way may take when the service is asked to stop."""

WORKER_PATIENCE = 10.0
"""Seconds that the worker has to give its runs back before it is killed."""
WORKER_PAUSES = (1.0, 2.0, 5.0, 15.0)
"""Before a worker that ended is started again."""

WhenServing = Callable[[Foundation], Awaitable[None]]


def serve(settings: Settings, config: MCPConfig, progress: Progress, when_serving: WhenServing | None = None) -> None:
    """Serves until SIGINT or SIGTERM. `when_serving` runs beside it once requests are answered.

    Raises:
        StartupError: it cannot start; one line that says why.
    """
    configure_logging(settings.log_level, settings.log_format)
    with (
        contextlib.closing(bound_socket(settings.auralink_host, settings.auralink_port)) as listener,
        registered(data_dir_of(settings), embedded_database=settings.embedded),
    ):
        foundation = lay_foundation(settings, progress)
        app = build_app(settings, config, foundation)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(app, listener, foundation, when_serving))


class _Server(uvicorn.Server):
    """A server that says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._captured_signals.clear()  # raised again, they would end the process before the lifespan and Postgres are closed


async def _serve(app: FastAPI, listener: socket.socket, foundation: Foundation, when_serving: WhenServing | None) -> None:
    server = _Server(
        uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=DRAIN_SECONDS, server_header=False
        )
    )
    async with app.router.lifespan_context(app), _beside(server, foundation, when_serving), _worker_beside(server):
        _settle_memory()
        await server.serve(sockets=[listener])


def _settle_memory() -> None:
    """What is there by now stays for good: the garbage collector leaves it out from here on, and looks less often. With its
    defaults it takes a tenth of the CPU of a call, and the largest pauses."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, 20, 20)


@contextlib.asynccontextmanager
async def _beside(server: _Server, foundation: Foundation, when_serving: WhenServing | None) -> AsyncIterator[None]:
    """Runs `when_serving` once the server has started; its failure stops the server and comes out here."""

    async def run() -> None:
        await server.up.wait()
        assert when_serving is not None
        try:
            await when_serving(foundation)
        except BaseException:
            server.should_exit = True
            raise

    task = asyncio.create_task(run()) if when_serving is not None else None
    yield
    if task is not None:
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _worker_beside(server: _Server) -> AsyncIterator[None]:
    """Keeps a worker running as a process of its own, which the API's requests do not feel; none where no engine is installed."""
    task = asyncio.create_task(_keep_worker(server)) if _any_engine() else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _any_engine() -> bool:
    return any(place.state() == "installed" for place in find_places(default_root()))


async def _keep_worker(server: _Server) -> None:
    await server.up.wait()
    for ended in itertools.count():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "auralink", "worker", "--beside", stdin=asyncio.subprocess.PIPE
        )
        try:
            status = await process.wait()
        finally:
            await _end(process)
        log.warning("the worker has ended and is started again", status=status)
        await asyncio.sleep(WORKER_PAUSES[min(ended, len(WORKER_PAUSES) - 1)])


async def _end(worker: asyncio.subprocess.Process) -> None:
    """Closes the worker's standard input, which stops it, also if we are killed."""
    assert worker.stdin is not None
    worker.stdin.close()
    try:
        async with asyncio.timeout(WORKER_PATIENCE):
            await worker.wait()
    except TimeoutError:
        worker.kill()
        await worker.wait()


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        StartupError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)  # those accepted inherit it
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupError(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what uses it (`make stop`), or set AURALINK_PORT"
        ) from None
    return listener


def stop(data_dir: Path, *, wait_seconds: float = 15.0) -> list[str]:
    """Stops the services and the embedded Postgres of a data directory, also what a killed run left; says what it stopped."""
    stopped = []
    for pid in running_pids(data_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _wait_for_end(data_dir, pid, wait_seconds)
        stopped.append(f"the service (process {pid})")
    if embedded.stop(data_dir):
        stopped.append("the embedded Postgres")
    return stopped


def running_pids(data_dir: Path) -> list[int]:
    """The processes that serve on a data directory; what killed ones have left is cleared away."""
    return [int(path.stem.removeprefix("service-")) for path in data_dir.glob(PID_FILE.format(pid="*")) if _is_held(path)]


def _is_held(pid_file: Path) -> bool:
    try:
        with pid_file.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            pid_file.unlink()
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _wait_for_end(data_dir: Path, pid: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if pid not in running_pids(data_dir):
            return
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def registered(data_dir: Path, *, embedded_database: bool) -> Iterator[None]:
    """Notes the process in the data directory while it runs; the last one to leave stops the embedded Postgres.

    It is noted before it starts or finds a Postgres, so that one who leaves meanwhile does not stop that under it.

    Raises:
        StartupError: the directory cannot be used.
    """
    with in_one_line(data_dir):
        if embedded_database:
            prepare_data_dir(data_dir, database_user(data_dir / "postgres"))
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        users = os.open(data_dir / USERS_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(users, fcntl.LOCK_SH)
        pid_file, held = _claim_pid_file(data_dir)
    try:
        yield
    finally:
        if embedded_database and _is_last(users):
            embedded.stop(data_dir)
        pid_file.unlink(missing_ok=True)
        os.close(held)
        os.close(users)


def _claim_pid_file(data_dir: Path) -> tuple[Path, int]:
    """The pid file of this process, locked before anybody sees it."""
    path = data_dir / PID_FILE.format(pid=os.getpid())
    unseen = path.with_suffix(".new")
    held = os.open(unseen, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    unseen.rename(path)
    return path, held


def _is_last(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # optional extra: there is no wheel for Windows
    except ImportError:
        return None
    return uvloop.new_event_loop
