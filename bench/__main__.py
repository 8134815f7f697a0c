"""`make bench`: what a tool call costs through the gateway, printed beside a bare reverse proxy measured in the same run.

Upstreams, proxy, service and load client are processes of their own. Limits are raised, never switched off; nothing is cached,
since the tool does not say that it only reads. Only the ratios and the CPU per call carry over to another machine.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml
from rich.console import Console
from rich.table import Table

from bench import processes, strain

CALLERS = (1, 10, 50, 200)
TEXT = "x" * 100
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "echo",
        "arguments": {"text": TEXT},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
}
MCP_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
}
FILES, QUICK_FILES = 5000, 500
QUESTIONS = ("Where is a connection pool closed?", "How are retries counted?", "What parses the header?")


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


@dataclass(frozen=True)
class Door:
    """A way to call the tool, and the processes whose CPU it costs besides the upstream's."""

    name: str
    plan: Mapping[str, Any]
    process: int | None = None
    postgres: int | None = None


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half a minute instead of three")
    parser.add_argument("--callers", type=int, nargs="+", help=f"how many at once (default {' '.join(map(str, CALLERS))})")
    parser.add_argument("--no-wiki", action="store_true", help="leave the indexing out")
    parser.add_argument("--strain", action="store_true", help="measure the strain on neighbours and nothing else")
    chosen = parser.parse_args()
    seconds = 0.6 if chosen.quick else 2.0
    callers = chosen.callers or ((1, 50) if chosen.quick else CALLERS)
    console = Console(width=None if sys.stdout.isatty() else 120)
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="auralink-bench-", ignore_cleanup_errors=True)))
        home.chmod(0o711)
        upstreams = {kind: stack.enter_context(_upstream(kind)) for kind in ("bare", "sdk")}
        proxies = {
            kind: stack.enter_context(_upstream("proxy", f"http://127.0.0.1:{port}/mcp")) for kind, port in upstreams.items()
        }
        if chosen.strain:
            _print_strain(console, home, upstreams["bare"], quick=chosen.quick)
            return
        cold, warm = _start_times(home, upstreams)
        service = stack.enter_context(_service(home, upstreams))
        idle = processes.memory_mib(service.process.pid)
        _connect(service, tuple(upstreams))
        for kind, port in upstreams.items():
            console.print(_measured(kind, _doors(kind, port, proxies[kind], service), callers, seconds))
        loaded = processes.memory_mib(service.process.pid)
        console.print(_facts(cold, warm, idle, loaded))
        if not chosen.quick:
            _print_strain(console, home / "strain", upstreams["bare"], quick=False)
        if not chosen.no_wiki:
            console.print(_wiki(service, home / "wiki" / "bench" / "code", QUICK_FILES if chosen.quick else FILES))


def _print_strain(console: Console, home: Path, bare: int, *, quick: bool) -> None:
    """Measures a service of its own, on which nothing else has left a trace."""
    home.mkdir(mode=0o711, exist_ok=True)
    with contextlib.ExitStack() as stack:
        ports = {"bare": bare, **{kind: stack.enter_context(_upstream(kind)) for kind in ("hang", "flood")}}
        ports["killed"] = processes.free_port()
        doomed = stack.enter_context(
            processes.running(processes.program("python", "-m", "bench.upstreams", "bare", str(ports["killed"])))
        )
        processes.await_port(ports["killed"], doomed)
        service = stack.enter_context(_service(home, ports))
        _connect(service, tuple(ports))
        plans = {kind: dict(_doors(kind, ports[kind], None, service)[-1].plan) for kind in ports}
        pid = service.process.pid
        console.print(strain.abandoned(plans["bare"], pid, strain.QUICK_SESSIONS if quick else strain.SESSIONS))
        console.print(strain.strained(plans["bare"], plans, doomed.kill, pid, seconds=3.0 if quick else 10.0))


@contextlib.contextmanager
def _upstream(kind: str, *rest: str) -> Iterator[int]:
    port = processes.free_port()
    with processes.running(processes.program("python", "-m", "bench.upstreams", kind, str(port), *rest)) as process:
        processes.await_port(port, process)
        yield port


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


@contextlib.contextmanager
def _service(home: Path, upstreams: Mapping[str, int]) -> Iterator[Service]:
    port = processes.free_port()
    environment = _environment(home, upstreams, port)
    (home / "wiki").mkdir(exist_ok=True)
    with processes.running(processes.program("auralink", "serve", **environment)) as process:
        url = f"http://127.0.0.1:{port}"
        _await_ready(url, process)
        yield Service(process, _postmaster(home / "data"), url, port, _token(environment))


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
    command = [processes.PROGRAMS / "auralink", "token", "--user", "bench"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, check=True, text=True, cwd=processes.ROOT
    )
    return done.stdout.split()[-1]


