"""Streams, over a socket: what a client puts together from the chunks is what it would have got at once."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auralink.llm.providers.openai import OpenAIStream
from auralink.llm.providers.protocol import Body, StreamFailed, Target
from auralink.llm.providers.vendors import REGISTRY
from tests.llm.fake_vendor import Raw, Trouble
from tests.llm.providers.conftest import Wire, assembled, fed, plain
from tests.llm.vendor_wire import WIRES, Answer, Call, Event

ASKED = {"messages": [{"role": "user", "content": "?"}], "stream": True}
MODELS = {"openai": "a-model", "anthropic": "claude-sonnet-5", "google": "gemini-2.5-flash"}
ANSWER = Answer(
    text="It is sunny.",
    calls=[Call("weather", {"city": "Zürich"}, "call_a", "c2ln"), Call("now", {}, "call_b")],
    reasoning="Let me see.",
    cached_tokens=3,
    reasoning_tokens=2,
)


def target_of(wire_format: str) -> Target:
    """A target that nobody calls."""
    return Target(wire_format, MODELS[wire_format], "https://vendor", None)


def streamed(wire_format: str, events: list[Event], *, report_usage: bool = False) -> list[Body]:
    """The chunks of these events."""
    return fed(REGISTRY[wire_format].stream(target_of(wire_format), report_usage=report_usage), events)


@pytest.mark.parametrize("wire_format", WIRES)
async def test_the_pieces_make_up_the_whole_answer(wire: Wire, wire_format: str) -> None:
    provider, target = REGISTRY[wire_format], wire.vendor.target(wire_format, model=MODELS[wire_format])
    wire.vendor.say(ANSWER, ANSWER)
    whole = await wire.send(provider.request(ASKED | {"stream": False}, target))
    completion, usage = provider.response(json.loads(whole.content), target)
    reply = await wire.send(provider.request(ASKED, target))
    stream = provider.stream(target, report_usage=True)

    chunks = fed(stream, reply.events)

    message = assembled(chunks)
    assert plain(message["message"]) == plain(completion["choices"][0]["message"])
    assert message["finish_reason"] == completion["choices"][0]["finish_reason"] == "tool_calls"
    assert stream.finished
    assert stream.usage == usage
    assert (usage.prompt, usage.completion, usage.cached, usage.reasoning, usage.exact) == (7, 5, 3, 2, True)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 12
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)


@pytest.mark.parametrize("wire_format", WIRES)
async def test_usage_is_counted_and_not_shown_to_a_client_that_has_not_asked(wire: Wire, wire_format: str) -> None:
    provider, target = REGISTRY[wire_format], wire.vendor.target(wire_format, model=MODELS[wire_format])
    reply = await wire.send(provider.request(ASKED, target))
    stream = provider.stream(target, report_usage=False)
    chunks = fed(stream, reply.events)
    assert stream.usage.completion == 5
    assert not any(chunk.get("usage") for chunk in chunks)
    assert all(chunk["choices"] for chunk in chunks)


@pytest.mark.parametrize("wire_format", WIRES)
async def test_a_stream_that_is_cut_off_is_not_finished_and_its_usage_is_not_exact(wire: Wire, wire_format: str) -> None:
    provider, target = REGISTRY[wire_format], wire.vendor.target(wire_format, model=MODELS[wire_format])
    wire.vendor.say(Trouble(Answer("A longer answer, in many pieces.", pieces=10), after=6))
    reply = await wire.send(provider.request(ASKED, target))
    stream = provider.stream(target, report_usage=True)
    chunks = fed(stream, reply.events)
    assert reply.broken_off
    assert assembled(chunks)["message"]["content"]
    assert not stream.finished
    assert not stream.usage.exact


@pytest.mark.parametrize("wire_format", WIRES)
async def test_an_error_in_the_middle_is_a_failure_and_what_came_before_it_stands(wire: Wire, wire_format: str) -> None:
    provider, target = REGISTRY[wire_format], wire.vendor.target(wire_format, model=MODELS[wire_format])
    wire.vendor.say(Trouble(Answer("A longer answer, in many pieces.", pieces=10), after=6, how="error"))
    reply = await wire.send(provider.request(ASKED, target))
    stream = provider.stream(target, report_usage=True)
    *before, last = reply.events
    assert fed(stream, before)
    with pytest.raises(StreamFailed) as failed:
        fed(stream, [last])
    assert failed.value.failure.kind == "overloaded"
    assert failed.value.failure.message == "the vendor has failed"
    assert not stream.finished


@pytest.mark.parametrize("wire_format", WIRES)
def test_an_event_that_is_no_json_is_a_failure(wire_format: str) -> None:
    with pytest.raises(StreamFailed, match="no JSON"):
        streamed(wire_format, [("", "<html>")])


texts = st.text(min_size=1, max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts, lambda inner: st.lists(inner, max_size=3), max_leaves=4
)
calls = st.builds(Call, name=st.from_regex(r"[a-z]{1,8}", fullmatch=True), arguments=st.dictionaries(texts, values, max_size=3))
answers = st.builds(
    Answer,
    text=st.just("") | texts,
    calls=st.lists(calls, max_size=3),
    reasoning=st.just("") | texts,
    pieces=st.integers(1, 9),
    prompt_tokens=st.integers(10, 99),
    completion_tokens=st.integers(10, 99),
    cached_tokens=st.integers(0, 9),
    reasoning_tokens=st.integers(0, 9),
)


@pytest.mark.parametrize("wire_format", WIRES)
@settings(deadline=None, max_examples=60)
@given(answer=answers)
def test_any_answer_is_the_same_in_pieces_and_at_once(wire_format: str, answer: Answer) -> None:
    provider, target, vendor = REGISTRY[wire_format], target_of(wire_format), WIRES[wire_format]
    stream = provider.stream(target, report_usage=True)
    in_pieces = assembled(fed(stream, list(vendor.events(answer, target.model))))
    at_once, usage = provider.response(vendor.body(answer, target.model), target)
    whole = at_once["choices"][0]
    assert plain(in_pieces["message"]) == plain(whole["message"])
    assert in_pieces["finish_reason"] == whole["finish_reason"]
    assert stream.usage == usage
    assert stream.finished
    for said, call in zip(in_pieces["message"].get("tool_calls", []), answer.calls, strict=True):
        assert json.loads(said["function"]["arguments"]) == call.arguments


class TestOpenAI:
    CHUNK = '{"id":"1","choices":[{"index":0,"delta":{"content":"the \\"usage\\" and the \\"error\\""}}],"vendor":{"a":1}}'

    def test_a_chunk_passes_with_its_vendor_fields(self) -> None:
        assert streamed("openai", [("", self.CHUNK)]) == [json.loads(self.CHUNK)]

    def test_usage_in_a_chunk_with_choices_stays_there(self) -> None:
        chunk = {
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2},
        }
        stream = OpenAIStream(report_usage=False)
        assert list(stream.feed("", json.dumps(chunk))) == [chunk]
        assert (stream.usage.prompt, stream.usage.completion) == (1, 2)

    @pytest.mark.parametrize(
        ("reported", "completion", "reasoning"),
        [
            ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 15}, 5, 3),
            ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 18}, 8, 3),
        ],
    )
    def test_reasoning_is_a_part_of_the_completion_also_where_the_host_counts_it_beside(
        self, reported: dict[str, Any], completion: int, reasoning: int
    ) -> None:
        answer = {"choices": [{}], "usage": {"prompt_tokens": 10, **reported}}
        usage = REGISTRY["openai"].response(answer, target_of("openai"))[1]
        assert (usage.completion, usage.reasoning) == (completion, reasoning)

    def test_groqs_usage_is_found_where_it_used_to_be(self) -> None:
        chunk = {"choices": [{"index": 0, "delta": {}}], "x_groq": {"usage": {"prompt_tokens": 4, "completion_tokens": 2}}}
        stream = OpenAIStream(report_usage=False)
        list(stream.feed("", json.dumps(chunk)))
        assert stream.usage.prompt == 4

    @pytest.mark.parametrize("report_usage", [False, True])
    @settings(deadline=None, max_examples=40)
    @given(answer=answers)
    def test_relaying_says_what_feeding_says(self, report_usage: bool, answer: Answer) -> None:
        events = list(WIRES["openai"].events(answer, "a-model"))
        feeding, relaying = OpenAIStream(report_usage=report_usage), OpenAIStream(report_usage=report_usage)
        relayed = [said for event, data in events if (said := relaying.relay(event, data)) is not None]
        assert [json.loads(data) for data in relayed] == fed(feeding, events)
        assert relaying.usage == feeding.usage
        assert relaying.finished == feeding.finished
        assert set(relayed) <= {data for _, data in events}

    def test_relaying_parses_only_what_may_matter(self) -> None:
        stream = OpenAIStream(report_usage=False)
        assert stream.relay("", self.CHUNK) is self.CHUNK
        with pytest.raises(StreamFailed, match="out of memory"):
            stream.relay("", '{"error": {"message": "out of memory", "code": 500}}')
        with pytest.raises(StreamFailed):
            stream.relay("error", '{"message": "gone"}')


class TestAnthropic:
    def test_a_refusal_says_why(self) -> None:
        details = {"type": "refusal", "category": "bio", "explanation": None}
        ended = {
            "type": "message_delta",
            "delta": {"stop_reason": "refusal", "stop_details": details},
            "usage": {"output_tokens": 4},
        }
        choice = streamed("anthropic", [("message_delta", json.dumps(ended))])[0]["choices"][0]
        assert choice == {"index": 0, "delta": {"refusal": "bio"}, "finish_reason": "content_filter"}

    def test_the_usage_grows_from_event_to_event(self) -> None:
        start = {
            "type": "message_start",
            "message": {"id": "m", "usage": {"input_tokens": 3, "cache_creation_input_tokens": 4, "output_tokens": 1}},
        }
        stream = REGISTRY["anthropic"].stream(target_of("anthropic"), report_usage=False)
        fed(stream, [("message_start", json.dumps(start))])
        assert (stream.usage.prompt, stream.usage.cache_written, stream.usage.completion, stream.usage.exact) == (7, 4, 1, False)
        ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
        fed(stream, [("message_delta", json.dumps(ended))])
        assert (stream.usage.prompt, stream.usage.completion, stream.usage.exact) == (7, 9, True)
        assert not stream.finished

    def test_events_of_tomorrow_say_nothing(self) -> None:
        events = [("ping", '{"type": "ping"}'), ("new", '{"type": "new", "a": 1}')]
        assert streamed("anthropic", events) == []

    def test_redacted_thinking_comes_back_as_it_came(self) -> None:
        block = {"type": "redacted_thinking", "data": "eA=="}
        events = [
            ("content_block_start", json.dumps({"type": "content_block_start", "index": 0, "content_block": block})),
            ("content_block_stop", '{"type": "content_block_stop", "index": 0}'),
            ("message_delta", '{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}'),
        ]
        extra = streamed("anthropic", events)[-1]["choices"][0]["delta"]["extra_content"]
        assert extra == {"anthropic": {"model": "claude-sonnet-5", "thinking_blocks": [block]}}


class TestGoogle:
    def test_a_blocked_prompt_ends_the_stream(self) -> None:
        stream = REGISTRY["google"].stream(target_of("google"), report_usage=True)
        blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
        first, usage = fed(stream, [("", json.dumps(blocked))])
        assert first["choices"][0]["finish_reason"] == "content_filter"
        assert "SAFETY" in first["choices"][0]["delta"]["refusal"]
        assert usage["usage"]["prompt_tokens"] == 3
        assert stream.finished

    def test_it_is_over_when_every_candidate_is(self) -> None:
        def piece(index: int, **members: Any) -> Event:
            candidate = {"index": index, "content": {"parts": [{"text": "a"}]}, **members}
            return "", json.dumps({"candidates": [candidate]})

        stream = REGISTRY["google"].stream(target_of("google"), report_usage=False)
        fed(stream, [piece(0), piece(1), piece(0, finishReason="STOP")])
        assert not stream.finished
        fed(stream, [piece(1, finishReason="MAX_TOKENS")])
        assert stream.finished

    def test_a_model_that_could_not_go_on_is_a_failure_whose_usage_is_known(self) -> None:
        failed = {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}], "usageMetadata": {"promptTokenCount": 3}}
        stream = REGISTRY["google"].stream(target_of("google"), report_usage=False)
        with pytest.raises(StreamFailed, match="MALFORMED_FUNCTION_CALL"):
            fed(stream, [("", json.dumps(failed))])
        assert stream.usage.prompt == 3

    def test_an_unsigned_call_without_an_id_gets_one(self) -> None:
        piece = {"candidates": [{"content": {"parts": [{"functionCall": {"name": "now"}}]}, "finishReason": "STOP"}]}
        call = assembled(streamed("google", [("", json.dumps(piece))]))["message"]["tool_calls"][0]
        assert call["id"].startswith("call_")
        assert call["function"] == {"name": "now", "arguments": "{}"}


async def test_raw_events_of_a_vendor_are_sent_as_they_are(wire: Wire) -> None:
    wire.vendor.say(Raw(events=[("", TestOpenAI.CHUNK), ("", "[DONE]")]))
    reply = await wire.send(REGISTRY["openai"].request(ASKED, wire.vendor.target("openai")))
    assert reply.events == [("", TestOpenAI.CHUNK), ("", "[DONE]")]
