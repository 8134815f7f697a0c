"""The engine host, the worker's side: starts an engine's parent once, has it fork a process per run, and hears what they say.

The service imports no framework. An engine's parent (`engines/protocol`) runs in the engine's own environment and speaks JSON
lines; it is started at the first run, or warmed by `open`, and started again, with growing pauses, when it dies. A run whose
process or parent dies ends in a `Failure` with `lost` set: that attempt is over, the run may be tried again. What a run may do
outside its process is decided by the two gateways alone; this module hands it their addresses and a token, and nothing else.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from auralink.core.errors import AuralinkError
from auralink.core.secret import Secret
from auralink.runs.engine_manifest import EngineNotInstalled, EngineUnknown, Manifest, Place, get_place
from auralink.runs.engine_process import EngineProcess, EngineUnavailable, Run, remove_leftovers

PATIENCE = 5.0
PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

OnEvent = Callable[[dict[str, Any]], Awaitable[None]]

__all__ = ["EngineNotInstalled", "EngineUnavailable", "Engines", "Failure", "Manifest", "Result", "Start"]


@dataclass(frozen=True)
class Start:
    """One attempt of a run. `deadline` is in seconds since the epoch; `accepted_at` is the clock that the definition sees, and
    `origin` the run that its chance comes from (of a resumed, forked or replayed run the first of its line)."""

    run_id: UUID
    attempt: int
    engine: str
    definition: dict[str, Any]
    input: dict[str, Any]
    mcp_url: str
    llm_url: str
    token: Secret
    accepted_at: datetime
    deadline: float
    memory_mb: int
    origin: UUID | None = None


@dataclass(frozen=True)
class Result:
    """The definition ran to its end."""

    output: Any


@dataclass(frozen=True)
class Failure:
    """The definition did not run to its end: `type` is the framework's error, or one of ours:

    `ProcessDied`, `EngineDied`, `CpuLimit`, `MemoryError`, `ProtocolViolation`, `Cancelled`. `lost` says that it was the process
    or the way to a gateway that failed, not the definition: another attempt may do better.
    """

    type: str
    message: str
    traceback: str = ""
    lost: bool = False


class Engines:
    """The engines of one worker. `python` is the interpreter for all of them; by default each has its own environment's."""

    def __init__(self, root: Path, python: Path | None = None) -> None:
        self._root = root
        self._python = python
        self._hosts: dict[str, _Host] = {}

    async def open(self) -> None:
        """Removes what workers that were killed have left."""
        await asyncio.to_thread(remove_leftovers)

    def warm(self, name: str) -> None:
        """Starts an engine, so that its next run finds it warm; returns at once. Of what is not installed that run is told."""
        with contextlib.suppress(EngineUnknown, EngineNotInstalled):
            self._host(name).warm()

    async def close(self) -> None:
        """Ends every engine and the runs in them; no process is left."""
        hosts, self._hosts = list(self._hosts.values()), {}
        await asyncio.gather(*(host.close() for host in hosts))

    def manifest(self, name: str) -> Manifest:
        """What an installed engine is. Raises EngineUnknown, EngineNotInstalled."""
        return self._get_place(name).manifest

    async def execute(self, start: Start, on_event: OnEvent) -> Result | Failure:
        """Runs one attempt to its end, handing its events over in order.

        Cancelling this cancels the run: its process is told, and killed when it ignores that for five seconds. The same happens
        when `on_event` raises. Raises EngineUnknown, EngineNotInstalled, EngineUnavailable (the engine's parent does not start).
        """
        return await self._host(start.engine).execute(start, on_event)

    def _host(self, name: str) -> "_Host":
        if name not in self._hosts:
            place = self._get_place(name)
            self._hosts[name] = _Host(place, self._python or place.python, self._root)
        return self._hosts[name]

    def _get_place(self, name: str) -> Place:
        place = get_place(self._root, name)
        state = "installed" if self._python is not None else place.state()
        if state != "installed":
            said = "is not installed" if state == "missing" else "was installed from an older lock"
            raise EngineNotInstalled(f"the engine {name!r} {said}; run `make engines` or `auralink engines install {name}`")
        return place


@dataclass
class _Host:
    """One engine: its parent process, started when needed, with a pause that grows when it keeps dying."""

    place: Place
    python: Path
    root: Path
    _process: EngineProcess | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _deaths: int = 0
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def warm(self) -> None:
        self._keep(asyncio.create_task(self._warm()))

    async def execute(self, start: Start, on_event: OnEvent) -> Result | Failure:
        process = await self._running()
        run = process.start(_message_of(start), start.run_id)
        try:
            async with asyncio.timeout(PATIENCE + max(0.0, start.deadline - time.time())):
                async for event in run.events():
                    await on_event(event)
        except TimeoutError:
            await self._stop(process, run)
            return Failure("DeadlineExceeded", "the run's time was over")
        except BaseException:
            await asyncio.shield(self._keep(asyncio.create_task(self._stop(process, run))))
            raise
        if run.outcome is not None:
            self._deaths = 0
        return _outcome_of(run, process)

    async def close(self) -> None:
        if self._process is not None:
            await self._process.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process is not None:
            await self._process.close()

    async def _warm(self) -> None:
        try:
            await self._running()
        except AuralinkError:
            return  # said in the log by the process; the run that needs the engine is told

    async def _running(self) -> EngineProcess:
        async with self._lock:
            if self._process is None or self._process.dead:
                if self._process is not None:
                    self._deaths += 1
                    await self._process.close()
                await asyncio.sleep(PAUSES[min(self._deaths, len(PAUSES) - 1)])
                self._process = await EngineProcess.launch(self.place, self.python, self.root)
            await self._process.greeted()
            return self._process

    async def _stop(self, process: EngineProcess, run: Run) -> None:
        """Cancels a run, kills it when it does not listen, and the whole engine when that does not help."""
        for order in ("cancel", "kill"):
            process.order(order, run)
            if await run.ended(within=PATIENCE):
                return
        await process.kill()

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _message_of(start: Start) -> dict[str, Any]:
    return {
        "op": "start",
        "run": str(start.run_id),
        "attempt": start.attempt,
        "definition": start.definition,
        "input": start.input,
        "mcp_url": start.mcp_url,
        "llm_url": start.llm_url,
        "token": start.token.reveal(),
        "accepted_at": start.accepted_at.isoformat(),
        "deadline": start.deadline,
        "memory_mb": start.memory_mb,
        "origin": str(start.origin or start.run_id),
    }


def _outcome_of(run: Run, process: EngineProcess) -> Result | Failure:
    outcome = run.outcome
    if outcome is None:
        return Failure("EngineDied", f"the engine {process.name!r} died while the run was in it", process.last_words(), lost=True)
    if outcome["op"] == "result":
        return Result(outcome["output"])
    return Failure(outcome["type"], outcome["message"], outcome["traceback"], outcome.get("lost", False))
