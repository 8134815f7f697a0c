"""Threads of agents where nobody works: what is said waits for its answer."""

from pathlib import Path

from auralink.vault.crypto import KeyRing
from tests.conftest import TestDatabase
from tests.service import API
from tests.worlds import world


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
