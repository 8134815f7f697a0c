"""The worker against a real Postgres: runs are taken, fenced, suspended, cancelled, tried again, and never lost."""

import pytest

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.runs.engines import Failure, OnEvent, Result, Start
from auralink.vault.crypto import KeyRing
from tests.runs.support import accept, runs_of, working


async def echo(start: Start, on_event: OnEvent) -> Result | Failure:
    await on_event({"type": "state", "data": {"node": "echo", "said": start.input}})
    return Result({"said": start.input})


@pytest.mark.promise("P-ACCEPT")
async def test_an_accepted_run_is_carried_out(database: Database, principal: Principal, ring: KeyRing) -> None:
    async with runs_of(database) as runs, working(database.dsn, echo, ring):
        run = await accept(runs, principal, input={"hello": ["world", 1]})
        ended = await runs.wait(principal, run.run_id, 10)
        assert (ended.status, ended.output, ended.attempt) == ("succeeded", {"said": {"hello": ["world", 1]}}, 1)
        assert (ended.step, ended.state) == ("echo", {"node": "echo", "said": {"hello": ["world", 1]}})
        events = [event async for event in runs.events(principal, run.run_id) if event]
    assert [event.type for event in events] == ["run.queued", "run.started", "state", "run.finished"]
    assert [event.seq for event in events] == [1, 2, 3, 4]
