"""The engine `autogen` in its own environment, against gateways on a real socket."""

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import pytest_asyncio
from starlette.responses import JSONResponse

from auralink.runs.engines import Engines, Result
from tests.engines.conftest import EngineHost
from tests.engines.gateway import Model, running_gateway, said, wants
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
ADD = "odd__Nme"
THREE: list[str | Mapping[str, Any]] = ["alice", "bob", "carol"]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def host(engine_host: EngineHost) -> Engines:
    """The host with the engine `autogen`."""
    return engine_host("autogen")


def speaking(**answers: list[Any]) -> Model:
    """A model that knows whom it speaks for, by the name in the instructions: each has answers of its own, the last one for ever."""

    def answer(body: Mapping[str, Any]) -> Any:
        instructions = body["messages"][0]["content"]
        name = next(name for name in answers if f"Your name is {name}." in instructions or f"You are the {name}" in instructions)
        given = answers[name]
        now = given.pop(0) if len(given) > 1 else given[0]
        return said(now) if isinstance(now, str) else now

    return answer


async def test_members_speak_in_turn_until_one_says_that_the_task_is_done(host: Engines) -> None:
    script = Script("Found it.", "Weighed it.", "Read again.", "All in all: good.\n\nTERMINATE")
    run = await ran_team(host, "autogen", a_team("round_robin", ["reader", "writer"]), script)
    assert messages_of(run) == [
        ("reader", "team", "Found it."),
        ("writer", "team", "Weighed it."),
        ("reader", "team", "Read again."),
        ("writer", "team", "All in all: good."),
    ]
    assert [message["steps"] for message in run.told("message")] == [[1], [2], [3], [4]]
    assert run.output == {"answer": "All in all: good.", "stopped": None, "sources": [], "turns": {"reader": 2, "writer": 2}}


async def test_members_hear_the_task_each_other_and_who_they_are(host: Engines) -> None:
    members = [member("reader", instructions="Read twice.", model="openai/gpt-5.5"), member("writer", model="auto")]
    team = a_team("round_robin", members, description="They read and write.", limits={"temperature": 0.5, "answer_tokens": 99})
    run = await ran_team(
        host, "autogen", team, Script("Found it.", "TERMINATE"), additional_context={"focus_areas": ["security"]}
    )
    first, second = run.gateway.asked
    assert (first["model"], second["model"]) == ("openai/gpt-5.5", "auto")
    assert (first["temperature"], first["max_tokens"], first["stream"]) == (0.5, 99, False)
    for part in ("You are Reader.", "Do the work of the reader", "Read twice.", "They read and write.", "- writer: Writer."):
        assert part in first["messages"][0]["content"]
    assert TASK in texts_of(first)
    assert "focus areas: security" in texts_of(first)
    assert "Sunday, 01 March 2026" in texts_of(first)
    assert second["messages"][-1]["content"] == "reader said:\nFound it."
    assert run.gateway.tokens == {"Bearer the-run-token"}
    assert run.gateway.requests == ["POST /v1/chat/completions"] * 2
    assert run.output["answer"] == "Found it."


async def test_a_team_that_never_ends_is_stopped_by_its_turns_with_what_it_had(host: Engines) -> None:
    team = a_team("round_robin", ["reader", "writer"], limits={"turns": 3})
    run = await ran_team(host, "autogen", team, Script("One.", "Two.", "Three.", "Four."))
    assert run.output["answer"] == "Three."
    assert run.output["stopped"]["limit"] == "turns"
    assert len(run.gateway.asked) == 3


async def test_the_selector_decides_who_speaks(host: Engines) -> None:
    chosen = iter(["writer", "reader", "writer"])

    def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
        if body["model"] == "selecting":
            return said(next(chosen))
        return said("It is done. TERMINATE" if "Two more." in texts_of(body) else "Two more.")

    run = await ran_team(host, "autogen", a_team("selector", ["reader", "editor", "writer"], model="selecting"), model)
    assert run.output["speakers"] == ["writer", "reader"]
    assert run.output["answer"] == "It is done."
    assert messages_of(run) == [
        ("selector", "writer", "writer"),
        ("writer", "team", "Two more."),
        ("selector", "reader", "reader"),
        ("reader", "team", "It is done."),
    ]
    assert [message["steps"] for message in run.told("message")] == [[1], [2], [3], [4]]
    assert "['reader', 'editor', 'writer']" in texts_of(run.gateway.asked[0])


