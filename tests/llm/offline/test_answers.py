"""What the offline model writes: summaries with their sources, JSON by schema, within the limits of the request."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openai.types.chat import ChatCompletion

from auralink.llm.errors import UnsupportedField
from auralink.llm.offline import complete
from auralink.llm.offline.producing import Material, produce
from auralink.llm.offline.words import tokens
from auralink.llm.offline.writing import FIRST_LINE

LONG = "\n".join(f"Paragraph {number} is about gardening and says nothing of interest." for number in range(60))


def after(request: str, *answers: tuple[str, str], **fields: Any) -> dict[str, Any]:
    """The answer once these tools have said these things."""
    made = [
        {"id": f"c{at}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for at, (name, _) in enumerate(answers)
    ]
    results = [{"role": "tool", "tool_call_id": f"c{at}", "content": text} for at, (_, text) in enumerate(answers)]
    calls = [{"role": "assistant", "content": None, "tool_calls": made}] if made else []
    return complete({"model": "auralink/offline", "messages": [{"role": "user", "content": request}, *calls, *results], **fields})


def content(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def test_the_first_line_says_what_it_is() -> None:
    for answer in (after("Hello"), after("Which port?", ("read", "It is 8001."))):
        assert content(answer).splitlines()[0] == FIRST_LINE
        assert answer["model"] == "auralink/offline"
        assert ChatCompletion.model_validate(answer).choices[0].message.role == "assistant"


def test_of_a_long_answer_the_sentences_are_taken_that_say_what_was_asked_each_with_its_tool() -> None:
    text = f"{LONG}\nThe scheduler wakes every second. It takes due jobs from the queue of the scheduler.\n{LONG}"
    summary = content(after("How does the scheduler take jobs?", ("wiki__ask", text), ("web__search", "Nothing found.")))
    assert "wiki__ask says:" in summary
    assert "- The scheduler wakes every second." in summary
    assert "- It takes due jobs from the queue of the scheduler." in summary
    assert "web__search says:\n- Nothing found." in summary
    assert summary.count("gardening") <= 3


def test_an_answer_in_json_is_told_with_its_sources() -> None:
    found = {"answer": "Jobs are taken with SKIP LOCKED.", "confidence": 0.8, "sources": [{"file": "src/queue.py", "line": 12}]}
    summary = content(after("How are jobs taken?", ("ask_question", json.dumps(found))))
    assert "- Jobs are taken with SKIP LOCKED.\n" in summary
    assert "- sources: file: src/queue.py, line: 12" in summary
    assert "- confidence: 0.8" in summary


def test_the_same_request_has_the_same_answer() -> None:
    assert after("What is 2 + 2?", ("calc", "4")) == after("What is 2 + 2?", ("calc", "4"))


def test_an_answer_ends_at_the_limit_and_at_a_stop() -> None:
    limited = after("Which port?", ("read", "It is 8001."), max_tokens=5)
    assert limited["choices"][0]["finish_reason"] == "length"
    assert content(limited) == FIRST_LINE[:20]
    assert limited["usage"]["completion_tokens"] == 5
    stopped = after("Which port?", ("read", "It is 8001."), stop=["read"])
    assert stopped["choices"][0]["finish_reason"] == "stop"
    assert content(stopped) == f"{FIRST_LINE}\n\n"


def test_usage_counts_four_bytes_as_a_token_and_four_tokens_a_message() -> None:
    usage = after("x" * 40)["usage"]
    assert usage["prompt_tokens"] == 10 + 4
    assert usage["completion_tokens"] == tokens(content(after("x" * 40)))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_several_choices_are_the_same_and_counted() -> None:
    answer = after("Hello", n=3)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in answer["choices"]}) == 1
    assert answer["usage"]["completion_tokens"] == 3 * after("Hello")["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"audio": {}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"x": 1}, "x"),
    ],
)
def test_what_it_cannot_honour_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedField) as caught:
        after("Hello", **fields)
    assert caught.value.extra["param"] == named


def test_an_image_is_refused_by_its_place() -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}]
    with pytest.raises(UnsupportedField) as caught:
        complete({"messages": [{"role": "user", "content": parts}]})
    assert caught.value.extra["param"] == "messages[0].content[1]"


def test_any_json_object_is_one_with_answer_and_sources() -> None:
    told = json.loads(content(after("Which port?", ("read", "The port is 8001."), response_format={"type": "json_object"})))
    assert told["answer"] == "The port is 8001."
    assert told["sources"] == [{"source": "read", "text": "The port is 8001."}]


def structured(schema: dict[str, Any], request: str, *answers: tuple[str, str]) -> Any:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    return json.loads(content(after(request, *answers, response_format=wanted)))


def test_a_schema_is_filled_from_what_was_said() -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "sentiment": {"enum": ["positive", "negative", "neutral"]},
            "rating": {"type": "integer", "minimum": 1, "maximum": 5},
            "summary": {"type": "string"},
            "email": {"anyOf": [{"type": "string", "format": "email"}, {"type": "null"}]},
            "confidence": {"type": "number"},
        },
        "required": ["city", "sentiment", "rating", "summary", "email", "confidence"],
        "additionalProperties": False,
    }
    text = "Review: the food in Lisbon was very positive, rating 4. Write to ana@example.org."
    filled = structured(schema, text, ("measure", '{"confidence": 0.75, "detail": "ok"}'))
    assert (filled["city"], filled["sentiment"], filled["rating"]) == ("Lisbon", "positive", 4)
    assert (filled["email"], filled["confidence"]) == ("ana@example.org", 0.75)
    Draft202012Validator(schema).validate(filled)


def test_a_schema_that_nothing_fits_is_refused() -> None:
    for schema in ({"type": "string", "pattern": "^[q-z]{7}!$"}, {"$ref": "#"}, {"type": "integer", "minimum": 3, "maximum": 2}):
        with pytest.raises(UnsupportedField) as caught:
            structured(schema, "Hello")
        assert caught.value.extra["param"] == "response_format"


def test_a_schema_that_contains_itself_comes_to_an_end() -> None:
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name", "children"],
    }
    Draft202012Validator(tree).validate(structured(tree, "Oaks have leaves. Pines have needles. Both are trees."))
    linked = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["next"],
            }
        },
        "$ref": "#/$defs/node",
    }
    Draft202012Validator(linked).validate(structured(linked, "One. Two."))


scalars = st.one_of(
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 20),
        st.integers(0, 50),
    ),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, st.integers(-50, 50), st.integers(0, 9)
    ),
    st.builds(
        lambda low, more: {"type": "number", "exclusiveMinimum": low, "maximum": low + more},
        st.integers(-50, 50),
        st.integers(1, 9),
    ),
    st.builds(lambda step: {"type": "integer", "multipleOf": step}, st.integers(1, 9)),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, {"type": ["string", "null"]}, {"const": 3}, {"type": "number"}]),
    st.sampled_from(["date", "date-time", "email", "uuid", "uri"]).map(lambda form: {"type": "string", "format": form}),
    st.lists(st.one_of(st.text(max_size=5), st.integers(-9, 9)), min_size=1, max_size=4, unique_by=str).map(
        lambda values: {"enum": values}
    ),
    st.sampled_from([{"type": "string", "pattern": pattern} for pattern in (r"^\d+$", r"^[a-z]+$", r"^\w{3}$", r"^[A-Z]\d$")]),
)
names = st.sampled_from(
    ["name", "summary", "score", "url", "tags", "city", "steps", "is_valid", "owner_repo", "count", "reason", "kind"]
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.dictionaries(names, inner, max_size=4).map(
            lambda members: {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}
        ),
        st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least, "maxItems": least + 2},
            inner,
            st.integers(0, 3),
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda choices: {"anyOf": choices}),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(scalars, nested, max_leaves=8), st.text(max_size=60))
def test_whatever_the_schema_the_value_is_valid(schema: dict[str, Any], text: str) -> None:
    material = Material(text, [text, "The port is 8001. See https://example.org/x for the city of Paris."])
    Draft202012Validator(schema).validate(produce(schema, material))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(a+)+$"},
        {"type": "string", "pattern": "^(\\w|a|-)*x$"},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9, "items": {"type": "string"}},
        {"allOf": [{"$ref": "#"}]},
        {"type": "object", "required": ["a", "b", "c"], "properties": {name: {"$ref": "#"} for name in "abc"}},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "object", "patternProperties": {"(a+)+$": {}}},
        {"enum": []},
        {"type": "object", "properties": 7},
        {"type": "array", "items": 7, "minItems": "x"},
        {"$ref": "https://example.org/schema.json"},
        {"type": "nonsense"},
    ],
)
def test_a_malicious_or_broken_schema_is_met_or_refused_quickly(schema: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    try:
        made = json.loads(content(after(f"{'a' * 60}! is what I say", response_format=wanted)))
    except UnsupportedField:
        return
    else:
        Draft202012Validator(schema).validate(made)


@pytest.mark.parametrize("text", ["\n" * 500_000, " " * 500_000, "a" * 500_000, ". " * 200_000, "“" * 200_000, "say " * 100_000])
@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_a_huge_message_is_answered_quickly(text: str, role: str) -> None:
    messages = [
        {"role": role, "content": text, **({"tool_call_id": "c"} if role == "tool" else {})},
        {"role": "user", "content": "Hi"},
    ]
    assert complete({"messages": messages[: 1 if role == "user" else 2]})["choices"]


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-9, 9),
        st.text(max_size=5),
        st.sampled_from(["string", "object", "array", "integer"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["type", "properties", "items", "required", "enum", "anyOf", "minItems", "default", "name"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(json_values, st.sampled_from(["auto", "required"]))
def test_whatever_a_tools_parameters_are_there_is_an_answer_or_a_refusal(parameters: Any, choice: str) -> None:
    tool = {"type": "function", "function": {"name": "get_name", "description": "Get the name", "parameters": parameters}}
    body = {"messages": [{"role": "user", "content": "Get the name of 'Ada', 3"}], "tools": [tool], "tool_choice": choice}
    with suppress(UnsupportedField):
        assert complete(body)["choices"]
