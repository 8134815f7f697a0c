"""Each template from REST to its output: real service, worker, engine and servers, on the offline model."""

import pytest

from tests.service import API, unique
from tests.worlds import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRANSCRIPT = """Anna: Welcome everybody, let us look at the release.
Ben: The build is green since Monday and the load test passed.
Anna: We decided to ship version 2 on 2026-03-12.
Carla: I will write the release notes by 2026-03-10.
Ben: The weather is awful today."""


async def template(here: World, name: str) -> str:
    made = await here.make("/workflows", workflow_name=unique(name), workflow_type=name)
    assert made["definition"] is None
    return str(made["workflow_id"])


async def test_qa_answers_from_the_wiki_and_remembers_it(here: World) -> None:
    qa = await template(here, "qa")
    question = "How do I start the service?"
    run = await here.executed(qa, {"question": question, "repo_name": "acme/aurora"})
    assert "make run" in run["output"]["answer"]
    assert {source["source"]["file"] for source in run["output"]["sources"]} == {"README.md"}
    assert run["output"]["unverified"] == []
    known = here.sql("SELECT name FROM auralink.memory_entities WHERE entity_type = 'question'")
    assert [row["name"] for row in known] == [question]
    steps = [(step["kind"], step["name"]) for step in await here.journal(run["run_id"]) if step["kind"] != "list"]
    assert ("tool", "deepwiki__ask_question") in steps
    assert "llm" in {kind for kind, _ in steps}


async def test_summarization_keeps_what_was_decided_and_who_does_what(here: World) -> None:
    minutes = await template(here, "summarization")
    run = await here.executed(minutes, {"transcript": TRANSCRIPT, "title": "Release"}, room_id="room-1", call_id="call-9")
    assert (run["room_id"], run["call_id"]) == ("room-1", "call-9")
    assert [(item["owner"], item["due"]) for item in run["output"]["action_items"]] == [("Carla", "2026-03-10")]
    assert any("ship version 2" in decision for decision in run["output"]["decisions"])
    assert here.sql("SELECT 1 FROM auralink.memory_entities WHERE name = %s", run["output"]["stored_as"])


async def test_auto_join_knows_what_the_last_meeting_decided(here: World) -> None:
    await here.executed(await template(here, "summarization"), {"transcript": TRANSCRIPT, "title": "Release planning"})
    joining = await template(here, "auto_join")
    run = await here.executed(joining, {"participants": ["Anna", "Ben"], "room_name": "Release planning"})
    assert run["output"]["greeting"].startswith("Hello Anna, Ben.")
    assert run["output"]["last_meeting"]["name"].startswith("Release planning")


async def test_moderation_asks_a_person_before_it_hides_something(here: World) -> None:
    moderation = await template(here, "moderation")
    path = f"{API}/workflows/{moderation}/execute"
    given = {"message": "You are an idiot and I will hurt you.", "author": "Eve"}
    accepted = await here.http.post(path, json={"input_data": given})
    assert accepted.status_code == 202
    assert accepted.headers["location"] == f"{API}/runs/{accepted.json()['run_id']}"
    await here.reaches(accepted.json()["run_id"], "waiting")
    [asked] = (await here.http.get(f"{API}/approvals", params={"status": "pending"})).json()["items"]
    decided = await here.http.post(f"{API}/approvals/{asked['approval_id']}", json={"decision": "approve", "note": "clear"})
    assert decided.status_code == 200, decided.text
    run = await here.reaches(accepted.json()["run_id"], "succeeded", "failed")
    assert (run["output"]["verdict"], run["output"]["decided_by"], run["output"]["note"]) == ("hide", "person", "clear")
    assert here.sql("SELECT 1 FROM auralink.memory_entities WHERE name = %s", run["output"]["incident"])


async def test_moderation_lets_the_harmless_pass(here: World) -> None:
    run = await here.executed(await template(here, "moderation"), {"message": "Good morning everybody!"})
    assert run["output"]["verdict"] == "allow"


async def test_the_templates_are_listed_as_definitions_to_start_from(here: World) -> None:
    listed = (await here.http.get(f"{API}/workflows/templates")).json()["items"]
    assert [item["name"] for item in listed] == ["auto_join", "moderation", "qa", "summarization"]
    copied = await here.make("/workflows", workflow_name=unique(), workflow_type="custom", definition=listed[2]["definition"])
    assert copied["definition"]["nodes"].keys() == listed[2]["definition"]["nodes"].keys()
