"""Workflows over REST: kept, checked when they are saved, and run."""

from pathlib import Path
from typing import Any

import pytest

from auralink.runs.engine_manifest import default_root
from auralink.runs.engines import Engines
from tests.service import API, unique
from tests.worlds import WAIT, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}, "room_id": {"type": "string"}}, "required": ["n"]}
GRAPH: dict[str, Any] = {
    "input": SCHEMA,
    "start": "note",
    "nodes": {"note": {"type": "set", "values": {"doubled": "{{ [n, n] }}"}}},
    "edges": [{"from": "note", "to": "end"}],
    "output": {"doubled": "{{ doubled }}", "room": "{{ room_id }}"},
}
YAML = """
workflow_name: {name}
workflow_type: custom
definition:
  input: {{type: object, properties: {{n: {{type: integer}}}}}}
  start: note
  nodes:
    note: {{type: set, values: {{seen: "{{{{ n }}}}"}}}}
  edges:
    - {{from: note, to: end}}
"""


async def custom(here: World, **fields: Any) -> dict[str, Any]:
    return await here.make("/workflows", workflow_name=unique(), workflow_type="custom", **{"definition": GRAPH, **fields})


async def test_a_graph_is_run_and_answered_at_once_if_one_waits(here: World) -> None:
    made = await custom(here)
    run = await here.executed(made["workflow_id"], {"n": 3}, room_id="r1", call_id="c1")
    assert run["output"] == {"doubled": [3, 3], "room": "r1"}
    [seen] = here.sql("SELECT * FROM auralink.workflow_executions WHERE execution_id = %s", run["run_id"])
    assert (seen["current_step"], seen["state"]["update"]) == ("note", {"doubled": [3, 3]})
    stats = (await here.http.get(f"{API}/workflows/{made['workflow_id']}/stats")).json()
    assert (stats["runs"], stats["succeeded"], stats["success_rate"], stats["under_way"]) == (1, 1, 1.0, 0)
    assert stats["p50_seconds"] > 0


async def test_an_execution_that_is_repeated_under_its_key_is_one_run(here: World) -> None:
    path, key = f"{API}/workflows/{(await custom(here))['workflow_id']}/execute", unique()
    body = {"input_data": {"n": 1}}
    answers = [await here.http.post(path, json=body, headers={**WAIT, "Idempotency-Key": key}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["run_id"] == answers[1].json()["run_id"]
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
    other = await here.http.post(path, json={"input_data": {"n": 2}}, headers={"Idempotency-Key": key})
    assert other.json()["code"] == "idempotency_key_reused"


async def test_a_workflow_may_be_written_in_yaml(here: World) -> None:
    content, headers = YAML.format(name=unique()), {"Content-Type": "application/yaml"}
    answer = await here.http.post(f"{API}/workflows", content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    assert (await here.executed(answer.json()["workflow_id"], {"n": 7}))["output"] == {"seen": 7}
    broken = await here.http.post(f"{API}/workflows", content="a: [", headers=headers)
    assert (broken.status_code, broken.json()["code"]) == (422, "definition_invalid")
    incomplete = await here.http.post(f"{API}/workflows", content="workflow_name: x", headers=headers)
    assert [error["pointer"] for error in incomplete.json()["errors"]] == ["/workflow_type"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"start": "nowhere"}, "/definition/start"),
        ({"edges": [{"from": "note", "to": "note"}]}, "/definition/nodes/note"),
        ({"nodes": {**GRAPH["nodes"], "alone": {"type": "set", "values": {"x": 1}}}}, "/definition/nodes/alone"),
        ({"nodes": {"note": {"type": "tool", "tool": "nobody__nothing"}}, "output": None}, "/definition/nodes/note/tool"),
        ({"nodes": {"note": {"type": "unheard"}}}, "/definition/nodes/note"),
    ],
    ids=["no such node", "cycle without bound", "unreachable", "unknown tool", "unknown type"],
)
async def test_what_cannot_run_is_refused_where_it_stands(here: World, change: dict[str, Any], pointer: str) -> None:
    body = {"workflow_name": unique(), "workflow_type": "custom", "definition": GRAPH | change}
    answer = await here.http.post(f"{API}/workflows", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "definition_invalid")
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


async def test_an_input_that_does_not_fit_says_where(here: World) -> None:
    path = f"{API}/workflows/{(await custom(here))['workflow_id']}/execute"
    wrong = await here.http.post(path, json={"input_data": {"n": "many"}})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "input_invalid")
    assert [error["pointer"] for error in wrong.json()["errors"]] == ["/input_data/n"]