async def test_a_swarm_hands_over_until_somebody_answers(host: Engines) -> None:
    model = speaking(
        triage=[wants(("transfer_to_solver", {"reason": "it is yours"}))],
        solver=[wants((ADD, {"first": 2, "second": 3})), wants(("transfer_to_quality", {}))],
        quality=["It is 5."],
    )
    options = {"handoffs": {"triage": ["solver"], "solver": ["quality", "triage"]}}
    team = a_team("swarm", ["triage", member("solver", tools=[ADD]), "quality"], options=options)
    run = await ran_team(host, "autogen", team, model)
    assert run.output["handoffs"] == [{"from": "triage", "to": "solver"}, {"from": "solver", "to": "quality"}]
    assert (run.output["answer"], run.output["stopped"]) == ("It is 5.", None)
    assert [tools_of(body) for body in run.gateway.asked] == [
        ["transfer_to_solver"],
        [ADD, "transfer_to_quality", "transfer_to_triage"],
        [ADD, "transfer_to_quality", "transfer_to_triage"],
        [],
    ]
    first, second, last = run.told("message")
    assert (first["kind"], first["to"], first["tool_calls"]) == ("handoff", "solver", [])
    assert (second["kind"], second["to"], second["steps"]) == ("handoff", "quality", [2, 3])
    assert [call["answer"] for call in second["tool_calls"]] == ["5"]
    assert (last["kind"], last["to"]) == ("message", "team")


async def test_a_debate_has_sides_rounds_and_a_judge_that_says_who_won_and_why(host: Engines) -> None:
    verdict = json.dumps({"winner": "tabs", "why": "They are one key.", "answer": "Use tabs."})
    model = speaking(alice=["Tabs.", "Tabs again."], bob=["Spaces.", "Spaces again."], judge=["no JSON", verdict])
    team = a_team("debate", ["alice", "bob"], options={"sides": ["tabs", "spaces"], "rounds": 2})
    run = await ran_team(host, "autogen", team, model)
    assert speakers_of(run) == ["alice", "bob", "alice", "bob", "judge"]
    assert run.output["answer"] == "Use tabs."
    assert (run.output["winner"], run.output["why"]) == ("tabs", "They are one key.")
    assert run.output["positions"] == [
        {"side": "tabs", "member": "alice", "argument": "Tabs again."},
        {"side": "spaces", "member": "bob", "argument": "Spaces again."},
    ]
    judged = run.told("message")[-1]
    assert (judged["kind"], judged["steps"]) == ("judgement", [5, 6])
    assert "You speak for the side: spaces." in texts_of(run.gateway.asked[1])
    assert "bob said:\nSpaces again." in texts_of(run.gateway.asked[4])
    assert run.gateway.asked[4]["response_format"]["json_schema"]["schema"]["properties"]["winner"]["enum"] == ["tabs", "spaces"]


async def test_a_brainstorm_has_ideas_apart_groups_and_ranks_them(host: Engines) -> None:
    groups = json.dumps({"groups": [{"name": "Water", "ideas": [1, 3]}, {"name": "Air", "ideas": [3]}]})
    ranking = json.dumps({"ranking": [{"idea": 3, "why": "cheap"}, {"idea": 1, "why": "nice"}], "answer": "Build a boat."})
    model = speaking(alice=["- A raft\n- a kite", "- A boat"], bob=["1. A Kite", "nothing else"], moderator=[groups, ranking])
    run = await ran_team(host, "autogen", a_team("brainstorm", ["alice", "bob"], options={"rounds": 2}), model)
    assert [idea["idea"] for idea in run.output["ideas"]] == ["A raft", "a kite", "A boat", "nothing else"]
    assert run.output["groups"] == [
        {"name": "Water", "ideas": ["A raft", "A boat"]},
        {"name": "others", "ideas": ["a kite", "nothing else"]},
    ]
    assert [(place["idea"], place["why"]) for place in run.output["ranking"]] == [
        ("A boat", "cheap"),
        ("A raft", "nice"),
        ("a kite", "not ranked"),
        ("nothing else", "not ranked"),
    ]
    assert run.output["answer"] == "Build a boat."
    assert [(message["from"], message["kind"]) for message in run.told("message")] == [
        ("alice", "idea"),
        ("bob", "idea"),
        ("alice", "idea"),
        ("bob", "idea"),
        ("moderator", "summary"),
        ("moderator", "judgement"),
    ]
    assert all("raft" not in texts_of(body) for body in run.gateway.asked[:2])
    assert all("1. A raft" in texts_of(body) for body in run.gateway.asked[2:])


