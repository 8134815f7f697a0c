"""The service as the bench runs it: a process of its own, with limits raised and never switched off, on an embedded database."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from bench import processes


@dataclass(frozen=True)
class Service:
    """A running service."""

    process: subprocess.Popen[bytes]
    postgres: int
    url: str
    port: int
    token: str

    def http(self) -> httpx2.Client:
        """A client that acts as the bench's user."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx2.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=120, trust_env=False)


@contextlib.contextmanager
def running_service(home: Path, upstreams: Mapping[str, int], **more: str) -> Iterator[Service]:
    """A service that knows the upstreams by their kinds; `more` is added to its environment."""
    port = processes.free_port()
    environment = {**_environment(home, upstreams, port), **more}
    (home / "wiki").mkdir(exist_ok=True)
    with processes.running(processes.program("auralink", "serve", **environment)) as process:
        url = f"http://127.0.0.1:{port}"
        _await_ready(url, process)
        yield Service(process, _postmaster(home / "data"), url, port, _token(environment))


def _environment(home: Path, upstreams: Mapping[str, int], port: int) -> dict[str, str]:
    config = home / "mcp-config.yaml"
    servers: dict[str, Any] = {
        kind: {"transport": "http", "endpoint": f"http://127.0.0.1:{number}/mcp", "timeout": 60, "retry_attempts": 0}
        for kind, number in upstreams.items()
    }
    servers["deepwiki"] = {"transport": "in_process", "timeout": 120}
    config.write_text(yaml.safe_dump({"mcp_servers": servers}))
    return {
        "AURALINK_CONFIG": str(config),
        "AURALINK_DATA_DIR": str(home / "data"),
        "AURALINK_PORT": str(port),
        "WIKI_REPO_ROOTS": str(home / "wiki"),
        "DEFAULT_RATE_LIMIT": "100000000",
        "LOG_LEVEL": "WARNING",
    }


def _await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    with httpx2.Client(trust_env=False) as client:
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(httpx2.TransportError):
                if client.get(f"{url}/health/ready").status_code == 200:
                    return
            time.sleep(0.01)
    raise SystemExit("the service did not become ready")


def _postmaster(data: Path) -> int:
    return int(next(data.rglob("postmaster.pid")).read_text().split()[0])


def _token(environment: Mapping[str, str]) -> str:
    command = [str(processes.PROGRAMS / "auralink"), "token", "--user", "bench"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, check=True, text=True, cwd=processes.ROOT
    )
    return str(done.stdout.split()[-1])


def start_times(home: Path, upstreams: Mapping[str, int]) -> tuple[float, float]:
    """Seconds from nothing to ready with an empty data directory, and with one that was used before."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        with running_service(home, upstreams):
            times.append(time.perf_counter() - started)
    return times[0], times[1]
