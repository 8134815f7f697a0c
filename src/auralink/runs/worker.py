"""The worker: takes runs, feeds engines, renews leases, and writes down how attempts end.

It makes no call for a run; engines do, through the gateways. It may die at any point: its leases run out, and another worker takes
its runs. What it writes is fenced by the attempt, so that a worker that was away for longer than its lease changes nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from uuid import UUID, uuid4

import structlog
from psycopg import Error as DatabaseError
from psycopg.rows import DictRow

from auralink.auth.run_tokens import RunTokens
from auralink.core.changes import Change, Changes
from auralink.core.db import Connection, Database, DatabaseUnavailable
from auralink.core.errors import AuralinkError
from auralink.runs import store
from auralink.runs.engines import Failure, OnEvent, Result, Start
from auralink.runs.queue import WakeUps
from auralink.runs.tokens import Followed, Words

log = structlog.get_logger(__name__)

LEASE_SECONDS = 20.0
RECONCILE_SECONDS = 2.0
MAX_LOSSES = 20
"""Attempts that may end without a word of their engine or worker, before the run has failed."""
MAX_LOSSES_OF_A_REPLAY = 7
"""Half a minute of them: long enough for a gateway that is restarted. One that refuses what the journal has refuses it always, and a
replay can be asked for again at no cost."""
FIRST_BACKOFF, MAX_BACKOFF = 0.5, 60.0
TOKEN_GRACE = 120.0
"""Seconds that a run token outlives the run's time limit: the time limit itself is the worker's to keep."""
RETRY_EVERY = 0.5
MAX_EVENTS = 200
TRANSIENT = "token"
FINAL = frozenset({"DeadlineExceeded", "CancelledElsewhere"})
"""Failures after which another attempt would only repeat them, or do what somebody has just cancelled."""
Write = Callable[[Connection], Awaitable[bool]]


class Executes(Protocol):
    """What runs an attempt: `runs.engines.Engines`."""

    async def execute(self, start: Start, on_event: OnEvent) -> Result | Failure:
        """Cancelling this cancels the run."""
        ...

    def warm(self, name: str) -> None:
        """Gets an engine ready, beside other work."""
        ...


class AttemptOver(Exception):  # a fact of the worker's own, that no user is told
    """Another attempt has begun, or the run has ended or waits: this attempt writes nothing more."""


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker works. `per_user` bounds a user's runs at a time, over all workers."""

    engines: Sequence[str]
    concurrency: int = 8
    per_user: int = 8
    lease: float = LEASE_SECONDS
    reconcile_every: float = RECONCILE_SECONDS


@dataclass(frozen=True)
class Gateways:
    """Where engines find the gateways."""

    mcp_url: str
    llm_url: str


@dataclass(frozen=True)
class Attempt:
    """A run that this worker holds."""

    run: DictRow

    @property
    def run_id(self) -> UUID:
        run_id: UUID = self.run["id"]
        return run_id

    @property
    def user_id(self) -> UUID:
        user_id: UUID = self.run["user_id"]
        return user_id

    @property
    def number(self) -> int:
        return int(self.run["attempt"])


@dataclass
class _Held:
    """An attempt under way here."""

    attempt: Attempt
    task: "asyncio.Task[None]"
    stopping: bool = False

    def stop(self) -> None:
        """Cancels it, once: a second time would interrupt the stopping."""
        if not self.stopping:
            self.stopping = True
            self.task.cancel()


