"""The journal of a run: every call that it makes through a gateway is written down before it is made, and its answer before that
leaves; a call that was answered once is answered from here again (docs/explanation/runs.md, "The journal").

A gateway begins a step right after authentication, before anything that may have changed since. The step's record is then part of
the same group commit as the call's record in the operation log.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, NoReturn, TypeVar
from uuid import UUID

import structlog
from psycopg import Error as DatabaseError

from auralink.audit.group_commit import AuditUnavailable
from auralink.auth.principal import Principal
from auralink.core import telemetry
from auralink.core.db import Connection, Database, DatabaseUnavailable
from auralink.core.errors import AuralinkError, OutcomeUnknown
from auralink.core.http import dumps
from auralink.core.ids import uuid7
from auralink.journal import step_store as store
from auralink.journal.errors import ReplayDivergence, StaleAttempt, Suspended
from auralink.journal.keys import Kind, canonical, key_of, label_of
from auralink.journal.recorded import Recorded, error_text, result_text

log = structlog.get_logger(__name__)

T = TypeVar("T")
LEASE_SECONDS = 15.0
"""How long a call counts as under way without a sign of life from its process."""
HOLD_SECONDS = 15.0
"""How long a request of a suspended run is held unanswered; its worker stops the engine long before."""
TURN_SECONDS = 0.25
"""How long an answer waits for one that came before it the last time."""
FIRST_LOOK, LOOK_EVERY = 0.005, 0.1
WITHDRAWALS = 100
NO_ANSWERS = (StaleAttempt, ReplayDivergence, OutcomeUnknown, DatabaseUnavailable, AuditUnavailable)
"""Errors that are no answers: they are not written down, and an engine is told so (its attempt is over, not its run)."""
Commit = Callable[["StepRecord"], Awaitable[None]]
Within = Callable[[Connection], Awaitable[None]]


@dataclass(slots=True)
class StepRecord:
    """A step that is done: the part of the group commit that completes its row, counts it and tells of it."""

    kind: ClassVar[str] = "steps"

    user_id: UUID
    run: UUID
    seq: int
    owner: UUID
    step_kind: str
    label: str
    response: str
    outcome: str
    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    id: UUID = field(default_factory=uuid7)

    @property
    def subject(self) -> str:
        """What was done, for an error."""
        return f"step {self.seq} of run {self.run} ({self.label})"

    def row(self) -> dict[str, Any]:
        """The row as `insert_steps` reads it."""
        return {
            "run_id": self.run,
            "seq": self.seq,
            "owner": self.owner,
            "kind": self.step_kind,
            "label": self.label,
            "response": self.response,
            "outcome": self.outcome,
            "tokens": self.tokens,
            "cost_usd": self.cost_usd,
        }


@dataclass(slots=True)
class Step:
    """A call of a run that has its place in the journal."""

    journal: "Journal"
    principal: Principal
    kind: Kind
    label: str
    owner: UUID
    seq: int
    replay: Recorded | None
    """The recorded answer; None: make the call."""
    again: bool
    """Whether an earlier process died over this call, which may have happened: only what may be repeated is made again."""
    overrides: Mapping[str, Any]
    """Of a fork: `model` is the model to take instead of the one asked for."""

    @property
    def run(self) -> UUID:
        assert self.principal.run is not None
        return self.principal.run

    @property
    def attempt(self) -> int:
        assert self.principal.attempt is not None
        return self.principal.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this call, for servers that honour such keys."""
        return f"{self.run}:{self.seq}"

    def done(self, response: Any, *, outcome: str = "ok", tokens: int = 0, cost_usd: Decimal | None = None) -> StepRecord:
        """The record of an answer, to be committed before that is given."""
        return self._record(result_text(response), outcome, tokens, cost_usd)

    def failed(self, error: AuralinkError, *, tokens: int = 0, cost_usd: Decimal | None = None) -> StepRecord:
        """The record of an error that is handed to the engine: an answer like any other."""
        return self._record(error_text(error), error.code, tokens, cost_usd)

    async def suspend(self, reason: str, *, until: datetime | None = None, within: Within | None = None) -> NoReturn:
        """Lets the run wait. The call was not made; the next attempt makes it. `within` is done in the transaction that suspends.

        Raises:
            Suspended: the gateway unwinds, and `Journal.carry` then holds the request unanswered.
        """
        await self.journal.suspend(self, reason, until, within)

    async def withdraw(self) -> None:
        """Says that the call was not made after all, because something of ours is missing: any attempt may make it."""
        await self.journal.withdraw(self)

    async def unknown(self) -> NoReturn:
        """Lets the run wait for a person: the call may have happened and must not be made twice. Raises as `suspend`."""
        await self.journal.suspend(self, "outcome_unknown", None, None)

    def _record(self, response: str, outcome: str, tokens: int, cost_usd: Decimal | None) -> StepRecord:
        self.journal.closed(self)
        return StepRecord(
            self.principal.user_id,
            self.run,
            self.seq,
            self.owner,
            self.kind,
            self.label,
            response,
            outcome,
            tokens,
            cost_usd or Decimal(0),
        )


