"""A worker in this process with an engine that is a program of the test, and what tests of runs ask the database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from auralink.auth.principal import Principal
from auralink.auth.run_tokens import PURPOSE, RunTokens
from auralink.core.changes import Changes
from auralink.core.db import Database
from auralink.core.secret import Secret
from auralink.runs.engines import Failure, OnEvent, Result, Start
from auralink.runs.schemas import RunDetail
from auralink.runs.service import Runs
from auralink.runs.worker import Gateways, Worker, WorkerOptions
from auralink.vault.crypto import KeyRing

ENGINE = "scripted"
NOWHERE = Gateways("http://127.0.0.1:9/mcp", "http://127.0.0.1:9/v1")
Program = Callable[[Start, OnEvent], Awaitable[Result | Failure]]


@dataclass
class InProcess:
    """An engine that runs a coroutine of the test for each attempt."""

    program: Program
    starts: list[Start] = field(default_factory=list)
    stopped: list[tuple[UUID, int]] = field(default_factory=list)
    warmed: list[str] = field(default_factory=list)

    def warm(self, name: str) -> None:
        self.warmed.append(name)

    async def execute(self, start: Start, on_event: OnEvent) -> Result | Failure:
        self.starts.append(start)
        try:
            return await self.program(start, on_event)
        except asyncio.CancelledError:
            self.stopped.append((start.run_id, start.attempt))
            raise


@contextlib.asynccontextmanager
async def working(
    dsn: Secret,
    program: Program,
    ring: KeyRing,
    *,
    gateways: Gateways = NOWHERE,
    engines: Sequence[str] = (ENGINE,),
    concurrency: int = 4,
    per_user: int = 8,
    lease: float = 5.0,
) -> AsyncIterator[InProcess]:
    """A worker that runs `program`."""
    engine = InProcess(program)
    db, changes = Database(dsn, min_size=1, max_size=8), Changes(dsn)
    options = WorkerOptions(engines, concurrency=concurrency, per_user=per_user, lease=lease, reconcile_every=0.2)
    worker = Worker(db, changes, engine, RunTokens(ring.derive(PURPOSE)), gateways, options)
    await db.open()
    await changes.open()
    task = asyncio.create_task(worker.run())
    try:
        yield engine
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await changes.close()
        await db.close()


@contextlib.asynccontextmanager
async def runs_of(db: Database) -> AsyncIterator[Runs]:
    """The service of runs over a database, hearing of changes."""
    changes = Changes(db.dsn)
    await changes.open()
    try:
        yield Runs(db, changes)
    finally:
        await changes.close()


async def accept(runs: Runs, principal: Principal, **fields: Any) -> RunDetail:
    """Accepts a run of the test's engine."""
    given = {"kind": "workflow", "definition_id": None, "engine": ENGINE, "definition": {}, "input": {}, **fields}
    return await runs.accept(principal, **given)


def rows(dsn: Secret, query: str, *values: object) -> list[dict[str, Any]]:
    """What the superuser sees."""
    with psycopg.connect(dsn.reveal(), row_factory=dict_row, autocommit=True) as session:
        result = session.execute(query, values)
        return result.fetchall() if result.description else []


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 15.0) -> None:
    """Waits until `await condition()` is true."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)