class Worker:
    """Takes runs until it is stopped."""

    def __init__(
        self,
        db: Database,
        changes: Changes,
        engines: Executes,
        tokens: RunTokens,
        gateways: Gateways,
        options: WorkerOptions,
    ) -> None:
        self._db = db
        self._engines = engines
        self._tokens = tokens
        self._gateways = gateways
        self._options = options
        self._id = uuid4()
        self._slots = asyncio.Semaphore(options.concurrency)
        self._held: dict[UUID, _Held] = {}
        self.followed = Followed()
        self._look = asyncio.Event()
        self._stopping = False
        self._wake_ups = WakeUps(db.dsn, self._take, engines=options.engines, concurrency=options.concurrency)
        changes.subscribe(self)

    def changed(self, change: Change) -> None:
        """A run has another status: if it is one of ours, see what that is. Or somebody follows one, perhaps of ours."""
        if change.table == store.FOLLOWED:
            self.followed.add(change.row_id)
        if change.table == "runs" and change.row_id in self._held:
            self._look.set()

    def lost(self) -> None:
        """Changes may have been missed."""
        self._look.set()

    async def run(self) -> None:
        """Works until cancelled; then it stops its engines and gives its runs back, for others to go on with at once."""
        duties = (self._warm_engines(), self._wake_ups.listen(), self._keep_leases(), self._reconcile())
        tasks = [asyncio.create_task(duty) for duty in duties]
        try:
            await asyncio.gather(*tasks)
        finally:
            self._stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._give_back()

    async def _warm_engines(self) -> None:
        """Gets ready what has had runs; the others are when something is saved that needs them."""
        try:
            async with self._db.system() as connection:
                in_use = await store.engines_in_use(connection, self._options.engines)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("no engine was warmed", reason=str(error).strip())
            return
        for name in in_use:
            self._engines.warm(name)

    async def _take(self, engine: str) -> None:
        """What a wake-up for an engine does: takes runs for as long as there are any, in one slot."""
        self._engines.warm(engine)
        async with self._slots:
            while not self._stopping and (attempt := await self._claim()) is not None:
                before = self._held.get(attempt.run_id)
                task = asyncio.create_task(self._carry_out(attempt, before), name=f"run {attempt.run_id}")
                held = self._held[attempt.run_id] = _Held(attempt, task)
                task.add_done_callback(partial(self._let_go, held))
                await asyncio.wait([task])

    def _let_go(self, held: _Held, _task: "asyncio.Task[None]") -> None:
        if self._held.get(held.attempt.run_id) is held:
            del self._held[held.attempt.run_id]

    async def _claim(self) -> Attempt | None:
        try:
            async with self._db.system() as connection:
                row = await store.claim(
                    connection,
                    self._id,
                    self._options.engines,
                    lease=self._options.lease,
                    per_user=self._options.per_user,
                )
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("no run could be taken", reason=str(error).strip())
            return None
        return None if row is None else Attempt(row)

    async def _carry_out(self, attempt: Attempt, before: _Held | None) -> None:
        """One attempt, from its claim to what is written of its end; cancelled when it is over before that. An earlier attempt
        at the run that is just being stopped here leaves the engine first."""
        if before is not None:
            before.stop()
            await asyncio.wait([before.task])
        telling = _Telling(self, attempt, Words(self._db, attempt.run_id, self.followed))
        tellers = [asyncio.create_task(duty) for duty in (telling.write(), telling.words.send())]
        try:
            outcome = await self._execute(attempt, telling)
            await telling.said_all()
            await self._end(attempt, outcome)
        except AttemptOver:
            log.info("attempt is over", run=str(attempt.run_id), attempt=attempt.number)
        except Exception:  # the edge of the attempt: the lease runs out and the run is taken again
            log.exception("an attempt ended in a mistake of the worker", run=str(attempt.run_id), attempt=attempt.number)
        finally:
            for teller in tellers:
                teller.cancel()
            await asyncio.gather(*tellers, return_exceptions=True)

    async def _execute(self, attempt: Attempt, telling: "_Telling") -> Result | Failure:
        try:
            return await self._engines.execute(self._start_of(attempt), telling.hear)
        except AuralinkError as error:
            return Failure(type(error).__name__, error.message, lost=True)

    def _start_of(self, attempt: Attempt) -> Start:
        run = attempt.run
        left = max(run["time_limit"] - run["time_used"], 1.0)
        token = self._tokens.issue(
            user_id=attempt.user_id, run=attempt.run_id, attempt=attempt.number, seconds=left + TOKEN_GRACE
        )
        return Start(
            run_id=attempt.run_id,
            attempt=attempt.number,
            engine=run["engine"],
            definition=run["definition"],
            input=run["input"],
            mcp_url=self._gateways.mcp_url,
            llm_url=self._gateways.llm_url,
            token=token,
            accepted_at=run["clock"],
            deadline=time.time() + left,
            memory_mb=run["memory_mb"],
            origin=run["origin_id"],
        )

    async def _end(self, attempt: Attempt, outcome: Result | Failure) -> None:
        """Writes down how an attempt ended. Raises AttemptOver if it was over already."""
        run_id, number, run = attempt.run_id, attempt.number, attempt.run
        if isinstance(outcome, Result):
            succeeded = partial(
                store.finish, run_id=run_id, attempt=number, status="succeeded", output=outcome.output, error=None
            )
            await self.write(attempt, succeeded)
            return
        error = {"type": outcome.type, "message": outcome.message}
        losses = MAX_LOSSES_OF_A_REPLAY if run["mode"] == "replay" else MAX_LOSSES
        tries, most = (run["losses"], losses) if outcome.lost else (run["failures"], run["max_attempts"])
        about = {"type": outcome.type, "lost": outcome.lost, "traceback": outcome.traceback}
        log.info("attempt failed", run=str(run_id), attempt=number, **about)  # its paths are the installation's, not the user's
        if outcome.type in FINAL or tries + 1 >= most or (run["mode"] == "replay" and not outcome.lost):
            failed = partial(store.finish, run_id=run_id, attempt=number, status="failed", output=None, error=error)
            await self.write(attempt, failed)
        else:
            pause = min(FIRST_BACKOFF * 2.0**tries, MAX_BACKOFF)
            put_off = partial(store.put_off, run_id=run_id, attempt=number, error=error, seconds=pause, was_lost=outcome.lost)
            await self.write(attempt, put_off)

    async def write(self, attempt: Attempt, write: Write) -> None:
        """Writes as the run's user, again and again while the database is away. Raises AttemptOver if the attempt is."""
        while True:
            try:
                async with self._db.tenant(attempt) as connection:
                    written = await write(connection)
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("what a run says could not be written yet", run=str(attempt.run_id), reason=str(error).strip())
            else:
                if not written:
                    raise AttemptOver
                return
            await asyncio.sleep(RETRY_EVERY)

    async def _keep_leases(self) -> None:
        """Renews leases; an attempt that is over is cancelled, which stops its engine."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), self._options.lease / 3)
            self._look.clear()
            if self._held:
                try:
                    await self._renew()
                except (DatabaseUnavailable, DatabaseError) as error:
                    log.warning("leases could not be renewed", reason=str(error).strip())

    async def _renew(self) -> None:
        held = {run_id: held.attempt.number for run_id, held in self._held.items()}
        async with self._db.system() as connection:
            over = await store.renew(connection, held, self._options.lease)
        for row in over:
            ours = self._held.get(row["run_id"])
            if ours is not None and ours.attempt.number == held[row["run_id"]]:
                log.info("stopping an engine", run=str(row["run_id"]), attempt=ours.attempt.number, status=row["status"])
                ours.stop()

    async def _reconcile(self) -> None:
        while True:
            try:
                async with self._db.system() as connection:
                    await store.reconcile(connection, MAX_LOSSES)
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("runs could not be reconciled and will be later", reason=str(error).strip())
            await asyncio.sleep(self._options.reconcile_every)

    async def _give_back(self) -> None:
        held = dict(self._held)
        for ours in held.values():
            ours.stop()
        await asyncio.gather(*(ours.task for ours in held.values()), return_exceptions=True)
        if held:
            with contextlib.suppress(DatabaseUnavailable, DatabaseError):  # their leases run out
                async with self._db.system() as connection:
                    await store.give_back(connection, {run_id: ours.attempt.number for run_id, ours in held.items()})


@dataclass
class _Telling:
    """What an engine says of its run, written in batches and in order."""

    worker: Worker
    attempt: Attempt
    words: Words
    _said: list[dict[str, Any]] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _written: asyncio.Event = field(default_factory=asyncio.Event)
    _over: bool = False

    async def hear(self, event: dict[str, Any]) -> None:
        """Takes an event; waits while too many are unwritten. Raises AttemptOver."""
        if event["type"] == TRANSIENT:
            self.words.hear(event.get("data"))
            return
        self._said.append(event)
        self._written.clear()
        self._more.set()
        if len(self._said) >= MAX_EVENTS:
            await self.said_all()

    async def said_all(self) -> None:
        """Returns when everything is written. Raises AttemptOver."""
        while self._said and not self._over:
            await self._written.wait()
        if self._over:
            raise AttemptOver

    async def write(self) -> None:
        """Writes what comes until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            await self.words.flush()
            batch = list(self._said)
            try:
                await self.worker.write(self.attempt, partial(self._add, batch))
            except AttemptOver:
                self._over = True
            del self._said[: len(batch)]
            if self._over or not self._said:
                self._written.set()

    async def _add(self, batch: list[dict[str, Any]], connection: Connection) -> bool:
        added = await store.add_events(connection, self.attempt.run_id, self.attempt.number, batch)
        if notices := self.words.stored():
            await store.notify(connection, notices)
        return added


def gateways_at(base_url: str) -> Gateways:
    """Both gateways of a service at one address."""
    return Gateways(f"{base_url}/mcp", f"{base_url}/v1")
