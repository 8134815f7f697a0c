"""What a team costs on its engine in the service, beside the bare framework doing the same in one process, in the same run.

A team has two members; each asks the model, calls a tool and asks again: four model calls and two tool calls. The model answers at once.
"""

import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import httpx2
from rich.console import Console
from rich.table import Table

from bench import processes, tools
from bench.bare_teams import MEMBERS, TASK
from bench.service import Service, running_service

MODES = {"crewai": "sequential", "autogen": "round_robin"}
TEAMS, QUICK_TEAMS = 40, 8
WARM, SAMPLES, QUICK_SAMPLES = 2, 10, 3
CALLS = 6
PATIENCE = 300.0
ENGINE = "auralink_engine"
PARTS = ("service", "worker", "engine", "runs")


def measure(console: Console, home: Path, *, quick: bool) -> None:
    """Runs model, tool, service and worker, and prints a table."""
    engines = {name: processes.ROOT / "engines" / name / ".venv" / "bin" / "python" for name in MODES}
    if missing := [name for name, python in engines.items() if not python.exists()]:
        console.print(f"teams: not installed: {', '.join(missing)} (make engines)")
        return
    teams, samples = (QUICK_TEAMS, QUICK_SAMPLES) if quick else (TEAMS, SAMPLES)
    with contextlib.ExitStack() as stack:
        port = processes.free_port()
        vendor = stack.enter_context(processes.running(processes.program("python", "-m", "bench.vendor", "serve", str(port))))
        processes.await_port(port, vendor)
        upstream = stack.enter_context(tools.upstream("bare"))
        account = {"OPENAI_API_KEY": "a-key-of-the-bench", "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        service = stack.enter_context(running_service(home, {"bare": upstream}, **account))
        tools.connect(service, ("bare",))
        client = stack.enter_context(service.http())
        table = Table(title=f"{teams} teams of two at once: four model calls and two tool calls each, instant model")
        table.add_column("")
        for column in ("CrewAI", "AutoGen"):
            table.add_column(column, justify="right")
        columns = [
            _column(client, service, name, _bare(python, name, port, teams), teams, samples) for name, python in engines.items()
        ]
        for label in columns[0]:
            table.add_row(label, *(column[label] for column in columns))
        console.print(table)


def _bare(python: Path, framework: str, port: int, teams: int) -> dict[str, float]:
    """What the framework takes by itself."""
    command = [str(python), str(Path(__file__).with_name("bare_teams.py")), framework, str(port), str(teams)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise SystemExit(f"{framework} by itself failed: {done.stderr[-2000:]}")
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def _column(
    client: httpx2.Client, service: Service, engine: str, bare: Mapping[str, float], teams: int, samples: int
) -> dict[str, str]:
    team = _team(client, engine)
    accepted, forked = _first_calls(client, team, samples)
    took, peak, left = _at_once(client, service, engine, team, teams)
    return {
        "all of them, in the service": f"{took:.1f} s, {left}",
        "… by the framework in one process": f"{bare['seconds']:.1f} s",
        "… ratio": f"{took / bare['seconds']:.2f}",
        "memory at its peak (PSS)": f"{sum(peak.values()):.0f} MiB",
        "… " + ", ".join(PARTS): ", ".join(f"{peak[part]:.0f}" for part in PARTS),
        "… of the framework's one process": f"{bare['peak_mib']:.0f} MiB",
        "accepted to the first call at a gateway, p50": f"{accepted * 1000:.0f} ms",
        "… from the attempt's beginning": f"{forked * 1000:.0f} ms",
        "importing the framework": f"{bare['import_seconds'] * 1000:.0f} ms",
    }


def _team(client: httpx2.Client, engine: str) -> str:
    members = [{"role": role, "goal": "Do your part", "tools": ["bare__echo"]} for role in MEMBERS]
    body = {
        "team_name": f"bench {engine}",
        "team_type": engine,
        "collaboration_mode": MODES[engine],
        "model": "openai/gpt-5-mini",
        "members": members,
        "limits": {"turns": len(members)},
    }
    return str(client.post("/teams", json=body).raise_for_status().json()["team_id"])


def _execute(client: httpx2.Client, team: str, *, wait: int = 0) -> str:
    headers = {"Prefer": f"wait={wait}"} if wait else {}
    answer = client.post(f"/teams/{team}/execute", json={"task_description": TASK}, headers=headers).raise_for_status()
    return str(answer.json()["run_id"])


def _first_calls(client: httpx2.Client, team: str, samples: int) -> tuple[float, float]:
    """Medians in seconds of runs one after another: from being accepted, and from being started, to the first journalled call."""
    from_accepted, from_started = [], []
    for _ in range(WARM + samples):
        run = client.get(f"/runs/{_execute(client, team, wait=60)}").raise_for_status().json()
        calls = client.get(f"/runs/{run['run_id']}/journal", params={"limit": 50}).raise_for_status().json()["items"]
        models = [call for call in calls if call["kind"] == "llm"]
        if run["status"] != "succeeded" or len(models) != CALLS - len(MEMBERS):
            raise SystemExit(
                f"a team did not do its {CALLS} calls: {run['status']}, {run.get('error')}, {len(models)} model calls"
            )
        from_accepted.append(_between(run["accepted_at"], calls[0]["started_at"]))
        from_started.append(_between(run["started_at"], calls[0]["started_at"]))
    return statistics.median(from_accepted[WARM:]), statistics.median(from_started[WARM:])


def _at_once(client: httpx2.Client, service: Service, engine: str, team: str, teams: int) -> tuple[float, dict[str, float], str]:
    """Seconds from the first request to the last end, memory by part when it was most, and whether all went well."""
    started = time.perf_counter()
    runs = [_execute(client, team) for _ in range(teams)]
    peak = dict.fromkeys(PARTS, 0.0)
    while (left := _ended(client, team, runs)) < teams and time.perf_counter() - started < PATIENCE:
        now = _memory(service, engine)
        peak = max(peak, now, key=lambda parts: sum(parts.values()))
        time.sleep(0.2)
    took = time.perf_counter() - started
    good = _ended(client, team, runs, ("succeeded",))
    return took, peak, "all succeeded" if good == teams else f"ONLY {good} OF {teams} SUCCEEDED ({left} ended)"


def _ended(
    client: httpx2.Client, team: str, runs: list[str], states: tuple[str, ...] = ("succeeded", "failed", "cancelled")
) -> int:
    ended = {
        run["run_id"]
        for state in states
        for run in client.get("/runs", params={"definition_id": team, "status": state, "limit": 200})
        .raise_for_status()
        .json()["items"]
    }
    return len(ended & set(runs))


def _memory(service: Service, engine: str) -> dict[str, float]:
    """Of the service's family without Postgres and without other engines, by part; of the engine the process that forks is `engine`,
    those forked are `runs`."""
    postgres = set(processes.family(service.postgres))
    parts = dict.fromkeys(PARTS, 0.0)
    for pid in processes.family(service.process.pid):
        if pid not in postgres and (part := _part(pid, engine)) is not None:
            parts[part] += processes.memory_mib(pid)
    return parts


def _part(pid: int, engine: str) -> str | None:
    if ENGINE in _command(pid):
        its_own = f"{ENGINE} {engine} " in _command(pid)
        return ("runs" if ENGINE in _command(_parent(pid)) else "engine") if its_own else None
    return "worker" if " worker" in _command(pid) else "service"


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
