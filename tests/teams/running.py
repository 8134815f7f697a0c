"""A team's engine in the service, for the files that run it: a world on the offline model, and what it takes to interrupt a run.

A file says which with `CASE`, and takes the fixtures and the tests of interruption from here.
"""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
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
from tests.service import API, connected, unique
from tests.worlds import WAIT, World, require_engine, world


@dataclass(frozen=True)
class Case:
    """An engine, and the mode in which its interrupted teams work."""

    engine: str
    mode: str

    @property
    def script(self) -> Path:
        return Path(__file__).parent / f"{self.engine}.yaml"


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    """What the file runs."""
    found: Case = request.module.CASE
    return found


MISSION = {
    "task_description": "Research the latest WebRTC standards and create a summary",
    "additional_context": {"focus_areas": ["security", "performance"]},
}
README = """# WebRTC

## Standards

WebRTC 1.0 is a recommendation of the W3C since January 2021. Its latest standards are kept by the W3C and the IETF.

## Security

All media of WebRTC are encrypted with DTLS and SRTP; there is no mode without security.

## Performance

For performance, WebRTC adapts the bit rate to the network with congestion control.
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engines(case: Case) -> AsyncIterator[Engines]:
    require_engine(case.engine)
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(
    base: TestDatabase, key: str, engines: Engines, case: Case, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    place = tmp_path_factory.mktemp("world")
    repository = place / "repos" / "w3c" / "webrtc"
    repository.mkdir(parents=True)
    (repository / "README.md").write_text(README)
    settings: dict[str, Any] = {"auralink_scripted_model": case.script}
    async with world(base, place, KeyRing.parse(Secret(key)), engine=case.engine, engines=engines, lease=2.0, **settings) as made:
        await connected(made.http, "toolbox")
        yield made


async def executed(here: World, made: dict[str, Any], **given: Any) -> dict[str, Any]:
    answer = await here.http.post(f"{API}/teams/{made['team_id']}/execute", json=given, headers=WAIT)
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    assert run["status"] == "succeeded", run["error"]
    return run


async def started(here: World, case: Case) -> str:
    members = [{"role": "Researcher", "tools": ["memory__create_entities"]}, {"role": "Writer"}]
    given = {"team_type": case.engine, "collaboration_mode": case.mode, "model": "auralink/scripted"}
    made = await here.make("/teams", team_name=unique(), members=members, **given)
    answer = await here.http.post(f"{API}/teams/{made['team_id']}/execute", json={"task_description": "describe the lamp"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


async def steps(here: World, run_id: str) -> list[dict[str, Any]]:
    return [step for step in await here.journal(run_id) if step["kind"] in ("llm", "tool")]


async def the_writer_is_asked(here: World, run_id: str) -> None:
    async def begun() -> bool:
        return [step["status"] for step in await steps(here, run_id)] == ["done", "done", "done", "started"]

    await until(begun, 60)


async def is_whole(here: World, run_id: str) -> dict[str, Any]:
    """The run has its output; each call was made once, by its first attempt but for the one that was interrupted."""
    run = await here.reaches(run_id, "succeeded", "failed")
    assert run["status"] == "succeeded", run["error"]
    assert run["output"]["answer"] == "A red lamp."
    made = await steps(here, run_id)
    assert [(step["kind"], step["occurrence"]) for step in made] == [("llm", 1), ("tool", 1), ("llm", 1), ("llm", 1)]
    query = """SELECT data->>'step' AS step, count(*) AS times FROM auralink.run_events
        WHERE run_id = %s AND type = 'step.started' AND data->>'step' IS NOT NULL GROUP BY 1"""
    times = {row["step"]: row["times"] for row in here.sql(query, run_id)}
    assert all(times.get(str(step["seq"])) == 1 for step in made[:3])
    assert run["attempt"] >= 2
    return run


@pytest.mark.promise("P-ONCE")
async def test_a_killed_engine_repeats_no_call_that_was_answered(here: World, case: Case) -> None:
    run_id = await started(here, case)
    await the_writer_is_asked(here, run_id)
    for pid in children_of(os.getpid(), f"engines/{case.engine}"):
        os.kill(pid, signal.SIGKILL)
    run = await is_whole(here, run_id)
    assert run["replayed"] >= 3


@pytest.mark.promise("P-FENCE")
async def test_a_killed_worker_s_run_is_taken_by_another(postgres: Server, case: Case, key: str, tmp_path: Path) -> None:
    require_engine(case.engine)
    with cloned_database(postgres) as base:  # no worker of another test's finds the run there
        await _killed_and_taken(base, case, key, tmp_path)


async def _killed_and_taken(base: TestDatabase, case: Case, key: str, tmp_path: Path) -> None:
    ring, settings = KeyRing.parse(Secret(key)), {"auralink_scripted_model": case.script}
    async with world(base, tmp_path, ring, engine=case.engine, with_worker=False, **settings) as alone:
        run_id = await started(alone, case)
        variables = {"AURALINK_URL": alone.service.url, "DATABASE_URL": base.service.reveal(), "MCP_ENCRYPTION_KEY": key}
        with worker(tmp_path, case.engine, **variables) as first:
            await the_writer_is_asked(alone, run_id)
            first.kill()
            first.wait()
        alone.sql("UPDATE auralink.runs SET lease_until = now() - interval '1 s' WHERE id = %s", run_id)
        with worker(tmp_path, case.engine, **variables):
            await is_whole(alone, run_id)
