"""Approvals of a run's steps: the run waits without holding anything, and goes on when somebody has decided."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.journal.approvals import Approvals, Call
from auralink.journal.errors import StaleAttempt
from auralink.journal.schemas import Decision
from tests.conftest import TestDatabase
from tests.journal.support import Tape, tape

pytestmark = pytest.mark.promise("P-WAIT")
DELETE = {"connection": "c", "tool": "delete", "arguments": {"what": "all"}}
CALL = Call(uuid4(), "server", "delete", {"what": "all"}, {"name": "delete"})


@pytest.fixture
async def run(database: Database, test_database: TestDatabase, principal: Principal) -> AsyncIterator[Tape]:
    async with tape(database, test_database.superuser, principal) as made:
        yield made


async def ask(run: Tape, approvals: Approvals) -> None:
    step = await run.begin(DELETE)
    with pytest.raises(StaleAttempt):
        await approvals.of_step(step, CALL)


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_a_decision_lets_the_run_go_on(run: Tape, decision: str) -> None:
    approvals = Approvals(run.db)
    await ask(run, approvals)
    waiting = await run.run()
    assert (waiting.status, waiting.reason) == ("waiting", "approval")
    [asked] = (await approvals.page(run.user, status="pending", after=None, limit=10)).items
    assert (asked.run_id, asked.run_seq, asked.arguments) == (run.run_id, 1, {"what": "all"})
    run.sql("UPDATE auralink.approvals SET created_at = now() - interval '1 d'")  # nobody decides before the next day
    body = Decision.model_validate({"decision": decision, "note": "because", "answer": {"n": 1}})
    await approvals.decide(run.user, asked.approval_id, body)
    await run.claim()
    verdict = await approvals.of_step(await run.begin(DELETE), CALL)
    assert (verdict.approved, verdict.note, verdict.answer) == (decision == "approve", "because", {"n": 1})
    types = [event["type"] for event in run.events()]
    assert types[2:7] == ["step.started", "approval.requested", "run.waiting", "approval.decided", "run.queued"]
    [event] = [event for event in run.events() if event["type"] == "approval.requested"]
    assert event["data"]["approval_id"] == str(asked.approval_id)


async def test_the_decision_holds_for_later_attempts_at_the_same_step(run: Tape) -> None:
    approvals = Approvals(run.db)
    await ask(run, approvals)
    [asked] = (await approvals.page(run.user, status="pending", after=None, limit=10)).items
    await approvals.decide(run.user, asked.approval_id, Decision(decision="approve"))
    await run.claim()
    for _ in range(2):
        assert (await approvals.of_step(await run.begin(DELETE, client_retry=True), CALL)).approved
        run.sql("UPDATE auralink.run_journal SET gateway_lease = now() - interval '1 s'")
    assert not await approvals.use(run.user, CALL)  # it is no approval of a call outside the run


async def test_a_decision_that_comes_before_the_run_waits_is_found(run: Tape) -> None:
    step = await run.begin(DELETE)
    with pytest.raises(StaleAttempt):
        await step.suspend("approval")
    async with run.db.system() as connection:
        await connection.execute("SELECT auralink.reconcile_runs(20)")
    assert (await run.run()).status == "queued"


async def test_two_steps_may_wait_at_once(run: Tape) -> None:
    approvals, other = Approvals(run.db), {**DELETE, "tool": "drop"}
    first, second = await run.begin(DELETE), await run.begin(other)
    for step in (first, second):
        with pytest.raises(StaleAttempt):
            await approvals.of_step(step, CALL)
    pending = (await approvals.page(run.user, status="pending", after=None, limit=10)).items
    assert len(pending) == 2
    await approvals.decide(run.user, next(a for a in pending if a.run_seq == 1).approval_id, Decision(decision="approve"))
    await run.claim()
    assert (await approvals.of_step(await run.begin(DELETE), CALL)).approved
    with pytest.raises(StaleAttempt):
        await approvals.of_step(await run.begin(other), CALL)
    assert len((await approvals.page(run.user, status="pending", after=None, limit=10)).items) == 1
