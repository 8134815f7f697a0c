"""A completed answer as a stream."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from auralink.llm.providers.chunks import chunks_of
from auralink.llm.providers.completions import choice, completion, message, tool_call
from auralink.llm.providers.protocol import Usage


def joined(chunks: list[dict[str, Any]], index: int = 0) -> dict[str, Any]:
    """What a client makes of the chunks of one choice."""
    said: dict[str, Any] = {"content": "", "tool_calls": []}
    for chunk in chunks:
        for part in chunk["choices"]:
            if part["index"] != index:
                continue
            delta = dict(part["delta"])
            said["content"] += delta.pop("content", None) or ""
            said["tool_calls"] += delta.pop("tool_calls", [])
            said |= delta
            said["finish_reason"] = part["finish_reason"]
    return said


def test_a_text_comes_in_pieces_that_add_up() -> None:
    answer = completion("1", "m", [choice(0, message("A sentence that is longer than one of the pieces."), "stop")], Usage(3, 4))
    chunks = list(chunks_of(answer))
    assert joined(chunks) == {
        "role": "assistant",
        "content": "A sentence that is longer than one of the pieces.",
        "tool_calls": [],
        "finish_reason": "stop",
    }
    assert len(chunks) == 4
    assert {(c["id"], c["created"], c["model"]) for c in chunks} == {(answer["id"], answer["created"], "m")}
    assert all(ChatCompletionChunk.model_validate(c) for c in chunks)


def test_calls_reasoning_and_what_a_vendor_adds_come_too() -> None:
    said = message("", reasoning="Let me see.", calls=[tool_call("a", "f", "{}"), tool_call("b", "g", "{}")], extra={"x": 1})
    chunks = list(chunks_of({**completion("1", "m", [choice(0, said, "tool_calls")], Usage()), "service_tier": "flex"}))
    whole = joined(chunks)
    assert [call["index"] for call in whole["tool_calls"]] == [0, 1]
    assert whole["tool_calls"][1] == {"index": 1, **tool_call("b", "g", "{}")}
    assert (whole["reasoning_content"], whole["extra_content"], whole["finish_reason"]) == ("Let me see.", {"x": 1}, "tool_calls")
    assert all(c["service_tier"] == "flex" for c in chunks)
    assert chunks[0]["choices"][0]["delta"]["content"] is None


def test_several_choices_keep_their_index_and_usage_comes_last_if_asked_for() -> None:
    answer = completion(
        "1", "m", [choice(0, message("a"), "stop"), choice(1, message("b"), "length", {"content": []})], Usage(1, 2)
    )
    chunks = list(chunks_of(answer, report_usage=True))
    assert (joined(chunks, 0)["content"], joined(chunks, 1)["content"]) == ("a", "b")
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == answer["usage"]
    assert chunks[-2]["choices"][0]["logprobs"] == {"content": []}
    assert not any("usage" in c for c in chunks[:-1])


@given(st.text())
def test_no_character_is_lost(text: str) -> None:
    chunks = list(chunks_of(completion(None, "m", [choice(0, message(text), "stop")], Usage())))
    assert joined(chunks)["content"] == text