def _start_times(home: Path, upstreams: Mapping[str, int]) -> tuple[float, float]:
    """Seconds from nothing to ready with an empty data directory, and with one that was used before."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        with _service(home, upstreams):
            times.append(time.perf_counter() - started)
    return times[0], times[1]


def _connect(service: Service, servers: tuple[str, ...]) -> None:
    with service.http() as client:
        for server in servers:
            client.post("/mcp/connect", json={"server_type": server}).raise_for_status()


def _doors(kind: str, upstream: int, proxy: int | None, service: Service) -> list[Door]:
    bearer = {"Authorization": f"Bearer {service.token}"}
    public = {**CALL, "params": {**CALL["params"], "name": f"{kind}__echo"}}  # type: ignore[dict-item]
    direct = _plan(upstream, "/mcp", {**MCP_HEADERS, "Mcp-Name": "echo"}, CALL)
    through_mcp = _plan(service.port, "/mcp", {**MCP_HEADERS, **bearer, "Mcp-Name": f"{kind}__echo"}, public)
    through_rest = _plan(
        service.port,
        f"/api/v1/mcp/tools/{kind}__echo/call",
        {"Content-Type": "application/json", **bearer},
        {"arguments": {"text": TEXT}},
    )
    bare = [] if proxy is None else [Door("bare proxy", {**direct, "port": proxy}, _listener(proxy))]
    return [
        Door("direct", direct),
        *bare,
        Door("REST", through_rest, service.process.pid, service.postgres),
        Door("/mcp", through_mcp, service.process.pid, service.postgres),
    ]


def _listener(port: int) -> int:
    """The process whose command line names the port: a proxy that was started here."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if b"bench.upstreams" in words and str(port).encode() in words:
                return int(entry.name)
    raise SystemExit(f"no process has port {port}")


def _plan(port: int, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "path": path, "headers": dict(headers), "body": json.dumps(body)}


def _measured(kind: str, doors: list[Door], callers: tuple[int, ...], seconds: float) -> Table:
    table = Table(title=f"tools/call of echo, upstream: {kind}")
    columns = ("callers", "through", "calls/s", "of proxy", "p50 ms", "added", "p99 ms", "added", "CPU ms", "Postgres", "errors")
    for column in columns:
        table.add_column(column, justify="left" if column == "through" else "right")
    for number in callers:
        results = [(door, *_run(door, number, seconds)) for door in doors]
        direct, proxy = results[0][1], results[1][1]
        for door, result, cpu, postgres in results:
            table.add_row(
                str(number) if door.name == "direct" else "",
                door.name,
                f"{_rate(result):,.0f}",
                f"{_rate(result) / _rate(proxy):.0%}" if door.process else "",
                f"{result['p50_ms']:.2f}",
                f"{result['p50_ms'] - direct['p50_ms']:+.2f}" if door.process else "",
                f"{result['p99_ms']:.2f}",
                f"{result['p99_ms'] - direct['p99_ms']:+.2f}" if door.process else "",
                f"{cpu:.3f}" if door.process else "",
                f"{postgres:.3f}" if door.postgres else "",
                str(result["errors"]) + (f" {result['sample'][:200]}" if result["errors"] else ""),
            )
        table.add_section()
    return table


def _rate(result: Mapping[str, Any]) -> float:
    return float(result["calls"] / result["seconds"])


def _run(door: Door, callers: int, seconds: float) -> tuple[dict[str, Any], float, float]:
    """The load client's figures, and the CPU in ms for each call of the door's process and of Postgres."""
    postgres = processes.family(door.postgres) if door.postgres else []
    before = processes.cpu_seconds(*([door.process] if door.process else [])), processes.cpu_seconds(*postgres)
    result = processes.load({**door.plan, "callers": callers, "seconds": seconds})
    after = processes.cpu_seconds(*([door.process] if door.process else [])), processes.cpu_seconds(*postgres)
    calls = max(result["calls"] + result["warm_up_calls"], 1)
    return result, (after[0] - before[0]) / calls * 1000, (after[1] - before[1]) / calls * 1000


def _facts(cold: float, warm: float, idle: float, loaded: float) -> Table:
    table = Table(title="the service", show_header=False)
    table.add_row("start to ready, empty data directory", f"{cold:.2f} s")
    table.add_row("start to ready, used before", f"{warm:.2f} s")
    table.add_row("API process, idle (PSS)", f"{idle:.0f} MiB")
    table.add_row("API process, after the load (PSS)", f"{loaded:.0f} MiB")
    return table


def _wiki(service: Service, repository: Path, files: int) -> Table:
    """The time to index a repository made of this environment's own libraries, and that of a question afterwards."""
    made = _copy_sources(repository, files)
    table = Table(title="the wiki", show_header=False)
    with service.http() as client:
        answer = client.post("/mcp/connect", json={"server_type": "deepwiki"}).raise_for_status()
        body = {"connection_id": answer.json()["connection_id"], "repo_name": str(repository)}
        started = time.perf_counter()
        client.post("/mcp/deepwiki/ask", json={**body, "question": QUESTIONS[0]}).raise_for_status()
        table.add_row(f"indexing {made:,} files, and the first answer", f"{time.perf_counter() - started:.2f} s")
        times = []
        for question in QUESTIONS * 5:
            started = time.perf_counter()
            client.post("/mcp/deepwiki/ask", json={**body, "question": question}).raise_for_status()
            times.append(time.perf_counter() - started)
    table.add_row(
        "a question afterwards, median and worst", f"{sorted(times)[len(times) // 2] * 1000:.1f} ms, {max(times) * 1000:.1f} ms"
    )
    return table


def _copy_sources(repository: Path, files: int) -> int:
    """Fills a folder with that many different files: the small sources first, and again under another last line if need be."""
    sources = sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py"), key=lambda path: (path.stat().st_size > 200_000, path))
    for number in range(files):
        source = sources[number % len(sources)]
        target = repository / f"part{number // 100:02}" / f"{number:05}_{source.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes() + b"\n# copy %d\n" % (number // len(sources)))
    return files


if __name__ == "__main__":
    main()
