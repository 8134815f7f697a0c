"""What is wrong with a flow is told when it is saved, where it stands."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from auralink.flows.checking import Named, check, named_in
from auralink.flows.definition import MAX_DEPTH
from auralink.flows.templates import get_template, template_names
from auralink.workflows.checking import DefinitionInvalid


def step(name: str, value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "transform", "value": value, **more}


def problems(steps: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, str]:
    """What is wrong, by where it is."""
    with pytest.raises(DefinitionInvalid) as refused:
        check({"steps": steps, **more})
    return {problem["pointer"]: problem["message"] for problem in refused.value.extra["errors"]}


def loop(*steps: Mapping[str, Any], until: str = "`true`", **more: Any) -> dict[str, Any]:
    return {"name": "again", "type": "loop", "until": until, "steps": list(steps), **more}


@pytest.mark.parametrize("name", template_names())
def test_what_is_stored_of_a_template_is_a_definition_again(name: str) -> None:
    stored = get_template(name).stored()
    assert check(stored).stored() == stored


def test_a_step_needs_the_one_before_it_unless_it_says_otherwise() -> None:
    inner = {"name": "m", "type": "map", "over": "b", "steps": [step("c"), step("d")]}
    stored = check({"steps": [step("a"), step("b", ["{{ a }}"]), step("e", needs=[]), inner | {"needs": ["b"]}]}).stored()
    assert [one["needs"] for one in stored["steps"]] == [[], ["a"], [], ["b"]]
    assert [one["needs"] for one in stored["steps"][3]["steps"]] == [[], ["c"]]


def test_a_result_is_read_only_by_who_waits_for_it() -> None:
    found = problems([step("a", needs=[]), step("b", "{{ a }}", needs=[]), step("c", "{{ a }} {{ nobody }}", needs=["a"])])
    assert "add 'a' to the step's `needs`" in found["/steps/1/value"]
    assert "nothing gives 'nobody' a value" in found["/steps/2/value"]


def test_what_a_need_needs_can_be_read_too() -> None:
    check({"steps": [step("a"), step("b"), step("c", "{{ [a, b] }}")]})


@pytest.mark.parametrize(
    ("steps", "pointer", "said"),
    [
        ([step("a", needs=["b"]), step("b", needs=["a"])], "/steps", "wait for one another"),
        ([step("a", needs=["elsewhere"])], "/steps/0/needs/0", "no step 'elsewhere'"),
        ([step("a"), loop(step("a"))], "/steps", "2 steps are named 'a'"),
        ([step("n")], "/steps", "as is a variable"),
        ([step("a", type="unheard")], "/steps/0", ""),
        ([step("a", size=1)], "/steps/0/size", "Extra inputs"),
        ([step("a", "{{ a. }}")], "/steps/0/value", "no JMESPath expression"),
        ([step("a", "{{ nosuchfn(`1`) }}")], "/steps/0/value", "there is no function 'nosuchfn'"),
        ([step("a"), step("b", when="length(a, n)")], "/steps/1/when", "length takes 1 argument, not 2"),
        ([step("a", "{{ n")], "/steps/0/value", "has no }}"),
        ([step("a"), step("b", when="!a.error")], "/steps/1/when", "a member of a negation"),
        ([step("a", "{{ " + "(" * 3000 + "n" + ")" * 3000 + " }}")], "/steps/0/value", "too deeply"),
        ([{"name": "a", "type": "llm", "prompt": "x", "schema": {"type": "nothing"}}], "/steps/0/schema", "no JSON Schema"),
        ([{"name": "a", "type": "tool", "tool": "x", "arguments": "{{ n }} and more"}], "/steps/0/arguments", ""),
        ([{"name": "a", "type": "map", "over": "n", "item": "now", "steps": [step("b")]}], "/steps/0/item", "give the item"),
        ([{"name": "a", "type": "branch", "cases": [{"when": "m", "steps": [step("b")]}]}], "/steps/0/cases/0/when", "'m'"),
    ],
    ids=lambda value: value if isinstance(value, str) and value else "",
)
def test_what_cannot_run_is_told_where_it_stands(steps: list[dict[str, Any]], pointer: str, said: str) -> None:
    found = problems(steps, input={"type": "object", "properties": {"n": {}}})
    assert pointer in found
    assert said in found[pointer]


def test_a_block_is_seen_from_outside_by_what_it_comes_to_alone() -> None:
    inside = {"name": "a", "type": "branch", "cases": [{"when": "`true`", "steps": [step("b")], "output": "{{ b }}"}]}
    assert "/steps/1/value" in problems([inside, step("c", "{{ b }}")])
    assert "/output" in problems([inside], output="{{ b }}")
    check({"steps": [inside, step("c", "{{ a }}")]})


def test_a_loop_may_read_the_pass_before_but_not_what_is_done_at_the_same_time() -> None:
    check({"steps": [loop(step("first", "{{ last }}"), step("last", "{{ [last, first] }}"), until="last")]})
    found = problems([loop(step("one", "{{ other }}", needs=[]), step("other", needs=[]))])
    assert "add 'other'" in found["/steps/0/steps/0/value"]
    assert "/steps/0/value" in problems([step("a", "{{ a }}")])


def test_how_much_may_be_in_a_flow_is_bounded() -> None:
    assert "500 are the most" in problems([loop(*(step(f"s{n}_{m}") for m in range(180)), name=f"l{n}") for n in range(3)])[""]
    deep = step("x")
    for n in range(MAX_DEPTH):
        deep = loop(deep, name=f"l{n}")
    assert f"{MAX_DEPTH} are the most" in problems([deep])[""]
    for n in range(400):
        deep = loop(deep, name=f"m{n}")
    assert problems([deep])


def test_an_output_of_no_schema_and_parameters_that_are_no_object_are_refused() -> None:
    assert "/input/type" in problems([step("a")], input={"type": "array"})
    assert "/input" in problems([step("a")], input={"type": "what"})


def test_what_a_flow_names_is_listed_unless_it_is_made_of_results() -> None:
    steps = [
        {"name": "a", "type": "tool", "tool": "x__y", "on_error": "continue"},
        {"name": "b", "type": "tool", "tool": "{{ a }}"},
        {
            "name": "c",
            "type": "branch",
            "cases": [{"when": "a", "steps": [{"name": "d", "type": "team", "team": "t", "task": ""}]}],
        },
    ]
    assert list(named_in(check({"steps": steps}))) == [
        Named("tool", "x__y", "/steps/0/tool", tolerated=True),
        Named("team", "t", "/steps/2/cases/0/steps/0/team", tolerated=False),
    ]
