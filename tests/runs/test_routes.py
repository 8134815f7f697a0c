"""Runs over HTTP: what a client sees of them, live and afterwards."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from auralink.auth.principal import Principal, user_id_of
from auralink.core.secret import Secret
from auralink.runs.engines import Failure, OnEvent, Result, Start
from auralink.runs.routes import preferred_wait
from auralink.runs.service import Runs
from auralink.vault.crypto import KeyRing
from tests.runs.support import accept, working
from tests.service import API, Service, running_service, unique


@dataclass
class Front:
    """A service, one of its users, and that user's runs."""

    service: Service
    http: httpx2.AsyncClient
    user: Principal

    @property
    def runs(self) -> Runs:
        runs: Runs = self.service.app.state.runs
        return runs


@pytest.fixture
async def front(dsn: Secret, tmp_path: Path, ring: KeyRing) -> AsyncIterator[Front]:
    name = unique()
    async with running_service(dsn, tmp_path, ring) as service, service.client(name) as http:
        yield Front(service, http, Principal(user_id_of("auralink", name), name, "auralink", None, "user", frozenset()))


async def talk(start: Start, on_event: OnEvent) -> Result | Failure:
    await on_event({"type": "message", "data": {"text": "line\nbreak", "by": "agent"}})
    return Result(start.input)


async def test_a_run_is_listed_shown_and_carried_out(front: Front, dsn: Secret, ring: KeyRing) -> None:
    run = await accept(front.runs, front.user, input={"n": 1}, room_id="r1")
    other = await accept(front.runs, front.user, kind="team")
    listed = (await front.http.get(f"{API}/runs", params={"kind": "workflow"})).json()
    assert [item["run_id"] for item in listed["items"]] == [str(run.run_id)]
    page = (await front.http.get(f"{API}/runs", params={"limit": 1})).json()
    assert page["items"][0]["run_id"] == str(other.run_id)
    rest = (await front.http.get(f"{API}/runs", params={"limit": 1, "cursor": page["next_cursor"]})).json()
    assert (rest["items"][0]["run_id"], rest["next_cursor"]) == (str(run.run_id), None)
    async with working(dsn, talk, ring):
        await front.runs.wait(front.user, run.run_id, 10)
    shown = (await front.http.get(f"{API}/runs/{run.run_id}")).json()
    assert (shown["status"], shown["output"], shown["input"], shown["room_id"]) == ("succeeded", {"n": 1}, {"n": 1}, "r1")
    assert shown["cost_usd"] == "0"


