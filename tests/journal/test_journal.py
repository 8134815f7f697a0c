"""The journal's rules (docs/explanation/runs.md, "The journal"), each against a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.core.errors import AuralinkError, InvalidRequest, RateLimited
from auralink.journal.errors import ReplayDivergence, StaleAttempt
from auralink.journal.keys import key_of
from auralink.journal.recorded import Recorded, error_of, error_text
from auralink.llm.requests import InvalidModelRequest
from auralink.mcp.upstream.errors import UpstreamRejected
from auralink.runs.schemas import StepDecision
from tests.conftest import TestDatabase
from tests.journal.support import Tape, soon, tape

ONE, TWO = {"connection": "c", "tool": "one", "arguments": {"n": 1}}, {"connection": "c", "tool": "two", "arguments": {}}


@pytest.fixture
async def run(database: Database, test_database: TestDatabase, principal: Principal) -> AsyncIterator[Tape]:
    async with tape(database, test_database.superuser, principal) as made:
        yield made


@pytest.mark.promise("P-ONCE")
async def test_a_completed_call_is_answered_from_the_journal_by_the_next_attempt(run: Tape) -> None:
    assert await run.call(ONE, {"content": ["first"]}) == {"content": ["first"]}
    await run.lose()
    assert await run.call(ONE, "another") == {"content": ["first"]}
    assert run.made == [ONE]
    assert [event["type"] for event in run.events()][-1] == "step.replayed"


@pytest.mark.promise("P-ONCE")
async def test_the_same_call_twice_is_two_calls_and_each_keeps_its_answer(run: Tape) -> None:
    assert [await run.call(ONE, "a"), await run.call(ONE, "b")] == ["a", "b"]
    await run.lose()
    assert [await run.call(ONE, "x"), await run.call(ONE, "y"), await run.call(ONE, "z")] == ["a", "b", "z"]
    assert len(run.made) == 3


@pytest.mark.promise("P-ONCE")
async def test_an_error_that_was_an_answer_is_the_same_error_again(run: Tape) -> None:
    refused = UpstreamRejected("server said no", rpc_code=-32602, reason="no", data={"why": [1]})
    step = await run.begin(ONE)
    await run.audit.commit(step.failed(refused))
    await run.lose()
    step = await run.begin(ONE)
    assert step.replay is not None
    with pytest.raises(UpstreamRejected) as raised:
        step.replay.result()
    assert (raised.value.rpc_code, raised.value.reason, raised.value.data) == (-32602, "no", {"why": [1]})
    assert (raised.value.message, raised.value.status, raised.value.headers) == (
        "server said no",
        refused.status,
        refused.headers,
    )


def test_an_error_whose_class_is_gone_keeps_its_code_and_status() -> None:
    kept = {"code": "once_was", "status": 418, "title": "Once", "message": "it was", "headers": {}, "extra": {"a": 1}}
    error = error_of(kept)
    assert isinstance(error, AuralinkError)
    assert (error.code, error.status, error.title, str(error), error.extra) == ("once_was", 418, "Once", "it was", {"a": 1})
    assert Recorded({"error": kept}).is_error
    assert '"code":"once_was"' in error_text(error)


@pytest.mark.parametrize("first", [RateLimited("wait"), InvalidRequest("no"), InvalidModelRequest("no")])
def test_an_error_that_shares_its_code_with_another_is_still_the_same_error_again(first: AuralinkError) -> None:
    again = error_of(orjson.loads(error_text(first))["error"])
    assert type(again) is type(first)
    assert (again.status, again.title, again.message) == (first.status, first.title, first.message)


@pytest.mark.promise("P-FENCE")
async def test_an_earlier_attempt_begins_nothing_but_completes_what_it_began(run: Tape) -> None:
    earlier = run.acting
    step = await run.begin(ONE)
    await run.lose()
    with pytest.raises(StaleAttempt) as raised:
        await run.journal.begin(earlier, "tool", TWO)
    assert (raised.value.status, raised.value.headers) == (409, {"x-should-retry": "false"})
    joining = asyncio.create_task(run.call(ONE, "second"))
    await run.audit.commit(step.done("first"))
    assert await soon(joining) == "first"
    assert [entry["label"] for entry in run.entries()] == ["c__one"]


@pytest.mark.promise("P-FENCE")
async def test_nothing_begins_in_a_run_that_has_ended(run: Tape) -> None:
    await run.runs.cancel(run.user, run.run_id)
    with pytest.raises(StaleAttempt):
        await run.begin(ONE)
    assert run.entries() == []


@pytest.mark.promise("P-FENCE")
async def test_a_process_whose_call_was_taken_over_cannot_complete_it(run: Tape) -> None:
    first = await run.begin(ONE)
    run.sql("UPDATE auralink.run_journal SET gateway_lease = now() - interval '1 s'")
    await run.lose()
    second = await run.begin(ONE)
    assert (first.again, second.again, second.seq) == (False, True, first.seq)
    assert first.idempotency_key == second.idempotency_key == f"{run.run_id}:1"
    await run.audit.commit(first.done("late"))
    await run.audit.commit(second.done("in time"))
    assert run.entries()[0]["response"] == {"result": "in time"}


@pytest.mark.promise("P-ONCE")
async def test_a_call_that_may_have_happened_waits_for_a_person_and_then_is_what_they_say(run: Tape) -> None:
    await run.begin(ONE)
    run.sql("UPDATE auralink.run_journal SET gateway_lease = now() - interval '1 s'")
    await run.lose()
    step = await run.begin(ONE)
    with pytest.raises(StaleAttempt):
        await step.unknown()
    waiting = await run.run()
    assert (waiting.status, waiting.reason) == ("waiting", "outcome_unknown")
    decided = await run.runs.decide(run.user, run.run_id, 1, StepDecision(decision="happened", answer="it was sent"))
    assert [row["served_by"] for row in run.sql("SELECT served_by FROM auralink.mcp_operation_logs")] == ["a person's word"]
    assert decided.status == "queued"
    await run.claim()
    assert await run.call(ONE) == {"content": [{"type": "text", "text": "it was sent"}]}
    assert run.made == []


@pytest.mark.parametrize(("decision", "made"), [("retry", 1), ("abort", 0)])
async def test_an_unknown_outcome_is_retried_or_ends_the_run(run: Tape, decision: Any, made: int) -> None:
    step = await run.begin(ONE)
    with pytest.raises(StaleAttempt):
        await step.unknown()
    decided = await run.runs.decide(run.user, run.run_id, 1, StepDecision(decision=decision))
    if decision == "abort":
        assert decided.status == "cancelled"
        return
    await run.claim()
    again = await run.begin(ONE)
    assert (again.replay, again.again, again.seq) == (None, False, 1)


async def test_an_outcome_that_becomes_known_after_all_ends_the_wait(run: Tape) -> None:
    step = await run.begin(ONE)
    with pytest.raises(StaleAttempt):
        await step.unknown()
    await run.audit.commit(step._record('{"result": "it was done"}', "ok", 0, None))
    assert (await run.run()).status == "queued"
    await run.claim()
    assert await run.call(ONE) == "it was done"


@pytest.mark.promise("P-WAIT")
async def test_a_suspended_call_is_not_answered_and_is_made_by_the_next_attempt(run: Tape) -> None:
    await run.call(TWO, "before")
    step = await run.begin(ONE)
    with pytest.raises(StaleAttempt):
        await step.suspend("budget")
    waiting = await run.run()
    assert (waiting.status, waiting.reason) == ("waiting", "budget")
    with pytest.raises(StaleAttempt):  # no new call begins meanwhile
        await run.begin({"tool": "third"})
    run.sql("SELECT auralink.requeue_run(%s)", run.run_id)
    await run.claim()
    assert await run.call(TWO, "again") == "before"
    step = await run.begin(ONE)
    assert (step.seq, step.again, step.replay) == (2, False, None)


async def test_siblings_of_a_suspended_call_end_and_are_kept(run: Tape) -> None:
    sibling, suspended = await run.begin(TWO), await run.begin(ONE)
    with pytest.raises(StaleAttempt):
        await suspended.suspend("approval")
    await run.audit.commit(sibling.done("kept"))
    run.sql("SELECT auralink.requeue_run(%s)", run.run_id)
    await run.claim()
    assert await run.call(TWO, "made again") == "kept"


async def test_a_clients_retry_joins_its_last_call(run: Tape) -> None:
    assert await run.call(ONE, "a") == "a"
    assert await run.call(ONE, "b", client_retry=True) == "a"
    pending = await run.begin(TWO)
    joining = asyncio.create_task(run.call(TWO, "another", client_retry=True))
    await run.audit.commit(pending.done("one answer"))
    assert await soon(joining) == "one answer"
    assert run.made == [ONE]


async def test_a_call_under_way_elsewhere_is_joined_until_its_lease_is_over(
    database: Database, test_database: TestDatabase, principal: Principal
) -> None:
    async with tape(database, test_database.superuser, principal, lease=0.3) as run:
        dead = await run.begin(ONE)
        run.journal.closed(dead)  # its process gives no sign of life any more
        await run.lose()
        step = await run.begin(ONE)
        assert (step.again, step.replay) == (True, None)


async def test_a_long_call_keeps_its_lease(database: Database, test_database: TestDatabase, principal: Principal) -> None:
    async with tape(database, test_database.superuser, principal, lease=0.3) as run:
        step = await run.begin(ONE)
        first = run.entries()[0]["gateway_lease"]
        async with asyncio.timeout(5):
            while run.entries()[0]["gateway_lease"] <= first:
                await asyncio.sleep(0.02)
        await run.audit.commit(step.done("at last"))


async def test_parallel_answers_come_in_the_order_in_which_they_came(run: Tape) -> None:
    one, two = await run.begin(ONE), await run.begin(TWO)
    await run.audit.commit(two.done("two"))
    await run.audit.commit(one.done("one"))
    await run.lose()
    order: list[str] = []

    async def ask(request: Any) -> None:
        order.append(await run.call(request, "made"))

    first = asyncio.create_task(ask(ONE))
    await asyncio.sleep(0.02)  # the other is asked for only after this one waits
    await soon(asyncio.gather(first, asyncio.create_task(ask(TWO))))
    assert order == ["two", "one"]


async def test_an_answer_does_not_wait_for_one_that_is_never_asked_for(run: Tape) -> None:
    one, two = await run.begin(ONE), await run.begin(TWO)
    await run.audit.commit(two.done("two"))
    await run.audit.commit(one.done("one"))
    await run.lose()
    assert await soon(asyncio.create_task(run.call(ONE))) == "one"
    async with run.db.tenant(run.user) as connection:
        await connection.execute("SELECT auralink.finish_run(%s, 2, 'succeeded', 'null', NULL)", [run.run_id])
    assert (await run.run()).diverged == 1


async def test_calls_of_many_at_once_get_one_place_each(run: Tape) -> None:
    answers = await asyncio.gather(*(run.call({"tool": "many", "n": n}, n) for n in range(20)))
    assert sorted(answers) == list(range(20))
    assert [entry["seq"] for entry in run.entries()] == list(range(1, 21))
    events = [event["seq"] for event in run.events()]
    assert events == list(range(1, len(events) + 1))


async def test_what_a_step_took_is_counted_once(run: Tape) -> None:
    step = await run.begin(ONE)
    await run.audit.commit(step.done("x", tokens=120))
    await run.lose()
    await run.call(ONE)
    run_now = await run.run()
    assert (run_now.tokens, run_now.steps, run_now.replayed) == (120, 1, 1)


async def test_text_that_postgres_has_no_place_for_is_kept(run: Tape) -> None:
    strange = {"content": [{"text": "a\x00b"}]}
    assert await run.call(ONE, strange) == strange
    await run.lose()
    assert await run.call(ONE) == strange


async def test_a_replay_fails_at_the_first_call_that_its_journal_does_not_hold(run: Tape) -> None:
    await run.call(ONE, "kept")
    await run.runs.cancel(run.user, run.run_id)
    replay = await run.runs.replay(run.user, run.run_id)
    run.run_id = replay.run_id
    await run.claim()
    assert await run.call(ONE) == "kept"
    with pytest.raises(ReplayDivergence):
        await run.call(TWO)
    ended = await run.run()
    assert (ended.status, ended.error["type"], run.made) == ("failed", "replay_divergence", [ONE])


async def test_another_users_token_cannot_touch_the_journal(run: Tape, make_principal: Any) -> None:
    stranger = make_principal()
    with pytest.raises(StaleAttempt):
        await run.journal.begin(
            type(run.acting)(stranger.user_id, "x", "x", None, "user", frozenset(), run.run_id, run.acting.attempt), "tool", ONE
        )
    assert run.entries() == []


def test_the_key_says_what_determines_the_answer_and_nothing_else() -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.1}
    same = {"temperature": 0.1, "messages": [{"content": "hi", "role": "user"}], "model": "m", "stream": True, "user": "u"}
    assert key_of("llm", request) == key_of("llm", same)
    for other in ({"model": "n"}, {"temperature": 0.2}, {"tools": []}, {"messages": []}):
        assert key_of("llm", request) != key_of("llm", {**request, **other})
    assert key_of("llm", request) != key_of("tool", request)
