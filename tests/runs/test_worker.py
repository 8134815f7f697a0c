"""The worker against a real Postgres: runs are taken, fenced, suspended, cancelled, tried again, and never lost."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from auralink.auth.principal import Principal
from auralink.core import telemetry
from auralink.core.db import Database
from auralink.core.errors import InvalidRequest
from auralink.runs import metrics, store
from auralink.runs.engines import Failure, OnEvent, Result, Start
from auralink.runs.errors import RunFinished
from auralink.runs.schemas import Fork, Parent
from auralink.runs.worker import MAX_LOSSES_OF_A_REPLAY
from auralink.vault.crypto import KeyRing
from tests.conftest import MakePrincipal, TestDatabase, eventually
from tests.runs.support import ENGINE, accept, rows, runs_of, working

ANY = {"status": None, "kind": None, "definition_id": None}


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


async def test_engines_are_warmed_that_had_runs_and_those_that_something_saved_will_need(
    database: Database, principal: Principal, ring: KeyRing
) -> None:
    engines = (ENGINE, "langgraph", "never")
    async with runs_of(database) as runs:
        await accept(runs, principal, engine=ENGINE)
        rows(database.dsn, "DELETE FROM procrastinate.procrastinate_jobs")
        async with working(database.dsn, echo, ring, engines=engines) as engine:
            await eventually(lambda: ENGINE in engine.warmed)
            async with database.tenant(principal) as connection:
                await connection.execute(
                    "INSERT INTO auralink.agents (id, user_id, name, instructions, model) VALUES (%s, %s, 'a', '', 'auto')",
                    [uuid4(), principal.user_id],
                )
            await eventually(lambda: "langgraph" in engine.warmed)
    assert set(engine.warmed) == {ENGINE, "langgraph"}


async def test_what_is_said_while_something_else_is_written_is_written_too(
    database: Database, principal: Principal, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go, write = asyncio.Event(), asyncio.Event(), store.add_events

    async def slowly(*args: Any, **given: Any) -> bool:
        writing.set()
        await go.wait()
        return await write(*args, **given)

    async def talk(_start: Start, on_event: OnEvent) -> Result | Failure:
        await on_event({"type": "message", "data": "first"})
        await writing.wait()
        await on_event({"type": "message", "data": "second"})
        go.set()
        return Result(None)

    monkeypatch.setattr(store, "add_events", slowly)
    async with runs_of(database) as runs, working(database.dsn, talk, ring):
        run = await accept(runs, principal)
        assert (await runs.wait(principal, run.run_id, 10)).status == "succeeded"
        said = [event.data async for event in runs.events(principal, run.run_id) if event and event.type == "message"]
    assert said == ["first", "second"]


@pytest.mark.promise("P-ACCEPT")
async def test_a_run_and_its_wake_up_are_committed_together_or_not_at_all(database: Database, principal: Principal) -> None:
    async with runs_of(database) as runs:
        with pytest.raises(InvalidRequest):
            await accept(runs, principal, room_id="\x00")
        assert rows(database.dsn, "SELECT 1 FROM procrastinate.procrastinate_jobs") == []
        await accept(runs, principal)
        assert [job["queue_name"] for job in rows(database.dsn, "SELECT queue_name FROM procrastinate.procrastinate_jobs")] == [
            ENGINE
        ]


@pytest.mark.promise("P-ACCEPT")
async def test_the_same_idempotency_key_is_the_same_run(database: Database, principal: Principal, ring: KeyRing) -> None:
    async with runs_of(database) as runs, working(database.dsn, echo, ring) as engine:
        first, second = await asyncio.gather(*(accept(runs, principal, idempotency_key="once") for _ in range(2)))
        assert first.run_id == second.run_id
        await runs.wait(principal, first.run_id, 10)
        assert len(engine.starts) == 1


@pytest.mark.promise("P-ACCEPT")
async def test_a_run_whose_job_is_lost_is_found(database: Database, principal: Principal, ring: KeyRing) -> None:
    async with runs_of(database) as runs:
        run = await accept(runs, principal)
        rows(database.dsn, "DELETE FROM procrastinate.procrastinate_jobs")
        async with working(database.dsn, echo, ring):
            assert (await runs.wait(principal, run.run_id, 10)).status == "succeeded"


@pytest.mark.promise("P-ACCEPT")
async def test_a_run_whose_worker_died_is_taken_again(
    database: Database, test_database: TestDatabase, principal: Principal, ring: KeyRing
) -> None:
    async with runs_of(database) as runs:
        run = await accept(runs, principal)
        async with database.system() as connection:  # a worker takes it and is never heard of again
            assert await store.claim(connection, uuid4(), [ENGINE], lease=0.1, per_user=8) is not None
        async with working(database.dsn, echo, ring):
            ended = await runs.wait(principal, run.run_id, 10)
        assert (ended.status, ended.attempt) == ("succeeded", 2)
        events = [event.type async for event in runs.events(principal, run.run_id) if event]
    assert events == ["run.queued", "run.started", "run.queued", "run.resumed", "state", "run.finished"]


@pytest.mark.promise("P-ACCEPT")
async def test_a_run_that_kills_its_worker_every_time_has_failed_in_the_end(
    database: Database, test_database: TestDatabase, principal: Principal
) -> None:
    async with runs_of(database) as runs:
        run = await accept(runs, principal)
        for _ in range(3):
            async with database.system() as connection:
                assert await store.claim(connection, uuid4(), [ENGINE], lease=-1, per_user=8) is not None
                assert await store.reconcile(connection, 2) == 1
        ended = await runs.get(principal, run.run_id)
    assert (ended.status, ended.error["type"]) == ("failed", "WorkerLost")


@pytest.mark.promise("P-FENCE")
async def test_a_worker_that_lost_its_lease_writes_nothing(
    database: Database, test_database: TestDatabase, principal: Principal, ring: KeyRing
) -> None:
    release = asyncio.Event()

    async def slow(start: Start, on_event: OnEvent) -> Result | Failure:
        await release.wait()
        await on_event({"type": "state", "data": {"node": "stale"}})
        return Result("of the first attempt")

    async with runs_of(database) as runs, working(database.dsn, slow, ring, lease=600) as engine:
        run = await accept(runs, principal)
        await eventually(lambda: engine.starts)
        # The lease runs out, and another worker takes the run; the first does not know.
        rows(test_database.superuser, "ALTER TABLE auralink.runs DISABLE TRIGGER announce_change")
        rows(test_database.superuser, "UPDATE auralink.runs SET status = 'queued'")
        async with database.system() as connection:
            assert await store.claim(connection, uuid4(), [ENGINE], lease=600, per_user=8) is not None
        release.set()
        await eventually(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == f"run {run.run_id}"])
        current = await runs.get(principal, run.run_id)
        assert (current.status, current.attempt, current.step) == ("running", 2, None)
        async with database.tenant(principal) as connection:
            assert not await store.finish(connection, run.run_id, 1, "succeeded", output="late", error=None)
            assert not await store.put_off(connection, run.run_id, 1, {}, seconds=1, was_lost=False)
            assert await store.finish(connection, run.run_id, 2, "succeeded", output="of the second", error=None)
            assert not await store.finish(connection, run.run_id, 2, "failed", output=None, error={})
        assert (await runs.get(principal, run.run_id)).output == "of the second"


@pytest.mark.parametrize(("lost", "attempts", "status"), [(False, 3, "failed"), (True, 4, "succeeded")])
async def test_a_failed_attempt_is_made_again_a_few_times(
    database: Database, principal: Principal, ring: KeyRing, lost: bool, attempts: int, status: str
) -> None:
    async def failing(start: Start, on_event: OnEvent) -> Result | Failure:
        return Failure("Broken", f"attempt {start.attempt}", lost=lost) if start.attempt < 4 else Result("well")

    async with runs_of(database) as runs, working(database.dsn, failing, ring):
        run = await accept(runs, principal, limits={"max_attempts": 3})
        ended = await runs.wait(principal, run.run_id, 15)
        assert (ended.status, ended.attempt) == (status, attempts)
        if status == "failed":
            assert ended.error["message"] == "attempt 3"  # a dead letter stays visible, with what it died of
        else:
            assert (ended.error, ended.output) == (None, "well")  # what an earlier attempt died of is in the events alone
        reasons = [
            event.data["reason"] async for event in runs.events(principal, run.run_id) if event and event.type == "run.waiting"
        ]
        assert reasons == ["backoff"] * (attempts - 1)


async def test_a_replay_is_lost_fewer_times_than_a_run(
    database: Database, principal: Principal, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auralink.runs.worker.FIRST_BACKOFF", 0.0)

    async def refused(start: Start, on_event: OnEvent) -> Result | Failure:
        return Failure("Lost", f"attempt {start.attempt}", lost=True)

    async with runs_of(database) as runs:
        run = await accept(runs, principal)
        await runs.cancel(principal, run.run_id)
        replay = await runs.replay(principal, run.run_id)
        async with working(database.dsn, refused, ring):
            ended = await runs.wait(principal, replay.run_id, 15)
    assert (ended.status, ended.error["message"]) == ("failed", f"attempt {MAX_LOSSES_OF_A_REPLAY}")


async def test_a_run_out_of_time_is_not_tried_again(database: Database, principal: Principal, ring: KeyRing) -> None:
    async def late(start: Start, on_event: OnEvent) -> Result | Failure:
        return Failure("DeadlineExceeded", "the run's time was over", traceback='File "/where/it/is/installed.py"')

    async with runs_of(database) as runs, working(database.dsn, late, ring):
        run = await accept(runs, principal)
        ended = await runs.wait(principal, run.run_id, 10)
        assert ended.attempt == 1
        assert ended.error == {"type": "DeadlineExceeded", "message": "the run's time was over"}, "paths are for the log"


async def test_cancelling_stops_the_engine_at_once(database: Database, principal: Principal, ring: KeyRing) -> None:
    async with runs_of(database) as runs, working(database.dsn, forever, ring, lease=600) as engine:
        run = await accept(runs, principal)
        await eventually(lambda: engine.starts)
        assert (await runs.cancel(principal, run.run_id)).status == "cancelled"
        await eventually(lambda: engine.stopped == [(run.run_id, 1)])
        with pytest.raises(RunFinished):
            await runs.cancel(principal, run.run_id)
        resumed = await runs.resume(principal, run.run_id)
        assert (resumed.status, resumed.source_id) == ("queued", run.run_id)


async def test_cancelling_ends_what_the_run_has_started(database: Database, principal: Principal) -> None:
    async with runs_of(database) as runs:
        parent = await accept(runs, principal, limits={"seconds": 60})
        child = await accept(runs, principal, parent=Parent(parent.run_id, 1))
        grandchild = await accept(runs, principal, parent=Parent(child.run_id, 1))
        await runs.cancel(principal, parent.run_id)
        assert (await runs.get(principal, grandchild.run_id)).status == "cancelled"


@pytest.mark.promise("P-WAIT")
async def test_a_run_that_waits_holds_no_engine_and_goes_on_when_it_may(
    database: Database, test_database: TestDatabase, principal: Principal, ring: KeyRing
) -> None:
    async def patient(start: Start, on_event: OnEvent) -> Result | Failure:
        return Result("done") if start.attempt > 1 else await forever(start, on_event)

    async with runs_of(database) as runs:
        async with working(database.dsn, patient, ring, lease=600) as engine:
            run = await accept(runs, principal)
            await eventually(lambda: engine.starts)
            rows(test_database.superuser, "UPDATE auralink.runs SET status = 'waiting', reason = 'budget'")
            await eventually(lambda: engine.stopped)
            assert (await runs.wait(principal, run.run_id, 0.3)).status == "waiting"
        async with working(database.dsn, patient, ring) as engine:  # everything was started anew
            rows(test_database.superuser, "SELECT auralink.requeue_run(%s)", run.run_id)
            assert (await runs.wait(principal, run.run_id, 10)).output == "done"
            assert [start.attempt for start in engine.starts] == [2]


async def test_a_worker_that_stops_gives_its_runs_back(database: Database, principal: Principal, ring: KeyRing) -> None:
    async def patient(start: Start, on_event: OnEvent) -> Result | Failure:
        return Result("done") if start.attempt > 1 else await forever(start, on_event)

    async with runs_of(database) as runs:
        run = await accept(runs, principal)
        async with working(database.dsn, patient, ring, lease=600) as engine:
            await eventually(lambda: engine.starts)
        assert (await runs.get(principal, run.run_id)).status == "queued"
        async with working(database.dsn, patient, ring):
            assert (await runs.wait(principal, run.run_id, 10)).status == "succeeded"


async def test_one_users_many_runs_delay_anothers_first_by_no_more_than_one_slot(
    database: Database, make_principal: MakePrincipal, ring: KeyRing
) -> None:
    many, one = make_principal(), make_principal()
    async with runs_of(database) as runs:
        for _ in range(12):
            await accept(runs, many)
        first = await accept(runs, one)
        async with working(database.dsn, echo, ring, concurrency=1) as engine:
            await runs.wait(one, first.run_id, 10)
            assert [start.run_id for start in engine.starts].index(first.run_id) <= 1


async def test_a_users_own_runs_are_taken_by_priority_then_age(database: Database, principal: Principal) -> None:
    async with runs_of(database) as runs:
        accepted = [await accept(runs, principal, priority=priority) for priority in (0, 0, 5)]
    taken = [await claimed(database) for _ in range(3)]
    assert taken == [accepted[2].run_id, accepted[0].run_id, accepted[1].run_id]


async def test_limits_of_a_user_and_of_a_definition_are_kept(database: Database, principal: Principal) -> None:
    definition = uuid4()
    async with runs_of(database) as runs:
        for _ in range(3):
            await accept(runs, principal, definition_id=definition, limits={"concurrency": 1})
        other = await accept(runs, principal)
    first = await claimed(database)
    assert first is not None
    assert await claimed(database) == other.run_id
    assert await claimed(database) is None
    async with database.tenant(principal) as connection:
        await store.finish(connection, first, 1, "succeeded", output=None, error=None)
    assert await claimed(database, per_user=1) is None
    assert await claimed(database, per_user=2) is not None


async def test_many_claims_at_once_take_each_run_once(database: Database, principal: Principal) -> None:
    async with runs_of(database) as runs:
        accepted = {(await accept(runs, principal)).run_id for _ in range(12)}
    taken = await asyncio.gather(*(claimed(database, per_user=100) for _ in range(16)))
    assert sorted(run for run in taken if run) == sorted(accepted)


@pytest.mark.promise("P-STREAM")
async def test_events_can_be_followed_live_and_resumed_anywhere(database: Database, principal: Principal, ring: KeyRing) -> None:
    async def talking(start: Start, on_event: OnEvent) -> Result | Failure:
        for number in range(300):
            await on_event({"type": "log", "data": {"number": number}})
        return Result(None)

    async with runs_of(database) as here, runs_of(database) as there, working(database.dsn, talking, ring):
        run = await accept(here, principal)
        followed = [event async for event in here.events(principal, run.run_id) if event]
        assert [event.seq for event in followed] == list(range(1, 304))
        assert [event.data["number"] for event in followed if event.type == "log"] == list(range(300))
        for after in (0, 1, 150, 302, 303):
            rest = [event async for event in there.events(principal, run.run_id, after=after) if event]
            assert rest == followed[after:]


async def test_the_figures_say_what_waits_and_what_has_ended(database: Database, principal: Principal, ring: KeyRing) -> None:
    async with runs_of(database) as runs:
        await accept(runs, principal, engine="another")
        async with working(database.dsn, echo, ring):
            run = await accept(runs, principal)
            await runs.wait(principal, run.run_id, 10)
        await metrics.measure(database)
    text = telemetry.render_metrics({}).decode()
    assert 'auralink_agent_executions_total{engine="scripted",outcome="succeeded"} 1.0' in text
    assert 'auralink_run_queue_depth{engine="another"} 1.0' in text


async def test_old_runs_go_with_all_that_belongs_to_them(
    database: Database, test_database: TestDatabase, principal: Principal, ring: KeyRing
) -> None:
    async with runs_of(database) as runs, working(database.dsn, echo, ring):
        old, young = [await accept(runs, principal) for _ in range(2)]
        for run in (old, young):
            await runs.wait(principal, run.run_id, 10)
        rows(test_database.superuser, "UPDATE auralink.runs SET finished_at = now() - interval '31 d' WHERE id = %s", old.run_id)
        async with database.system() as connection:
            await connection.execute("SELECT auralink.forget_runs(30)")
        assert [run.run_id for run in (await runs.page(principal, ANY, after=None, limit=10)).items] == [young.run_id]
    assert rows(test_database.superuser, "SELECT 1 FROM auralink.run_events WHERE run_id = %s", old.run_id) == []


async def forever(start: Start, on_event: OnEvent) -> Result | Failure:
    await asyncio.Event().wait()
    raise AssertionError


async def claimed(database: Database, *, per_user: int = 8) -> UUID | None:
    """What a worker would take next."""
    async with database.system() as connection:
        row = await store.claim(connection, uuid4(), [ENGINE], lease=600, per_user=per_user)
    return row["id"] if row else None


async def test_a_run_made_of_another_sees_its_clock_and_its_chance(
    database: Database, principal: Principal, ring: KeyRing
) -> None:
    async with runs_of(database) as runs, working(database.dsn, echo, ring) as engine:
        first = await accept(runs, principal)
        await runs.wait(principal, first.run_id, 10)
        second = await runs.replay(principal, first.run_id)
        await runs.wait(principal, second.run_id, 10)
        third = await runs.fork(principal, second.run_id, Fork(at=0))
        await runs.wait(principal, third.run_id, 10)
    assert {(start.origin, start.accepted_at) for start in engine.starts} == {(first.run_id, first.accepted_at)}
