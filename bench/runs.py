"""What a run costs: from being accepted to its first call, a queue of many, a resumed run, and the journal for each step."""

import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.table import Table

from bench import peers, processes
from bench.service import Service, running_service

ENGINE = processes.ROOT / "engines" / "langgraph" / ".venv"
WARM, SAMPLES = 5, 20
QUEUED, QUICK_QUEUED = 1000, 100
STEPS, LONG = 5, 50
ENDED = ("succeeded", "failed", "cancelled")
PATIENCE = 400.0


def measure(console: Console, home: Path, *, quick: bool) -> None:
    """Runs a service with its worker, and prints a table."""
    if not ENGINE.exists():
        console.print("runs: the engine langgraph is not installed (make engines)")
        return
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(running_service(home, {}))
        client = stack.enter_context(service.http())
        table = Table(title="runs of LangGraph workflows, offline model", show_header=False)
        table.add_row("accepted to the first gateway call, warm, p50", f"{_first_call(client):.0f} ms")
        for label, value in _queue(client, service, QUICK_QUEUED if quick else QUEUED):
            table.add_row(label, value)
        table.add_row(f"resumed after {LONG} done steps, to step {LONG + 1}", _resumed(client))
        table.add_row("journal for each step, p50 (begin, and done with the group commit)", f"{_journal(home):.2f} ms")
        table.add_row("LangGraph's AsyncPostgresSaver for each step", _checkpointer(home))
        console.print(table)


def _definition(steps: int, *, failing: bool = False) -> dict[str, Any]:
    """A chain of model calls; a failing one ends with a tool that cannot do what it is asked."""
    nodes: dict[str, Any] = {
        f"n{number}": {
            "type": "llm",
            "prompt": f"Step {number} of {{{{ what }}}}",
            "model": "auralink/offline",
            "into": f"r{number}",
        }
        for number in range(steps)
    }
    if failing:
        nodes["last"] = {"type": "tool", "tool": "deepwiki__read_wiki_structure", "arguments": {"repoName": "/nowhere"}}
    names = [*nodes]
    edges = [{"from": one, "to": other} for one, other in zip(names, [*names[1:], "end"], strict=True)]
    inputs = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
    return {"input": inputs, "start": names[0], "nodes": nodes, "edges": edges, "limits": {"steps": steps + 10}}


def _workflow(client: httpx2.Client, name: str, definition: dict[str, Any]) -> str:
    body = {"workflow_name": name, "workflow_type": "custom", "definition": definition}
    return str(client.post("/workflows", json=body).raise_for_status().json()["workflow_id"])


def _execute(client: httpx2.Client, workflow: str, what: str, *, wait: int = 0) -> dict[str, Any]:
    headers = {"Prefer": f"wait={wait}"} if wait else {}
    answer = client.post(f"/workflows/{workflow}/execute", json={"input_data": {"what": what}}, headers=headers)
    accepted: dict[str, Any] = answer.raise_for_status().json()
    return accepted


def _first_call(client: httpx2.Client) -> float:
    """The median in ms, of runs one after another."""
    workflow = _workflow(client, "one step", _definition(1))
    waits = []
    for number in range(WARM + SAMPLES):
        run_id = _execute(client, workflow, f"sample {number}", wait=60)["run_id"]
        run = client.get(f"/runs/{run_id}").raise_for_status().json()
        first = client.get(f"/runs/{run_id}/journal").raise_for_status().json()["items"][0]
        waits.append(_between(run["accepted_at"], first["started_at"]))
    return statistics.median(waits[WARM:]) * 1000