async def test_a_change_raises_the_version_and_a_run_keeps_what_it_was_accepted_with(here: World) -> None:
    made = await custom(here)
    path = f"{API}/workflows/{made['workflow_id']}"
    before = await here.executed(made["workflow_id"], {"n": 1})
    changed = await here.http.patch(path, json={"definition": {**GRAPH, "output": "changed"}, "description": "now so"})
    assert (changed.json()["version"], changed.json()["description"]) == (2, "now so")
    assert (await here.executed(made["workflow_id"], {"n": 1}))["output"] == "changed"
    assert (await here.run(before["run_id"]))["definition"]["output"] == GRAPH["output"]
    refused = await here.http.patch(path, json={"definition": {**GRAPH, "start": "nowhere"}})
    assert refused.status_code == 422
    assert (await here.http.get(path)).json()["version"] == 2
    assert (await here.http.delete(path)).status_code == 204
    assert (await here.run(before["run_id"]))["status"] == "succeeded"
    assert (await here.http.get(path)).json()["code"] == "workflow_not_found"


async def test_a_template_says_what_of_it_will_not_work(here: World) -> None:
    body = {"workflow_name": unique(), "workflow_type": "qa", "mcp_integrations": ["memory"]}
    made = await here.make("/workflows", **body)
    assert "/nodes/ask_wiki/tool" in [warning["pointer"] for warning in made["warnings"]]
    unknown = await here.http.post(
        f"{API}/workflows", json={"workflow_name": unique(), "workflow_type": "qa", "mcp_integrations": ["elsewhere"]}
    )
    assert [error["pointer"] for error in unknown.json()["errors"]] == ["/mcp_integrations/0"]


async def test_a_graph_of_ones_own_and_a_name_of_its_own_are_needed(here: World) -> None:
    bare = await here.http.post(f"{API}/workflows", json={"workflow_name": unique(), "workflow_type": "custom"})
    assert [error["pointer"] for error in bare.json()["errors"]] == ["/definition"]
    made = await custom(here)
    body = {"workflow_name": made["workflow_name"], "workflow_type": "qa"}
    taken = await here.http.post(f"{API}/workflows", json=body)
    assert (taken.status_code, taken.json()["code"]) == (409, "workflow_name_taken")
    named = (await here.http.get(f"{API}/workflows", params={"name": made["workflow_name"]})).json()["items"]
    assert [item["workflow_id"] for item in named] == [made["workflow_id"]]


async def test_what_a_graph_starts_and_there_is_not_is_a_warning(here: World) -> None:
    inner = (await custom(here))["workflow_name"]
    nodes = {
        "first": {"type": "subworkflow", "name": inner},
        "second": {"type": "subworkflow", "kind": "team", "name": inner},
        "third": {"type": "map", "over": "[`1`]", "each": {"type": "subworkflow", "kind": "agent", "name": "nobody"}},
    }
    edges = [{"from": "first", "to": "second"}, {"from": "second", "to": "third"}, {"from": "third", "to": "end"}]
    made = await custom(here, definition={"start": "first", "nodes": nodes, "edges": edges})
    assert [warning["pointer"] for warning in made["warnings"]] == [
        "/definition/nodes/second/name",
        "/definition/nodes/third/each/name",
    ]
    assert "you have no agent 'nobody'" in made["warnings"][1]["message"]
    itself = {"note": {"type": "subworkflow", "name": made["workflow_name"]}}
    path = f"{API}/workflows/{made['workflow_id']}"
    again = await here.http.patch(path, json={"definition": {**GRAPH, "nodes": itself, "output": None}})
    assert (again.status_code, again.json()["warnings"]) == (200, [])


async def test_a_workflow_starts_another_and_waits_for_it(here: World) -> None:
    inner = await custom(here)
    node = {"type": "subworkflow", "name": inner["workflow_name"], "input": {"n": 5}, "into": "result"}
    graph = {"start": "call", "nodes": {"call": node}, "edges": [{"from": "call", "to": "end"}]}
    outer = await custom(here, definition=graph)
    run = await here.executed(outer["workflow_id"], {})
    assert run["output"]["result"]["doubled"] == [5, 5]
    children = here.sql("SELECT definition_id FROM auralink.runs WHERE parent_id = %s", run["run_id"])
    assert [str(child["definition_id"]) for child in children] == [inner["workflow_id"]]


async def test_an_engine_that_is_not_installed_is_told_when_the_workflow_is_saved(
    here: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "langgraph").mkdir()
    for name in ("engine.toml", "requirements.txt"):
        (tmp_path / "langgraph" / name).write_bytes((default_root() / "langgraph" / name).read_bytes())
    for service in (here.service.app.state.workflows, here.service.app.state.agents):
        monkeypatch.setattr(service, "_require_engine", Engines(tmp_path).manifest)
    answers = [
        await here.http.post(f"{API}/workflows", json={"workflow_name": unique(), "workflow_type": "qa"}),
        await here.http.post(f"{API}/agents", json={"name": unique(), "instructions": "x"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (409, "engine_not_installed")
        assert "make engines" in answer.json()["message"]
