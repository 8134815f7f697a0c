"""What a run can do besides calling its user's tools: ask a person, and start other runs. Through `/mcp`, with a run token."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from auralink.auth.principal import Principal, user_id_of
from auralink.core.errors import InvalidRequest
from auralink.journal.errors import StaleAttempt
from auralink.mcp.errors import ToolNotFound
from auralink.runs import store
from auralink.runs.errors import RunsTooDeep
from auralink.runs.schemas import Parent, RunDetail
from auralink.runs.service import MAX_DEPTH, Runs
from auralink.runs.tools import RunTools
from auralink.vault.crypto import KeyRing
from tests.conftest import TestDatabase
from tests.runs.support import ENGINE, accept, rows
from tests.service import API, Service, running_service, unique


@dataclass
class Family:
    """A run, whose attempts the test begins, and the service it talks to."""

    service: Service
    database: TestDatabase
    user: Principal
    parent: UUID
    acting: Principal
    rest: httpx2.AsyncClient

    @property
    def runs(self) -> Runs:
        runs: Runs = self.service.app.state.runs
        return runs

    @property
    def tools(self) -> RunTools:
        state = self.service.app.state
        return RunTools(state.runs, state.journal, state.approvals, AUDIT[0], {"workflow": Workflows(self.runs)})

    async def attempt(self) -> None:
        async with self.service.app.state.db.system() as connection:
            row = await store.claim(connection, uuid4(), [ENGINE], lease=600, per_user=8)
        assert row is not None
        self.acting = replace(self.user, run=row["id"], attempt=row["attempt"])

    async def finish(self, run_id: UUID, status: str, output: Any, error: Any = None) -> None:
        async with self.service.app.state.db.tenant(self.user) as connection:
            assert await store.finish(connection, run_id, 1, status, output=output, error=error)


class Workflows:
    """Starts runs of any name."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def start(self, principal: Principal, name: str, given: Any, *, parent: Parent, idempotency_key: str) -> RunDetail:
        if name == "none":
            raise ToolNotFound("there is no such definition")
        return await accept(self._runs, principal, engine="child", input=given, parent=parent, idempotency_key=idempotency_key)


AUDIT: list[Any] = []


@pytest.fixture
async def family(test_database: TestDatabase, tmp_path: Path, ring: KeyRing) -> AsyncIterator[Family]:
    name = unique()
    user = Principal(user_id_of("auralink", name), name, "auralink", None, "user", frozenset())
    async with running_service(test_database.service, tmp_path, ring) as service, service.client(name) as rest:
        service.app.state.journal._hold_seconds = 0.05  # nobody stops the engine in these tests
        AUDIT[:] = [service.app.state.mcp.gateway._audit]
        run = await accept(service.app.state.runs, user, limits={"seconds": 100})
        made = Family(service, test_database, user, run.run_id, user, rest)
        await made.attempt()
        yield made


@contextlib.asynccontextmanager
async def mcp(family: Family) -> AsyncIterator[Client]:
    tokens = family.service.app.state.run_tokens
    token = tokens.issue(user_id=family.user.user_id, run=family.parent, attempt=family.acting.attempt, seconds=60).reveal()
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False) as http:
        async with Client(streamable_http_client(f"{family.service.url}/mcp", http_client=http)) as client:
            yield client


@pytest.mark.promise("P-WAIT")
async def test_a_run_asks_a_person_and_gets_the_answer_in_a_later_attempt(family: Family) -> None:
    asked = {"question": "May it be sent?", "details": {"to": "all"}}
    async with mcp(family) as client:
        assert "auralink__ask_approval" in [tool.name for tool in (await client.list_tools()).tools]
    with pytest.raises(StaleAttempt):
        await family.tools.call(family.acting, "ask_approval", asked)
    waiting = await family.runs.get(family.user, family.parent)
    assert (waiting.status, waiting.reason) == ("waiting", "input")
    [pending] = (await family.rest.get(f"{API}/approvals", params={"status": "pending"})).json()["items"]
    assert (pending["tool"], pending["arguments"], pending["connection_id"]) == ("ask_approval", asked, None)
    decision = {"decision": "approve", "note": "go", "answer": {"when": "now"}}
    assert (await family.rest.post(f"{API}/approvals/{pending['approval_id']}", json=decision)).status_code == 200
    await family.attempt()
    async with mcp(family) as client:
        answer = await client.call_tool("auralink__ask_approval", asked)
    assert answer.structured_content == {"decision": "approve", "note": "go", "answer": {"when": "now"}}


