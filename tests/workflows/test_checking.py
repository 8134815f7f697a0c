"""What is said about definitions that cannot be run: every mistake, and where it is."""

import json
import re
from typing import Any

import pytest

from auralink.workflows.checking import DefinitionInvalid, check, check_text
from auralink.workflows.definition import Definition
from auralink.workflows.expressions import BadExpression, is_small, variables_of
from auralink.workflows.templates import TemplateNotFound, get_template, template_names

ASK = {"type": "llm", "prompt": "{{ question }}", "into": "answer"}


def graph(nodes: dict[str, Any], *ways: tuple[Any, str], **more: Any) -> dict[str, Any]:
    inputs = {"type": "object", "properties": {"question": {"type": "string"}}}
    edges = [{"from": source, "to": target} for source, target in ways]
    return {"start": next(iter(nodes)), "nodes": nodes, "edges": edges, "input": inputs} | more


def problems(definition: Any, **given: Any) -> dict[str, str]:
    with pytest.raises(DefinitionInvalid) as caught:
        check(definition, **given)
    return {problem["pointer"]: problem["message"] for problem in caught.value.extra["errors"]}


def test_a_definition_is_stored_with_every_default_and_checks_the_same_again() -> None:
    stored = check(graph({"ask": ASK}, ("ask", "end"))).stored()
    assert stored["nodes"]["ask"]["model"] == "auto"
    assert stored["limits"] == {"steps": 100, "tokens": None, "seconds": None, "concurrency": 4}
    assert check(stored).stored() == stored
    json.dumps(stored)


@pytest.mark.parametrize("name", template_names())
def test_every_template_can_be_stored_and_read_again(name: str) -> None:
    template = get_template(name)
    assert isinstance(template, Definition)
    assert check(template.stored()) == template
    assert template.description


def test_an_unknown_template_is_named_with_those_there_are() -> None:
    with pytest.raises(TemplateNotFound, match="auto_join, moderation, qa, summarization"):
        get_template("../secrets")


@pytest.mark.parametrize(
    ("definition", "pointer", "message"),
    [
        (graph({"ask": ASK | {"type": "poem"}}, ("ask", "end")), "/nodes/ask", "'poem'"),
        (graph({"ask": ASK | {"tone": "kind"}}, ("ask", "end")), "/nodes/ask/tone", "not permitted"),
        (graph({"ask": {"type": "llm"}}, ("ask", "end")), "/nodes/ask/prompt", "required"),
        (graph({"ask": ASK}, ("ask", "finish")), "/edges/0/to", "there is no node 'finish'; there are ask"),
        (graph({"ask": ASK}, ("ask", "end"), ("task", "end")), "/edges/1/from", "there is no node 'task'"),
        (graph({"ask": ASK}, ("ask", "end"), start="begin"), "/start", "there is no node 'begin'"),
        (graph({"ask": ASK}), "/nodes/ask", "no edge leaves this node; add {from: ask, to: end}"),
        (graph({"ask": ASK, "lost": ASK}, ("ask", "end"), ("lost", "end")), "/nodes/lost", "no way leads here from 'ask'"),
        (
            graph({"ask": ASK | {"prompt": "{{ qestion }}"}}, ("ask", "end")),
            "/nodes/ask/prompt",
            "nothing gives 'qestion' a value",
        ),
        (graph({"ask": ASK | {"prompt": "{{ a[ }}"}}, ("ask", "end")), "/nodes/ask/prompt", "no JMESPath expression"),
        (
            graph({"ask": ASK | {"prompt": "{{ lenght(question) }}"}}, ("ask", "end")),
            "/nodes/ask/prompt",
            "there is no function 'lenght'; near it is length",
        ),
        (
            graph({"ask": ASK | {"prompt": "{{ [length(question, `1`)] }}"}}, ("ask", "end")),
            "/nodes/ask/prompt",
            "length takes 1 argument, not 2",
        ),
        (graph({"ask": ASK | {"prompt": "{{ question"}}, ("ask", "end")), "/nodes/ask/prompt", "has no }}"),
        (graph({"ask": ASK | {"schema": {"type": "strin"}}}, ("ask", "end")), "/nodes/ask/schema", "no JSON Schema"),
        (graph({"end": ASK}, ("end", "end")), "/nodes/end", "no node can have this name"),
        (graph({"ask": ASK}, ("ask", "ask")), "/nodes/ask", "may go round for ever: ask → ask"),
        (graph({"ask": ASK}, ("ask", "end"), output={"x": "{{ nothing }}"}), "/output", "nothing gives 'nothing' a value"),
        (graph({"ask": ASK}, ("ask", "end"), input={"type": "string"}), "/input/type", "the input is an object"),
        (
            graph({"m": {"type": "memory", "operation": "recall"}}, ("m", "end")),
            "/nodes/m",
            "recall needs either `query` (words to look for) or `names`",
        ),
        ([1], "", "valid dictionary"),
    ],
)
def test_a_mistake_is_named_where_it_is(definition: Any, pointer: str, message: str) -> None:
    found = problems(definition)
    assert pointer in found
    assert message in found[pointer]


