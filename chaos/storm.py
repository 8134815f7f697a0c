"""Starts everything, lets runs flow, kills by a seeded plan, starts again what was killed, and waits until all is at rest."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psutil
import psycopg
from psycopg.rows import dict_row

from auralink.auth.tokens import issue_token
from auralink.core import embedded_postgres as embedded
from auralink.core.migrate import migrate
from auralink.core.secret import Secret
from auralink.vault.crypto import generate_master_key
from chaos import teams
from chaos.bugs import plant
from chaos.oracle import Verdict, effects, judge
from chaos.processes import LEASE, SCRIPT
from tests.conftest import free_port

API = "/api/v1"
WORKERS = ("worker-1", "worker-2")
WAITING = "SELECT run_id, seq FROM auralink.run_journal WHERE status = 'unknown'"
RESTLESS = "SELECT count(*) AS n FROM auralink.runs WHERE finished_at IS NULL"


@dataclass(frozen=True)
class Plan:
    """What is done to whom. The same seed chooses the same victims and pauses."""

    runs: int
    seconds: float
    seed: int
    points: list[str]
    bug: str | None = None
    patience: float = 60.0
    engine: str = teams.STEPS


@dataclass
class World:
    """The processes of one test."""

    folder: Path
    plan: Plan
    cluster: Any
    setup: dict[str, Any]
    chance: random.Random
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    accepted: dict[str, UUID] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    token: str = ""

    @property
    def sink(self) -> Path:
        return self.folder / "effects"

    @property
    def superuser(self) -> str:
        dsn: str = self.cluster.dsn("superuser").reveal()
        return dsn

    def start(self, name: str) -> None:
        """Starts a process if it does not run."""
        process = self.running.get(name)
        if process is None or process.poll() is not None:
            if process is not None:
                self.killed[f"{name} ended"] += 1
            command = [sys.executable, "-m", "chaos.processes", name.partition("-")[0], str(self.folder)]
            self.running[name] = subprocess.Popen(
                command, stdout=(self.folder / f"{name}.log").open("ab"), stderr=subprocess.STDOUT
            )

    def keep_up(self) -> None:
        """Starts again whatever has died."""
        with contextlib.suppress(Exception):  # it may be starting already
            if not _answers(self.superuser):
                self.cluster = embedded.start(self.folder / "data")
        for name in ("api", *WORKERS):
            self.start(name)

    def engines(self) -> list[int]:
        """The processes below the workers."""
        pids = []
        for worker in WORKERS:
            with contextlib.suppress(psutil.Error):
                pids += [child.pid for child in psutil.Process(self.running[worker].pid).children(recursive=True)]
        return pids

    def _pause(self, name: str) -> None:
        """Stops a process with all below it for longer than its lease: when they go on, another has their runs."""
        pids = [self.running[name].pid]
        with contextlib.suppress(psutil.Error):
            pids += [child.pid for child in psutil.Process(pids[0]).children(recursive=True)]
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        for pid in reversed(pids):  # the engines before their worker, which would stop them
            asyncio.get_running_loop().call_later(LEASE * 1.5, _signal, pid, signal.SIGCONT)

    def strike(self) -> None:
        """Kills one of them, or stops one for longer than its lease."""
        victim = self.chance.choices(("api", *WORKERS, "engine", "postgres", "pause"), (3, 1, 1, 2, 1, 4))[0]
        self.killed[victim] += 1
        if victim == "postgres":
            pid_file = self.folder / "data" / "postgres" / "postmaster.pid"
            with contextlib.suppress(OSError):  # SIGQUIT is what `pg_ctl stop -m immediate` sends
                _signal(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
        elif victim == "engine":
            if pids := self.engines():
                _signal(self.chance.choice(pids), signal.SIGKILL)
        elif victim == "pause":
            self._pause(self.chance.choice(("api", *WORKERS, *WORKERS)))
        else:
            self.running[victim].kill()


async def storm(plan: Plan) -> Verdict:
    """Carries the plan out."""
    with _world(plan) as world:
        await _connect(world)
        flowing = asyncio.create_task(_flow(world))
        until = time.monotonic() + plan.seconds
        while time.monotonic() < until or not flowing.done():
            await asyncio.sleep(world.chance.uniform(0.2, 1.5))
            if time.monotonic() < until:
                world.strike()
                await asyncio.sleep(world.chance.uniform(0.0, 0.5))
            await asyncio.to_thread(world.keep_up)
        await flowing
        await _come_to_rest(world)
        verdict = judge(world.superuser, world.sink, world.accepted)
        verdict.seen |= {f"killed: {name}": count for name, count in sorted(world.killed.items())}
        verdict.seen |= {f"fired: {path.name[6:]}": 1 for path in sorted(world.folder.glob("fired-*"))}
        return verdict


@contextlib.contextmanager
def _world(plan: Plan) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="auralink-chaos-"))
    folder.chmod(0o755)
    try:
        cluster = embedded.start(folder / "data")
        migrate(cluster.dsn("owner"))
        if plan.bug:
            plant(cluster.dsn("owner").reveal(), plan.bug)
        sink_port = free_port()
        setup = {
            "dsn": cluster.dsn("service").reveal(),
            "port": free_port(),
            "sink": f"http://127.0.0.1:{sink_port}/mcp",
            "jwt": uuid4().hex * 2,
            "key": generate_master_key().reveal(),
            "points": plan.points,
            "engine": plan.engine,
        }
        teams.write_script(folder / SCRIPT, [_line(number) for number in range(plan.runs)])
        (folder / "setup.json").write_text(json.dumps(setup))
        world = World(folder, plan, cluster, setup, random.Random(plan.seed))
        world.token = issue_token(Secret(setup["jwt"]), subject="chaos", role="user", ttl=timedelta(hours=2))
        sink = subprocess.Popen([sys.executable, "-m", "chaos.sink", str(world.sink), str(sink_port)])
        try:
            world.keep_up()
            yield world
        finally:
            for process in (*world.running.values(), sink):
                _signal(process.pid, signal.SIGCONT)
                process.kill()
                process.wait()
    finally:
        embedded.stop(folder / "data")
        if os.environ.get("KEEP"):
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _connect(world: World) -> None:
    body = {"server_type": "sink", "name": "sink", "policy": {"default": "allow"}}
    await _insist(world, "POST", f"{API}/mcp/connect", body, done=(201, 409))


async def _flow(world: World) -> None:
    """Accepts runs, each insisted on with its key until it is acknowledged, spread over the time of the storm."""
    for number in range(world.plan.runs):
        line = _line(number)
        answer = await _insist(world, "POST", f"{API}/chaos/{line}", None)
        world.accepted[line] = UUID(answer["run_id"])
        await asyncio.sleep(world.chance.uniform(0.0, 2.0 * world.plan.seconds / world.plan.runs / 1.5))


def _line(number: int) -> str:
    return f"line-{number}"


async def _insist(world: World, method: str, path: str, body: Any, done: tuple[int, ...] = (200, 202)) -> Any:
    """Repeats a request until it is answered well."""
    headers = {"Authorization": f"Bearer {world.token}"}
    said = "nothing"
    for _ in range(600):
        with contextlib.suppress(httpx2.HTTPError):
            async with httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{world.setup['port']}", headers=headers, timeout=5
            ) as client:
                answer = await client.request(method, path, json=body)
                said = answer.text
                if answer.status_code in done:
                    return answer.json()
        await asyncio.sleep(0.1)
        await asyncio.to_thread(world.keep_up)
    raise RuntimeError(f"{path} is not answered; the last was {said}")


async def _come_to_rest(world: World) -> None:
    """Waits until every run has ended; says what became of calls whose outcome is unknown, as the sink knows it."""
    until = time.monotonic() + world.plan.patience
    while time.monotonic() < until:
        await asyncio.to_thread(world.keep_up)
        with contextlib.suppress(psycopg.Error):
            if not _query(world, RESTLESS)[0]["n"]:
                return
            for row in _query(world, WAITING):
                await _decide(world, row["run_id"], row["seq"])
        await asyncio.sleep(0.2)


async def _decide(world: World, run_id: UUID, seq: int) -> None:
    happened = [call for call in effects(world.sink) if call["key"] == f"{run_id}:{seq}"]
    decision: dict[str, Any] = {"decision": "retry"}
    if happened:
        decision = {"decision": "happened", "answer": f"{happened[0]['tool']} {happened[0]['line']} {happened[0]['step']}"}
    await _insist(world, "POST", f"{API}/runs/{run_id}/journal/{seq}", decision, done=(200, 409))
    world.killed["outcome_unknown decided"] += 1


def _query(world: World, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(world.superuser, row_factory=dict_row, connect_timeout=2) as session:
        return session.execute(query.encode()).fetchall()


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
