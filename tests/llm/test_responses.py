"""`/v1/responses` as chat completions and back: what the official client sends is understood, and what it gets are its own types."""

import json
from collections.abc import Iterable
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI, omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from auralink.core.errors import InvalidRequest
from auralink.llm.errors import UnsupportedField
from auralink.llm.providers.chunks import chunks_of
from auralink.llm.providers.completions import choice, completion, message, tool_call
from auralink.llm.providers.protocol import Usage
from auralink.llm.responses_answer import response_object
from auralink.llm.responses_request import chat_body
from auralink.llm.responses_stream import ResponseStream

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
MODEL = {"model": "gpt-5.5"}
WEATHER = {"type": "function", "name": "get_weather", "description": "Weather", "parameters": {"type": "object"}, "strict": True}
ASKED = {**MODEL, "input": "Hello"}


def answer(*, text: str = "", finish: str = "stop", **fields: Any) -> dict[str, Any]:
    return completion("abc", "openai/gpt-5.5", [choice(0, message(text, **fields), finish)], Usage(5, 7, cached=2, reasoning=3))


def streamed(request: dict[str, Any], told: dict[str, Any]) -> list[dict[str, Any]]:
    stream = ResponseStream(request)
    return [*(event for chunk in chunks_of(told, report_usage=True) for event in stream.feed(chunk)), *stream.finish()]


def kinds(events: Iterable[dict[str, Any]]) -> list[str]:
    """The types of events in order, those in a row once."""
    found: list[str] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        if not found or found[-1] != kind:
            found.append(kind)
    return found


def test_a_text_is_a_users_message() -> None:
    assert chat_body(ASKED) == {**MODEL, "messages": [{"role": "user", "content": "Hello"}]}


def test_every_field_has_its_place() -> None:
    body = chat_body(
        {
            **ASKED,
            "instructions": "Be brief.",
            "temperature": 0.5,
            "top_p": 0.9,
            "max_output_tokens": 100,
            "parallel_tool_calls": False,
            "metadata": {"a": "b"},
            "reasoning": {"effort": "low", "summary": None},
            "text": {
                "format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True},
                "verbosity": "low",
            },
            "tools": [WEATHER],
            "tool_choice": {"type": "function", "name": "get_weather"},
            "top_logprobs": 2,
            "include": ["message.output_text.logprobs"],
            "stream": True,
            "stream_options": {"include_obfuscation": False},
            "store": False,
            "truncation": "disabled",
            "background": False,
            "previous_response_id": None,
        }
    )
    function = {"name": "get_weather", "description": "Weather", "parameters": {"type": "object"}, "strict": True}
    assert body == {
        **MODEL,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 100,
        "parallel_tool_calls": False,
        "metadata": {"a": "b"},
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True}},
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "logprobs": True,
        "top_logprobs": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_allowed_tools_and_json_objects_are_translated() -> None:
    chosen = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]}
    body = chat_body({**ASKED, "tools": [WEATHER], "tool_choice": chosen, "text": {"format": {"type": "json_object"}}})
    named = {"type": "function", "function": {"name": "get_weather"}}
    assert body["tool_choice"] == {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
    assert body["response_format"] == {"type": "json_object"}


def test_items_are_messages_and_what_the_assistant_did_in_a_row_is_one() -> None:
    items = [
        {"role": "developer", "content": "Be kind."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hi"},
                {"type": "input_image", "image_url": "https://x.org/a.png", "detail": "auto"},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hmm."}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "extra_content": {"google": {"s": 1}}},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
        {"role": "assistant", "content": "Done."},
        {"role": "assistant", "content": "Really."},
    ]
    assert chat_body({**MODEL, "input": items})["messages"] == [
        {"role": "developer", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hi"},
                {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "auto"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning_content": "Hmm.",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": "{}"},
                    "extra_content": {"google": {"s": 1}},
                },
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "assistant", "content": "Done."},
        {"role": "assistant", "content": "Really."},
    ]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, "include[0]"),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, "reasoning.summary"),
        ({"tools": [WEATHER, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "x"}]}, "input[0].encrypted_content"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0].file_id"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]},
            "input[0].content[0].file_url",
        ),
        ({"input": [{"role": "judge", "content": "x"}]}, "input[0].role"),
        ({"a_new_field": 1}, "a_new_field"),
    ],
)
def test_what_needs_storage_or_openais_own_tools_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedField) as caught:
        chat_body({**ASKED, **fields})
    assert caught.value.extra["param"] == named
    assert "another model" not in caught.value.message, "none takes it"


