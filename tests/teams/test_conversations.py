"""What users see of their teams' work: conversations, performance, comparisons, figures."""

from typing import Any

import pytest

from auralink.core.telemetry import render_metrics
from auralink.runs import metrics
from tests.service import API, unique
from tests.teams.test_teams import executed, pointers, team
from tests.worlds import WAIT, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def seen(here: World, team_id: str, what: str = "conversations", **query: Any) -> Any:
    answer = await here.http.get(f"{API}/teams/{team_id}/{what}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def failed_at(here: World, team_id: str, task: str) -> str:
    answer = await here.http.post(f"{API}/teams/{team_id}/execute", json={"task_description": task})
    run_id: str = answer.json()["run_id"]
    await here.reaches(run_id, "failed")
    return run_id


async def test_a_conversation_has_every_message_with_what_it_took(here: World) -> None:
    made = await team(here)
    run = await executed(here, made["team_id"], task_description="What is 6*7?")
    [told] = (await seen(here, made["team_id"]))["items"]
    assert (told["conversation_id"], told["status"], told["answer"]) == (run["run_id"], "succeeded", run["output"]["answer"])
    assert [(m["n"], m["from"], m["to"], m["kind"]) for m in told["messages"]] == [
        (1, "planner", "team", "message"),
        (2, "specialist", "team", "message"),
        (3, "critic", "team", "message"),
    ]
    first = told["messages"][0]
    assert [(call["tool"], call["answer"], call["failed"]) for call in first["tool_calls"]] == [
        ("toolbox__calculator", "42", False),
        ("toolbox__calculator", "no such thing", True),
    ]
    journal = {entry["seq"]: entry for entry in await here.journal(run["run_id"])}
    assert [m["tokens"] for m in told["messages"]] == [journal[m["steps"][0]]["tokens"] for m in told["messages"]]
    assert sum(m["tokens"] for m in told["messages"]) == told["tokens"] > 0
    assert await seen(here, made["team_id"], f"conversations/{run['run_id']}") == told


async def test_a_conversation_that_is_told_again_is_told_once(here: World) -> None:
    made = await team(here)
    run = await executed(here, made["team_id"], task_description="stumble over something")
    assert run["attempt"] == 2
    told = await seen(here, made["team_id"], f"conversations/{run['run_id']}")
    assert [m["n"] for m in told["messages"]] == [1, 2, 3]
    assert all(m["content"].endswith("(attempt 2)") for m in told["messages"])
    assert told["calls"] == 3, "what the first attempt was answered is not asked again"


async def test_conversations_are_paged_and_chosen_by_status(here: World) -> None:
    made = await team(here)
    ran = [(await executed(here, made["team_id"], task_description=f"task {n}"))["run_id"] for n in range(3)]
    failed = await failed_at(here, made["team_id"], "fail please")
    first = await seen(here, made["team_id"], limit=2)
    rest = await seen(here, made["team_id"], limit=2, cursor=first["next_cursor"])
    assert [c["conversation_id"] for c in (*first["items"], *rest["items"])] == [failed, *reversed(ran)]
    assert rest["next_cursor"] is None
    [only] = (await seen(here, made["team_id"], status="failed"))["items"]
    assert (only["conversation_id"], only["answer"], only["messages"]) == (failed, None, [])
    assert "the member 'writer' failed" in only["error"]["message"]


async def test_a_conversation_of_another_team_is_not_found(here: World) -> None:
    one, other = await team(here), await team(here)
    run = await executed(here, one["team_id"], task_description="anything")
    answer = await here.http.get(f"{API}/teams/{other['team_id']}/conversations/{run['run_id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "conversation_not_found")


async def test_performance_counts_the_teams_runs_and_each_members_part(here: World) -> None:
    made = await team(here)
    before = await seen(here, made["team_id"], "performance")
    assert (before["runs"], before["success_rate"], before["p50_seconds"], before["members"]) == (0, None, None, [])
    run = await executed(here, made["team_id"], task_description="What is 6*7?")
    await executed(here, made["team_id"], task_description="hello")
    await failed_at(here, made["team_id"], "fail please")
    after = await seen(here, made["team_id"], "performance")
    assert (after["runs"], after["succeeded"], after["failed"], after["under_way"]) == (3, 2, 1, 0)
    assert after["success_rate"] == pytest.approx(2 / 3)
    assert 0 < after["p50_seconds"] <= after["p95_seconds"]
    assert after["calls"] == 6
    did = {member.pop("member"): member for member in after["members"]}
    assert list(did) == ["planner", "specialist", "critic"]
    assert (did["planner"]["messages"], did["planner"]["model_calls"]) == (2, 2)
    assert (did["planner"]["tool_calls"], did["planner"]["failed_tool_calls"]) == (2, 1)
    assert sum(member["tokens"] for member in did.values()) == after["tokens"] >= run["tokens"]


async def test_engines_and_models_are_compared_on_one_task(here: World) -> None:
    made = await team(here)
    path = f"{API}/teams/{made['team_id']}/compare"
    body = {
        "engines": ["plain", "lively"],
        "models": ["auto", "auto:fast"],
        "modes": {"lively": "debate"},
        "task_description": "go",
    }
    key = {"Idempotency-Key": unique()}
    answer = await here.http.post(path, json=body, headers={**WAIT, **key})
    assert answer.status_code == 200, answer.text
    compared = answer.json()
    assert [(run["engine"], run["mode"], run["model"]) for run in compared["runs"]] == [
        ("plain", "sequential", "auto"),
        ("plain", "sequential", "auto:fast"),
        ("lively", "debate", "auto"),
        ("lively", "debate", "auto:fast"),
    ]
    assert compared["finished"]
    assert {(run["status"], run["answer"], run["model_calls"]) for run in compared["runs"]} == {
        ("succeeded", "3 have spoken of go", 3)
    }
    assert all(run["tokens"] > 0 and run["seconds"] > 0 and run["cost_usd"] == "0" for run in compared["runs"])
    again = await here.http.post(path, json=body, headers={**WAIT, **key})
    assert again.json() == compared
    assert (await here.http.get(f"{path}/{compared['comparison_id']}")).json() == compared
    run = await here.run(compared["runs"][3]["run_id"])
    assert {member["model"] for member in run["definition"]["members"]} == {"auto:fast"}


async def test_a_comparison_that_goes_on_says_where_to_look(here: World) -> None:
    made = await team(here, task="go")
    answer = await here.http.post(f"{API}/teams/{made['team_id']}/compare", json={})
    assert answer.status_code == 202
    assert answer.headers["Location"].endswith(answer.json()["comparison_id"])
    for run in answer.json()["runs"]:
        await here.reaches(run["run_id"], "succeeded")
    assert (await here.http.get(answer.headers["Location"])).json()["finished"]
    unknown = await here.http.get(f"{API}/teams/{made['team_id']}/compare/{made['team_id']}")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "comparison_not_found")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"engines": ["plain", "nothing"]}, "/engines/1"),
        ({"engines": ["plain"], "modes": {"plain": "debate"}}, "/modes/plain"),
        ({"engines": ["plain"], "modes": {"lively": "debate"}}, "/modes/lively"),
    ],
)
async def test_what_cannot_be_compared_is_refused_and_nothing_runs(here: World, fields: Any, pointer: str) -> None:
    made = await team(here)
    answer = await here.http.post(f"{API}/teams/{made['team_id']}/compare", json={"task_description": "go", **fields})
    assert (answer.status_code, pointers(answer)) == (422, [pointer])
    assert (await seen(here, made["team_id"]))["items"] == []


async def test_conversations_are_counted_by_engine_and_outcome(
    here: World, engines_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auralink.runs.metrics.default_root", lambda: engines_folder)
    await executed(here, (await team(here))["team_id"], task_description="count me")
    await metrics.measure(here.service.app.state.db)
    text = render_metrics({}).decode()
    assert 'auralink_plain_conversations_total{outcome="succeeded"}' in text
    assert 'auralink_agent_executions_total{engine="plain",outcome="succeeded"}' in text
