"""What a flow costs: from being accepted to its end, for one step and for many, beside bare Prefect in the same minutes."""

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import psutil
from rich.console import Console
from rich.table import Table

from bench import processes
from bench.service import Service, running_service

ENGINE = processes.ROOT / "engines" / "prefect" / ".venv"
WARM, SAMPLES, QUICK_SAMPLES = 2, 15, 5
STEPS, WIDE = 20, 200
MIB = 1024 * 1024


def measure(console: Console, home: Path, *, quick: bool) -> None:
    """Runs a service with its worker, and prints a table."""
    if not ENGINE.exists():
        console.print("flows: the engine prefect is not installed (make engines)")
        return
    samples = QUICK_SAMPLES if quick else SAMPLES
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(running_service(home, {}))
        client = stack.enter_context(service.http())
        table = Table(title="flows, steps that do nothing", show_header=True)
        for column in ("", "through the service", "bare Prefect"):
            table.add_column(column)
        begun = time.perf_counter()
        _executed(client, _flow(client, "first", _chain(1)))
        first = time.perf_counter() - begun
        ours = {steps: _median(client, steps, samples) for steps in (1, STEPS)}
        bare = _bare(samples)
        table.add_row("the first flow of all", f"{first:.1f} s (the engine is warmed)", f"{bare['first']:.1f} s")
        table.add_row("a flow of one step, p50", f"{ours[1]:.0f} ms", f"{bare['one'] * 1000:.0f} ms")
        table.add_row(
            "each further step",
            f"{(ours[STEPS] - ours[1]) / (STEPS - 1):.1f} ms",
            f"{(bare['many'] - bare['one']) * 1000 / (STEPS - 1):.1f} ms",
        )
        seconds, peak = _wide(client, service)
        table.add_row(f"a map over {WIDE} items", f"{seconds:.2f} s; its process grew by {peak:.0f} MiB at most", "")
        console.print(table)


def _chain(steps: int) -> dict[str, Any]:
    made = [{"name": f"s{number}", "type": "transform", "value": number} for number in range(steps)]
    return {"steps": made, "output": steps}


def _flow(client: httpx2.Client, name: str, definition: dict[str, Any]) -> str:
    body = {"flow_name": name, "flow_type": "custom", "definition": definition}
    return str(client.post("/flows", json=body).raise_for_status().json()["flow_id"])


def _executed(client: httpx2.Client, flow: str) -> dict[str, Any]:
    answer = client.post(
        f"/flows/{flow}/execute", json={"input_parameters": {}}, headers={"Prefer": "wait=100"}
    ).raise_for_status()
    run: dict[str, Any] = client.get(f"/runs/{answer.json()['run_id']}").raise_for_status().json()
    if run["status"] != "succeeded":
        raise RuntimeError(f"the flow {run['status']}: {run['error']}")
    return run


def _median(client: httpx2.Client, steps: int, samples: int) -> float:
    """The median in ms from being accepted to the end, as the service has it."""
    flow = _flow(client, f"{steps} steps", _chain(steps))
    taken = [_seconds_of(_executed(client, flow)) for _ in range(WARM + samples)]
    return statistics.median(taken[WARM:]) * 1000


def _seconds_of(run: dict[str, Any]) -> float:
    return (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["accepted_at"])).total_seconds()


def _wide(client: httpx2.Client, service: Service) -> tuple[float, float]:
    """Seconds of a wide map, and how many MiB of its own its process had at most; what it shares with its parent is not its own."""
    each = {
        "name": "each",
        "type": "map",
        "over": "items",
        "width": 8,
        "steps": [{"name": "s", "type": "transform", "value": "{{ index }}"}],
    }
    inputs = {"type": "object", "properties": {"items": {"type": "array", "default": list(range(WIDE))}}}
    flow = _flow(client, "wide", {"input": inputs, "steps": [each], "output": "{{ length(each) }}"})
    run_id = client.post(f"/flows/{flow}/execute", json={"input_parameters": {}}).raise_for_status().json()["run_id"]
    peak = 0.0
    while (run := client.get(f"/runs/{run_id}").raise_for_status().json())["status"] in ("queued", "running"):
        peak = max([peak, *(_own(pid) for pid in _children(service))])
        time.sleep(0.1)
    return _seconds_of(run), peak


def _children(service: Service) -> list[int]:
    """The processes that the engine's parent has forked for runs."""
    family = psutil.Process(service.process.pid).children(recursive=True)
    parents = [one for one in family if one.is_running() and "auralink_engine" in one.cmdline() and "prefect" in one.cmdline()]
    pids = {parent.pid for parent in parents}
    return [parent.pid for parent in parents if parent.ppid() in pids]


def _own(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_full_info().uss) / MIB
    except psutil.Error:
        return 0.0


def _bare(samples: int) -> dict[str, float]:
    """Seconds of bare Prefect, in a home of its own."""
    with tempfile.TemporaryDirectory(prefix="auralink-bench-") as home:
        quiet = {
            "PREFECT_HOME": home,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_LOGGING_LEVEL": "ERROR",
        }
        alone = {"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true", "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "100"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        command = [str(ENGINE / "bin" / "python"), str(Path(__file__).with_name("bare_prefect.py")), str(samples), str(STEPS)]
        done = subprocess.run(command, env=kept | quiet | alone, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"bare Prefect: {done.stderr.strip()[-400:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured
