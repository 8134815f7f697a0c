"""`auralink` as a process of its own: what `make run` starts, with its log in a file, to be killed at will."""

import asyncio
import atexit
import contextlib
import functools
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from auralink.auth.tokens import issue_token
from auralink.cli import main
from auralink.core import embedded_postgres as embedded
from auralink.core.migrate import migrate
from auralink.core.secret import Secret
from auralink.mcp.config import get_mcp_config
from tests.places import scratch, scratched
from tests.service import JWT_SECRET

COMMAND = (sys.executable, "-c", "from auralink.cli import main; main()")
PATIENCE = 30.0


def environment(data_dir: Path, **variables: str) -> dict[str, str]:
    """A clean environment: nothing of the test runner's but what a program needs to run."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ}
    ours = {"AURALINK_DATA_DIR": str(data_dir), "JWT_SECRET": JWT_SECRET.reveal(), "LOG_LEVEL": "DEBUG", "TERM": "dumb"}
    return {**kept, **ours, **variables}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def auralink(*arguments: str, data_dir: Path, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(data_dir, **variables),
        cwd=cwd or "/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def auralink_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str, data_dir: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command in this process, which spares its start; only for what ends by itself."""
    given = environment(data_dir, **variables)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with monkeypatch.context() as patch:
        for name in set(os.environ) - set(given):
            patch.delenv(name)
        for name, value in given.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["auralink", *arguments])
        patch.chdir("/")
        capsys.readouterr()
        status: object = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            structlog.reset_defaults()
            get_mcp_config.cache_clear()
    captured = capsys.readouterr()
    return subprocess.CompletedProcess(["auralink", *arguments], int(str(status or 0)), captured.out, captured.err)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that failed says: one line on stderr, after the lines that tell of progress."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("auralink: ")]
    assert len(errors) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == errors[0], done.stderr
    assert "Traceback" not in done.stderr
    return errors[0]


@dataclass
class ServiceProcess:
    """A running `auralink serve`."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def client(self, user: str, *, role: Any = "user", secret: Secret = JWT_SECRET) -> httpx2.AsyncClient:
        """An HTTP client that acts as a user; close it (`async with`)."""
        token = issue_token(secret, subject=user, role=role, ttl=timedelta(hours=1))
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    async def ready(self) -> None:
        """Waits until it answers that it is ready."""
        until = time.monotonic() + PATIENCE
        async with httpx2.AsyncClient(base_url=self.url, timeout=5, trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    if (await client.get("/health/ready")).status_code == 200:
                        return
                assert self.process.poll() is None, f"it ended: {self.log.read_text()[-2000:]}"
                assert time.monotonic() < until, "it did not get ready"
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def end(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def start_service(data_dir: Path, log: Path, *, port: int | None = None, **variables: str) -> ServiceProcess:
    """Starts the service and returns at once."""
    port = port or free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*COMMAND, "serve"],
            env=environment(data_dir, AURALINK_PORT=str(port), **variables),
            cwd="/",
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return ServiceProcess(process, f"http://127.0.0.1:{port}", log)


@contextlib.contextmanager
def ended(service: ServiceProcess) -> Iterator[ServiceProcess]:
    """Makes sure that the process is gone after the block."""
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.kill()


@contextlib.asynccontextmanager
async def serving(data_dir: Path, log: Path, **variables: str) -> AsyncIterator[ServiceProcess]:
    """A service that is ready, ended in order after the block."""
    with ended(start_service(data_dir, log, **variables)) as service:
        await service.ready()
        yield service
        if service.process.poll() is None:
            service.end()


@functools.cache
def _installed() -> Path:
    """A data directory after its first start, stopped; made once in a test process."""
    path = scratch()
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    cluster = embedded.start(path / "data")
    migrate(cluster.dsn("owner"))
    embedded.stop(path / "data")
    return path / "data"


@contextlib.contextmanager
def installation() -> Iterator[Path]:
    """A stopped data directory of the test's own, as a first start has left it; whatever runs on it is ended after the block."""
    with scratched() as place:
        subprocess.run(["cp", "-a", "--reflink=auto", _installed(), place / "data"], check=True)
        try:
            yield place / "data"
        finally:
            embedded.stop(place / "data")
