"""Which tools the offline model calls for a request, and with what."""

import json
from typing import Any

import pytest

from auralink.llm.offline import complete

TEXT = {"type": "string"}


def tool(name: str, description: str, properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties) if required is None else required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


REPOSITORY = {"type": "string", "description": "owner/name, an https URL, or a folder"}
ENTITY = {
    "type": "object",
    "properties": {"name": TEXT, "entityType": TEXT, "observations": {"type": "array", "items": TEXT}},
    "required": ["name", "entityType", "observations"],
}
TOOLS = [
    tool("deepwiki__ask_question", "Answer a question about a repository.", {"repo_name": REPOSITORY, "question": TEXT}),
    tool("memory__search_nodes", "Search the knowledge graph for entities.", {"query": TEXT}),
    tool("memory__create_entities", "Create entities in the graph.", {"entities": {"type": "array", "items": ENTITY}}),
    tool("memory__delete_entities", "Delete entities.", {"entityNames": {"type": "array", "items": TEXT}}),
    tool("toolbox__web_search", "Search the web.", {"query": TEXT, "max_results": {"type": "integer", "maximum": 20}}, ["query"]),
    tool("toolbox__read_page", "Fetch a web page and return its text.", {"url": TEXT}),
    tool("toolbox__calculate", "Evaluate an arithmetic expression.", {"expression": TEXT}),
    tool("sequential_thinking__solve", "Think about a problem step by step.", {"problem": TEXT}),
    tool("supabase__query", "Run a read-only SQL query.", {"query": TEXT}),
    tool("get_weather", "Get the weather for a city.", {"city": TEXT, "unit": {"enum": ["celsius", "fahrenheit"]}}, ["city"]),
    tool("send_email", "Send an email.", {"to_email": TEXT, "subject": TEXT, "body": TEXT}),
]


def asked(text: str, *more: dict[str, Any], **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}, *more]
    return complete({"model": "auralink/offline", "messages": messages, "tools": TOOLS, **fields})


def calls(answer: dict[str, Any]) -> dict[str, Any]:
    """The tools called and their arguments."""
    made = answer["choices"][0]["message"].get("tool_calls", [])
    return {call["function"]["name"]: json.loads(call["function"]["arguments"]) for call in made}


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        ("What is 12 * (37 + 5)?", {"toolbox__calculate": {"expression": "12 * (37 + 5)"}}),
        (
            "How does the scheduler work in acme/widgets?",
            {
                "deepwiki__ask_question": {
                    "repo_name": "acme/widgets",
                    "question": "How does the scheduler work in acme/widgets?",
                }
            },
        ),
        ("What's the weather in New York in fahrenheit?", {"get_weather": {"city": "New York", "unit": "fahrenheit"}}),
        ("Please read https://x.org/a?b=c and tell me what it says", {"toolbox__read_page": {"url": "https://x.org/a?b=c"}}),
        ("Search the web for cats and dogs.", {"toolbox__web_search": {"query": "cats and dogs"}}),
        ('Search the web for "rust async", max_results: 5', {"toolbox__web_search": {"query": "rust async", "max_results": 5}}),
        ('Delete the entities "Alice" and "Bob".', {"memory__delete_entities": {"entityNames": ["Alice", "Bob"]}}),
        ("Run SELECT count(*) FROM users", {"supabase__query": {"query": "SELECT count(*) FROM users"}}),
        (
            "Think step by step about how to move a piano.",
            {"sequential_thinking__solve": {"problem": "Think step by step about how to move a piano."}},
        ),
        ("Tell me a joke", {}),
        ("Thanks, that was helpful.", {}),
    ],
)
def test_a_request_gets_the_tool_that_its_words_name(request_text: str, expected: dict[str, Any]) -> None:
    assert calls(asked(request_text)) == expected


def test_a_request_for_several_things_gets_several_tools_at_once_each_with_its_part() -> None:
    answer = asked("Search the web for the history of Postgres, calculate 3*4, and then get the weather in Paris.")
    assert calls(answer) == {
        "toolbox__web_search": {"query": "the history of Postgres, calculate 3*4"},
        "get_weather": {"city": "Paris"},
    } or calls(answer) == {
        "toolbox__web_search": {"query": "the history of Postgres"},
        "toolbox__calculate": {"expression": "3*4"},
        "get_weather": {"city": "Paris"},
    }
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["choices"][0]["message"]["content"] is None


def test_one_after_the_other_where_parallel_calls_are_not_allowed_and_each_once() -> None:
    text = "Calculate 3*4. Then get the weather in Paris."
    history: list[dict[str, Any]] = []
    called = []
    for _ in range(4):
        answer = asked(text, *history, parallel_tool_calls=False)["choices"][0]["message"]
        if not answer.get("tool_calls"):
            break
        (call,) = answer["tool_calls"]
        called.append(call["function"]["name"])
        history += [answer, {"role": "tool", "tool_call_id": call["id"], "content": "12"}]
    assert called == ["toolbox__calculate", "get_weather"]
    assert "get_weather says:" in answer["content"]


@pytest.mark.parametrize(
    "text",
    ["Who are the entities called Alice?", "What would an email about the meeting say?", "Tell me about entities and graphs"],
)
def test_a_tool_that_changes_something_needs_its_verb(text: str) -> None:
    assert not {"memory__delete_entities", "memory__create_entities", "send_email"} & calls(asked(text)).keys()


def test_a_tool_is_not_called_without_a_required_argument_and_the_answer_says_what_is_missing() -> None:
    answer = asked("What is the weather?")
    assert calls(answer) == {}
    assert "get_weather needs: city" in answer["choices"][0]["message"]["content"]


def test_tool_choice_is_respected() -> None:
    assert calls(asked("What is 2 + 2?", tool_choice="none")) == {}
    assert calls(asked("What is 2 + 2?", tool_choice="required")) == {"toolbox__calculate": {"expression": "2 + 2"}}
    named = {"type": "function", "function": {"name": "memory__search_nodes"}}
    assert calls(asked("What is 2 + 2?", tool_choice=named)).keys() == {"memory__search_nodes"}
    assert len(calls(asked("Good morning", tool_choice="required"))) == 1
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}
    assert calls(asked("What is 2 + 2?", tool_choice=allowed)) == {}


def test_after_the_tools_have_answered_none_is_called_again_also_where_one_is_demanded() -> None:
    first = asked("What is 2 + 2?", tool_choice="required")["choices"][0]["message"]
    answered = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "4"}
    last = asked("What is 2 + 2?", first, answered, tool_choice="required")["choices"][0]
    assert last["finish_reason"] == "stop"
    assert "toolbox__calculate says:\n- 4" in last["message"]["content"]


def test_a_new_request_in_the_same_conversation_may_call_the_tool_again() -> None:
    first = asked("What is 2 + 2?")["choices"][0]["message"]
    answered = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "4"}
    said = asked("What is 2 + 2?", first, answered)["choices"][0]["message"]
    again = asked("What is 2 + 2?", first, answered, said, {"role": "user", "content": "And what is 3 + 3?"})
    assert calls(again) == {"toolbox__calculate": {"expression": "3 + 3"}}
    assert again["choices"][0]["message"]["tool_calls"][0]["id"] != first["tool_calls"][0]["id"]


@pytest.mark.parametrize("text", ["", " ", "?" * 5000, "(" * 4000 + "+" * 4000, "{" * 8000, "a-" * 4000, "1 " * 4000, '"' * 999])
def test_odd_requests_are_answered_quickly(text: str) -> None:
    assert asked(text)["choices"][0]["message"]