@pytest.mark.promise("P-STREAM")
async def test_events_are_streamed_and_resumed_after_the_last_id(front: Front, dsn: Secret, ring: KeyRing) -> None:
    run = await accept(front.runs, front.user)
    async with working(dsn, talk, ring):
        answer = await front.http.get(f"{API}/runs/{run.run_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = parsed(answer.text)
    assert [event["event"] for event in events] == ["run.queued", "run.started", "message", "run.finished"]
    assert [event["id"] for event in events] == ["1", "2", "3", "4"]
    assert orjson.loads(events[2]["data"])["data"] == {"text": "line\nbreak", "by": "agent"}
    again = await front.http.get(f"{API}/runs/{run.run_id}/events", headers={"Last-Event-ID": "2"})
    assert [event["id"] for event in parsed(again.text)] == ["3", "4"]
    assert (await front.http.get(f"{API}/runs/{run.run_id}/events", headers={"Last-Event-ID": "x"})).status_code == 422


async def test_a_run_is_cancelled_resumed_forked_and_replayed(front: Front) -> None:
    run = await accept(front.runs, front.user)
    path = f"{API}/runs/{run.run_id}"
    assert (await front.http.post(f"{path}/resume")).json()["code"] == "run_not_finished"
    assert (await front.http.post(f"{path}/replay")).json()["code"] == "run_not_finished"
    assert (await front.http.post(f"{path}/cancel")).json()["status"] == "cancelled"
    assert (await front.http.post(f"{path}/cancel")).json()["code"] == "run_finished"
    key = {"Idempotency-Key": unique()}
    resumed = [await front.http.post(f"{path}/resume", headers=key) for _ in range(2)]
    assert resumed[0].status_code == resumed[1].status_code == 202
    assert resumed[0].json() == resumed[1].json()
    assert resumed[0].headers["location"] == f"{API}/runs/{resumed[0].json()['run_id']}"
    forked = await front.http.post(f"{path}/fork", json={"at": 0, "overrides": {"model": "m", "input": {"x": 1}}})
    shown = (await front.http.get(forked.headers["location"])).json()
    assert (shown["source_id"], shown["input"], shown["mode"]) == (str(run.run_id), {"x": 1}, "live")
    refused = await front.http.post(f"{path}/fork", json={"at": 0, "overrides": {"answers": {"9": "x"}}})
    assert refused.json()["code"] == "bad_override"
    beyond = (await front.http.post(f"{path}/fork", json={"at": 9999})).json()
    assert (beyond["status"], beyond["code"]) == (422, "bad_override")
    assert "ends with entry 0" in beyond["message"]
    replayed = await front.http.post(f"{path}/replay")
    assert (await front.http.get(replayed.headers["location"])).json()["mode"] == "replay"
    assert (await front.http.get(f"{path}/journal")).json() == {"items": [], "next_cursor": None}
    assert (await front.http.post(f"{path}/journal/1", json={"decision": "retry"})).json()["code"] == "step_not_found"


async def test_a_run_that_has_succeeded_is_forked_or_replayed_and_not_resumed(front: Front, dsn: Secret, ring: KeyRing) -> None:
    run = await accept(front.runs, front.user)
    async with working(dsn, talk, ring):
        await front.runs.wait(front.user, run.run_id, 10)
    path = f"{API}/runs/{run.run_id}"
    for verb, code in (("cancel", "run_finished"), ("resume", "run_not_resumable")):
        refused = (await front.http.post(f"{path}/{verb}")).json()
        assert (refused["status"], refused["code"]) == (409, code)
        assert "/fork" in refused["message"]
        assert "/replay" in refused["message"]
        assert "/resume" not in refused["message"]


async def test_a_fork_takes_only_what_its_definition_takes(front: Front) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "room_id": {}}, "additionalProperties": False}
    run = await accept(front.runs, front.user, definition={"input": schema, "title": "old"}, input={"n": 1}, room_id="r1")

    async def forked(**overrides: Any) -> Any:
        answer = await front.http.post(f"{API}/runs/{run.run_id}/fork", json={"at": 0, "overrides": overrides})
        where = answer.headers.get("location")
        return (await front.http.get(where)).json() if where else [error["pointer"] for error in answer.json()["errors"]]

    assert await forked(input={"n": "x"}) == ["/overrides/input/n"]
    assert await forked(input=["n"]) == ["/overrides/input"]
    assert await forked(definition={"title": "new", "a/b": 1}) == ["/overrides/definition/a~1b"]
    assert await forked(definition={"input": {"type": 5}}) == ["/overrides/definition/input"]
    assert await forked(definition={"input": {"required": ["m"]}}, input={"n": 2}) == ["/overrides/input"]
    other = await forked(input={"n": 2}, definition={"title": "new"})
    assert (other["input"], other["definition"]) == ({"n": 2, "room_id": "r1"}, {"input": schema, "title": "new"})
    assert len((await front.http.get(f"{API}/runs")).json()["items"]) == 2


async def test_a_run_token_opens_no_rest_route(front: Front) -> None:
    run = await accept(front.runs, front.user)
    token = front.service.app.state.run_tokens.issue(user_id=front.user.user_id, run=run.run_id, attempt=1, seconds=60)
    for path in ("/runs", f"/runs/{run.run_id}", "/approvals", "/mcp/tools"):
        answer = await front.http.get(f"{API}{path}", headers={"Authorization": f"Bearer {token.reveal()}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


async def test_the_stream_of_a_run_that_is_cancelled_ends(front: Front) -> None:
    run = await accept(front.runs, front.user)
    following = asyncio.create_task(front.http.get(f"{API}/runs/{run.run_id}/events"))
    await front.http.post(f"{API}/runs/{run.run_id}/cancel")
    async with asyncio.timeout(10):
        assert parsed((await following).text)[-1]["event"] == "run.finished"


@pytest.mark.parametrize(
    ("prefer", "seconds"), [("wait=30", 30), ("respond-async, wait=5", 5), ("wait=9999", 120), ("wait=x", 0), ("", 0)]
)
def test_how_long_a_client_prefers_to_wait(prefer: str, seconds: float) -> None:
    assert preferred_wait(prefer) == seconds


def parsed(text: str) -> list[dict[str, Any]]:
    """Server-sent events as dictionaries of their fields."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
