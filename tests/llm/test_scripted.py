"""The scripted model: rules matched on the request alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from auralink.core.errors import StartupError
from auralink.llm.errors import ProviderError
from auralink.llm.scripted import NoRuleMatches, Script

SCRIPT = """
rules:
  - when: {system_contains: [planner, careful], last_role: user}
    answer: {content: "A plan for: {{last}}"}
  - when: {last_contains: weather, tools_include: get_weather, tool_results: 0}
    answer:
      tool_calls:
        - {name: get_weather, arguments: {city: Paris, note: "{{user}}"}}
        - {name: get_time}
  - when: {tool_results: [get_weather]}
    answer: {content: "It is {{tool:get_weather}}.", usage: {prompt_tokens: 11, completion_tokens: 7, cached_tokens: 3}}
  - when: {matches: "(?i)order \\\\d+"}
    answer: {json: {status: shipped, said: ["{{last}}"]}}
  - when: {last_contains: fail}
    answer: {error: {status: 429, message: slow down, retry_after: 2.5}}
  - when: {last_contains: slow, assistant_turns: 1}
    answer: {content: at last, delay_ms: 1500, finish_reason: length}
"""
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}


def script(tmp_path: Path, text: str = SCRIPT) -> Script:
    path = tmp_path / "script.yaml"
    path.write_text(text)
    return Script.load(path)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "auralink/scripted", "messages": list(messages), **fields}


def content(completion: dict[str, Any]) -> Any:
    return completion["choices"][0]["message"]["content"]


def test_the_first_rule_that_is_met_answers(tmp_path: Path) -> None:
    system = {"role": "system", "content": "You are a CAREFUL planner."}
    answer = script(tmp_path).complete(body(system, user("the weather"), tools=[WEATHER]))
    assert content(answer) == "A plan for: the weather"
    assert answer["model"] == "auralink/scripted"
    assert ChatCompletion.model_validate(answer)


def test_tools_are_called_and_their_answers_are_used(tmp_path: Path) -> None:
    rules = script(tmp_path)
    asked = user("What weather is it?")
    called = rules.complete(body(asked, tools=[WEATHER]))["choices"][0]
    calls = called["message"]["tool_calls"]
    assert called["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in calls] == ["get_weather", "get_time"]
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Paris", "note": "What weather is it?"}
    assert len({call["id"] for call in calls}) == 2
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": text} for call, text in zip(calls, ("sunny", "noon"), strict=True)
    ]
    answer = rules.complete(body(asked, called["message"], *results, tools=[WEATHER]))
    assert content(answer) == "It is sunny."
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (11, 7)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 3


def test_json_is_answered_as_text(tmp_path: Path) -> None:
    assert json.loads(content(script(tmp_path).complete(body(user("Where is Order 17?"))))) == {
        "status": "shipped",
        "said": ["Where is Order 17?"],
    }


def test_an_error_is_a_providers(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="slow down") as caught:
        script(tmp_path).complete(body(user("please fail")))
    assert (caught.value.kind, caught.value.provider_status, caught.value.retry_after) == ("rate_limited", 429, 2.5)


def test_a_delay_is_told_and_not_waited(tmp_path: Path) -> None:
    rules = script(tmp_path)
    slow = body(user("a"), {"role": "assistant", "content": "b"}, user("slow"))
    assert rules.delay(slow) == 1.5
    assert rules.delay(body(user("nothing"))) == 0
    assert rules.complete(slow)["choices"][0]["finish_reason"] == "length"


def test_where_no_rule_is_met_the_error_shows_the_request(tmp_path: Path) -> None:
    with pytest.raises(NoRuleMatches) as caught:
        script(tmp_path).complete(body({"role": "system", "content": "Be brief."}, user("Hello"), tools=[WEATHER]))
    for essential in ("none of the 6 rules", "Be brief.", '"last":"Hello"', '"tools":["get_weather"]', '"assistant_turns":0'):
        assert essential in caught.value.message


def test_a_template_with_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoRuleMatches, match="tool:other"):
        script(tmp_path, "- answer: {content: '{{tool:other}}'}").complete(body(user("Hello")))


def test_the_same_request_has_the_same_answer(tmp_path: Path) -> None:
    rules = script(tmp_path)
    assert rules.complete(body(user("weather"), tools=[WEATHER])) == rules.complete(body(user("weather"), tools=[WEATHER]))


def test_a_script_may_be_json_and_a_list_alone(tmp_path: Path) -> None:
    rules = script(tmp_path, json.dumps([{"answer": {"json": None}}]))
    assert content(rules.complete(body(user("Hello")))) == "null"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", "not valid YAML"),
        ("rules: []", "rules: Tuple should have at least 1 item"),
        ("- when: {last: x}\n  answer: {content: a}", "rules.0.when.last: Extra inputs are not permitted"),
        ("- answer: {}", "an answer has content and tool_calls, or json, or error"),
        ("- answer: {content: a, json: 1}", "an answer has content and tool_calls, or json, or error"),
        ("- answer: {content: '{{lust}}'}", "there is no template '{{lust}}'"),
        ("- {when: {matches: '('}, answer: {content: a}}", "rules.0.when.matches"),
        ("- answer: {error: {status: 200}}", "rules.0.answer.error.status"),
        ("hello", "valid dictionary"),
    ],
)
def test_a_mistake_in_a_script_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StartupError) as caught:
        script(tmp_path, text)
    assert said in caught.value.message
    assert "script.yaml" in caught.value.message


def test_a_script_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="AURALINK_SCRIPTED_MODEL"):
        Script.load(tmp_path / "nothing.yaml")
