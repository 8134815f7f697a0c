"""The templates on the offline model: what a user gets who has set no key."""

from typing import Any

import pytest

from auralink.llm.offline import complete
from auralink.runs.engines import Engines
from auralink.workflows.templates import get_template
from tests.engines.gateway import Gateway, said
from tests.engines.running import Ran, ran

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRANSCRIPT = """Anna: Welcome everybody, let us look at the release.
Ben: The build is green since Monday and the load test passed.
Anna: We decided to ship version 2 on 2026-03-12.
Carla: I will write the release notes by 2026-03-10.
Ben: Action item for me: update the database runbook by 2026-03-09.
Anna: We also agreed to drop support for Python 3.10.
Ben: The weather is awful today.
Anna: Ben will renew the certificate before 2026-03-15."""


async def run_template(engines: Engines, name: str, *, model: Any = complete, prepare: Any = None, **given: Any) -> Ran:
    definition = get_template(name).stored()
    return await ran(engines, definition, model, gateway_is=prepare or (lambda gateway: None), **given)


async def test_qa_answers_from_the_wiki_with_quotations_that_stand_there_and_remembers(engines: Engines) -> None:
    run = await run_template(engines, "qa", question="How do I start the service?", repo_name="auralink/core")
    assert "type make run" in run.output["answer"]
    assert {source["source"]["file"] for source in run.output["sources"]} == {"README.md"}
    assert run.output["unverified"] == []
    assert [name for name, _ in run.gateway.called] == [
        "memory__search_nodes",
        "deepwiki__ask_question",
        "memory__create_entities",
    ]
    assert run.gateway.known == {"How do I start the service?": [run.output["answer"]]}


async def test_qa_uses_the_tools_that_read_where_no_repository_is_named(engines: Engines) -> None:
    run = await run_template(engines, "qa", question="How do I search the docs of auralink/core?")
    assert "type make docs" in run.output["answer"]
    called = [name for name, _ in run.gateway.called]
    assert "deepwiki__search_docs" in called
    assert not any(name.startswith("auralink__") for name in called)


async def test_qa_says_when_nothing_was_found(engines: Engines) -> None:
    run = await run_template(engines, "qa", question="zzz?", model=lambda _: said("I know nothing"))
    assert run.output["answer"] == "Nothing was found that answers this."
    assert run.gateway.known == {}


async def test_qa_asks_again_once_when_a_quotation_is_made_up(engines: Engines) -> None:
    made_up = said('{"answer": "Type make.", "quotations": ["nobody ever wrote this"]}')
    run = await run_template(engines, "qa", question="How?", repo_name="a/b", model=lambda _: made_up)
    assert run.output["unverified"] == ["nobody ever wrote this"]
    assert run.output["sources"] == []
    assert len(run.gateway.asked) == 2


async def test_summarization_takes_decisions_and_action_items_with_owner_and_date(engines: Engines) -> None:
    run = await run_template(engines, "summarization", transcript=TRANSCRIPT, title="Release meeting")
    minutes = run.output
    assert [line.split(": ", 1)[1][:15] for line in minutes["decisions"]] == ["We decided to s", "We also agreed "]
    assert [(item["owner"], item["due"]) for item in minutes["action_items"]] == [
        ("Carla", "2026-03-10"),
        ("Ben", "2026-03-09"),
        ("Ben", "2026-03-15"),
    ]
    assert not any("weather" in point for point in minutes["key_points"])
    assert "decided to ship version 2" in minutes["summary"]
    stored = run.gateway.known[minutes["stored_as"]]
    assert any(line.startswith("Decided: ") for line in stored)
    assert any(line.startswith("To do: ") for line in stored)


async def test_summarization_of_a_long_transcript_goes_by_pieces_and_says_nothing_twice(engines: Engines) -> None:
    run = await run_template(engines, "summarization", transcript="\n".join([TRANSCRIPT] * 30), title="Release meeting")
    assert len(run.gateway.asked) > 3
    assert len(run.output["decisions"]) == len(set(run.output["decisions"])) == 2


async def test_moderation_names_the_rules_that_a_message_breaks_and_asks_a_person(engines: Engines) -> None:
    run = await run_template(engines, "moderation", message="You are an idiot and I will hurt you.", author="Eve")
    assert (run.output["verdict"], run.output["decided_by"]) == ("hide", "person")
    assert [rule.split(":")[0] for rule in run.output["broken_rules"]] == ["No insults", "No threats"]
    assert "Eve" in run.gateway.approvals[0]["question"]
    assert any("idiot" in line for line in run.gateway.known[run.output["incident"]])


async def test_moderation_acts_alone_when_told_to_and_lets_the_harmless_pass(engines: Engines) -> None:
    run = await run_template(engines, "moderation", message="Cheap pills, buy now, free money!", auto_act=True)
    assert (run.output["verdict"], run.output["decided_by"], run.gateway.approvals) == ("hide", "policy", [])
    run = await run_template(engines, "moderation", message="Good morning everybody!")
    assert (run.output["verdict"], run.output["incident"], run.gateway.known) == ("allow", None, {})


async def test_auto_join_greets_and_reminds_of_the_last_meeting(engines: Engines) -> None:
    def prepare(gateway: Gateway) -> None:
        meeting = "Release meeting (2026-02-22)"
        gateway.types[meeting] = "meeting"
        gateway.known |= {"Anna": ["leads the release"], meeting: ["Decided: to ship version 2 on 2026-03-12"]}

    run = await run_template(engines, "auto_join", participants=["Anna", "Ben"], room_name="Release", prepare=prepare)
    assert run.output["greeting"].startswith("Hello Anna, Ben. ")
    assert "ship version 2" in run.output["greeting"]
    assert run.output["known_people"] == [{"name": "Anna", "facts": ["leads the release"]}]
    assert run.output["last_meeting"]["name"] == "Release meeting (2026-02-22)"


async def test_auto_join_greets_strangers(engines: Engines) -> None:
    run = await run_template(engines, "auto_join", participants=["Zoe"])
    assert run.output["greeting"].startswith("Hello Zoe.")
    assert run.gateway.asked == []
