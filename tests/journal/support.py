"""A run under way without a worker: attempts are claimed by the test, calls are made through the journal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

from auralink.audit.group_commit import GroupCommit
from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.core.secret import Secret
from auralink.journal.steps import Journal, Step
from auralink.runs import store
from auralink.runs.schemas import Run
from auralink.runs.service import Runs
from tests.runs.support import ENGINE, accept, rows, runs_of


@dataclass
class Tape:
    """One run, whoever works on it, and a gateway that answers its calls."""

    db: Database
    audit: GroupCommit
    journal: Journal
    runs: Runs
    user: Principal
    run_id: UUID
    acting: Principal
    made: list[Any] = field(default_factory=list)
    """The calls that were really made."""

    async def claim(self) -> None:
        """The next attempt begins."""
        async with self.db.system() as connection:
            row = await store.claim(connection, uuid4(), [ENGINE], lease=60, per_user=100)
        assert row is not None
        assert row["id"] == self.run_id
        self.acting = replace(self.user, run=self.run_id, attempt=row["attempt"])

    async def lose(self) -> None:
        """The attempt's lease runs out, and the next begins."""
        self.sql("UPDATE auralink.runs SET lease_until = now() - interval '1 s' WHERE id = %s", self.run_id)
        async with self.db.system() as connection:
            assert await store.reconcile(connection, 20) == 1
        await self.claim()

    def sql(self, query: str, *values: object) -> list[dict[str, Any]]:
        return rows(self.superuser, query, *values)

    superuser: Secret = field(default_factory=lambda: Secret(""))

    async def call(self, request: Mapping[str, Any], answer: Any = "answer", **options: Any) -> Any:
        """A call through the gateway: out of the journal, or made."""
        step = await self.journal.begin(self.acting, "tool", request, **options)
        if step.replay is not None:
            return step.replay.result()
        self.made.append(request)
        await self.audit.commit(step.done(answer))
        return answer

    async def begin(self, request: Mapping[str, Any], **options: Any) -> Step:
        """A call that is begun, and does not end."""
        return await self.journal.begin(self.acting, "tool", request, **options)

    async def run(self) -> Run:
        return await self.runs.get(self.user, self.run_id)

    def entries(self) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM auralink.run_journal WHERE run_id = %s ORDER BY seq", self.run_id)

    def events(self) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM auralink.run_events WHERE run_id = %s ORDER BY seq", self.run_id)


@contextlib.asynccontextmanager
async def tape(
    db: Database, superuser: Secret, user: Principal, *, lease: float = 15.0, hold: float = 0.05
) -> AsyncIterator[Tape]:
    """An accepted run whose first attempt has begun."""
    audit, journal = GroupCommit(db.dsn), Journal(db, lease=lease, hold=hold)
    async with runs_of(db) as runs:
        await audit.open()
        await journal.open()
        run = await accept(runs, user)
        made = Tape(db, audit, journal, runs, user, run.run_id, user, superuser=superuser)
        await made.claim()
        try:
            yield made
        finally:
            await journal.close()
            await audit.close()


async def soon(task: "asyncio.Task[Any]") -> Any:
    """The result of a task that ends shortly."""
    async with asyncio.timeout(10):
        return await task
