"""Teams over REST: made of a word or of members, checked when they are saved, and run."""

from typing import Any

import pytest

from tests.service import API, connected, unique
from tests.triggers.test_webhooks import delivered
from tests.worlds import WAIT, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
MISSION = {
    "task_description": "Research the latest WebRTC standards and create a summary",
    "additional_context": {"focus_areas": ["security", "performance"]},
}


async def team(here: World, **fields: Any) -> dict[str, Any]:
    return await here.make("/teams", **{"team_name": unique("team"), **fields})


async def executed(here: World, team_id: str, **body: Any) -> dict[str, Any]:
    answer = await here.http.post(f"{API}/teams/{team_id}/execute", json=body, headers=WAIT)
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    return run


def names(made: dict[str, Any]) -> list[str]:
    return [member["name"] for member in made["members"]]


def pointers(answer: Any) -> list[str]:
    return [error["pointer"] for error in answer.json()["errors"]]


async def test_three_words_make_a_team_that_works(here: World) -> None:
    made = await team(here, team_name="Research Team", description="Finds out", collaboration_mode="sequential")
    assert (made["team_type"], made["template"], names(made)) == ("plain", "research", ["researcher", "analyst", "writer"])
    run = await executed(here, made["team_id"], **MISSION)
    assert (run["kind"], run["engine"], run["status"], run["input"]) == ("team", "plain", "succeeded", MISSION)
    assert run["output"]["answer"].startswith("3 have spoken of Research the latest WebRTC standards")
    stored = run["definition"]
    assert (stored["mode"], stored["version"], stored["options"], stored["manager"]) == ("sequential", 1, {"rounds": 3}, None)
    assert stored["members"][0]["tools"] == ["toolbox__web_search", "deepwiki__search_docs", "memory__search_nodes"]


@pytest.mark.parametrize(
    ("name", "description", "template"),
    [
        ("Market research", "", "research"),
        ("Blog writers", "They write articles", "content"),
        ("Help desk", "Answers customers", "support"),
        ("Reviewers", "Review pull requests for bugs", "code_review"),
        ("Tigers", "", "general"),
    ],
)
async def test_members_are_those_of_the_template_that_fits_best(here: World, name: str, description: str, template: str) -> None:
    made = await team(here, team_name=unique(name), description=description)
    assert (made["template"], len(made["members"])) == (template, 3)