async def test_a_problem_is_planned_worked_on_and_criticised_until_it_is_solved(host: Engines) -> None:
    plan = {"steps": [{"member": "bob", "task": "measure"}, {"member": "alice", "task": "cut"}]}
    again = {"solved": False, "critique": "Too short.", "answer": "", "steps": [{"member": "bob", "task": "measure again"}]}
    solved = {"solved": True, "critique": "It fits.", "answer": "It is 3 m.", "steps": []}
    model = speaking(
        alice=["Cut."],
        bob=["2 m.", "3 m."],
        **{"one who plans": [json.dumps(plan)], "one who criticises": [json.dumps(again), json.dumps(solved)]},
    )
    run = await ran_team(host, "autogen", a_team("problem_solving", ["alice", "bob"]), model)
    assert speakers_of(run) == ["planner", "bob", "alice", "critic", "bob", "critic"]
    assert [message["kind"] for message in run.told("message")] == [
        "plan",
        "message",
        "message",
        "critique",
        "message",
        "critique",
    ]
    assert (run.output["answer"], run.output["converged"], run.output["stopped"]) == ("It is 3 m.", True, None)
    assert run.output["plan"] == plan["steps"]
    assert [(each["critique"], each["solved"]) for each in run.output["iterations"]] == [
        ("Too short.", False),
        ("It fits.", True),
    ]
    assert "Too short." in texts_of(run.gateway.asked[4])
    assert "measure again" in texts_of(run.gateway.asked[4])


async def test_a_problem_that_is_not_solved_ends_with_its_rounds(host: Engines) -> None:
    plan = json.dumps({"steps": [{"member": "alice", "task": "try"}]})
    never = json.dumps({"solved": False, "critique": "No.", "answer": "", "steps": []})
    model = speaking(alice=["Tried."], **{"one who plans": [plan], "one who criticises": [never]})
    run = await ran_team(host, "autogen", a_team("problem_solving", ["alice"], options={"rounds": 2}), model)
    assert (run.output["answer"], run.output["converged"]) == ("Tried.", False)
    assert run.output["stopped"]["limit"] == "rounds"
    assert len(run.output["iterations"]) == 2


async def test_tools_reach_the_model_with_their_own_names_texts_and_schemas(host: Engines) -> None:
    names = ["deepwiki__search_docs", "memory__create_entities", "auralink__ask_approval", ADD]
    team = a_team("round_robin", [member("reader", tools=names)])
    async with running_gateway(Script("TERMINATE")) as gateway:
        listed = {tool.name: tool for tool in await gateway.tools().list_tools()}
        await host.execute(team_start("autogen", team, gateway), collector([]))
    shown = {tool["function"]["name"]: tool["function"] for tool in gateway.asked[0]["tools"]}
    assert shown.keys() == set(names)
    for name, tool in shown.items():
        assert tool["parameters"] == listed[name].input_schema
        assert tool["description"] == (listed[name].description or "")
    assert gateway.requests == ["POST /mcp"] * 3 + ["POST /v1/chat/completions"]


async def test_errors_of_tools_are_shown_to_the_model_and_answers_that_name_places_are_sources(host: Engines) -> None:
    asks = {"repoName": "a/b", "question": "how?"}
    model = Script(
        wants(("broken__fail", {"why": "bad luck"}), ("nonesuch", {}), (ADD, {"first": "x", "second": 1})),
        wants(("deepwiki__ask_question", asks)),
        "Type make run. TERMINATE",
    )
    team = a_team("round_robin", [member("reader", tools=["broken__fail", ADD, "deepwiki__ask_question"])])
    run = await ran_team(host, "autogen", team, model)
    answers = [message["content"] for message in run.gateway.asked[1]["messages"] if message["role"] == "tool"]
    assert "it failed: bad luck" in answers[0]
    assert "nonesuch" in answers[1]
    assert "first" in answers[2]
    (told,) = run.told("message")
    assert [(call["tool"], call["failed"]) for call in told["tool_calls"]] == [
        ("broken__fail", True),
        ("nonesuch", True),
        (ADD, True),
        ("deepwiki__ask_question", False),
    ]
    assert told["tool_calls"][3]["arguments"] == asks
    assert told["steps"] == [1, 2, 3]
    assert [(source["file"], source["line"], source["member"]) for source in run.output["sources"]] == [
        ("README.md", 3, "reader")
    ]
    assert "To start the service" in run.gateway.asked[2]["messages"][-1]["content"]


