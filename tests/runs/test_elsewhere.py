"""Attempts that work on other machines: the code, the doors, and their fences, over HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio

from auralink.auth.principal import Principal, user_id_of
from auralink.runs.elsewhere_routes import PREFIX
from auralink.runs.schemas import RunDetail
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server, TestDatabase
from tests.isolation.support import cloned_database
from tests.runs.support import accept, rows
from tests.service import Service, running_service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Front:
    """A service, and what an engine with a token does at its doors."""

    service: Service
    database: TestDatabase
    http: httpx2.AsyncClient
    user: Principal

    async def running(self, attempt: int = 1) -> RunDetail:
        """A run whose attempt is under way."""
        run = await accept(self.service.app.state.runs, self.user, definition={"steps": []}, input={"a": 1})
        self.becomes(run.run_id, "running", attempt)
        return run

    def becomes(self, run_id: UUID, status: str, attempt: int) -> None:
        query = "UPDATE auralink.runs SET status = %s, attempt = %s, claimed_at = now() WHERE id = %s"
        rows(self.database.superuser, query, status, attempt, run_id)

    async def ask(self, method: str, path: str, run: RunDetail, body: Any = None, attempt: int = 1) -> httpx2.Response:
        tokens = self.service.app.state.run_tokens
        token = tokens.issue(user_id=self.user.user_id, run=run.run_id, attempt=attempt, seconds=60).reveal()
        headers = {"Authorization": f"Bearer {token}"}
        return await self.http.request(method, f"{PREFIX}{path}", json=body, headers=headers)

    async def code_of(self, run: RunDetail) -> str:
        answer = await self.ask("POST", "/places", run, {"deadline": time.time() + 60})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["code"])

    async def exchange(self, code: str) -> httpx2.Response:
        return await self.http.post(f"{PREFIX}/exchange", json={"code": code})


def named(name: str) -> Principal:
    return Principal(user_id_of("auralink", name), name, "auralink", None, "user", frozenset())


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[TestDatabase]:
    with cloned_database(postgres) as database:
        yield database


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    place = tmp_path_factory.mktemp("service")
    ring = KeyRing.parse(generate_master_key())
    async with running_service(database.service, place, ring) as service, service.client() as http:
        yield Front(service, database, http, named("somebody"))


async def test_a_code_is_exchanged_for_the_job_once(front: Front) -> None:
    run = await front.running()
    code = await front.code_of(run)
    answers = await asyncio.gather(*(front.exchange(code) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [403] * 7
    job = next(answer.json() for answer in answers if answer.status_code == 200)
    assert (job["run"], job["attempt"], job["definition"], job["input"]) == (str(run.run_id), 1, {"steps": []}, {"a": 1})
    token = await front.service.app.state.run_tokens.verify(job["token"])
    assert (token.user_id, token.run, token.attempt) == (front.user.user_id, run.run_id, 1)
    refused = next(answer.json() for answer in answers if answer.status_code == 403)
    assert refused["code"] == "engine_code_invalid"


async def test_the_database_does_not_hold_the_code(front: Front) -> None:
    run = await front.running()
    code = await front.code_of(run)
    (row,) = rows(front.database.superuser, "SELECT * FROM auralink.runs_elsewhere WHERE run_id = %s", run.run_id)
    assert code not in str(row)
    assert code.encode() not in bytes(row["code"])


async def test_a_code_is_worth_nothing_when_its_attempt_is_over_or_its_time_is(front: Front) -> None:
    run = await front.running()
    code = await front.code_of(run)
    front.becomes(run.run_id, "running", 2)
    assert (await front.exchange(code)).status_code == 403
    late = await front.running()
    code = await front.code_of(late)
    rows(front.database.superuser, "UPDATE auralink.runs_elsewhere SET code_until = now() WHERE run_id = %s", late.run_id)
    assert (await front.exchange(code)).status_code == 403
    assert (await front.exchange("a guess")).status_code == 403


async def test_what_a_place_says_is_in_the_run_and_its_outcome_with_the_engine(front: Front) -> None:
    run = await front.running()
    await front.exchange(await front.code_of(run))
    said = [{"type": "state", "data": {"node": "first", "state": "Running"}}, {"type": "log", "data": {"message": "hello"}}]
    assert (await front.ask("POST", "/events", run, said)).status_code == 204
    events = rows(front.database.superuser, "SELECT type FROM auralink.run_events WHERE run_id = %s ORDER BY seq", run.run_id)
    assert [event["type"] for event in events][-2:] == ["state", "log"]
    assert (await front.ask("GET", "/place", run)).json()["outcome"] is None
    assert (await front.ask("POST", "/events", run, [])).status_code == 204
    assert (await front.ask("POST", "/outcome", run, {"output": {"sum": 3}})).status_code == 204
    again = {"error": {"type": "Late", "message": "a second time", "lost": True}}
    assert (await front.ask("POST", "/outcome", run, again)).status_code == 204
    place = (await front.ask("GET", "/place", run)).json()
    assert (place["taken"], place["outcome"]) == (True, {"output": {"sum": 3}})
    assert place["silent"] < 60


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/places", {"deadline": 1e12}),
        ("GET", "/place", None),
        ("POST", "/events", []),
        ("POST", "/outcome", {"output": 1}),
    ],
)
async def test_of_an_attempt_that_is_over_nothing_is_taken(front: Front, method: str, path: str, body: Any) -> None:
    run = await front.running()
    await front.exchange(await front.code_of(run))
    for status, attempt in (("running", 2), ("waiting", 1), ("cancelled", 1)):
        front.becomes(run.run_id, status, attempt)
        answer = await front.ask(method, path, run, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "stale_attempt"), (status, answer.text)


@pytest.mark.promise("P-RLS")
async def test_the_doors_are_closed_to_users_and_to_the_tokens_of_others_runs(front: Front) -> None:
    run = await front.running()
    await front.code_of(run)
    user = {"Authorization": f"Bearer {front.service.token('somebody')}"}
    for method, path in (("POST", "/places"), ("GET", "/place"), ("POST", "/events"), ("POST", "/outcome")):
        assert (await front.http.request(method, f"{PREFIX}{path}", headers=user, json={})).status_code == 401
        assert (await front.http.request(method, f"{PREFIX}{path}", json={})).status_code == 401
    other = Front(front.service, front.database, front.http, named("somebody-else"))
    assert (await other.ask("GET", "/place", run)).status_code == 409
    assert (await other.ask("POST", "/outcome", run, {"output": 1})).status_code == 409
