"""Flows over REST: kept, checked when they are saved, drawn, run and put on schedules."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from auralink.client import ApiError, AuraLink
from auralink.core.db import Database
from auralink.core.secret import Secret
from auralink.definitions import build_startables
from auralink.schedules.clock import Clock
from tests.isolation.process import auralink
from tests.runs.support import runs_of
from tests.service import API, unique
from tests.worlds import WAIT, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
DEFINITION: dict[str, Any] = {
    "input": {"type": "object", "properties": {"n": {"type": "integer", "default": 2}, "room_id": {"type": "string"}}},
    "steps": [
        {"name": "first", "type": "transform", "value": ["{{ n }}", "{{ n }}"]},
        {"name": "second", "type": "transform", "value": {"pair": "{{ first }}", "room": "{{ room_id }}"}},
    ],
    "output": "{{ second }}",
}
YAML = """
flow_name: {name}
definition:
  steps:
    - {{name: one, type: transform, value: 1}}
"""


async def flow(here: World, **fields: Any) -> dict[str, Any]:
    return await here.make("/flows", flow_name=unique(), **{"definition": DEFINITION, **fields})


async def ran(here: World, flow_id: str, **given: Any) -> dict[str, Any]:
    answer = await here.http.post(f"{API}/flows/{flow_id}/execute", json={"input_parameters": given}, headers=WAIT)
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    return run


async def step_of(here: World, flow_id: str, run_id: str, name: str) -> dict[str, Any]:
    run = (await here.http.get(f"{API}/flows/{flow_id}/runs/{run_id}")).json()
    [step] = [step for step in run["steps"] if step["name"] == name]
    return dict(step)


async def test_a_flow_is_run_with_its_defaults_and_answered_at_once_if_one_waits(here: World) -> None:
    made = await flow(here)
    assert (made["flow_type"], made["version"], made["template"], made["warnings"]) == ("custom", 1, None, [])
    run = await ran(here, made["flow_id"])
    assert (run["status"], run["kind"], run["engine"], run["output"]) == (
        "succeeded",
        "flow",
        "prefect",
        {"pair": [2, 2], "room": None},
    )
    assert run["input"] == {"n": 2}
    path = f"{API}/flows/{made['flow_id']}/execute"
    accepted = await here.http.post(path, json={"input_parameters": {"n": 5}, "room_id": "r1"})
    assert accepted.status_code == 202
    assert accepted.headers["location"] == f"{API}/runs/{accepted.json()['run_id']}"
    assert (await here.reaches(accepted.json()["run_id"], "succeeded"))["output"] == {"pair": [5, 5], "room": "r1"}


async def test_an_execution_that_is_repeated_under_its_key_is_one_run(here: World) -> None:
    path, key = f"{API}/flows/{(await flow(here))['flow_id']}/execute", unique()
    answers = [await here.http.post(path, json={}, headers={**WAIT, "Idempotency-Key": key}) for _ in range(2)]
    assert answers[0].json()["run_id"] == answers[1].json()["run_id"]
    assert answers[1].headers["idempotency-replayed"] == "true"


async def test_parameters_that_do_not_fit_say_where(here: World) -> None:
    path = f"{API}/flows/{(await flow(here))['flow_id']}/execute"
    wrong = await here.http.post(path, json={"input_parameters": {"n": "many"}})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "input_invalid")
    assert [error["pointer"] for error in wrong.json()["errors"]] == ["/input_parameters/n"]


async def test_a_flow_may_be_written_in_yaml(here: World) -> None:
    content, headers = YAML.format(name=unique()), {"Content-Type": "application/yaml"}
    answer = await here.http.post(f"{API}/flows", content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    assert (await ran(here, answer.json()["flow_id"]))["output"] == {"one": 1}


async def test_a_change_raises_the_version_and_a_run_keeps_what_it_was_accepted_with(here: World) -> None:
    made = await flow(here)
    path = f"{API}/flows/{made['flow_id']}"
    before = await ran(here, made["flow_id"])
    changed = (await here.http.patch(path, json={"definition": {**DEFINITION, "output": "changed"}, "flow_type": "etl"})).json()
    assert (changed["version"], changed["flow_type"]) == (2, "etl")
    assert (await ran(here, made["flow_id"]))["output"] == "changed"
    runs = (await here.http.get(f"{path}/runs")).json()["items"]
    assert [(run["flow_version"], run["result"]) for run in runs] == [(2, "changed"), (1, {"pair": [2, 2], "room": None})]
    assert (await here.http.patch(path, json={"definition": None})).json()["code"] == "definition_invalid"
    assert (await here.http.patch(path, json={})).status_code == 422
    assert (await here.http.delete(path)).status_code == 204
    assert (await here.run(before["run_id"]))["status"] == "succeeded"
    gone = await here.http.get(path)
    assert (gone.status_code, gone.json()["code"]) == (404, "flow_not_found")


async def test_names_are_each_users_own(here: World) -> None:
    made = await flow(here)
    taken = await here.http.post(f"{API}/flows", json={"flow_name": made["flow_name"], "definition": DEFINITION})
    assert (taken.status_code, taken.json()["code"]) == (409, "flow_name_taken")
    named = (await here.http.get(f"{API}/flows", params={"name": made["flow_name"]})).json()["items"]
    assert [item["flow_id"] for item in named] == [made["flow_id"]]
    first = (await here.http.get(f"{API}/flows", params={"limit": 1})).json()
    rest = (await here.http.get(f"{API}/flows", params={"cursor": first["next_cursor"]})).json()
    assert first["items"][0]["flow_id"] not in [item["flow_id"] for item in rest["items"]]


async def test_a_tool_that_is_not_there_is_refused_where_the_flow_cannot_do_without_it(here: World) -> None:
    step = {"name": "look", "type": "tool", "tool": "memory__read_grap"}
    refused = await here.http.post(f"{API}/flows", json={"flow_name": unique(), "definition": {"steps": [step]}})
    [problem] = refused.json()["errors"]
    assert (refused.status_code, problem["pointer"]) == (422, "/definition/steps/0/tool")
    assert "memory__read_graph" in problem["message"]
    tolerated = await flow(here, definition={"steps": [{**step, "on_error": "continue"}]})
    assert [warning["pointer"] for warning in tolerated["warnings"]] == ["/definition/steps/0/tool"]
    made = await flow(here, definition={"steps": [{**step, "tool": "{{ 'memory' }}__read_graph"}]})
    assert made["warnings"] == []


async def test_agents_teams_workflows_and_flows_that_are_not_there_are_warned_of(here: World) -> None:
    agent = await here.make("/agents", name=unique("agent"), instructions="Be brief.")
    steps = [
        {"name": "known", "type": "agent", "agent": agent["name"], "message": "x"},
        {"name": "a", "type": "agent", "agent": "nobody", "message": "x"},
        {"name": "b", "type": "team", "team": "nobodies", "task": "x"},
        {
            "name": "c",
            "type": "branch",
            "cases": [{"when": "known", "steps": [{"name": "d", "type": "workflow", "workflow": "nothing"}]}],
            "otherwise": {"steps": [{"name": "e", "type": "flow", "flow": str(uuid4())}]},
        },
    ]
    made = await flow(here, definition={"steps": steps})
    assert [warning["pointer"].removeprefix("/definition/steps/") for warning in made["warnings"]] == [
        "1/agent",
        "2/team",
        "3/cases/0/steps/0/workflow",
        "3/otherwise/steps/0/flow",
    ]


async def test_a_flow_has_a_definition_or_a_template(here: World) -> None:
    bodies: list[dict[str, Any]] = [{}, {"definition": DEFINITION, "template": "meeting_analysis"}, {"template": "nothing"}]
    answers = [await here.http.post(f"{API}/flows", json={"flow_name": unique(), **body}) for body in bodies]
    assert [answer.json()["code"] for answer in answers] == ["definition_invalid", "definition_invalid", "template_not_found"]


async def test_a_flow_is_drawn_as_data_and_as_mermaid(here: World) -> None:
    path = f"{API}/flows/{(await flow(here))['flow_id']}/graph"
    graph = (await here.http.get(path)).json()
    assert [node["name"] for node in graph["nodes"]] == ["first", "second"]
    assert graph["edges"] == [{"source": "first", "target": "second", "label": ""}]
    for answer in (
        await here.http.get(path, headers={"Accept": "text/vnd.mermaid"}),
        await here.http.get(path, params={"format": "mermaid"}),
    ):
        assert answer.headers["content-type"] == "text/vnd.mermaid; charset=utf-8"
        assert answer.text == graph["mermaid"]
        assert answer.text.startswith("flowchart TD\n")


async def test_each_step_of_a_run_has_its_state_time_calls_tokens_and_cost(here: World) -> None:
    ask = {"name": "ask", "type": "llm", "prompt": "What is {{ item }}?", "model": "auralink/offline"}
    steps = [
        {"name": "all", "type": "map", "over": "things", "steps": [ask]},
        {"name": "end", "type": "transform", "value": "{{ all }}"},
    ]
    schema = {"type": "object", "properties": {"things": {"type": "array", "default": ["a lamp", "a tree"]}}}
    made = await flow(here, definition={"input": schema, "steps": steps})
    run = await ran(here, made["flow_id"])
    seen = (await here.http.get(f"{API}/flows/{made['flow_id']}/runs/{run['run_id']}")).json()
    outer, inner, end = seen["steps"]
    assert (outer["name"], outer["state"], outer["inside"], outer["times"]) == ("all", "Completed", None, 1)
    assert (inner["name"], inner["inside"], inner["times"], inner["calls"]) == ("ask", "all", 2, [1, 2])
    assert inner["seconds"] >= 1.0
    assert inner["tokens"] == seen["tokens"] > 0
    assert (end["state"], end["calls"], end["cost_usd"]) == ("Completed", [], "0")


async def test_the_cost_of_a_run_that_a_step_has_started_is_the_steps(here: World) -> None:
    ask = {"name": "ask", "type": "llm", "prompt": "What is a lamp?", "model": "auralink/offline"}
    child = await flow(here, definition={"steps": [ask]})
    parent = await flow(here, definition={"steps": [{"name": "other", "type": "flow", "flow": child["flow_name"]}]})
    run = await ran(here, parent["flow_id"])
    assert run["status"] == "succeeded", run["error"]
    [inner] = (await here.http.get(f"{API}/flows/{child['flow_id']}/runs")).json()["items"]
    [outer] = (await here.http.get(f"{API}/flows/{parent['flow_id']}/runs")).json()["items"]
    assert inner["flow_run_id"] != outer["flow_run_id"]
    assert outer["steps"][0]["calls"] == [1]
    assert outer["steps"][0]["tokens"] == outer["tokens"] == inner["tokens"] > 0


async def test_only_the_last_attempt_is_told_and_what_failed_says_why(here: World) -> None:
    made = await flow(here, definition={"steps": [{"name": "a", "type": "transform", "value": "die once"}]})
    run = await ran(here, made["flow_id"])
    step = await step_of(here, made["flow_id"], run["run_id"], "a")
    assert (run["attempt"], step["times"], step["state"]) == (2, 1, "Completed")
    broken = await flow(
        here,
        definition={
            "steps": [{"name": "a", "type": "transform", "value": "fail"}, {"name": "b", "type": "transform", "value": 1}]
        },
    )
    run = await ran(here, broken["flow_id"])
    assert run["status"] == "failed"
    step = await step_of(here, broken["flow_id"], run["run_id"], "a")
    assert (step["state"], step["error"], step["failed"]) == ("Failed", "no words", 1)
    assert (await step_of(here, broken["flow_id"], run["run_id"], "b"))["state"] == "NotReached"


async def test_a_run_that_is_cancelled_leaves_no_step_running(here: World) -> None:
    made = await flow(here, definition={"steps": [{"name": "a", "type": "transform", "value": "hang"}]})
    accepted = await here.http.post(f"{API}/flows/{made['flow_id']}/execute", json={})
    run_id = accepted.json()["run_id"]
    await here.reaches(run_id, "running")
    assert (await here.http.get(f"{API}/flows/{made['flow_id']}/runs")).json()["items"][0]["steps"][0]["state"] in (
        "Pending",
        "Running",
    )
    await here.http.post(f"{API}/runs/{run_id}/cancel")
    assert (await step_of(here, made["flow_id"], run_id, "a"))["state"] in ("NotReached", "Cancelled")


async def test_a_run_of_another_flow_is_not_found(here: World) -> None:
    one, other = await flow(here), await flow(here)
    run = await ran(here, one["flow_id"])
    answer = await here.http.get(f"{API}/flows/{other['flow_id']}/runs/{run['run_id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "flow_run_not_found")


async def test_a_flow_is_put_on_a_schedule_and_paused(here: World) -> None:
    made = await flow(here)
    path = f"{API}/flows/{made['flow_id']}/schedules"
    answer = await here.http.post(
        path, json={"cron": "0 9 * * *", "timezone": "Europe/Berlin", "input_parameters": {"n": 3}, "missed": "catch_up"}
    )
    assert answer.status_code == 201, answer.text
    schedule = answer.json()
    assert (schedule["kind"], schedule["definition_id"], schedule["missed"]) == ("flow", made["flow_id"], "catch_up")
    assert (schedule["name"], schedule["input"]) == (f"{made['flow_name']}: 0 9 * * *", {"n": 3})
    other = await flow(here)
    await here.make(f"/flows/{other['flow_id']}/schedules", interval=3600)
    listed = (await here.http.get(path)).json()["items"]
    assert [item["schedule_id"] for item in listed] == [schedule["schedule_id"]]
    paused = await here.http.patch(f"{API}/schedules/{schedule['schedule_id']}", json={"paused": True})
    assert (paused.json()["paused"], paused.json()["next_at"]) == (True, None)
    wrong = await here.http.post(path, json={"interval": 60, "input_parameters": {"n": "x"}})
    assert [error["pointer"] for error in wrong.json()["errors"]] == ["/input_parameters/n"]
    neither = await here.http.post(path, json={})
    assert (neither.status_code, neither.json()["code"]) == (422, "schedule_invalid")


async def test_runs_that_were_due_while_nobody_was_there_are_made_up_for_if_one_wants_that(here: World) -> None:
    made, skipping = await flow(here), await flow(here)
    wants = await here.make(f"/flows/{made['flow_id']}/schedules", interval=3600, input_parameters={"n": 7}, missed="catch_up")
    other = await here.make(f"/flows/{skipping['flow_id']}/schedules", interval=3600)
    for schedule in (wants, other):
        query = "UPDATE auralink.schedules SET next_at = clock_timestamp() - interval '2 hours 5 minutes' WHERE id = %s"
        here.sql(query, schedule["schedule_id"])
    db = Database(here.database.service, min_size=1, max_size=2)
    await db.open()
    async with runs_of(db) as runs:
        clock = Clock(db, build_startables(runs))
        while await clock.tick():
            pass
    await db.close()
    done = (await here.http.get(f"{API}/flows/{made['flow_id']}/runs")).json()["items"]
    assert [run["input_parameters"] for run in done] == [{"n": 7}] * 3
    for run in done:
        assert (await here.reaches(run["flow_run_id"], "succeeded"))["output"]["pair"] == [7, 7]
    assert (await here.http.get(f"{API}/flows/{skipping['flow_id']}/runs")).json()["items"] == []


async def test_the_runs_of_flows_are_counted_for_themselves(here: World) -> None:
    await ran(here, (await flow(here))["flow_id"])
    metrics = (await here.http.get("/metrics")).text
    [line] = [line for line in metrics.splitlines() if line.startswith('auralink_prefect_flows_total{outcome="succeeded"}')]
    assert float(line.split()[1]) >= 1


async def test_the_client_makes_runs_and_draws_flows(here: World) -> None:
    async with AuraLink(here.service.url, Secret(here.service.token(here.user))) as client:
        made = await client.create_flow(unique(), definition=DEFINITION)
        assert await client.find_flow(made.flow_name) == made.flow_id == await client.find_flow(str(made.flow_id))
        assert len((await client.flow_graph(made.flow_id)).nodes) == 2
        started = await client.execute_flow(made.flow_id, {"n": 1}, room_id="r9")
        assert (await client.run_when_ended(started.run_id)).output == {"pair": [1, 1], "room": "r9"}
        seen = await client.flow_run(made.flow_id, started.run_id)
        assert [step.state for step in seen.steps] == ["Completed", "Completed"]
        assert (await client.flow_runs(made.flow_id)).items == [seen]
        assert (await client.schedule_flow(made.flow_id, cron="@daily", paused=True)).next_at is None
        with pytest.raises(ApiError, match="you have no flow"):
            await client.find_flow(str(uuid4()))


async def test_a_flow_is_run_from_the_command_line(here: World, tmp_path: Path) -> None:
    made = await flow(here)
    variables: dict[str, Any] = {"AURALINK_URL": here.service.url, "AURALINK_TOKEN": here.service.token(here.user)}
    said = ("run", "flow", made["flow_name"], "--input", '{"n": 4}', "--wait", "--json")
    done = await asyncio.to_thread(auralink, *said, data_dir=tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["output"] == {"pair": [4, 4], "room": None}


async def test_a_user_has_so_many_flows(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auralink.runs.starting.MAX_DEFINITIONS", 1)
    async with here.service.client(unique()) as newcomer:
        bodies = [{"flow_name": name, "definition": DEFINITION} for name in ("first", "second")]
        answers = [await newcomer.post(f"{API}/flows", json=body) for body in bodies]
    assert [answer.status_code for answer in answers] == [201, 409]
    assert answers[1].json()["code"] == "too_many_definitions"
