"""A real Prefect server and its process workers, as processes of their own. `make prefect-server` runs one."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import psutil

from auralink.runs.engine_manifest import default_root, get_place

QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_LOGGING_COLORS": "false"}
POOL = "flows"
START_SECONDS = 120.0


class PrefectServer:
    """A server with its database in a folder; it can die and come back."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/api"

    @property
    def environment(self) -> dict[str, str]:
        """What programs need in order to work with it."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, **QUIET, "PREFECT_API_URL": self.url, "PREFECT_HOME": str(self._home), "HOME": str(self._home)}

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        more = {"PREFECT_UI_ENABLED": "false", "PREFECT_API_BLOCKS_REGISTER_ON_START": "false"}
        database = self._home / "server.db"
        if not database.exists():  # as the engine has kept it; making it takes half the start
            for empty in get_place(default_root(), "prefect").environment.glob("prefect-*.db"):
                shutil.copyfile(empty, database)
        more |= {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"}
        command = [
            "uvicorn",
            "--factory",
            "prefect.server.api.server:create_app",
            "--port",
            str(self._port),
            "--log-level",
            "error",
        ]
        self._process = self._spawn(command, "server.log", more)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.1)
        raise AssertionError(f"the Prefect server does not answer: {(self._home / 'server.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """Kills it, at once."""
        _kill(self._process)

    def prefect(self, *arguments: str, **variables: str) -> str:
        """What a command of Prefect prints."""
        command = [str(_python()), "-m", "prefect", *arguments]
        return subprocess.run(command, env=self.environment | variables, check=True, capture_output=True, text=True).stdout

    def add_pool(self, template: Path) -> None:
        """Makes the work pool, of processes."""
        pool = {"name": POOL, "type": "process", "base_job_template": json.loads(template.read_text())}
        httpx2.post(f"{self.url}/work_pools/", json=pool, timeout=60, trust_env=False).raise_for_status()

    @contextlib.contextmanager
    def worker(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker of the pool, for processes; killed with all its flows after the block."""
        started = ["prefect", "worker", "start", "--pool", POOL, "--type", "process"]
        process = self._spawn(started, "worker.log", {"PREFECT_WORKER_QUERY_SECONDS": "1"})
        try:
            yield process
        finally:
            _kill(process)

    def _spawn(self, module: list[str], log: str, more: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        with (self._home / log).open("ab") as said:
            command = [str(_python()), "-m", *module]
            return subprocess.Popen(command, env=self.environment | more, cwd=self._home, stdout=said, stderr=said)


def _python() -> Path:
    return get_place(default_root(), "prefect").python


def _kill(process: "subprocess.Popen[bytes] | None") -> None:
    """Kills a process and everything that it has started."""
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def main() -> None:
    """Serves until interrupted."""
    with tempfile.TemporaryDirectory(prefix="auralink-prefect-") as name:
        server = PrefectServer(Path(name))
        try:
            server.start()
            print(f"PREFECT_API_URL={server.url}", flush=True)
            server._process.wait()  # type: ignore[union-attr]
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