async def test_users_do_not_see_what_is_for_runs(family: Family) -> None:
    headers = {"Authorization": f"Bearer {family.service.token(family.user.subject)}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
        async with Client(streamable_http_client(f"{family.service.url}/mcp", http_client=http)) as client:
            assert (await client.list_tools()).tools == []


@pytest.mark.promise("P-WAIT")
@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
async def test_a_parent_waits_for_its_child_without_holding_anything(family: Family, status: str) -> None:
    given = {"name": "minutes", "input": {"n": 1}}
    with pytest.raises(StaleAttempt):
        await family.tools.call(family.acting, "run_workflow", given)
    waiting = await family.runs.get(family.user, family.parent)
    assert (waiting.status, waiting.reason) == ("waiting", "child")
    [child] = rows(family.database.superuser, "SELECT id, parent_seq, input FROM auralink.runs WHERE parent_id IS NOT NULL")
    assert (child["parent_seq"], child["input"]) == (1, {"n": 1})
    async with family.service.app.state.db.system() as connection:
        assert await store.claim(connection, uuid4(), ["child"], lease=600, per_user=8) is not None
    if status == "cancelled":
        await family.runs.cancel(family.user, child["id"])
    else:
        await family.finish(child["id"], status, {"points": [1]}, {"type": "E", "message": "it broke"})
    assert (await family.runs.get(family.user, family.parent)).status == "queued"
    await family.attempt()
    answer = await family.tools.call(family.acting, "run_workflow", given)
    text = answer["content"][0]["text"]
    if status == "succeeded":
        assert orjson.loads(text) == {"points": [1]}
    else:
        assert answer["isError"]
        assert status in text
    assert len(rows(family.database.superuser, "SELECT 1 FROM auralink.runs")) == 2


async def test_a_child_that_ends_at_once_is_answered_at_once(family: Family) -> None:
    calling = asyncio.create_task(family.tools.call(family.acting, "run_workflow", {"name": "quick"}))
    async with asyncio.timeout(5):
        while True:
            async with family.service.app.state.db.system() as connection:
                if (row := await store.claim(connection, uuid4(), ["child"], lease=600, per_user=8)) is not None:
                    break
            await asyncio.sleep(0.01)
    await family.finish(row["id"], "succeeded", "done")
    assert (await calling)["content"][0]["text"] == "done"
    assert row["time_limit"] <= 100  # no more than its parent has left


async def test_what_cannot_be_started_is_an_answer(family: Family) -> None:
    for arguments, error in (({"name": "none"}, ToolNotFound), ({"nome": "x"}, InvalidRequest)):
        with pytest.raises(error):
            await family.tools.call(family.acting, "run_workflow", arguments)
    with pytest.raises(ToolNotFound):
        await family.tools.call(family.acting, "run_team", {})
    kinds = [row["kind"] for row in rows(family.database.superuser, "SELECT kind FROM auralink.run_journal ORDER BY seq")]
    assert kinds == ["run", "run"]


async def test_runs_that_start_each_other_come_to_an_end(family: Family) -> None:
    last = await accept(family.runs, family.user)
    for seq in range(1, MAX_DEPTH - 1):
        last = await accept(family.runs, family.user, parent=Parent(last.run_id, seq))
    made_the_last = "UPDATE auralink.runs SET parent_id = %s, parent_seq = 1 WHERE id = %s"
    rows(family.database.superuser, made_the_last, last.run_id, family.parent)
    with pytest.raises(RunsTooDeep, match=f"{MAX_DEPTH} is the most"):
        await family.tools.call(family.acting, "run_workflow", {"name": "itself"})
    [step] = rows(family.database.superuser, "SELECT status, response FROM auralink.run_journal")
    assert (step["status"], step["response"]["error"]["code"]) == ("done", "runs_too_deep")
    assert (await accept(family.runs, family.user, parent=Parent(last.run_id, 9))).parent_id == last.run_id
