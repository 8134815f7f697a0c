"""The engine `crewai` in its own environment, against gateways on a real socket."""

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import pytest_asyncio
from starlette.responses import JSONResponse, Response

from auralink.runs.engines import Engines, Failure, Result
from tests.engines.conftest import EngineHost
from tests.engines.gateway import running_gateway, said, wants
from tests.engines.running import collector
from tests.engines.teams import (
    TASK,
    Script,
    a_team,
    attempts_of,
    member,
    messages_of,
    ran_team,
    speakers_of,
    team_start,
    texts_of,
    tools_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")
DELEGATE = "delegate_work_to_coworker"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def crewai(engine_host: EngineHost) -> Engines:
    return engine_host("crewai")


def delegates(to: str, task: str) -> tuple[str, dict[str, Any]]:
    return (DELEGATE, {"task": task, "context": "all of it", "coworker": to})


def votes(name: str, why: str = "it is right") -> str:
    return json.dumps({"for": name, "why": why})


async def test_members_work_one_after_the_other_each_given_what_was_said_before(crewai: Engines) -> None:
    team = a_team("sequential", ["researcher", "analyst", "writer"])
    run = await ran_team(crewai, "crewai", team, Script("the facts", "the analysis", "the summary"))
    assert run.output == {
        "answer": "the summary",
        "stopped": None,
        "sources": [],
        "turns": {"researcher": 1, "analyst": 1, "writer": 1},
    }
    assert messages_of(run) == [
        ("researcher", "analyst", "the facts"),
        ("analyst", "writer", "the analysis"),
        ("writer", "user", "the summary"),
    ]
    first, second, third = (texts_of(body) for body in run.gateway.asked)
    assert TASK in first
    assert "Sunday, 01 March 2026" in first
    assert "the facts" not in first
    assert "the facts" in second
    assert "the facts" in third
    assert "the analysis" in third
    assert [message["steps"] for message in run.told("message")] == [[1], [2], [3]]


async def test_the_model_is_named_as_the_definition_names_it_and_asked_for_nothing_else(crewai: Engines) -> None:
    names = ["auto", "openai/gpt-5.5", "auralink/scripted", "anthropic/claude-opus", "o1-mini"]
    members = [member(f"m{at}", model=name, goal="") for at, name in enumerate(names)]
    limits = {"temperature": 0.5, "answer_tokens": 77}
    run = await ran_team(crewai, "crewai", a_team("sequential", members, limits=limits), lambda _: said("ok"))
    assert run.output["answer"] == "ok"
    assert [body["model"] for body in run.gateway.asked] == names
    assert {key for body in run.gateway.asked for key in body} == {"model", "messages", "temperature", "max_tokens"}
    assert {message["role"] for body in run.gateway.asked for message in body["messages"]} == {"system", "user"}
    assert run.gateway.tokens == {"Bearer the-run-token"}
    assert set(run.gateway.requests) == {"POST /v1/chat/completions"}


async def test_tools_reach_the_model_as_the_gateway_gives_them_and_their_errors_as_answers(crewai: Engines) -> None:
    tools = ["odd__Nme", "deepwiki__ask_question", "broken__fail"]
    calls = [
        wants(
            ("odd__Nme", {"second": 2, "first": 40}),
            ("deepwiki__ask_question", {"repoName": "a/b", "question": "how?"}),
            ("nobody__knows", {"x": 1}),
        ),
        wants(("broken__fail", {"why": "of you"}), ("odd__Nme", {"first": "no number"})),
    ]
    run = await ran_team(crewai, "crewai", a_team("sequential", [member("solver", tools=tools)]), Script(*calls, "42"))
    assert run.output["answer"] == "42"
    first, second, third = run.gateway.asked
    assert tools_of(first) == tools
    schema = first["tools"][0]["function"]
    assert (schema["description"], schema["parameters"]["required"]) == ("Adds.", ["first", "second"])
    assert "strict" not in schema
    asked = [call["function"]["name"] for call in second["messages"][-4]["tool_calls"]]
    assert asked == ["odd__Nme", "deepwiki__ask_question", "nobody__knows"]
    answers = [message["content"] for message in second["messages"] if message["role"] == "tool"]
    assert answers[0] == "42"
    assert answers[1].startswith("To start the service")
    assert answers[2] == "there is no tool 'nobody__knows'"
    assert "it failed: of you" in texts_of(third)
    assert run.gateway.called == [
        ("odd__Nme", {"second": 2, "first": 40}),
        ("deepwiki__ask_question", {"repoName": "a/b", "question": "how?"}),
        ("broken__fail", {"why": "of you"}),
        ("odd__Nme", {"first": "no number"}),
    ]
    [message] = run.told("message")
    assert [(call["tool"], call["failed"]) for call in message["tool_calls"]] == [
        ("odd__Nme", False),
        ("deepwiki__ask_question", False),
        ("nobody__knows", True),
        ("broken__fail", True),
        ("odd__Nme", True),
    ]
    assert message["steps"] == [1, 2, 3]
    assert {
        "tool": "deepwiki__ask_question",
        "member": "solver",
        "file": "README.md",
        "line": 3,
        "end_line": 4,
        "heading": "Start",
    } in (run.output["sources"])


@pytest.mark.parametrize("manager", [None, "lead"])
async def test_a_manager_delegates_twice_to_different_members_and_answers(crewai: Engines, manager: str | None) -> None:
    members = [
        member("lead", role="Team Lead", instructions="Lead.", tools=["broken__fail"]),
        "triage",
        member("solver", tools=["odd__Nme"]),
    ]
    team = a_team("hierarchical", members if manager else members[1:], manager=manager)
    script = Script(
        wants(delegates("Triage", "sort it")),
        "it is sorted",
        wants(delegates("solver", "solve it")),
        wants(("odd__Nme", {"first": 1, "second": 2})),
        "it is 3",
        "the answer is 3",
    )
    run = await ran_team(crewai, "crewai", team, script)
    boss = manager or "manager"
    assert run.output["answer"] == "the answer is 3"
    assert run.output["delegations"] == [
        {"from": boss, "to": "triage", "task": "sort it"},
        {"from": boss, "to": "solver", "task": "solve it"},
    ]
    assert messages_of(run) == [
        (boss, "triage", "sort it\n\nall of it"),
        ("triage", boss, "it is sorted"),
        (boss, "solver", "solve it\n\nall of it"),
        ("solver", boss, "it is 3"),
        (boss, "user", "the answer is 3"),
    ]
    assert [message["steps"] for message in run.told("message")] == [[1], [2], [3], [4, 5], [6]]
    assert run.told("message")[3]["tool_calls"] == [
        {"tool": "odd__Nme", "arguments": {"first": 1, "second": 2}, "answer": "3", "failed": False}
    ]
    assert tools_of(run.gateway.asked[0]) == [*(["broken__fail"] if manager else []), DELEGATE, "ask_question_to_coworker"]
    assert ("Lead." if manager else "Crew Manager") in texts_of(run.gateway.asked[0])


async def test_a_manager_that_goes_on_delegating_is_stopped_and_answers_with_what_it_has(crewai: Engines) -> None:
    def model(body: Mapping[str, Any]) -> Any:
        refused = any("Delegate nothing more" in (message.get("content") or "") for message in body["messages"])
        return wants(delegates("Solver", "more")) if DELEGATE in tools_of(body) and not refused else said("done")

    team = a_team("hierarchical", ["solver"], limits={"turns": 5})
    run = await ran_team(crewai, "crewai", team, model)
    assert speakers_of(run) == ["manager", "solver", "manager", "solver", "manager"]
    assert run.output["stopped"] == {"limit": "turns", "message": "the team may say 5 messages"}
    assert run.output["answer"] == "done"


async def test_members_vote_and_revise_until_more_than_half_agree(crewai: Engines) -> None:
    script = Script(
        *("A1", "B1", "C1", votes("a"), votes("b"), votes("c")),
        *("A2", "B2", "C2", votes("b", "clearer"), "```json\n" + votes("B") + "\n```", votes("c")),
    )
    run = await ran_team(crewai, "crewai", a_team("consensus", ["a", "b", "c"]), script)
    output = run.output
    assert (output["answer"], output["agreed"], output["chosen"], output["stopped"]) == ("B2", True, "b", None)
    assert [(vote["round"], vote["count"]) for vote in output["votes"]] == [(1, {"a": 1, "b": 1, "c": 1}), (2, {"b": 2, "c": 1})]
    assert output["votes"][1]["votes"]["a"] == {"for": "b", "why": "clearer"}
    assert speakers_of(run) == ["a", "b", "c"] * 4
    assert [message["kind"] for message in run.told("message")] == (["message"] * 3 + ["vote"] * 3) * 2
    alone, revising = texts_of(run.gateway.asked[1]), texts_of(run.gateway.asked[7])
    assert "A1" not in alone
    assert all(text in revising for text in ("A1", "B1", "C1", "a voted for a"))
    assert run.gateway.asked[3]["response_format"]["json_schema"]["schema"]["properties"]["for"]["enum"] == ["a", "b", "c"]


async def test_without_a_majority_the_most_votes_win_and_among_equals_the_first(crewai: Engines) -> None:
    script = Script("A", "B", votes("b"), "no vote at all", "A2", "B2", votes("b"), votes("a"))
    run = await ran_team(crewai, "crewai", a_team("consensus", ["a", "b"], options={"rounds": 2}), script)
    output = run.output
    assert (output["answer"], output["agreed"], output["chosen"]) == ("A2", False, "a")
    assert output["stopped"]["limit"] == "rounds"
    assert output["votes"][0]["votes"]["b"]["for"] is None
    assert output["votes"][0]["count"] == {"b": 1}


async def test_a_member_that_loops_is_stopped_with_what_it_had(crewai: Engines) -> None:
    team = a_team("sequential", [member("looper", tools=["odd__Nme"]), "writer"], limits={"member_turns": 4})

    def model(body: Mapping[str, Any]) -> Any:
        again = "Looper" in body["messages"][0]["content"]
        return wants(("odd__Nme", {"first": 1, "second": 2})) if again else said("written")

    run = await ran_team(crewai, "crewai", team, model)
    assert run.output["answer"] == "written"
    assert run.output["stopped"] == {"limit": "member_turns", "message": "looper used all of its 4 model calls for one message"}
    assert len(run.gateway.called) == 3
    assert len(run.gateway.asked) == 5
    looped = run.told("message")[0]
    assert looped["content"].endswith("Its last tool said:\n3")
    assert len(looped["tool_calls"]) == 3


async def test_a_team_says_no_more_messages_than_it_may(crewai: Engines) -> None:
    run = await ran_team(crewai, "crewai", a_team("sequential", ["a", "b", "c"], limits={"turns": 2}), Script("A", "B", "C"))
    assert (run.output["answer"], run.output["stopped"]["limit"]) == ("B", "turns")
    run = await ran_team(crewai, "crewai", a_team("consensus", ["a", "b"], limits={"turns": 3}), Script("A", "B", "C"))
    assert (run.output["answer"], run.output["chosen"], run.output["stopped"]["limit"]) == ("A", "a", "turns")


async def test_a_run_that_takes_too_long_ends_with_what_it_has(crewai: Engines) -> None:
    let_go = threading.Event()

    def model(body: Mapping[str, Any]) -> Any:
        if "A!" in texts_of(body):
            let_go.wait(20)
        return said("A!")

    team = a_team("sequential", ["a", "b"], limits={"seconds": 1.5})
    async with running_gateway(model) as gateway:
        outcome = await crewai.execute(team_start("crewai", team, gateway), collector([]))
        let_go.set()
    assert isinstance(outcome, Result)
    assert (outcome.output["answer"], outcome.output["stopped"]["limit"]) == ("A!", "seconds")


@pytest.mark.parametrize("mode", ["sequential", "hierarchical"])
async def test_a_model_s_error_names_member_and_model_and_is_shown_to_nobody(crewai: Engines, mode: str) -> None:
    error = {"error": {"message": "the budget of this run is used up", "code": "budget_exceeded"}}

    def model(body: Mapping[str, Any]) -> Any:
        return wants(delegates("Solver", "do")) if DELEGATE in tools_of(body) else JSONResponse(error, 429)

    run = await ran_team(crewai, "crewai", a_team(mode, [member("solver", model="m")]), model)
    assert run.failure.message == "member 'solver': model 'm': 429 budget_exceeded the budget of this run is used up"
    assert (run.failure.type, run.failure.lost) == ("MemberFailed", False)
    assert len(run.gateway.asked) == (1 if mode == "sequential" else 2)
    assert speakers_of(run) == ([] if mode == "sequential" else ["manager"])


async def test_an_answer_that_cannot_be_read_is_a_failure_too(crewai: Engines) -> None:
    unreadable = Response("{", media_type="application/json")
    run = await ran_team(crewai, "crewai", a_team("sequential", [member("solver", model="m")]), lambda _: unreadable)
    assert run.failure.type == "MemberFailed"
    assert run.failure.message.startswith("member 'solver': model 'm': ")


async def test_a_gateway_that_is_gone_or_stale_loses_the_attempt(crewai: Engines) -> None:
    stale = {"error": {"message": "a newer attempt runs", "code": "stale_attempt"}}
    run = await ran_team(crewai, "crewai", a_team("sequential", ["a"]), lambda _: JSONResponse(stale, 409))
    assert run.failure.lost
    with_tools = a_team("hierarchical", [member("a", tools=["odd__Nme"])])
    refused = {"gateway_is": lambda gateway: setattr(gateway, "refuse_mcp", 409)}
    run = await ran_team(crewai, "crewai", with_tools, Script("x"), **refused)
    assert run.failure.lost
    async with running_gateway(Script("x")) as gateway:
        pass
    for team in (a_team("sequential", ["a"]), with_tools):
        outcome = await crewai.execute(team_start("crewai", team, gateway), collector([]))
        assert isinstance(outcome, Failure)
        assert outcome.lost, outcome


async def test_a_gateway_that_is_lost_at_a_tool_call_is_shown_to_no_model(crewai: Engines) -> None:
    def model(_body: Mapping[str, Any]) -> Any:
        gateway.refuse_mcp = 409
        return wants(("odd__Nme", {"first": 1, "second": 2}))

    async with running_gateway(model) as gateway:
        team = a_team("sequential", [member("a", tools=["odd__Nme"])])
        outcome = await crewai.execute(team_start("crewai", team, gateway), collector([]))
    assert isinstance(outcome, Failure)
    assert outcome.lost, outcome
    assert len(gateway.asked) == 1


async def test_a_cancelled_run_ends_in_the_middle_of_a_model_call(crewai: Engines) -> None:
    let_go, asked = threading.Event(), threading.Event()

    def model(_body: Mapping[str, Any]) -> Any:
        asked.set()
        let_go.wait(20)
        return said("too late")

    async with running_gateway(model) as gateway:
        running = asyncio.create_task(crewai.execute(team_start("crewai", a_team("sequential", ["a"]), gateway), collector([])))
        await asyncio.to_thread(asked.wait, 20)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        let_go.set()
    assert len(gateway.asked) == 1


async def test_a_tool_that_the_user_does_not_have_fails_the_run_by_name(crewai: Engines) -> None:
    run = await ran_team(crewai, "crewai", a_team("sequential", [member("a", tools=["gone__tool"])]), Script("x"))
    assert run.failure.message.startswith("member 'a': the user has no tool 'gone__tool'; there are ")


async def test_two_attempts_ask_the_same_questions_byte_for_byte(crewai: Engines) -> None:
    def script() -> Script:
        both = wants(("odd__Nme", {"second": 2, "first": 1}), ("deepwiki__ask_question", {"repoName": "r", "question": "q"}))
        return Script(wants(delegates("Solver", "do"), delegates("Writer", "do too")), both, "solved", "written", "all done")

    members = [member("solver", tools=["odd__Nme", "deepwiki__ask_question"]), "writer"]
    first, second = await attempts_of(crewai, "crewai", a_team("hierarchical", members), script)
    assert first == second
    assert first.count('"role": "tool"') >= 4


async def test_what_was_learned_is_written_to_the_memory_once(crewai: Engines) -> None:
    team = a_team("sequential", ["a"], memory="memory")
    facts = json.dumps({"facts": ["WebRTC is a standard."]})
    run = await ran_team(crewai, "crewai", team, Script("an answer", facts))
    entity = f"Team: {TASK}"
    assert run.output["remembered"] == entity
    assert run.gateway.known[entity][0] == "WebRTC is a standard."
    assert run.gateway.known[entity][1].startswith("source: run ")
    known = {"gateway_is": lambda gateway: gateway.known.update({entity: ["old"]})}
    run = await ran_team(crewai, "crewai", team, Script("an answer", facts), **known)
    assert [name for name, _ in run.gateway.called] == ["memory__create_entities", "memory__add_observations"]
    assert run.gateway.known[entity][:2] == ["old", "WebRTC is a standard."]


@pytest.mark.parametrize(
    ("answer", "memory", "why"),
    [
        (
            JSONResponse({"error": {"message": "it is closed", "code": "model_closed"}}, 400),
            "memory",
            "model_closed it is closed",
        ),
        ("I know nothing.", "memory", "there is no JSON in 'I know nothing.'"),
        ('{"facts": "none"}', "memory", "there is no list of facts"),
        ('{"facts": ["It is 5."]}', "gone", "gone__create_entities"),
    ],
)
async def test_a_memory_that_fails_does_not_fail_the_run(crewai: Engines, answer: Any, memory: str, why: str) -> None:
    run = await ran_team(crewai, "crewai", a_team("sequential", ["reader"], memory=memory), Script("It is 5.", answer))
    assert (run.output["answer"], run.output["remembered"], run.output["turns"]) == ("It is 5.", None, {"reader": 1})
    [told] = run.told("log")
    assert told["level"] == "warning"
    assert told["message"].startswith(f"nothing was written to {memory}: ")
    assert why in told["message"]


async def test_a_gateway_that_is_lost_while_the_memory_is_written_loses_the_attempt(crewai: Engines) -> None:
    stale = JSONResponse({"error": {"message": "a newer attempt runs", "code": "stale_attempt"}}, 409)
    team = a_team("sequential", ["reader"], memory="memory")
    run = await ran_team(crewai, "crewai", team, Script("It is 5.", stale))
    assert (run.failure.type, run.failure.lost) == ("Lost", True)
