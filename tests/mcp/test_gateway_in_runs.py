"""The MCP gateway for a run: every call once, whatever is asked again; with a real upstream over HTTP."""

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
from auralink.core.secret import Secret
from auralink.journal.errors import StaleAttempt
from auralink.journal.steps import Journal
from auralink.mcp.errors import ToolDenied
from auralink.mcp.service import Gateway as Calls
from auralink.runs import store
from auralink.runs.schemas import StepDecision
from auralink.runs.service import Runs
from auralink.vault.crypto import KeyRing
from tests.conftest import TestDatabase
from tests.mcp.gateway_fixtures import DELETE, READ, WRITE, Gateway, gateway
from tests.runs.support import ENGINE, accept, rows
from tests.service import API
from tests.upstreams.raw import Exchange

ENVELOPE = {"protocolVersion": "2026-07-28", "clientCapabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
META = {"_meta": {f"io.modelcontextprotocol/{name}": value for name, value in ENVELOPE.items()}}
MODERN = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
KEYED = {**WRITE, "name": "keyed", "_meta": {"auralink/idempotencyKey": True}}


@dataclass
class InRun:
    """A service with one upstream, and a run of its user whose attempts the test begins."""

    gateway: Gateway
    database: TestDatabase
    user: Principal
    run_id: UUID
    acting: Principal

    @property
    def calls(self) -> Calls:
        calls: Calls = self.gateway.service.app.state.mcp.gateway
        return calls

    @property
    def journal(self) -> Journal:
        journal: Journal = self.gateway.service.app.state.journal
        return journal

    @property
    def runs(self) -> Runs:
        runs: Runs = self.gateway.service.app.state.runs
        return runs

    async def attempt(self) -> None:
        """The next attempt begins; what was under way is as if its process had died."""
        rows(self.database.superuser, "UPDATE auralink.run_journal SET gateway_lease = now() - interval '1 s'")
        rows(self.database.superuser, "UPDATE auralink.runs SET status = 'queued' WHERE status = 'running'")
        async with self.gateway.service.app.state.db.system() as connection:
            row = await store.claim(connection, uuid4(), [ENGINE], lease=600, per_user=8)
        assert row is not None
        self.acting = replace(self.user, run=row["id"], attempt=row["attempt"])

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await self.calls.call_tool(self.acting, "up", tool, arguments, source="mcp")
        return answer.result

    async def dies_over(self, tool: str) -> None:
        """A call is begun, and its gateway dies; the next attempt begins."""
        request = {"connection": "up", "tool": tool, "arguments": {}}
        self.journal.closed(await self.journal.begin(self.acting, "tool", request))
        await self.attempt()

    async def status(self) -> tuple[str, str | None]:
        run = await self.runs.get(self.user, self.run_id)
        return run.status, run.reason

    def token(self) -> str:
        tokens = self.gateway.service.app.state.run_tokens
        assert self.acting.attempt is not None
        issued: Secret = tokens.issue(user_id=self.user.user_id, run=self.run_id, attempt=self.acting.attempt, seconds=60)
        return issued.reveal()

    @contextlib.asynccontextmanager
    async def mcp(self) -> AsyncIterator[Client]:
        """The SDK's client at `/mcp`, as the run."""
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {self.token()}"}, timeout=30, trust_env=False) as http:
            async with Client(streamable_http_client(f"{self.gateway.service.url}/mcp", http_client=http)) as client:
                yield client


@pytest.fixture
async def run(dsn: Secret, test_database: TestDatabase, tmp_path: Path, ring: KeyRing) -> AsyncIterator[InRun]:
    server = {"timeout": 1.0, "retry_attempts": 0}
    async with gateway(dsn, tmp_path, ring, (DELETE, READ, WRITE, KEYED), server=server) as made:
        made.service.app.state.journal._hold_seconds = 0.05  # nobody stops the engine in these tests
        user = Principal(user_id_of("auralink", made.user), made.user, "auralink", None, "user", frozenset())
        accepted = await accept(made.service.app.state.runs, user)
        in_run = InRun(made, test_database, user, accepted.run_id, user)
        await in_run.attempt()
        yield in_run


@pytest.mark.promise("P-ONCE")
async def test_a_tool_call_reaches_its_server_once_and_carries_its_key(run: InRun) -> None:
    first = await run.call("write", n=1)
    await run.attempt()
    assert await run.call("write", n=1) == first
    assert run.gateway.calls() == 1
    [request] = [request for request in run.gateway.upstream.requests if request.method == "tools/call"]
    assert request.message["params"]["_meta"]["auralink/idempotencyKey"] == f"{run.run_id}:1"
    assert request.headers["idempotency-key"] == f"{run.run_id}:1"
    logged = rows(run.database.superuser, "SELECT outcome FROM auralink.mcp_operation_logs WHERE operation = 'tools/call'")
    assert [row["outcome"] for row in logged] == ["ok"]


@pytest.mark.promise("P-ONCE")
@pytest.mark.parametrize("tool", ["read", "keyed"])
async def test_what_may_be_repeated_is_made_again_after_its_gateway_died(run: InRun, tool: str) -> None:
    await run.dies_over(tool)
    assert "content" in await run.call(tool)
    assert run.gateway.calls() == 1


@pytest.mark.promise("P-ONCE")
async def test_what_may_have_happened_and_must_not_be_repeated_waits_for_a_person(run: InRun) -> None:
    await run.dies_over("write")
    with pytest.raises(StaleAttempt):
        await run.call("write")
    assert await run.status() == ("waiting", "outcome_unknown")
    assert run.gateway.calls() == 0
    decision = {"decision": "happened", "answer": "it was written"}
    answer = await run.gateway.rest.post(f"{API}/runs/{run.run_id}/journal/1", json=decision)
    assert answer.json()["status"] == "queued"
    await run.attempt()
    assert await run.call("write") == {"content": [{"type": "text", "text": "it was written"}], "_meta": {"auralink/step": 1}}
    assert run.gateway.calls() == 0


@pytest.mark.promise("P-ONCE")
async def test_a_call_that_was_sent_and_timed_out_is_unknown_and_no_error(run: InRun) -> None:
    async def never(_exchange: Exchange) -> None:
        await asyncio.Event().wait()

    run.gateway.upstream.on["tools/call"] = never
    with pytest.raises(StaleAttempt):
        await run.call("write")
    assert await run.status() == ("waiting", "outcome_unknown")
    logged = rows(run.database.superuser, "SELECT outcome FROM auralink.mcp_operation_logs WHERE operation = 'tools/call'")
    assert [row["outcome"] for row in logged] == ["outcome_unknown"]  # every effect has its row
    assert (await run.runs.decide(run.user, run.run_id, 1, StepDecision(decision="retry"))).status == "queued"
    del run.gateway.upstream.on["tools/call"]
    await run.attempt()
    assert "content" in await run.call("write")
    assert run.gateway.calls() == 2


@pytest.mark.promise("P-ONCE")
async def test_a_refusal_that_the_engine_got_is_the_same_later_even_if_it_would_be_allowed_now(run: InRun) -> None:
    connection = f"{API}/mcp/connections/{run.gateway.connection_id}"
    await run.gateway.rest.patch(connection, json={"policy": {"tools": {"write": "deny"}}})
    with pytest.raises(ToolDenied):
        await run.call("write")
    await run.gateway.rest.patch(connection, json={"policy": {"tools": {"write": "allow"}}})
    await run.attempt()
    with pytest.raises(ToolDenied):
        await run.call("write")


@pytest.mark.promise("P-WAIT")
@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_a_call_that_needs_approval_waits_and_goes_on_when_it_is_decided(run: InRun, decision: str) -> None:
    with pytest.raises(StaleAttempt):
        await run.call("delete", what="all")
    assert await run.status() == ("waiting", "approval")
    [pending] = (await run.gateway.rest.get(f"{API}/approvals", params={"status": "pending"})).json()["items"]
    assert (pending["tool"], pending["run_id"]) == ("delete", str(run.run_id))
    await run.gateway.rest.post(f"{API}/approvals/{pending['approval_id']}", json={"decision": decision, "note": "no"})
    assert (await run.status())[0] == "queued"
    await run.attempt()
    if decision == "approve":
        assert "content" in await run.call("delete", what="all")
    else:
        with pytest.raises(ToolDenied, match="no"):
            await run.call("delete", what="all")
    assert run.gateway.calls() == (decision == "approve")


@pytest.mark.promise("P-ONCE")
async def test_a_list_is_the_same_in_every_attempt_whatever_has_become_of_the_server(run: InRun) -> None:
    async with run.mcp() as client:
        before = (await client.list_tools()).tools
    run.gateway.tools[:] = [READ]
    async with run.gateway.mcp() as users:
        assert [tool.name for tool in (await users.list_tools()).tools] == ["up__read"]
    await run.attempt()
    async with run.mcp() as client:
        assert (await client.list_tools()).tools == before


@pytest.mark.promise("P-FENCE")
async def test_the_token_of_an_earlier_attempt_begins_nothing(run: InRun) -> None:
    earlier = run.token()
    await run.attempt()
    for path, body in (
        ("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": META}),
        ("/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}),
    ):
        headers = {"Authorization": f"Bearer {earlier}", "Accept": "application/json, text/event-stream", **MODERN}
        answer = await run.gateway.rest.post(path, json=body, headers=headers)
        assert answer.status_code == 409, answer.text
    assert answer.headers["x-should-retry"] == "false"
    assert rows(run.database.superuser, "SELECT 1 FROM auralink.run_journal") == []


@pytest.mark.promise("P-ONCE")
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_model_call_is_made_once_and_replayed_in_the_form_that_is_asked_for(run: InRun, streamed: bool) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}
    said = []
    for stream in (streamed, True, False):
        headers = {"Authorization": f"Bearer {run.token()}"}
        answer = await run.gateway.rest.post("/v1/chat/completions", json={**body, "stream": stream}, headers=headers)
        assert answer.status_code == 200, answer.text
        said.append(text_of(answer, stream))
        await run.attempt()
    assert len(set(said)) == 1
    assert said[0]
    assert len(rows(run.database.superuser, "SELECT 1 FROM auralink.llm_performance_metrics")) == 1
    ended = await run.runs.get(run.user, run.run_id)
    assert (ended.steps, ended.replayed) == (1, 2)
    assert ended.tokens > 0


