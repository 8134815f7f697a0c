"""The engine `langgraph` in its own environment, against gateways on a real socket."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from starlette.responses import JSONResponse

from auralink.runs.engines import Engines, Failure, Result
from tests.engines.gateway import running_gateway, said, wants
from tests.engines.running import ACCEPTED, a_start, collector, graph, ran

pytestmark = pytest.mark.asyncio(loop_scope="session")


def echo(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return said(f"echo: {body['messages'][-1]['content']}")


async def test_a_model_is_asked_with_the_prompt_filled_in_and_the_run_s_token_alone(engines: Engines) -> None:
    node = {
        "type": "llm",
        "instructions": "It is {{ now }}.",
        "prompt": "Q: {{ question }}",
        "model": "openai/gpt",
        "into": "answer",
    }
    run = await ran(engines, graph({"ask": node}, ("ask", "end")), echo, question="why?")
    assert run.output == {"answer": "echo: Q: why?"}
    asked = run.gateway.asked[0]
    assert asked["messages"] == [
        {"role": "system", "content": f"It is {ACCEPTED.isoformat()}."},
        {"role": "user", "content": "Q: why?"},
    ]
    assert asked["model"] == "openai/gpt"
    assert run.gateway.tokens == {"Bearer the-run-token"}
    assert run.gateway.requests == ["POST /v1/chat/completions"]


async def test_every_node_tells_its_beginning_its_end_and_what_it_changed(engines: Engines) -> None:
    nodes = {
        "first": {"type": "set", "values": {"a": "{{ question }}"}},
        "second": {"type": "llm", "prompt": "{{ a }}", "into": "b"},
    }
    run = await ran(engines, graph(nodes, ("first", "second"), ("second", "end")), echo, question="x")
    kinds = [(event["type"], event["data"]["node"]) for event in run.events]
    one = ["node.started", "node.finished", "state"]
    assert kinds == [
        *((kind, "first") for kind in one),
        ("node.started", "second"),
        ("message", "second"),
        ("node.finished", "second"),
        ("state", "second"),
    ]
    assert run.told("state") == [{"node": "first", "update": {"a": "x"}}, {"node": "second", "update": {"b": "echo: x"}}]


async def test_an_agent_uses_tools_until_it_has_an_answer(engines: Engines) -> None:
    def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
        if body["messages"][-1]["role"] == "user":
            return wants(("odd__Nme", {"first": 2, "second": 3}), ("deepwiki__search_docs", {"repoName": "a/b", "query": "x"}))
        return said(f"it is {body['messages'][-2]['content'][0]['text']}")

    node = {"type": "agent", "prompt": "{{ question }}", "tools": ["odd__*", "deepwiki__search_docs"], "into": "answer"}
    run = await ran(engines, graph({"work": node}, ("work", "end")), model, question="2+3?")
    assert run.output == {"answer": "it is 5"}
    assert [name for name, _ in run.gateway.called] == ["odd__Nme", "deepwiki__search_docs"]
    names = [tool["function"]["name"] for tool in run.gateway.asked[0]["tools"]]
    assert names == ["deepwiki__search_docs", "odd__Nme"]
    roles = [message["role"] for message in run.gateway.asked[1]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool"]


async def test_tools_reach_the_model_with_their_own_names_texts_and_schemas(engines: Engines) -> None:
    node = {"type": "agent", "prompt": "?", "tools": ["*"], "into": "answer"}
    async with running_gateway(echo) as gateway:
        listed = {tool.name: tool for tool in await gateway.tools().list_tools()}
        await engines.execute(a_start(graph({"work": node}, ("work", "end")), gateway, {}), collector([]))
    shown = {tool["function"]["name"]: tool["function"] for tool in gateway.asked[0]["tools"]}
    assert shown.keys() == listed.keys()
    for name, tool in listed.items():
        assert shown[name]["parameters"] == tool.input_schema
        assert shown[name]["description"] == (tool.description or "")


async def test_a_session_is_opened_once_and_only_when_tools_are_needed(engines: Engines) -> None:
    node = {"type": "tool", "tool": "odd__Nme", "arguments": {"first": 1, "second": "{{ length(items) }}"}, "into": "sum"}
    nodes = {"one": node, "two": node}
    run = await ran(engines, graph(nodes, ("one", "two"), ("two", "end")), echo, items=[1, 2])
    assert run.gateway.requests == ["POST /mcp"] * 5  # initialize, initialized, tools/list, two calls
    assert run.output["sum"] in ("3", {"result": "3"})


async def test_an_error_of_a_tool_is_shown_to_the_agent_and_fails_a_tool_node(engines: Engines) -> None:
    def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
        if body["messages"][-1]["role"] == "user":
            return wants(("broken__fail", {"why": "bad luck"}), ("nonesuch", {}))
        return said(json.dumps([message["content"] for message in body["messages"] if message["role"] == "tool"]))

    agent = {"type": "agent", "prompt": "go", "tools": ["broken__*"], "into": "answer"}
    run = await ran(engines, graph({"work": agent}, ("work", "end")), model)
    assert "it failed: bad luck" in run.output["answer"]
    assert "there is no tool 'nonesuch'" in run.output["answer"]

    tool = {"type": "tool", "tool": "broken__fail", "arguments": {"why": "no luck"}, "into": "x"}
    run = await ran(engines, graph({"try": tool}, ("try", "end")), echo)
    assert (run.failure.type, run.failure.lost) == ("NodeFailed", False)
    assert "node 'try' (tool): tool 'broken__fail'" in run.failure.message
    assert "it failed: no luck" in run.failure.message
    run = await ran(engines, graph({"try": tool | {"on_error": "continue"}}, ("try", "end")), echo)
    assert "it failed" in run.output["x"]["error"]


async def test_an_agent_that_never_stops_calling_tools_has_to_answer_after_its_turns(engines: Engines) -> None:
    def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
        return wants(("odd__Nme", {"first": 1, "second": 1})) if "tools" in body else said("enough")

    node = {"type": "agent", "prompt": "loop", "tools": ["odd__Nme"], "max_turns": 3, "into": "answer"}
    run = await ran(engines, graph({"work": node}, ("work", "end")), model)
    assert run.output == {"answer": "enough"}
    assert len(run.gateway.called) == 3


async def test_a_schema_makes_the_answer_data_and_a_wrong_answer_is_asked_again_once(engines: Engines) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
        assert body["response_format"]["json_schema"]["schema"] == schema
        return said('```json\n{"n": 4}\n```') if len(body["messages"]) > 1 else said('{"n": "four"}')

    node = {"type": "llm", "prompt": "?", "schema": schema, "into": "data"}
    assert (await ran(engines, graph({"ask": node}, ("ask", "end")), model)).output == {"data": {"n": 4}}
    run = await ran(engines, graph({"ask": node}, ("ask", "end")), lambda _: said("no JSON"))
    assert "does not fit the schema" in run.failure.message
    assert len(run.gateway.asked) == 2


async def test_a_map_keeps_the_order_of_its_items_and_its_width(engines: Engines) -> None:
    def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
        number = int(body["messages"][-1]["content"].split()[0])
        time.sleep(0.02 * (6 - number))
        return said(f"#{number}")

    each = {"type": "llm", "prompt": "{{ one }} at {{ index }}"}
    node = {"type": "map", "over": "items", "item": "one", "width": 2, "each": each, "into": "all"}
    run = await ran(engines, graph({"spread": node}, ("spread", "end")), model, items=[1, 2, 3, 4, 5])
    assert run.output == {"all": ["#1", "#2", "#3", "#4", "#5"]}
    assert run.gateway.most_at_once == 2


async def test_a_branch_takes_the_first_case_that_is_true_and_leaves_its_cycle_in_the_end(engines: Engines) -> None:
    nodes = {
        "add": {"type": "set", "values": {"seen": ["{{ question }}"]}},
        "again": {"type": "branch", "cases": [{"when": "length(seen) < `9`", "to": "add"}], "otherwise": "end", "max_visits": 3},
    }
    definition = graph(nodes, ("add", "again"), state={"seen": {"default": [], "merge": "append"}})
    run = await ran(engines, definition, echo, question="x")
    assert run.output == {"seen": ["x"] * 4}
    assert [told["goes_to"] for told in run.told("state") if "goes_to" in told] == ["add", "add", "add", "end"]


async def test_ways_that_part_run_side_by_side_and_meet_again(engines: Engines) -> None:
    nodes = {
        "begin": {"type": "set", "values": {"x": "1"}},
        "left": {"type": "llm", "prompt": "left", "into": "a"},
        "right": {"type": "llm", "prompt": "right", "into": "b"},
        "join": {"type": "set", "values": {"both": "{{ a }}+{{ b }}"}},
    }
    ways = (("begin", "left"), ("begin", "right"), (["left", "right"], "join"), ("join", "end"))
    run = await ran(engines, graph(nodes, *ways, output={"both": "{{ both }}"}), echo)
    assert run.output == {"both": "echo: left+echo: right"}


async def test_memory_is_recalled_and_added_to(engines: Engines) -> None:
    remember = {"type": "memory", "operation": "remember", "entity": "Anna", "entity_type": "person"}
    nodes = {
        "write": remember | {"observations": ["likes {{ question }}"], "into": "first"},
        "more": remember | {"observations": "{{ items }}", "into": "second"},
        "look": {"type": "memory", "operation": "recall", "query": "{{ question }}", "into": "found"},
        "open": {"type": "memory", "operation": "recall", "names": ["Anna", "Bob"], "into": "opened"},
    }
    ways = (("write", "more"), ("more", "look"), ("look", "open"), ("open", "end"))
    run = await ran(engines, graph(nodes, *ways), echo, question="tea", items=["likes tea", "is tall"])
    assert run.output["first"] == {"entity": "Anna", "added": ["likes tea"]}
    assert run.output["second"] == {"entity": "Anna", "added": ["is tall"]}
    assert run.output["found"]["entities"][0]["observations"] == ["likes tea", "is tall"]
    assert run.output["opened"] == run.output["found"]


async def test_a_person_is_asked_and_another_run_is_started_through_the_internal_server(engines: Engines) -> None:
    nodes = {
        "ask": {"type": "approval", "question": "May I {{ question }}?", "details": {"why": "{{ items }}"}, "into": "said"},
        "ok": {"type": "branch", "cases": [{"when": "said.decision == 'approve'", "to": "go"}], "otherwise": "end"},
        "go": {"type": "subworkflow", "name": "other", "input": {"what": "{{ question }}"}, "into": "other"},
    }
    run = await ran(engines, graph(nodes, ("ask", "ok"), ("go", "end")), echo, question="go", items=[1])
    assert run.gateway.approvals == [{"question": "May I go?", "details": {"why": [1]}}]
    assert run.output["other"] == {"ran": "other", "with": {"what": "go"}}


async def test_a_long_text_is_cut_where_paragraphs_end(engines: Engines) -> None:
    text = "\n\n".join(f"Paragraph {n}. " + "word " * 30 for n in range(10))
    node = {"type": "split", "text": "{{ question }}", "max_chars": 400, "into": "pieces"}
    run = await ran(engines, graph({"cut": node}, ("cut", "end")), echo, question=text)
    pieces = run.output["pieces"]
    assert all(len(piece) <= 400 and piece.startswith("Paragraph") for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


async def test_words_are_told_as_they_come_when_the_node_streams(engines: Engines) -> None:
    node = {"type": "llm", "prompt": "a b c", "stream": True, "into": "answer"}
    run = await ran(engines, graph({"ask": node}, ("ask", "end")), echo)
    assert "".join(told["text"] for told in run.told("token")) == run.output["answer"] == "echo: a b c"


async def test_what_was_said_before_stands_between_instructions_and_prompt(engines: Engines) -> None:
    node = {"type": "llm", "instructions": "Be kind.", "history": "items", "prompt": "{{ question }}", "into": "answer"}
    before = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    run = await ran(engines, graph({"ask": node}, ("ask", "end")), echo, question="bye", items=before)
    assert [message["content"] for message in run.gateway.asked[0]["messages"]] == ["Be kind.", "hi", "hello", "bye"]


@pytest.mark.parametrize(
    ("limits", "expected"), [({"tokens": 15}, "used 20 tokens; its limit is 15"), ({"steps": 3}, "more than its 3 steps")]
)
async def test_limits_end_a_run(engines: Engines, limits: dict[str, int], expected: str) -> None:
    nodes = {
        "ask": {"type": "llm", "prompt": "?", "into": "a"},
        "again": {"type": "branch", "cases": [{"when": "a", "to": "ask"}], "otherwise": "end", "max_visits": 50},
    }
    run = await ran(engines, graph(nodes, ("ask", "again"), limits=limits), echo)
    assert run.failure.type == "LimitReached"
    assert expected in run.failure.message


async def test_a_model_gateway_that_refuses_fails_the_run_in_its_words_and_is_asked_once(engines: Engines) -> None:
    error = {"error": {"message": "the budget of this run is used up", "code": "budget_exceeded"}}
    node = {"type": "llm", "prompt": "?", "model": "m", "into": "a"}
    run = await ran(engines, graph({"ask": node}, ("ask", "end")), lambda _: JSONResponse(error, 402))
    assert "node 'ask' (llm): model 'm': 402 budget_exceeded the budget of this run is used up" in run.failure.message
    assert not run.failure.lost
    assert len(run.gateway.asked) == 1


async def test_an_attempt_that_is_stale_or_has_lost_its_gateway_is_lost_and_not_failed(engines: Engines) -> None:
    ask = {"type": "llm", "prompt": "?", "into": "a"}
    stale = {"error": {"message": "a newer attempt runs", "code": "stale_attempt"}}
    run = await ran(engines, graph({"ask": ask}, ("ask", "end")), lambda _: JSONResponse(stale, 409))
    assert run.failure.lost

    tool = {"type": "tool", "tool": "odd__Nme", "on_error": "continue", "arguments": {}, "into": "a"}
    refused = {"gateway_is": lambda gateway: setattr(gateway, "refuse_mcp", 409)}
    run = await ran(engines, graph({"call": tool}, ("call", "end")), echo, **refused)
    assert run.failure.lost
    assert "409" in run.failure.message

    async with running_gateway(echo) as gateway:
        pass
    for node in (ask, tool):
        outcome = await engines.execute(a_start(graph({"do": node}, ("do", "end")), gateway, {}), collector([]))
        assert isinstance(outcome, Failure)
        assert outcome.lost, outcome


async def test_a_token_that_is_not_taken_fails_the_run(engines: Engines) -> None:
    tool = {"type": "tool", "tool": "odd__Nme", "arguments": {}, "into": "a"}
    refused = {"gateway_is": lambda gateway: setattr(gateway, "refuse_mcp", 401)}
    run = await ran(engines, graph({"call": tool}, ("call", "end")), echo, **refused)
    assert (run.failure.type, run.failure.lost) == ("GatewayRefused", False)


async def test_two_attempts_ask_the_same_questions_byte_for_byte(engines: Engines) -> None:
    def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
        if body["messages"][-1]["role"] == "user" and "tools" in body:
            return wants(("odd__Nme", {"second": 2, "first": 1}), ("deepwiki__search_docs", {"query": "q", "repoName": "r"}))
        return said("done")

    agent = {"type": "agent", "prompt": "at {{ now }} in {{ run_id }}", "tools": ["*"], "into": "a"}
    each = {"type": "llm", "prompt": "{{ item }}"}
    nodes = {"work": agent, "spread": {"type": "map", "over": "items", "width": 1, "each": each, "into": "b"}}
    definition, run_id = graph(nodes, ("work", "spread"), ("spread", "end")), uuid4()
    async with running_gateway(model) as gateway:
        attempts = []
        for _ in range(2):
            gateway.asked, gateway.called = [], []
            await engines.execute(a_start(definition, gateway, {"items": [1, 2, 3]}, run_id), collector([]))
            attempts.append((json.dumps(gateway.asked), json.dumps(gateway.called)))
    assert attempts[0] == attempts[1]


async def test_many_runs_at_once_each_have_their_own_answers(engines: Engines) -> None:
    node = {"type": "llm", "prompt": "{{ question }}", "into": "answer"}
    definition = graph({"ask": node}, ("ask", "end"))
    async with running_gateway(echo) as gateway:
        starts = [a_start(definition, gateway, {"question": str(number)}) for number in range(10)]
        outcomes = await asyncio.gather(*(engines.execute(start, collector([])) for start in starts))
    assert [outcome.output["answer"] for outcome in outcomes if isinstance(outcome, Result)] == [f"echo: {n}" for n in range(10)]
