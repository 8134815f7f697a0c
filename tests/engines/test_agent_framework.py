"""The engine `agent_framework` in its own environment, against gateways on a real socket: what teams say, ask and call, exactly."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from starlette.responses import JSONResponse

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.runs.engines import Engines, Failure, Result
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.engines.conftest import EngineHost
from tests.engines.gateway import Gateway, running_gateway, said, wants
from tests.engines.running import Ran, collector
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
from tests.isolation.support import cloned_database
from tests.service import Service, connected, running_service, unique

pytestmark = pytest.mark.asyncio(loop_scope="session")
CONFIG = MCPConfig.model_validate(
    {"mcp_servers": {name: {"transport": "in_process", "timeout": 60} for name in ("toolbox", "memory")}}
)
ENGINE = "agent_framework"
WIKI = "deepwiki__ask_question"
ASKS = wants((WIKI, {"repoName": "auralink/core", "question": "How do I start?"}))


@pytest.fixture
def engines(engine_host: EngineHost) -> Engines:
    return engine_host(ENGINE)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """The service on a database of its own."""
    place = tmp_path_factory.mktemp("service")
    ring = KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with running_service(database.service, place, ring, config=CONFIG) as running:
            yield running


async def ran(engines: Engines, mode: str, members: Any, *answers: Any, **more: Any) -> Ran:
    """Runs a team whose model gives these answers in order."""
    given = {name: more.pop(name) for name in ("gateway_is", "additional_context") if name in more}
    return await ran_team(engines, ENGINE, a_team(mode, members, **more), Script(*answers), **given)


async def test_members_work_one_after_another_and_each_is_told_what_was_said_before(engines: Engines) -> None:
    run = await ran(
        engines, "sequential", ["reader", "writer"], "WebRTC is 1.0", "A summary", additional_context={"depth": "low"}
    )
    assert messages_of(run) == [("reader", "team", "WebRTC is 1.0"), ("writer", "team", "A summary")]
    assert [message["steps"] for message in run.told("message")] == [[1], [2]]
    assert run.output == {"answer": "A summary", "stopped": None, "sources": [], "turns": {"reader": 1, "writer": 1}}
    first, second = run.gateway.asked
    assert first["messages"] == [
        {"role": "system", "content": "You are Reader.\n\nYour goal: Do the work of the reader"},
        {"role": "user", "content": f"{TASK}\n\nContext:\n- depth: low\n\nToday is Sunday, 01 March 2026."},
    ]
    assert [message["content"] for message in second["messages"][2:]] == ["WebRTC is 1.0", "It is your turn, writer."]
    assert second["messages"][2]["name"] == "reader"
    assert run.gateway.tokens == {"Bearer the-run-token"}
    assert set(run.gateway.requests) == {"POST /v1/chat/completions"}, "nobody needs tools, and no session is opened"


async def test_members_speak_in_turn_until_one_says_that_the_task_is_done_and_none_is_left_out(engines: Engines) -> None:
    answers = ("one TERMINATE", "two", "three", "The end.\nTERMINATE")
    run = await ran(engines, "round_robin", ["anna", "ben"], *answers)
    assert messages_of(run)[-2:] == [("anna", "team", "three"), ("ben", "team", "The end.")]
    assert speakers_of(run) == ["anna", "ben", "anna", "ben"]
    assert (run.output["answer"], run.output["stopped"]) == ("The end.", None)
    history = [message["content"] for message in run.gateway.asked[3]["messages"][1:]]
    assert [text.split("\n")[0] for text in history] == [
        TASK, "one TERMINATE", "It is your turn, ben.", "two", "three", "It is your turn, ben.",
    ]  # fmt: skip


async def test_the_turns_of_a_team_are_its_limit_and_it_answers_with_what_it_had(engines: Engines) -> None:
    run = await ran(engines, "round_robin", ["anna", "ben"], "again", limits={"turns": 3})
    assert speakers_of(run) == ["anna", "ben", "anna"]
    assert run.output["answer"] == "again"
    assert run.output["stopped"] == {"limit": "turns", "message": "the team had its 3 messages"}


async def test_more_turns_than_the_framework_takes_for_a_workflow_are_no_matter(engines: Engines) -> None:
    run = await ran(engines, "round_robin", ["anna", "ben"], "again", limits={"turns": 52})
    assert run.output["turns"] == {"anna": 26, "ben": 26}
    assert run.output["stopped"]["limit"] == "turns"


async def test_a_task_is_handed_over_to_the_one_who_can_do_it(engines: Engines) -> None:
    team = [member("triage"), member("solver"), member("quality")]
    options = {"handoffs": {"triage": ["solver", "quality"], "solver": ["quality"]}}
    run = await ran(engines, "swarm", team, wants(("handoff_to_solver", {})), wants(("handoff_to_quality", {})), "It is well",
                    options=options)  # fmt: skip
    assert messages_of(run) == [("triage", "solver", ""), ("solver", "quality", ""), ("quality", "team", "It is well")]
    assert [message["kind"] for message in run.told("message")] == ["handoff", "handoff", "message"]
    assert run.output["handoffs"] == [{"from": "triage", "to": "solver"}, {"from": "solver", "to": "quality"}]
    assert [tools_of(body) for body in run.gateway.asked] == [
        ["handoff_to_solver", "handoff_to_quality"],
        ["handoff_to_quality"],
        [],
    ]
    assert run.gateway.asked[0]["tools"][0]["function"]["description"] == "Solver: Do the work of the solver"
    assert TASK in texts_of(run.gateway.asked[2])


async def test_a_task_that_is_only_handed_over_is_stopped(engines: Engines) -> None:
    def hand_over(body: Mapping[str, Any]) -> Mapping[str, Any]:
        return wants((tools_of(body)[0], {}))

    run = await ran_team(engines, ENGINE, a_team("swarm", ["anna", "ben"], limits={"turns": 4}), hand_over)
    assert speakers_of(run) == ["anna", "ben", "anna", "ben"]
    assert run.output["stopped"]["limit"] == "turns"


async def test_one_to_whom_a_task_comes_back_knows_what_was_said(engines: Engines) -> None:
    back, forth = wants(("handoff_to_anna", {})), wants(("handoff_to_ben", {}))
    run = await ran(engines, "swarm", ["anna", "ben"], forth, back, "Done")
    roles = [(message["role"], message.get("content")) for message in run.gateway.asked[2]["messages"]]
    assert [role for role, _ in roles] == ["system", "user", "assistant", "tool"]
    assert json.loads(str(roles[-1][1])) == {"handoff_to": "ben"}
    assert run.output["answer"] == "Done"


async def test_tools_reach_the_model_as_the_gateway_gives_them_and_their_answers_are_told(engines: Engines) -> None:
    run = await ran(engines, "sequential", [member("reader", tools=[WIKI, "odd__Nme"])], ASKS, "Type make run")
    function = {tool["function"]["name"]: tool["function"] for tool in run.gateway.asked[0]["tools"]}
    assert list(function) == [WIKI, "odd__Nme"]
    assert function["odd__Nme"]["description"] == "Adds."
    assert function["odd__Nme"]["parameters"]["properties"] == {
        "first": {"title": "First", "type": "integer"},
        "second": {"title": "Second", "type": "integer"},
    }
    assert run.gateway.called == [(WIKI, {"repoName": "auralink/core", "question": "How do I start?"})]
    told = run.gateway.asked[1]["messages"][-1]
    assert (told["role"], told["content"].split(" [")[1]) == ("tool", "README.md:3]")
    [message] = run.told("message")
    assert message["steps"] == [1, 2]
    [call] = message["tool_calls"]
    assert (call["tool"], call["failed"], call["arguments"]["repoName"]) == (WIKI, False, "auralink/core")
    [source] = run.output["sources"]
    assert (source["tool"], source["member"], source["file"], source["line"]) == (WIKI, "reader", "README.md", 3)


async def test_errors_of_tools_are_answers_and_no_end(engines: Engines) -> None:
    broken, unknown, wrong = wants(("broken__fail", {"why": "rain"})), wants(("no__such", {})), wants((WIKI, {"repoName": 7}))
    tools = ["broken__fail", WIKI]
    run = await ran(engines, "sequential", [member("reader", tools=tools)], broken, unknown, wrong, broken, broken, "So be it")
    answers = [body["messages"][-1]["content"] for body in run.gateway.asked[1:]]
    assert "it failed: rain" in answers[0]
    assert "no__such" in answers[1]
    assert "question" in answers[2]
    calls = run.told("message")[0]["tool_calls"]
    assert [call["failed"] for call in calls] == [True] * 5
    assert (run.output["answer"], run.output["stopped"]) == ("So be it", None)


async def test_one_who_calls_tools_for_ever_has_to_answer_with_what_there_is(engines: Engines) -> None:
    def loop(body: Mapping[str, Any]) -> Mapping[str, Any]:
        return said("enough") if body.get("tool_choice") == "none" else ASKS

    team = a_team("sequential", [member("reader", tools=[WIKI]), "writer"], limits={"member_turns": 3})
    run = await ran_team(engines, ENGINE, team, lambda body: loop(body) if "tools" in body else said("A summary"))
    assert len(run.gateway.called) == 2
    assert len(run.gateway.asked) == 4
    assert speakers_of(run) == ["reader", "writer"]
    assert run.output["answer"] == "A summary"
    assert run.output["stopped"] == {
        "limit": "member_turns",
        "message": "reader made 3 model calls for one message, as many as it may",
    }


async def test_limits_of_an_answer_and_the_member_s_own_model_reach_the_gateway(engines: Engines) -> None:
    limits = {"answer_tokens": 50, "temperature": 0.5, "member_turns": 1}
    run = await ran(engines, "sequential", [member("reader", model="small", tools=[WIKI])], "short", limits=limits)
    [body] = run.gateway.asked
    assert (body["model"], body["max_completion_tokens"], body["temperature"]) == ("small", 50, 0.5)
    assert "tools" not in body, "there would be no call left to answer with"


async def test_what_was_learned_is_written_to_the_user_s_memory_with_the_run_as_source(engines: Engines) -> None:
    run = await ran(engines, "sequential", ["reader"], "WebRTC is 1.0", '{"facts": ["WebRTC is 1.0"]}', memory="memory")
    [(name, facts)] = run.gateway.known.items()
    assert name == f"Team: {TASK}"
    assert facts[0] == "WebRTC is 1.0"
    assert facts[1].startswith("source: run ")
    assert run.gateway.asked[1]["response_format"]["type"] == "json_schema"
    assert (run.output["remembered"], run.output["turns"]) == (name, {"reader": 1})


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
async def test_a_memory_that_fails_does_not_fail_the_run(engines: Engines, answer: Any, memory: str, why: str) -> None:
    run = await ran(engines, "sequential", ["reader"], "It is 5.", answer, memory=memory)
    assert (run.output["answer"], run.output["remembered"], run.output["turns"]) == ("It is 5.", None, {"reader": 1})
    [told] = run.told("log")
    assert told["level"] == "warning"
    assert told["message"].startswith(f"nothing was written to {memory}: ")
    assert why in told["message"]


async def test_a_refusal_of_a_model_names_member_model_and_cause(engines: Engines) -> None:
    refusal = JSONResponse({"error": {"message": "it is closed", "code": "model_closed"}}, 400)
    run = await ran(engines, "sequential", ["reader", "writer"], "fine", refusal)
    assert (run.failure.type, run.failure.lost) == ("MemberFailed", False)
    assert run.failure.message == "writer could not ask model 'scripted': 400 model_closed it is closed"


async def test_a_tool_that_is_no_more_is_named_with_its_member(engines: Engines) -> None:
    run = await ran(engines, "swarm", ["anna", member("ben", tools=["gone__tool"])], "never said")
    assert run.failure.type == "MemberFailed"
    assert run.failure.message.startswith("ben has no tool 'gone__tool'")
    assert run.gateway.asked == []


@pytest.mark.parametrize("status", [409, 503])
async def test_an_attempt_that_is_not_the_current_one_is_lost(engines: Engines, status: int) -> None:
    run = await ran(engines, "round_robin", ["anna", "ben"], JSONResponse({"detail": "a newer attempt"}, status))
    assert (run.failure.type, run.failure.lost) == ("Lost", True)
    assert f"the model gateway answered {status}" in run.failure.message
    assert len(run.gateway.asked) == 1


async def test_an_mcp_gateway_that_refuses_the_attempt_loses_it_and_no_model_hears_of_it(engines: Engines) -> None:
    def refuse_later(gateway: Gateway) -> None:
        gateway.model = lambda _body: refuse(gateway)

    def refuse(gateway: Gateway) -> Mapping[str, Any]:
        gateway.refuse_mcp = 409
        return ASKS

    run = await ran(engines, "sequential", [member("reader", tools=[WIKI])], "unused", gateway_is=refuse_later)
    assert (run.failure.type, run.failure.lost) == ("Lost", True)
    assert len(run.gateway.asked) == 1


async def test_a_gateway_that_is_not_there_loses_the_attempt(engines: Engines) -> None:
    async with running_gateway(Script("unused")) as gateway:
        start = team_start(ENGINE, a_team("sequential", ["reader"]), gateway)
    outcome = await engines.execute(start, collector([]))
    assert isinstance(outcome, Failure)
    assert (outcome.type, outcome.lost) == ("Lost", True)


@pytest.mark.parametrize("mode", ["sequential", "round_robin", "swarm"])
async def test_another_attempt_asks_the_same(engines: Engines, mode: str) -> None:
    team = a_team(mode, [member("anna", tools=[WIKI]), member("ben", tools=[WIKI]), "zoe"])
    hand = (wants(("handoff_to_ben", {})),) if mode == "swarm" else ()
    first, second = await attempts_of(engines, ENGINE, team, lambda: Script(ASKS, *hand, "one", "two", "TERMINATE"))
    assert first == second


async def test_teams_beside_each_other_do_not_meet(engines: Engines) -> None:
    teams = [ran(engines, "sequential", [member("reader", tools=[WIKI])], ASKS, f"answer {n}") for n in range(3)]
    assert [run.output["answer"] for run in await asyncio.gather(*teams)] == ["answer 0", "answer 1", "answer 2"]


@pytest.mark.parametrize("mode", ["sequential", "round_robin", "swarm"])
async def test_a_team_does_real_work_with_the_offline_model_at_the_real_gateways(
    engines: Engines, service: Service, mode: str
) -> None:
    user = unique()
    about = {"model": "auralink/offline"}
    reckons = member("reckoner", tools=["toolbox__calculator"], **about)
    members = [member("triage", **about), reckons] if mode == "swarm" else [reckons, member("writer", **about)]
    team = a_team(mode, members, model="auralink/offline", memory="memory")
    async with service.client(user) as client, running_gateway(Script("unused")) as unused:
        for server in ("toolbox", "memory"):
            await connected(client, server)
        task = "Hand it to the reckoner: calculate 17 * 23" if mode == "swarm" else "Calculate 17 * 23"
        start = team_start(ENGINE, team, unused, task_description=task)
        start = replace(start, mcp_url=f"{service.url}/mcp", llm_url=f"{service.url}/v1", token=Secret(service.token(user)))
        told: list[dict[str, Any]] = []
        outcome = await engines.execute(start, collector(told))
    assert isinstance(outcome, Result), outcome
    messages = [event["data"] for event in told if event["type"] == "message"]
    assert [message["from"] for message in messages] == [given["name"] for given in members]
    [call] = [call for message in messages for call in message["tool_calls"]]
    assert (call["tool"], call["failed"]) == ("toolbox__calculator", False)
    assert "391" in outcome.output["answer"]
    assert outcome.output["stopped"] is None
