"""The mission's own example, on everything real but the model: service, worker, and the engine that a sequential team gets."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from auralink.runs.engine_manifest import default_root, get_place
from auralink.runs.engines import Engines
from auralink.runs.worker import gateways_at
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.isolation.support import cloned_database
from tests.runs.support import working
from tests.service import API
from tests.teams.test_teams import MISSION, names
from tests.worlds import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENGINE = "crewai"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    state = get_place(default_root(), ENGINE).state()
    if state != "installed":
        reason = f"the engine {ENGINE} is {state}; run `make engines`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    place, ring, engines = tmp_path_factory.mktemp("world"), KeyRing.parse(generate_master_key()), Engines(default_root())
    with cloned_database(postgres) as database:
        async with world(database, place, ring, with_worker=False) as made:
            gateways = gateways_at(made.service.url)
            async with working(database.service, engines.execute, ring, gateways=gateways, engines=(ENGINE,)):
                yield made
            await engines.close()


async def test_the_research_team_does_what_it_is_asked_to(here: World) -> None:
    made = await here.make("/teams", team_name="Research Team", description="Researches", collaboration_mode="sequential")
    assert (made["team_type"], names(made)) == (ENGINE, ["researcher", "analyst", "writer"])
    answer = await here.http.post(f"{API}/teams/{made['team_id']}/execute", json=MISSION)
    run = await here.reaches(answer.json()["run_id"], "succeeded", "failed")
    assert run["status"] == "succeeded", run["error"]
    told = (await here.http.get(f"{API}/teams/{made['team_id']}/conversations/{run['run_id']}")).json()
    assert [message["from"] for message in told["messages"]] == ["researcher", "analyst", "writer"]
    assert told["answer"] == run["output"]["answer"] != ""
    assert all(message["steps"] and message["tokens"] > 0 for message in told["messages"])
    did = (await here.http.get(f"{API}/teams/{made['team_id']}/performance")).json()
    assert (did["succeeded"], [member["member"] for member in did["members"]]) == (1, ["researcher", "analyst", "writer"])