def test_every_mistake_of_a_kind_is_told_at_once() -> None:
    found = problems(graph({"ask": ASK | {"prompt": "{{ a }}"}, "b": ASK | {"prompt": "{{ b }}"}}, ("ask", "c"), ("b", "end")))
    assert found.keys() == {"/nodes/ask/prompt", "/nodes/b/prompt", "/edges/0/to"}


def test_a_branch_has_no_edges_and_its_ways_lead_somewhere() -> None:
    branch = {"type": "branch", "cases": [{"when": "question", "to": "nowhere"}], "otherwise": "end"}
    found = problems(graph({"if": branch, "ask": ASK}, ("if", "ask"), ("ask", "end")))
    assert "is a branch" in found["/edges/0/from"]
    assert "there is no node 'nowhere'" in found["/nodes/if/cases/0/to"]


@pytest.mark.parametrize("bounded", [True, False])
def test_a_cycle_needs_a_bound_that_leads_out(bounded: bool) -> None:
    branch = {"type": "branch", "cases": [{"when": "answer", "to": "ask"}], "otherwise": "end"} | (
        {"max_visits": 3} if bounded else {}
    )
    definition = graph({"ask": ASK, "again": branch}, ("ask", "again"))
    if bounded:
        check(definition)
    else:
        assert "give a branch in it max_visits" in problems(definition)["/nodes/ask"]
    back = branch | {"otherwise": "ask", "max_visits": 3, "cases": [{"when": "answer", "to": "end"}]}
    assert "/nodes/ask" in problems(graph({"ask": ASK, "again": back}, ("ask", "again")))


def test_nodes_side_by_side_do_not_write_one_variable_unless_it_can_be_merged() -> None:
    nodes = {"go": {"type": "set", "values": {"x": "1"}}, "a": ASK, "b": ASK}
    ways = (("go", "a"), ("go", "b"), ("a", "end"), ("b", "end"))
    assert "both write 'answer'" in problems(graph(nodes, *ways))["/nodes/b"]
    check(graph(nodes, *ways, state={"answer": {"default": [], "merge": "append"}}))


def test_tools_are_those_that_the_user_has() -> None:
    nodes = {
        "call": {"type": "tool", "tool": "web__serach", "into": "x"},
        "look": {"type": "memory", "operation": "recall", "query": "x", "connection": "notes"},
        "work": {"type": "agent", "prompt": "?", "tools": ["web__*", "wiki__read"]},
        "none": {"type": "agent", "prompt": "?", "tools": ["mail__*"]},
    }
    definition = graph(nodes, ("call", "look"), ("look", "work"), ("work", "none"), ("none", "end"))
    found = problems(definition, tools={"web__search", "memory__search_nodes"})
    assert found.keys() == {"/nodes/call/tool", "/nodes/look/connection", "/nodes/work/tools/1", "/nodes/none/tools"}
    assert "you have no tool 'web__serach'" in found["/nodes/call/tool"]
    check(definition)


def test_an_item_of_a_map_is_known_inside_of_it_only() -> None:
    node = {
        "type": "map",
        "over": "question",
        "item": "one",
        "each": {"type": "llm", "prompt": "{{ one }}{{ index }}"},
        "into": "all",
    }
    check(graph({"each": node}, ("each", "end")))
    assert "/output" in problems(graph({"each": node}, ("each", "end"), output="{{ one }}"))


def test_definitions_are_written_in_yaml_or_json() -> None:
    text = "start: ask\nnodes:\n  ask: {type: llm, prompt: hello, into: answer}\nedges: [{from: ask, to: end}]\n"
    assert check_text(text) == check_text(json.dumps(check_text(text).stored()))
    with pytest.raises(DefinitionInvalid, match="neither JSON nor YAML"):
        check_text("{")


def test_yaml_cannot_grow_or_make_objects() -> None:
    with pytest.raises(DefinitionInvalid, match="aliases are not allowed"):
        check_text("a: &a [x, x]\nb: &b [*a, *a]\n")
    with pytest.raises(DefinitionInvalid, match="neither JSON nor YAML"):
        check_text("!!python/object/apply:os.system ['true']")


def test_expressions_say_which_variables_they_read() -> None:
    assert variables_of("a.b[?c == `1`].d | [0]") == {"a"}
    assert variables_of("length(a) > `1` && b || !c") == {"a", "b", "c"}
    assert variables_of("sort_by(a, &b)[].{x: y}") == {"a"}
    assert variables_of("[a, b.c] | [0]") == {"a", "b"}
    assert variables_of("merge(a, b, c[0:2])") == {"a", "b", "c"}
    with pytest.raises(BadExpression):
        variables_of("a b")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("nosuchfn(`1`)", "there is no function 'nosuchfn'; there are abs, avg, "),
        ("a[?starts_with(b)]", "starts_with takes 2 arguments, not 1"),
        ("sort_by(a, &revers(b))", "near it is reverse"),
        ("not_null()", "not_null takes 1 or more arguments, not 0"),
    ],
)
def test_a_call_that_no_run_could_make_is_no_expression(expression: str, said: str) -> None:
    with pytest.raises(BadExpression, match=re.escape(said)):
        variables_of(expression)


def test_a_slice_is_small() -> None:
    assert is_small("event.items[0:3]")