async def test_what_a_model_gives_as_arguments_never_stops_a_run(host: Engines) -> None:
    def odd(arguments: str, name: str = ADD) -> dict[str, Any]:
        answer = wants((name, {}))
        answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = arguments
        return answer

    model = Script(odd("{broken"), odd("[1]"), odd(""), odd("[]", "transfer_to_writer"), "Done.")
    run = await ran_team(host, "autogen", a_team("swarm", [member("reader", tools=[ADD]), "writer"]), model)
    assert run.output["answer"] == "Done."
    assert [call["failed"] for call in run.told("message")[0]["tool_calls"]] == [True, True, True]
    assert [call for call in run.gateway.called if call[0] == ADD] == [(ADD, {})]


async def test_a_member_that_loops_has_to_answer_after_its_calls(host: Engines) -> None:
    def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
        return wants((ADD, {"first": 1, "second": 1}))

    team = a_team("round_robin", [member("reader", tools=[ADD])], limits={"member_turns": 3, "turns": 2})
    run = await ran_team(host, "autogen", team, model)
    assert len(run.gateway.asked) == 6
    assert [len(body.get("tools", ())) for body in run.gateway.asked] == [1, 1, 0, 1, 1, 0]
    assert run.output["stopped"]["limit"] == "turns"
    team = a_team("swarm", [member("reader", tools=[ADD])], limits={"member_turns": 3})
    run = await ran_team(host, "autogen", team, model)
    assert len(run.gateway.asked) == 3
    assert run.output["stopped"]["limit"] == "member_turns"
    assert "reader used up the 3 model calls" in run.output["stopped"]["message"]


async def test_a_model_s_error_names_the_member_the_model_and_the_cause(host: Engines) -> None:
    def model(body: Mapping[str, Any]) -> Any:
        problem = {"error": {"message": "no such model: m9", "code": "model_not_found"}}
        return JSONResponse(problem, 404) if body["model"] == "m9" else said("Fine.")

    team = a_team("round_robin", ["reader", member("writer", model="m9")])
    run = await ran_team(host, "autogen", team, model)
    assert (run.failure.type, run.failure.lost) == ("MemberFailed", False)
    assert run.failure.message == "member 'writer': model 'm9': 404 model_not_found no such model: m9"
    assert len(run.gateway.asked) == 2


async def test_a_debate_with_too_few_members_says_so(host: Engines) -> None:
    run = await ran_team(host, "autogen", a_team("debate", ["alice"]), Script("x"))
    assert run.failure.type == "MemberFailed"
    assert "2 sides (for, against)" in run.failure.message


@pytest.mark.parametrize("mode", ["round_robin", "selector", "debate", "brainstorm", "problem_solving"])
async def test_a_gateway_that_has_a_newer_attempt_ends_this_one_in_every_mode(host: Engines, mode: str) -> None:
    def model(_body: Mapping[str, Any]) -> Any:
        return JSONResponse({"error": {"message": "a newer attempt runs", "code": "stale_attempt"}}, 409)

    run = await ran_team(host, "autogen", a_team(mode, THREE), model)
    assert run.failure.lost
    assert "409" in run.failure.message


async def test_an_mcp_gateway_that_refuses_the_attempt_loses_it(host: Engines) -> None:
    def refuse(gateway: Any) -> None:
        gateway.refuse_mcp = 409

    team = a_team("round_robin", [member("reader", tools=[ADD])])
    run = await ran_team(host, "autogen", team, Script("x"), gateway_is=refuse)
    assert run.failure.lost
    assert "MCP gateway answered 409" in run.failure.message


async def test_a_tool_call_on_which_the_gateway_goes_away_loses_the_attempt(host: Engines) -> None:
    gateways: list[Any] = []

    def model(_body: Mapping[str, Any]) -> Mapping[str, Any]:
        gateways[0].refuse_mcp = 503
        return wants((ADD, {"first": 1, "second": 2}))

    team = a_team("round_robin", [member("reader", tools=[ADD])])
    run = await ran_team(host, "autogen", team, model, gateway_is=gateways.append)
    assert run.failure.lost
    assert len(run.gateway.asked) == 1


