"""The engine `autogen` in the service: real tasks on the offline model, and runs that are interrupted."""
# ruff: noqa: F811 (a test names the fixtures that it takes)

import pytest

from tests.service import unique
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
CASE = Case("autogen", "round_robin")


async def test_members_in_turn_find_weigh_and_write(here: World) -> None:
    made = await here.make(
        "/teams", team_name="Research Team", collaboration_mode="round_robin", team_type=CASE.engine, memory=True
    )
    task = {**MISSION, "task_description": f"{MISSION['task_description']}. Search the docs of w3c/webrtc."}
    output = (await executed(here, made, **task))["output"]
    assert list(output["turns"])[:3] == ["researcher", "analyst", "writer"]
    assert "recommendation of the W3C since January 2021" in output["answer"]
    assert output["stopped"] is None
    assert output["sources"]
    assert output["remembered"].startswith("Research Team: ")


@pytest.mark.parametrize(
    ("mode", "own"),
    [
        ("round_robin", []),
        ("selector", ["speakers"]),
        ("swarm", ["handoffs"]),
        ("debate", ["winner", "why", "positions"]),
        ("brainstorm", ["ideas", "groups", "ranking"]),
        ("problem_solving", ["plan", "iterations"]),
    ],
)
async def test_a_team_answers_from_what_it_is_told_in_every_mode(here: World, mode: str, own: list[str]) -> None:
    members = [{"role": "Researcher"}, {"role": "Writer"}, {"role": "Editor"}]
    made = await here.make("/teams", team_name=unique(), members=members, team_type=CASE.engine, collaboration_mode=mode)
    output = (await executed(here, made, task_description="Which colour is the lamp?", additional_context="The lamp is red."))[
        "output"
    ]
    assert "The lamp is red." in output["answer"]
    assert all(output[name] for name in own if name != "handoffs")
    assert output.keys() == {"answer", "stopped", "sources", "turns", *own, *(["converged"] if mode == "problem_solving" else [])}