class Journal:
    """Begins steps, keeps the leases of those under way, and lets runs wait."""

    def __init__(self, db: Database, *, lease: float = LEASE_SECONDS, hold: float = HOLD_SECONDS) -> None:
        self._db = db
        self._lease = lease
        self._hold_seconds = hold
        self._open: dict[UUID, tuple[Step, asyncio.Task[Any] | None]] = {}
        self._carried: set[asyncio.Task[Any]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Starts keeping leases."""
        self._keeper = asyncio.create_task(self._keep_leases(), name="journal leases")

    async def close(self) -> None:
        """Lets calls under way end and stops."""
        self._closing.set()
        if self._carried:
            await asyncio.wait(self._carried, timeout=5)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def begin(self, principal: Principal, kind: Kind, request: Mapping[str, Any], *, client_retry: bool = False) -> Step:
        """Gives a call of a run its place in the journal; returns with its answer, or for it to be made.

        `request` holds what determines the answer. `client_retry`: the client says that it repeats its last such call.

        Raises:
            StaleAttempt: the attempt is not the current one, or the run has ended.
            Suspended: the run waits, and no new call of it begins.
            ReplayDivergence: a replay, and the journal does not hold this call; the run has failed.
        """
        label, owner = label_of(kind, request), uuid7()
        values: dict[str, Any] = {
            "user": principal.user_id,
            "run": principal.run,
            "attempt": principal.attempt,
            "kind": kind,
            "label": label,
            "key": key_of(kind, request),
            "request": canonical(request).decode(),
            "retry": client_retry,
            "owner": owner,
            "lease": self._lease,
            "seq": None,
            "in_turn": True,
        }
        row = await self._settled(values)
        if row["verdict"] == "stale":
            raise StaleAttempt(f"attempt {principal.attempt} of run {principal.run} is not the current one; it can begin nothing")
        if row["verdict"] == "hold":
            raise _suspended(principal)
        if row["verdict"] == "divergence":
            await self._diverges(principal, kind, label)
        replay = Recorded(row["response"]) if row["verdict"] == "replay" else None
        again = row["verdict"] == "again"
        step = Step(self, principal, kind, label, owner, row["seq"], replay, again, row["overrides"])
        if replay is None:
            self._open[step.owner] = (step, asyncio.current_task())
        else:
            telemetry.journal_replays.labels(kind).inc()
        return step

    async def carry(self, call: Coroutine[Any, Any, T]) -> T:
        """Makes a call to its end even if whoever asked goes away: a run's call is not cancelled by its engine's end. One that
        was suspended is held unanswered: an error would reach the model and change the run.

        Raises:
            StaleAttempt: held for long enough; the worker has stopped the engine by then.
        """
        task = asyncio.create_task(call)
        self._carried.add(task)
        task.add_done_callback(self._carried_out)
        try:
            return await asyncio.shield(task)
        except Suspended as error:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._hold_seconds)
            raise StaleAttempt(error.message) from error

    async def remember(
        self, principal: Principal, kind: Kind, request: Mapping[str, Any], call: Callable[[], Awaitable[T]], commit: Commit
    ) -> T:
        """What `call` answers, once: a later attempt gets the same from the journal. For what may always be asked again."""
        step = await self.begin(principal, kind, request)
        if step.replay is not None:
            answer: T = step.replay.result()
            return answer
        try:
            answer = await call()
        except NO_ANSWERS:
            await step.withdraw()
            raise
        except AuralinkError as error:
            await commit(step.failed(error))
            raise
        await commit(step.done(answer))
        return answer

    def _carried_out(self, task: "asyncio.Task[Any]") -> None:
        self._carried.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, if nobody waits for it any more

    def closed(self, step: Step) -> None:
        """The step needs no lease any more."""
        self._open.pop(step.owner, None)

    async def suspend(self, step: Step, reason: str, until: datetime | None, within: Within | None) -> NoReturn:
        """See `Step.suspend`."""
        async with self._db.tenant(step.principal) as connection:
            if within is not None:
                await within(connection)
            await store.suspend(connection, step.run, step.attempt, step.seq, step.owner, reason=reason, until=until)
        self.closed(step)
        raise _suspended(step.principal)

    async def withdraw(self, step: Step) -> None:
        """See `Step.withdraw`. A database that stays away for long leaves the call to its lease."""
        self.closed(step)
        for _ in range(WITHDRAWALS):
            try:
                async with self._db.tenant(step.principal) as connection:
                    await store.withdraw(connection, step.run, step.seq, step.owner)
            except (DatabaseUnavailable, DatabaseError):
                await asyncio.sleep(LOOK_EVERY)
            else:
                return

    async def _settled(self, values: dict[str, Any]) -> Mapping[str, Any]:
        """The verdict, once it is not to wait for another process or for the turn of another answer."""
        pause, turn_until = FIRST_LOOK, time.monotonic() + TURN_SECONDS
        while True:
            async with self._db.connection() as connection:
                row = await store.begin(connection, values)
            if row["verdict"] not in ("join", "turn"):
                return row
            values |= {"seq": row["seq"], "in_turn": time.monotonic() < turn_until}
            await asyncio.sleep(pause)
            pause = min(pause * 2, LOOK_EVERY)

    async def _diverges(self, principal: Principal, kind: str, label: str) -> NoReturn:
        assert principal.run is not None
        assert principal.attempt is not None
        message = (
            f"the journal of run {principal.run} holds no answer to this call ({kind} {label}): the run goes another way now"
        )
        async with self._db.tenant(principal) as connection:
            error = dumps({"type": ReplayDivergence.code, "message": message}).decode()
            await store.fail(connection, principal.run, principal.attempt, error)
        raise ReplayDivergence(message)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            for step, task in list(self._open.values()):
                if task is not None and task.done():
                    self.closed(step)
                    continue
                try:
                    await self._renew(step)
                except (DatabaseUnavailable, DatabaseError) as error:
                    log.warning(
                        "the lease of a step was not renewed", run=str(step.run), step=step.seq, reason=str(error).strip()
                    )

    async def _renew(self, step: Step) -> None:
        async with self._db.connection() as connection:
            if not await store.renew(connection, step.principal.user_id, step.run, step.seq, step.owner, self._lease):
                self.closed(step)


def _suspended(principal: Principal) -> Suspended:
    return Suspended(f"run {principal.run} waits; attempt {principal.attempt} goes no further")