async def test_what_a_team_learns_is_written_to_the_memory_with_the_run_as_source(host: Engines) -> None:
    facts = json.dumps({"facts": ["WebRTC is a standard of the W3C."]})
    model = speaking(reader=["WebRTC is a standard. TERMINATE"], **{"one who keeps": [facts]})
    run = await ran_team(host, "autogen", a_team("round_robin", ["reader"], memory="memory"), model)
    ((name, known),) = run.gateway.known.items()
    assert name == f"Team: {TASK}"
    assert known[0] == "WebRTC is a standard of the W3C."
    assert known[1].startswith("source: run ")
    assert run.output["remembered"] == name
    assert run.output["sources"] == []
    assert [tool for tool, _ in run.gateway.called] == ["memory__create_entities", "memory__add_observations"]
    assert speakers_of(run) == ["reader"], "what is written to the memory is no turn of the team"
    assert run.output["turns"] == {"reader": 1}


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
async def test_a_memory_that_fails_does_not_fail_the_run(host: Engines, answer: Any, memory: str, why: str) -> None:
    model = Script("It is 5. TERMINATE", answer)
    run = await ran_team(host, "autogen", a_team("round_robin", ["reader"], memory=memory), model)
    assert (run.output["answer"], run.output["remembered"], run.output["turns"]) == ("It is 5.", None, {"reader": 1})
    [told] = run.told("log")
    assert told["level"] == "warning"
    assert told["message"].startswith(f"nothing was written to {memory}: ")
    assert why in told["message"]


async def test_what_a_mode_came_to_is_not_lost_while_the_memory_takes_too_long(host: Engines) -> None:
    let_go = threading.Event()
    verdict = json.dumps({"winner": "for", "why": "It is.", "answer": "Yes."})

    def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
        if "worth remembering" in texts_of(body):
            let_go.wait(20)
        return said(verdict)

    team = a_team("debate", ["alice", "bob"], options={"rounds": 1}, limits={"seconds": 2}, memory="memory")
    async with running_gateway(model) as gateway:
        outcome = await host.execute(team_start("autogen", team, gateway), collector([]))
        let_go.set()
    assert isinstance(outcome, Result)
    assert (outcome.output["answer"], outcome.output["winner"], outcome.output["remembered"]) == ("Yes.", "for", None)
    assert outcome.output["stopped"]["limit"] == "seconds"


@pytest.mark.parametrize("mode", ["round_robin", "selector", "swarm", "brainstorm"])
async def test_every_attempt_asks_the_same_byte_for_byte(host: Engines, mode: str) -> None:
    def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
        if "response_format" in body:
            return said(json.dumps({"groups": [], "ranking": [], "answer": "x"}))
        if "Only return the role" in texts_of(body):
            return said("alice")
        if ADD in tools_of(body) and body["messages"][-1]["role"] == "user":
            return wants((ADD, {"first": 1, "second": 2}))
        return said(f"- idea {len(texts_of(body))}")

    team = a_team(mode, [member("alice", tools=[ADD]), "bob", "carol"], limits={"turns": 4}, options={"rounds": 1})
    first, second = await attempts_of(host, "autogen", team, lambda: model)
    if mode == "brainstorm":  # its first ideas are asked for side by side
        first, second = (json.dumps(sorted(json.loads(text)[0], key=json.dumps)) for text in (first, second))
    assert first == second
    assert ADD in first or mode == "brainstorm"


async def test_a_run_that_takes_too_long_ends_with_what_it_has(host: Engines) -> None:
    let_go = threading.Event()

    def model(body: Mapping[str, Any]) -> Any:
        if "First." in texts_of(body):
            let_go.wait(20)
        return said("First.")

    team = a_team("round_robin", ["alice", "bob"], limits={"seconds": 1.5})
    async with running_gateway(model) as gateway:
        outcome = await host.execute(team_start("autogen", team, gateway), collector([]))
        let_go.set()
    assert isinstance(outcome, Result)
    assert (outcome.output["answer"], outcome.output["stopped"]["limit"]) == ("First.", "seconds")


@pytest.mark.parametrize("mode", ["round_robin", "selector", "brainstorm"])
async def test_a_cancelled_team_lets_go_in_the_middle_of_a_call(host: Engines, mode: str) -> None:
    over = threading.Event()

    def held(_body: Mapping[str, Any]) -> Mapping[str, Any]:
        over.wait(20)
        return said("late")

    async with running_gateway(held) as gateway:
        running = asyncio.create_task(host.execute(team_start("autogen", a_team(mode, THREE), gateway), collector([])))
        await asyncio.wait_for(gateway.first_call.wait(), 10)
        running.cancel()
        _, unfinished = await asyncio.wait({running}, timeout=4)  # a run that ignores it is killed after five
        over.set()
        assert not unfinished
        assert running.cancelled()
