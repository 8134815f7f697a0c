"""What a model call costs through the gateway, beside the same call to the vendor itself, measured in the same run."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import processes
from bench.service import Service, running_service
from bench.tools import Door, run

PATH = "/v1/chat/completions"
MODEL = "openai/gpt-5-mini"
MESSAGES = [{"role": "user", "content": "Hello there, how are you?"}]
STREAMS: tuple[tuple[int, dict[str, int]], ...] = ((1, {}), (50, {}), (500, {"max_tokens": 99}))
"""How many at once, and what makes them slow: all 500 are then open at the same time."""
ROUNDS = 3


def measure(console: Console, home: Path, callers: tuple[int, ...], seconds: float) -> None:
    """Runs the vendor and a service, and prints two tables."""
    with contextlib.ExitStack() as stack:
        port = processes.free_port()
        vendor = stack.enter_context(processes.running(processes.program("python", "-m", "bench.vendor", "serve", str(port))))
        processes.await_port(port, vendor)
        account = {"OPENAI_API_KEY": "a-key-of-the-bench", "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        service = stack.enter_context(running_service(home, {}, **account))
        console.print(_calls(port, service, callers, seconds))
        console.print(_streams(port, service))


def _plan(port: int, token: str | None, **fields: Any) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = {"model": MODEL, "messages": MESSAGES, **fields}
    return {"host": "127.0.0.1", "port": port, "path": PATH, "headers": headers, "body": json.dumps(body)}


def _calls(port: int, service: Service, callers: tuple[int, ...], seconds: float) -> Table:
    table = Table(title="chat completions")
    for column in ("callers", "direct calls/s", "p50 ms", "gateway calls/s", "p50 ms", "added", "CPU ms", "Postgres", "errors"):
        table.add_column(column, justify="right")
    direct = Door("direct", _plan(port, None))
    gateway = Door("/v1", _plan(service.port, service.token), service.process.pid, service.postgres)
    for number in callers:
        alone, _, _ = run(direct, number, seconds)
        through, cpu, postgres = run(gateway, number, seconds)
        table.add_row(
            str(number),
            f"{alone['calls'] / alone['seconds']:,.0f}",
            f"{alone['p50_ms']:.2f}",
            f"{through['calls'] / through['seconds']:,.0f}",
            f"{through['p50_ms']:.2f}",
            f"{through['p50_ms'] - alone['p50_ms']:+.2f}",
            f"{cpu:.3f}",
            f"{postgres:.3f}",
            str(through["errors"]) + (f" {through['sample'][:200]}" if through["errors"] else ""),
        )
    return table


def _streams(port: int, service: Service) -> Table:
    table = Table(title="streams: time to the first event")
    for column in ("streams at once", "direct p50 ms", "gateway p50 ms", "added", "complete", "API process MiB"):
        table.add_column(column, justify="right")
    for number, fields in STREAMS:
        alone = _best(_plan(port, None, stream=True, **fields), number)
        through = _best(_plan(service.port, service.token, stream=True, **fields), number)
        table.add_row(
            str(number),
            f"{alone['p50_ms']:.2f}",
            f"{through['p50_ms']:.2f}",
            f"{through['p50_ms'] - alone['p50_ms']:+.2f}",
            f"{through['complete']} of {number}",
            f"{processes.memory_mib(service.process.pid):.0f}",
        )
    return table


def _best(plan: Mapping[str, Any], streams: int) -> dict[str, Any]:
    """The round with the lowest median, so that a cold connection is in no figure; the fewest complete of any round."""
    rounds = [_stream(plan, streams) for _ in range(ROUNDS if streams < 100 else 1)]
    return {**min(rounds, key=lambda done: float(done["p50_ms"])), "complete": min(done["complete"] for done in rounds)}


def _stream(plan: Mapping[str, Any], streams: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.vendor", "streams"]
    plan = {**plan, "streams": streams}
    done = subprocess.run(
        command, input=json.dumps(plan).encode(), stdout=subprocess.PIPE, check=True, cwd=processes.ROOT, timeout=120
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result
