"""Threads of agents where nobody works: what is said waits for its answer."""

from pathlib import Path
from typing import Any

from auralink.vault.crypto import KeyRing
from tests.conftest import TestDatabase
from tests.service import API
from tests.worlds import World, world

ENDS = "UPDATE auralink.runs SET status = %s, output = %s, finished_at = now() WHERE id = %s RETURNING id"


async def test_nothing_more_is_said_in_a_thread_before_the_answer(
    test_database: TestDatabase, tmp_path: Path, ring: KeyRing
) -> None:
    async with world(test_database, tmp_path, ring, with_worker=False) as here:
        agent = await here.make("/agents", name="slow", instructions="x")
        path = f"{API}/agents/{agent['agent_id']}/chat"
        first = await here.http.post(path, json={"message": "hello"}, headers={"Prefer": "respond-async"})
        assert (first.status_code, first.json()["status"], first.json()["answer"]) == (202, "queued", None)
        again = {"message": "are you there?", "thread_id": first.json()["thread_id"]}
        refused = await here.http.post(path, json=again)
        assert (refused.status_code, refused.json()["code"]) == (409, "thread_busy")
        cancelled = await here.http.post(f"{API}/runs/{first.json()['run_id']}/cancel")
        assert cancelled.status_code == 200
        second = await here.http.post(path, json=again, headers={"Prefer": "respond-async"})
        assert second.status_code == 202
        turns = (await here.http.get(f"{API}/agents/{agent['agent_id']}/threads/{again['thread_id']}")).json()["items"]
        assert [turn["status"] for turn in turns] == ["cancelled", "open"]


async def ended(here: World, run_id: str, status: str, output: str | None = None) -> None:
    """Ends a run as a worker would."""
    assert len(here.sql(ENDS, status, output, run_id)) == 1


async def test_a_turn_gets_the_answer_of_a_run_that_goes_on_where_its_own_failed(
    test_database: TestDatabase, tmp_path: Path, ring: KeyRing
) -> None:
    async with world(test_database, tmp_path, ring, with_worker=False) as here:
        agent = await here.make("/agents", name="frail", instructions="x")
        path = f"{API}/agents/{agent['agent_id']}"
        said = await here.http.post(f"{path}/chat", json={"message": "hello"}, headers={"Prefer": "respond-async"})

        async def turn() -> dict[str, Any]:
            (only,) = (await here.http.get(f"{path}/threads/{said.json()['thread_id']}")).json()["items"]
            return {name: only[name] for name in ("status", "answer", "run_id")}

        async def again(run_id: str, how: str, **body: Any) -> str:
            return str((await here.http.post(f"{API}/runs/{run_id}/{how}", json=body)).json()["run_id"])

        first = said.json()["run_id"]
        await ended(here, first, "failed")
        failed = {"status": "failed", "answer": None, "run_id": first}
        assert await turn() == failed
        for other in (await again(first, "replay"), await again(first, "fork", at=0, overrides={"model": "auto:best"})):
            await ended(here, other, "succeeded", '{"answer": "something else"}')
            assert await turn() == failed
        second = await again(first, "resume")
        await ended(here, second, "failed")
        assert await turn() == failed
        third = await again(second, "resume")
        await ended(here, third, "succeeded", '{"answer": "hello yourself"}')
        assert await turn() == {"status": "succeeded", "answer": "hello yourself", "run_id": third}