def _queue(client: httpx2.Client, service: Service, runs: int) -> list[tuple[str, str]]:
    """Accepts many runs and waits for the last; the memory is that of service, worker and engines, sampled meanwhile."""
    workflow = _workflow(client, "five steps", _definition(STEPS))
    started = time.perf_counter()
    for number in range(runs):
        _execute(client, workflow, f"run {number}")
    accepted = time.perf_counter() - started
    peak = 0.0
    while _unfinished(client, workflow) and time.perf_counter() - started < PATIENCE:
        peak = max(peak, sum(processes.memory_mib(pid) for pid in _family(service)))
        time.sleep(0.5)
    took = time.perf_counter() - started
    failed = client.get("/runs", params={"definition_id": workflow, "status": "failed", "limit": 1}).json()["items"]
    left = "all succeeded" if not failed else f"NOT ALL SUCCEEDED: {failed[0]['error']}"
    return [
        (f"{runs} runs of {STEPS} steps, queued at once", f"{runs / took:.1f} runs/s, {left}"),
        ("accepting one, over REST", f"{accepted / runs * 1000:.1f} ms"),
        ("memory meanwhile: service, worker, engines (PSS)", f"{peak:.0f} MiB"),
    ]


def _unfinished(client: httpx2.Client, workflow: str) -> bool:
    states = ("queued", "running", "waiting")
    pages = (client.get("/runs", params={"definition_id": workflow, "status": state, "limit": 1}) for state in states)
    return any(page.raise_for_status().json()["items"] for page in pages)


def _family(service: Service) -> Sequence[int]:
    postgres = set(processes.family(service.postgres))
    return [pid for pid in processes.family(service.process.pid) if pid not in postgres]


def _resumed(client: httpx2.Client) -> str:
    """A run whose last step fails is tried again by its worker: how long the second attempt takes to get there, beside what the
    first spent outside of its calls, which is the framework's own time."""
    client.post("/mcp/connect", json={"server_type": "deepwiki"}).raise_for_status()
    workflow = _workflow(client, "a long one", _definition(LONG, failing=True))
    run_id = _execute(client, workflow, "the long way")["run_id"]
    until = time.monotonic() + 120
    while client.get(f"/runs/{run_id}").raise_for_status().json()["status"] not in ENDED and time.monotonic() < until:
        time.sleep(0.2)
    events = _events(client, run_id)
    begun = {event["data"]["attempt"]: event["at"] for event in events if event["type"] in ("run.started", "run.resumed")}
    entries = client.get(f"/runs/{run_id}/journal", params={"limit": 200}).raise_for_status().json()["items"]
    last = entries[-1]
    own = _between(begun[1], last["started_at"]) - sum(_between(e["started_at"], e["finished_at"]) for e in entries[:-1])
    replayed = next(
        e["at"] for e in events if e["type"] == "step.replayed" and e["data"]["step"] == last["seq"] and e["data"]["attempt"] == 2
    )
    took = _between(begun[2], replayed)
    return f"{took * 1000:.0f} ms, of which the framework's own {own * 1000:.0f} ms"


def _events(client: httpx2.Client, run_id: str) -> list[dict[str, Any]]:
    with client.stream("GET", f"/runs/{run_id}/events") as stream:
        lines = list(stream.iter_lines())
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    bodies = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return [{"type": name, **body} for name, body in zip(names, bodies, strict=True)]


def _journal(home: Path) -> float:
    """The median in ms of what a step adds to its call; on the service's own database, in a process of its own."""
    done = processes.output("python", "-m", "bench.journal", AURALINK_DATA_DIR=str(home / "data"))
    return float(done.split()[-1])


def _checkpointer(home: Path) -> str:
    if not peers.installed("langgraph.checkpoint.postgres"):
        return "not installed (make bench-peers)"
    dsn = processes.output("auralink", "dsn", "--owner", AURALINK_DATA_DIR=str(home / "data"))
    command = [str(peers.PYTHON), str(Path(__file__).with_name("checkpointer.py"))]
    done = subprocess.run(
        command, env={**os.environ, "DSN": dsn.strip()}, capture_output=True, text=True, timeout=120, check=False
    )
    return f"{float(done.stdout):.2f} ms" if done.returncode == 0 else f"failed: {done.stderr.strip()[-200:]}"


def _between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