@pytest.mark.promise("P-WAIT")
async def test_a_run_whose_budget_is_used_up_waits_until_it_is_raised(run: InRun) -> None:
    insert = (
        """INSERT INTO auralink.usage_limits (user_id, scope, period, max_tokens, set_by) VALUES (%s, 'all', 'day', 1, 'admin')"""
    )
    rows(run.database.superuser, insert, run.user.user_id)
    body = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}
    headers = {"Authorization": f"Bearer {run.token()}"}
    answer = await run.gateway.rest.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.json()["error"]["code"] == "stale_attempt"
    assert await run.status() == ("waiting", "budget")
    told = "SELECT data FROM auralink.run_events WHERE run_id = %s AND type = 'budget.exceeded'"
    [event] = rows(run.database.superuser, told, run.run_id)
    assert f"PUT /api/v1/limits?user_id={run.user.user_id}" in event["data"]["message"]
    rows(run.database.superuser, "UPDATE auralink.usage_limits SET max_tokens = 100000")
    assert (await run.status())[0] == "queued"


def text_of(answer: httpx2.Response, streamed: bool) -> str:
    """What the model said, out of a body or a stream."""
    if not streamed:
        return str(answer.json()["choices"][0]["message"]["content"])
    chunks = [orjson.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert answer.text.rstrip().endswith("data: [DONE]")
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
