"""Runs that are interrupted by whatever dies go on where they were, and what was done is not done again."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from auralink.core.secret import Secret
from auralink.runs.engine_manifest import default_root
from auralink.runs.engines import Engines
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server, TestDatabase
from tests.interrupting import children_of, worker
from tests.isolation.support import cloned_database
from tests.runs.support import until
from tests.service import API, unique
from tests.worlds import World, require_engine, world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
SCRIPT = Path(__file__).parent / "interrupted.yaml"
SCRIPTED = "auralink/scripted"


def note(name: str) -> dict[str, Any]:
    return {
        "type": "tool",
        "tool": "memory__create_entities",
        "arguments": {"entities": [{"name": name, "entityType": "note", "observations": ["{{ first }}"]}]},
    }


def asking(prompt: str, into: str, **more: Any) -> dict[str, Any]:
    return {"type": "llm", "prompt": prompt, "into": into, "model": SCRIPTED, **more}


def line(nodes: dict[str, Any]) -> dict[str, Any]:
    """A graph of nodes one after the other."""
    edges = [{"from": one, "to": other} for one, other in zip(nodes, [*list(nodes)[1:], "end"], strict=True)]
    return {"start": next(iter(nodes)), "nodes": nodes, "edges": edges, "output": {"said": "{{ [first, second, third] }}"}}


GRAPH = line(
    {
        "first": asking("first", "first"),
        "keep": note("{{ run_id }}"),
        "second": asking("slow", "second"),
        "third": asking("third", "third"),
    }
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engines() -> AsyncIterator[Engines]:
    require_engine()
    host = Engines(default_root())
    yield host
    await host.close()


@pytest.fixture(scope="module")
def base(postgres: Server) -> Iterator[TestDatabase]:
    with cloned_database(postgres) as database:
        yield database


@pytest.fixture(scope="module")
def key() -> str:
    return generate_master_key().reveal()


@pytest.fixture(scope="module")
def keys(key: str) -> KeyRing:
    return KeyRing.parse(Secret(key))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(
    base: TestDatabase, keys: KeyRing, engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    place = tmp_path_factory.mktemp("world")
    async with world(base, place, keys, engines=engines, auralink_scripted_model=SCRIPT, lease=2.0) as made:
        yield made


async def started(here: World, graph: dict[str, Any] = GRAPH) -> str:
    made = await here.make("/workflows", workflow_name=unique(), workflow_type="custom", definition=graph)
    answer = await here.http.post(f"{API}/workflows/{made['workflow_id']}/execute", json={})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


async def in_the_second_call(here: World, run_id: str) -> None:
    """Waits until the slow model call has begun."""

    async def begun() -> bool:
        return [step["status"] for step in await here.journal(run_id) if step["kind"] == "llm"] == ["done", "started"]

    await until(begun, 60)


async def is_whole(here: World, run_id: str) -> dict[str, Any]:
    """The run has its output; each call was made and paid once, and the effect is there once."""
    run = await here.reaches(run_id, "succeeded", "failed")
    assert run["output"] == {"said": ["one", "two", "three"]}, run["error"]
    steps = [step for step in await here.journal(run_id) if step["kind"] in ("llm", "tool")]
    assert [(step["kind"], step["occurrence"]) for step in steps] == [("llm", 1), ("tool", 1), ("llm", 1), ("llm", 1)]
    kept = here.sql(
        "SELECT o.content FROM auralink.memory_observations o JOIN auralink.memory_entities e ON e.id = o.entity_id "
        "WHERE e.name = %s",
        run_id,
    )
    assert [row["content"] for row in kept] == ["one"]
    return run


def calls_of(here: World, run_id: str) -> dict[str, int]:
    """How often each step of a run was really begun, by its name."""
    query = """SELECT data->>'step' AS step, count(*) AS times FROM auralink.run_events
        WHERE run_id = %s AND type = 'step.started' AND data->>'step' IS NOT NULL GROUP BY 1"""
    return {row["step"]: row["times"] for row in here.sql(query, run_id)}


@pytest.mark.promise("P-ONCE")
async def test_a_killed_engine_repeats_no_call_that_was_answered(here: World, engines: Engines) -> None:
    run_id = await started(here)
    await in_the_second_call(here, run_id)
    for pid in children_of(os.getpid(), "auralink_engine"):
        os.kill(pid, signal.SIGKILL)
    run = await is_whole(here, run_id)
    assert run["attempt"] >= 2
    assert run["replayed"] >= 2
    done = [step for step in await here.journal(run_id) if step["attempt"] == 1 and step["kind"] in ("llm", "tool")]
    assert all(calls_of(here, run_id).get(str(step["seq"])) == 1 for step in done[:2])


@pytest.mark.promise("P-WAIT")
async def test_an_approval_after_everything_was_restarted_lets_the_run_go_on(
    base: TestDatabase, keys: KeyRing, engines: Engines, tmp_path: Path
) -> None:
    graph = line(
        {
            "first": asking("first", "first"),
            "ask": {"type": "approval", "question": "Go on with {{ first }}?", "into": "second"},
            "third": asking("third", "third"),
        }
    )
    async with world(base, tmp_path, keys, engines=engines, auralink_scripted_model=SCRIPT) as before:
        run_id = await started(before, graph)
        waiting = await before.reaches(run_id, "waiting")
        assert waiting["reason"] == "input"
        user = before.user
    async with world(base, tmp_path, keys, user=user, engines=engines, auralink_scripted_model=SCRIPT) as after:
        [asked] = (await after.http.get(f"{API}/approvals", params={"status": "pending"})).json()["items"]
        answer = await after.http.post(f"{API}/approvals/{asked['approval_id']}", json={"decision": "approve", "note": "yes"})
        assert answer.status_code == 200, answer.text
        run = await after.reaches(run_id, "succeeded", "failed")
        assert run["output"]["said"][1]["decision"] == "approve", run["error"]
        assert [step["occurrence"] for step in await after.journal(run_id) if step["kind"] == "llm"] == [1, 1]
        assert run["replayed"] >= 1


async def test_a_fork_asks_another_model_from_there_on(here: World) -> None:
    run_id = await started(here)
    await is_whole(here, run_id)
    kept = [step["seq"] for step in await here.journal(run_id) if step["kind"] in ("llm", "tool")][1]
    body = {"at": kept, "overrides": {"model": "auralink/offline"}}
    forked = (await here.http.post(f"{API}/runs/{run_id}/fork", json=body)).json()["run_id"]
    run = await here.reaches(forked, "succeeded", "failed")
    assert run["status"] == "succeeded", run["error"]
    assert run["output"]["said"][0] == "one"
    assert run["output"]["said"][1:] != ["two", "three"]


async def test_a_replay_of_a_run_reaches_nothing_and_says_the_same(here: World) -> None:
    run_id = await started(here)
    await is_whole(here, run_id)
    replayed = (await here.http.post(f"{API}/runs/{run_id}/replay")).json()["run_id"]
    run = await here.reaches(replayed, "succeeded", "failed")
    assert run["output"] == {"said": ["one", "two", "three"]}, run["error"]
    assert (run["mode"], run["steps"], run["tokens"]) == ("replay", 0, 0)


@pytest.mark.promise("P-FENCE")
async def test_a_killed_worker_s_run_is_taken_by_another(base: TestDatabase, key: str, keys: KeyRing, tmp_path: Path) -> None:
    require_engine()
    async with world(base, tmp_path, keys, with_worker=False, auralink_scripted_model=SCRIPT) as alone:
        run_id = await started(alone)
        variables = {"AURALINK_URL": alone.service.url, "DATABASE_URL": base.service.reveal(), "MCP_ENCRYPTION_KEY": key}
        with worker(tmp_path, **variables) as first:
            await in_the_second_call(alone, run_id)
            first.kill()
            first.wait()
        alone.sql("UPDATE auralink.runs SET lease_until = now() - interval '1 s' WHERE id = %s", run_id)
        with worker(tmp_path, **variables):
            run = await is_whole(alone, run_id)
        assert run["attempt"] >= 2