@pytest.mark.parametrize("given_input", [None, "", [], {}])
def test_a_request_without_input_is_refused(given_input: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat_body({**MODEL, "input": given_input})
    assert caught.value.extra["param"] == "input"


def test_an_answer_is_a_response_of_the_official_clients() -> None:
    request = {**ASKED, "tools": [WEATHER], "metadata": {"a": "b"}, "temperature": 0.5, "max_output_tokens": 9}
    told = answer(
        text="Sunny.", reasoning="Let me see.", calls=[tool_call("c1", "get_weather", '{"city":"Paris"}')], finish="tool_calls"
    )
    response = Response.model_validate(response_object(request, told, completed_at=12.5), strict=True)
    assert (response.id, response.status, response.completed_at) == ("resp_abc", "completed", 12.5)
    assert response.output_text == "Sunny."
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (5, 7, 12)
    assert response.usage.input_tokens_details.cached_tokens == 2
    assert response.usage.output_tokens_details.reasoning_tokens == 3
    assert (response.metadata, response.temperature, response.max_output_tokens, response.tool_choice) == (
        {"a": "b"},
        0.5,
        9,
        "auto",
    )


def test_an_answer_can_be_sent_back_as_input() -> None:
    told = answer(
        text="Sunny.", reasoning="Hm.", calls=[tool_call("c1", "f", "{}", {"google": {"s": 1}})], extra={"anthropic": [1]}
    )
    items = response_object(ASKED, told)["output"]
    (back,) = chat_body({**MODEL, "input": items})["messages"]
    said = told["choices"][0]["message"]
    assert back == {name: value for name, value in said.items() if name != "refusal"}


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_is_cut_off_is_incomplete(finish: str, reason: str) -> None:
    told = answer(text="Sun", finish=finish)
    response = Response.model_validate(response_object(ASKED, told))
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == reason
    events = streamed(ASKED, told)
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["output"][-1]["status"] == "incomplete"


def test_a_text_is_streamed_in_the_official_order() -> None:
    assert kinds(streamed(ASKED, answer(text="A text that is longer than a single piece of it."))) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_reasoning_and_calls_are_streamed_in_the_official_order() -> None:
    calls = [tool_call("c1", "f", '{"a":1}'), tool_call("c2", "g", "{}")]
    assert kinds(streamed(ASKED, answer(reasoning="Hm.", calls=calls, finish="tool_calls"))) == [
        *("created", "in_progress"),
        *(
            "output_item.added",
            "content_part.added",
            "reasoning_text.delta",
            "reasoning_text.done",
            "content_part.done",
            "output_item.done",
        ),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"),
        "completed",
    ]


def test_a_refusal_after_a_text_is_a_part_of_the_same_message() -> None:
    stream = ResponseStream(ASKED)
    chunk = {"id": "chatcmpl-x", "created": 1, "model": "m"}
    events = [
        *stream.feed({**chunk, "choices": [{"index": 0, "delta": {"content": "Well"}}]}),
        *stream.feed({**chunk, "choices": [{"index": 0, "delta": {"refusal": "No."}, "finish_reason": "stop"}]}),
        *stream.finish(),
    ]
    (item,) = events[-1]["response"]["output"]
    assert [part["type"] for part in item["content"]] == ["output_text", "refusal"]
    assert [event["content_index"] for event in events if event["type"] == "response.content_part.added"] == [0, 1]
    assert all(EVENTS.validate_python(event) for event in events)


def test_a_stream_that_breaks_off_fails_with_what_was_said() -> None:
    stream = ResponseStream(ASKED)
    first = next(chunk for chunk in chunks_of(answer(text="Half a sen")) if chunk["choices"][0]["delta"].get("content"))
    events = [*stream.feed(first), *stream.fail("rate_limited", "slow down")]
    last = EVENTS.validate_python(events[-1])
    assert last.type == "response.failed"
    assert (last.response.status, last.response.error.code, last.response.error.message) == (
        "failed",
        "rate_limit_exceeded",
        "slow down",
    )
    assert last.response.output_text == "Half a sen"
    (alone,) = [event for event in ResponseStream(ASKED, "m").fail("server_error", "gone") if event["type"] == "response.failed"]
    assert EVENTS.validate_python(alone).response.error.code == "server_error"


def test_calls_whose_pieces_are_mixed_are_whole_in_the_end() -> None:
    stream = ResponseStream(ASKED)
    chunk = {"id": "chatcmpl-x", "created": 1, "model": "m"}

    def piece(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        call = {"index": index, "function": {"arguments": arguments, **more}, "id": f"c{index}"}
        return {**chunk, "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}

    pieces = [piece(0, '{"a"', name="f"), piece(1, '{"b"', name="g"), piece(0, ":1}"), piece(1, ":2}")]
    events = [event for each in pieces for event in stream.feed(each)] + stream.finish()
    assert [item["arguments"] for item in events[-1]["response"]["output"]] == ['{"a":1}', '{"b":2}']


texts = st.text(st.characters(codec="utf-8"), max_size=80)
calls = st.lists(
    st.builds(tool_call, st.sampled_from(["c1", "c2", "c3"]), st.sampled_from(["f", "g"]), texts),
    max_size=3,
    unique_by=lambda call: call["id"],
)


@settings(max_examples=100, deadline=None)
@given(texts, texts, calls, st.sampled_from(["stop", "length"]), st.booleans())
def test_a_stream_adds_up_to_the_answer_and_the_official_client_can_follow_it(
    text: str, reasoning: str, called: list[dict[str, Any]], finish: str, more: bool
) -> None:
    request = {**ASKED, "tools": [WEATHER]}
    told = answer(text=text, reasoning=reasoning, calls=called, finish=finish, extra={"x": 1} if more else None)
    events = streamed(request, told)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == response_object(request, told)
    state = ResponseStreamState(input_tools=[], text_format=omit)
    for event in events:
        state.handle_event(EVENTS.validate_python(event))


def served(events: list[dict[str, Any]]) -> OpenAI:
    """The official client, with an endpoint that streams these events."""
    lines = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    answered = httpx2.MockTransport(lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=lines))
    return OpenAI(api_key="test", base_url="https://gateway.example/v1", http_client=httpx2.Client(transport=answered))


@pytest.mark.promise("P-OPENAI")
def test_the_official_client_follows_a_stream_unmodified() -> None:
    called = [tool_call("c1", "get_weather", '{"city":"Paris"}')]
    events = streamed({**ASKED, "tools": [WEATHER]}, answer(text="Let me look.", calls=called, finish="tool_calls"))
    with served(events) as client, client.responses.stream(model="gpt-5.5", input="Hello", tools=[WEATHER]) as stream:  # type: ignore[list-item]
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert (text, final.output_text) == ("Let me look.", "Let me look.")
    assert [item.type for item in final.output] == ["message", "function_call"]
    assert final.usage is not None
    assert final.usage.total_tokens == 12
