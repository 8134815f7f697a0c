"""The engine `crewai` in the service: real tasks on the offline model, and runs that are interrupted."""
# ruff: noqa: F811 (a test names the fixtures that it takes)

import pytest

from tests.service import API
from tests.teams.running import (  # noqa: F401 (fixtures, and tests that every engine passes)
    MISSION,
    Case,
    base,
    case,
    engines,
    executed,
    here,
    key,
    test_a_killed_engine_repeats_no_call_that_was_answered,
    test_a_killed_worker_s_run_is_taken_by_another,
)
from tests.worlds import World

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
CASE = Case("crewai", "sequential")


async def test_the_research_team_finds_weighs_and_writes_one_after_the_other(here: World) -> None:
    made = await here.make("/teams", team_name="Research Team", collaboration_mode="sequential", memory=True)
    assert made["team_type"] == CASE.engine
    task = {**MISSION, "task_description": f"{MISSION['task_description']}. Search the docs of w3c/webrtc."}
    output = (await executed(here, made, **task))["output"]
    assert output["turns"] == {"researcher": 1, "analyst": 1, "writer": 1}
    assert "recommendation of the W3C since January 2021" in output["answer"]
    assert output["sources"]
    assert output["remembered"].startswith("Research Team: ")


async def test_the_mission_s_own_example(here: World) -> None:
    made = await here.make("/teams", team_name="Research", description="Researches", collaboration_mode="sequential")
    run = await executed(here, made, **MISSION)
    told = (await here.http.get(f"{API}/teams/{made['team_id']}/conversations/{run['run_id']}")).json()
    assert [message["from"] for message in told["messages"]] == ["researcher", "analyst", "writer"]
    assert told["answer"] == run["output"]["answer"] != ""
    assert all(message["steps"] and message["tokens"] > 0 for message in told["messages"])
    did = (await here.http.get(f"{API}/teams/{made['team_id']}/performance")).json()
    assert (did["succeeded"], [member["member"] for member in did["members"]]) == (1, ["researcher", "analyst", "writer"])


async def test_a_manager_delegates_and_answers(here: World) -> None:
    made = await here.make("/teams", team_name="Support Team", collaboration_mode="hierarchical", team_type=CASE.engine)
    output = (await executed(here, made, task_description="What is 6*7? Ask the solver."))["output"]
    assert output["delegations"]
    assert output["answer"]


async def test_members_come_to_a_consensus(here: World) -> None:
    made = await here.make("/teams", team_name="Council", collaboration_mode="consensus", team_type=CASE.engine)
    output = (await executed(here, made, task_description="Which colour is the lamp?", additional_context="The lamp is red."))[
        "output"
    ]
    assert output["votes"]
    assert all(vote["for"] for vote in output["votes"][0]["votes"].values())
    assert "red" in output["answer"]
