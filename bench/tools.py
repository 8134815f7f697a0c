"""What a tool call costs through the gateway, beside a bare reverse proxy measured in the same run.

Nothing is cached, since the tool does not say that it only reads.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import processes
from bench.service import Service

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


@dataclass(frozen=True)
class Door:
    """A way to call the tool, and the processes whose CPU it costs besides the upstream's."""

    name: str
    plan: Mapping[str, Any]
    process: int | None = None
    postgres: int | None = None


@contextlib.contextmanager
def upstream(kind: str, *rest: str) -> Iterator[int]:
    port = processes.free_port()
    with processes.running(processes.program("python", "-m", "bench.upstreams", kind, str(port), *rest)) as process:
        processes.await_port(port, process)
        yield port


def connect(service: Service, servers: tuple[str, ...]) -> None:
    with service.http() as client:
        for server in servers:
            client.post("/mcp/connect", json={"server_type": server}).raise_for_status()


def doors(kind: str, upstream: int, proxy: int | None, service: Service) -> list[Door]:
    bearer = {"Authorization": f"Bearer {service.token}"}
    public = {**CALL, "params": {**CALL["params"], "name": f"{kind}__echo"}}  # type: ignore[dict-item]
    direct = plan(upstream, "/mcp", {**MCP_HEADERS, "Mcp-Name": "echo"}, CALL)
    through_mcp = plan(service.port, "/mcp", {**MCP_HEADERS, **bearer, "Mcp-Name": f"{kind}__echo"}, public)
    through_rest = plan(
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


def plan(port: int, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "path": path, "headers": dict(headers), "body": json.dumps(body)}


def measured(kind: str, doors: list[Door], callers: tuple[int, ...], seconds: float) -> Table:
    table = Table(title=f"tools/call of echo, upstream: {kind}")
    columns = ("callers", "through", "calls/s", "of proxy", "p50 ms", "added", "p99 ms", "added", "CPU ms", "Postgres", "errors")
    for column in columns:
        table.add_column(column, justify="left" if column == "through" else "right")
    for number in callers:
        results = [(door, *run(door, number, seconds)) for door in doors]
        direct, proxy = results[0][1], results[1][1]
        for door, result, cpu, postgres in results:
            table.add_row(
                str(number) if door.name == "direct" else "",
                door.name,
                f"{rate(result):,.0f}",
                f"{rate(result) / rate(proxy):.0%}" if door.process else "",
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


def rate(result: Mapping[str, Any]) -> float:
    return float(result["calls"] / result["seconds"])


def run(door: Door, callers: int, seconds: float) -> tuple[dict[str, Any], float, float]:
    """The load client's figures, and the CPU in ms for each call of the door's process and of Postgres."""
    postgres = processes.family(door.postgres) if door.postgres else []
    before = processes.cpu_seconds(*([door.process] if door.process else [])), processes.cpu_seconds(*postgres)
    result = processes.load({**door.plan, "callers": callers, "seconds": seconds})
    after = processes.cpu_seconds(*([door.process] if door.process else [])), processes.cpu_seconds(*postgres)
    calls = max(result["calls"] + result["warm_up_calls"], 1)
    return result, (after[0] - before[0]) / calls * 1000, (after[1] - before[1]) / calls * 1000