async def test_a_template_can_be_named_and_all_can_be_seen(here: World) -> None:
    made = await team(here, template="support team")
    assert (made["collaboration_mode"], names(made)) == ("hierarchical", ["triage", "solver", "quality"])
    listed = (await here.http.get(f"{API}/teams/templates")).json()["items"]
    assert {"research", "content", "support", "code_review"} <= {template["name"] for template in listed}
    unknown = await here.http.post(f"{API}/teams", json={"team_name": unique(), "template": "circus"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "template_not_found")


async def test_what_a_templates_members_have_to_do_without_is_a_warning(here: World) -> None:
    async with here.service.client(unique()) as newcomer:
        made = (await newcomer.post(f"{API}/teams", json={"team_name": "Research"})).json()
        assert [member["tools"] for member in made["members"]] == [[], [], []]
        assert made["warnings"][0]["pointer"] == "/members/0/tools"
        assert 'POST /mcp/connect {"server_type": "toolbox"}' in made["warnings"][0]["message"]
        member = {"role": "Clerk", "tools": ["Calculator"]}
        refused = await newcomer.post(f"{API}/teams/{made['team_id']}/members", json=member)
        assert (refused.status_code, refused.json()["code"], pointers(refused)) == (422, "definition_invalid", ["/tools/0"])
        assert 'POST /mcp/connect {"server_type": "toolbox"}' in refused.json()["message"]
        await connected(newcomer, "toolbox", name="box")
        added = (await newcomer.post(f"{API}/teams/{made['team_id']}/members", json=member)).json()
        assert (added["tools"], added["tool_names"]) == (["Calculator"], ["box__calculator"])


@pytest.mark.parametrize(
    ("fields", "pointer", "says"),
    [
        ({"team_type": "plane"}, "/team_type", "did you mean 'plain'"),
        ({"collaboration_mode": "debat"}, "/collaboration_mode", "did you mean 'debate'"),
        ({"team_type": "plain", "collaboration_mode": "debate"}, "/collaboration_mode", "team_type lively has it"),
        ({"manager": "boss"}, "/manager", "there are planner"),
        ({"options": {"handoffs": {"planner": ["nobody"]}}}, "/options/handoffs/planner/0", "nobody"),
        ({"memory": "elsewhere"}, "/memory", "no connection 'elsewhere'"),
        ({"members": [{"role": "A", "tools": ["toolbox__calculater"]}]}, "/members/0/tools/0", "'toolbox__calculator'"),
        ({"members": [{"role": "A", "tools": ["WebSerch"]}]}, "/members/0/tools/0", "'WebSearch'"),
        ({"members": [{"role": "A", "tools": ["nobody__*"]}]}, "/members/0/tools/0", "no tool of yours fits"),
        ({"members": [{"role": "A", "name": "x"}, {"role": "B", "name": "x"}]}, "/members", "named 'x'"),
        ({"members": [{"role": "A", "name": "team"}]}, "/members/0/name", "somebody else"),
        ({"options": {"sides": ["for"]}}, "/options/sides", "at least 2"),
        ({"collaboration_mode": "debate", "members": [{"role": "A"}]}, "/members", "debate needs at least 2 members; there is 1"),
        ({"collaboration_mode": "debate", "options": {"sides": ["a", "b", "c", "d"]}}, "/members", "at least 4 members"),
        (
            {"collaboration_mode": "hierarchical", "manager": "boss", "members": [{"role": "Boss"}]},
            "/members",
            "at least 1 member beside the manager; there are none",
        ),
    ],
)
async def test_what_cannot_work_is_refused_where_it_stands(here: World, fields: dict[str, Any], pointer: str, says: str) -> None:
    answer = await here.http.post(f"{API}/teams", json={"team_name": unique(), "template": "general", **fields})
    assert (answer.status_code, pointers(answer)) == (422, [pointer]), answer.text
    assert says in answer.json()["errors"][0]["message"]


async def test_an_engine_that_is_not_installed_is_told_when_the_team_is_saved(here: World) -> None:
    for fields in ({"team_type": "absent"}, {"collaboration_mode": "silent"}):
        answer = await here.http.post(f"{API}/teams", json={"team_name": unique(), **fields})
        assert (answer.status_code, answer.json()["code"]) == (409, "engine_not_installed")


async def test_a_tool_that_is_denied_is_told_with_what_denies_it(here: World) -> None:
    name = unique("box")
    connection = await connected(here.http, "toolbox", name=name)
    policy = {"default": "auto", "tools": {"calculator": "deny"}}
    assert (await here.http.patch(f"{API}/mcp/connections/{connection}", json={"policy": policy})).status_code == 200
    body = {"team_name": unique(), "members": [{"role": "A", "tools": [f"{name}__calculator"]}]}
    answer = await here.http.post(f"{API}/teams", json=body)
    assert pointers(answer) == ["/members/0/tools/0"]
    assert f"policy of your connection '{name}' denies" in answer.json()["message"]


async def test_the_modes_engine_is_taken_where_none_is_named(here: World) -> None:
    assert (await team(here, collaboration_mode="debate"))["team_type"] == "lively"
    assert (await team(here, team_type="lively", members=[]))["collaboration_mode"] == "debate"
    assert (await team(here, team_type="lively", template="research"))["collaboration_mode"] == "sequential"


async def test_members_are_added_changed_and_removed_and_each_change_is_a_version(here: World) -> None:
    made = await team(here, members=[])
    path = f"{API}/teams/{made['team_id']}"
    empty = await here.http.post(f"{path}/execute", json=MISSION)
    assert (empty.status_code, empty.json()["code"]) == (409, "team_has_no_members")
    bodies = ({"role": "Lead Researcher"}, {"role": "Lead researcher"}, {"role": "Opener", "execution_order": 0})
    added = [(await here.http.post(f"{path}/members", json=body)).json() for body in bodies]
    assert [member["name"] for member in added] == ["lead_researcher", "lead_researcher_2", "opener"]
    listed = (await here.http.get(f"{path}/members")).json()["items"]
    assert [member["name"] for member in listed] == ["opener", "lead_researcher", "lead_researcher_2"]
    taken = await here.http.post(f"{path}/members", json={"role": "x", "name": "opener"})
    assert (taken.status_code, taken.json()["code"]) == (409, "member_name_taken")
    one = f"{path}/members/{added[1]['member_id']}"
    changed = (await here.http.patch(one, json={"goal": "Read on", "execution_order": 9, "tools": ["Calculator"]})).json()
    assert (changed["goal"], changed["tool_names"]) == ("Read on", ["toolbox__calculator"])
    assert (await here.http.get(one)).json() == changed
    assert (await here.http.delete(one)).status_code == 204
    assert (await here.http.get(one)).json()["code"] == "member_not_found"
    after = (await here.http.get(path)).json()
    assert (after["version"], names(after)) == (6, ["opener", "lead_researcher"])


async def test_a_team_that_is_put_together_bit_by_bit_is_executed_once_it_is_large_enough(here: World) -> None:
    path = f"{API}/teams/{(await team(here, team_type='lively', collaboration_mode='debate', members=[]))['team_id']}"
    assert (await here.http.post(f"{path}/members", json={"role": "For"})).status_code == 201
    assert (await here.http.patch(path, json={"description": "Half of it"})).status_code == 200
    early = await here.http.post(f"{path}/execute", json=MISSION)
    assert (early.status_code, early.json()["code"]) == (409, "team_too_small")
    assert "debate needs at least 2 members; there is 1" in early.json()["message"]
    assert (await here.http.post(f"{path}/members", json={"role": "Against"})).status_code == 201
    assert (await here.http.post(f"{path}/execute", json=MISSION)).status_code == 202
    refused = await here.http.patch(path, json={"options": {"sides": ["a", "b", "c"]}})
    assert (refused.status_code, pointers(refused)) == (422, ["/members"])


async def test_a_member_that_the_team_names_is_not_removed_under_it(here: World) -> None:
    made = await team(here, team_type="plain", template="support", manager="triage")
    path = f"{API}/teams/{made['team_id']}"
    refused = await here.http.delete(f"{path}/members/{made['members'][0]['member_id']}")
    assert (refused.status_code, pointers(refused)) == (422, ["/manager"])
    assert names((await here.http.get(path)).json()) == ["triage", "solver", "quality"]
    assert (await here.http.patch(path, json={"manager": None})).json()["manager"] is None
    assert (await here.http.delete(f"{path}/members/{made['members'][0]['member_id']}")).status_code == 204


async def test_a_change_raises_the_version_and_a_run_keeps_what_it_was_accepted_with(here: World) -> None:
    made = await team(here, limits={"turns": 5, "cost_usd": "0.5", "seconds": 60}, memory=True)
    assert (made["memory"], made["limits"]["turns"]) == ("memory", 5)
    path, before = f"{API}/teams/{made['team_id']}", await executed(here, made["team_id"], **MISSION)
    assert (before["limits"]["cost_usd"], before["limits"]["seconds"], before["definition"]["memory"]) == ("0.5", 60, "memory")
    changed = (
        await here.http.patch(path, json={"collaboration_mode": "hierarchical", "task": "Tidy up", "memory": False})
    ).json()
    assert (changed["version"], changed["collaboration_mode"], changed["memory"]) == (2, "hierarchical", False)
    after = await executed(here, made["team_id"])
    assert (after["definition"]["version"], after["input"]) == (2, {"task_description": "Tidy up"})
    assert (await here.run(before["run_id"]))["definition"]["version"] == 1
    wrong = await here.http.patch(path, json={"collaboration_mode": "debate"})
    assert pointers(wrong) == ["/collaboration_mode"]
    assert (await here.http.patch(path, json={})).status_code == 422
    assert (await here.http.patch(path, json={"model": None})).status_code == 422
    assert (await here.http.delete(path)).status_code == 204
    assert (await here.http.get(path)).json()["code"] == "team_not_found"
    assert (await here.run(before["run_id"]))["status"] == "succeeded"


async def test_a_name_is_its_teams_own_and_finds_it(here: World) -> None:
    made = await team(here)
    taken = await here.http.post(f"{API}/teams", json={"team_name": made["team_name"]})
    assert (taken.status_code, taken.json()["code"]) == (409, "team_name_taken")
    found = (await here.http.get(f"{API}/teams", params={"name": made["team_name"]})).json()["items"]
    assert [(one["team_id"], names(one)) for one in found] == [(made["team_id"], names(made))]


async def test_a_task_is_asked_for_where_neither_execution_nor_team_has_one(here: World) -> None:
    path = f"{API}/teams/{(await team(here))['team_id']}/execute"
    answer = await here.http.post(path, json={"additional_context": "nothing else"})
    assert (answer.status_code, answer.json()["code"], pointers(answer)) == (422, "input_invalid", ["/task_description"])


async def test_an_execution_that_is_repeated_under_its_key_is_one_run(here: World) -> None:
    path, key = f"{API}/teams/{(await team(here))['team_id']}/execute", unique()
    answers = [await here.http.post(path, json=MISSION, headers={**WAIT, "Idempotency-Key": key}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
    assert answers[0].json()["run_id"] == answers[1].json()["run_id"]


async def test_a_member_has_the_model_and_the_words_of_its_agent_where_it_has_none_of_its_own(here: World) -> None:
    agent = await here.make("/agents", name=unique(), instructions="Be brief.", model="auto:cheap")
    lent = {"agent_id": agent["agent_id"]}
    members = [
        {"role": "Clerk", **lent},
        {"role": "Chief", "instructions": "Be bold.", "model": "auto", **lent},
        {"role": "Aide"},
    ]
    made = await team(here, members=members, model="auto:fast")
    run = await executed(here, made["team_id"], **MISSION)
    told = [(member["instructions"], member["model"]) for member in run["definition"]["members"]]
    assert told == [("Be brief.", "auto:cheap"), ("Be bold.", "auto"), ("", "auto:fast")]
    refused = await here.http.delete(f"{API}/agents/{agent['agent_id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_in_use")
    body = {"team_name": unique(), "members": [{"role": "A", "agent_id": made["team_id"]}]}
    assert (await here.http.post(f"{API}/teams", json=body)).json()["code"] == "agent_not_found"


async def test_a_schedule_of_a_team_with_a_task_needs_no_input(here: World) -> None:
    made = await team(here, task="Tidy up")
    body = {"name": unique(), "kind": "team", "definition_id": made["team_id"], "interval": 3600}
    assert (await here.make("/schedules", **body))["kind"] == "team"
    wrong = await here.http.post(f"{API}/schedules", json={**body, "name": unique(), "input": {"task_description": 7}})
    assert pointers(wrong) == ["/input/task_description"]


@pytest.mark.parametrize(
    ("usual", "data", "task"),
    [
        ("Tidy up", {"task_description": "Sweep"}, {"task_description": "Sweep"}),
        ("Tidy up", {"room_id": "r1"}, {"task_description": "Tidy up", "room_id": "r1"}),
        ("", {"task_description": "Sweep", "additional_context": ["a"]}, {"additional_context": ["a"]}),
    ],
)
async def test_an_event_brings_a_task_or_is_the_context_of_the_usual_one(
    here: World, usual: str, data: dict[str, Any], task: dict[str, Any]
) -> None:
    made = await team(here, task=usual)
    hook = await here.make("/webhooks", name=unique(), kind="team", definition_id=made["team_id"])
    answer = await delivered(here, hook, {"type": "call.ended", "timestamp": "2026-11-22T10:00:00Z", "data": data})
    assert answer.status_code == 202, answer.text
    run = await here.run(answer.json()["run_id"])
    assert task.items() <= run["input"].items()
    if "task_description" not in data:
        assert run["input"]["additional_context"]["type"] == "call.ended"


async def test_a_user_has_so_many_teams(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auralink.runs.starting.MAX_DEFINITIONS", 1)
    async with here.service.client(unique()) as newcomer:
        answers = [await newcomer.post(f"{API}/teams", json={"team_name": name, "members": []}) for name in ("first", "second")]
        assert [answer.status_code for answer in answers] == [201, 409]
        assert (answers[1].json()["code"], "you have 1 teams" in answers[1].json()["message"]) == ("too_many_definitions", True)
