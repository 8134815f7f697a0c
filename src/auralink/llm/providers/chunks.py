"""A finished chat completion told as a stream: for answers that are there as a whole (the journal's, the offline model's) and a
client that has asked for chunks."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from auralink.llm.providers.protocol import Body

PIECE = re.compile(r".{1,32}(?:\s+|\Z)|.{1,32}", re.DOTALL)
"""About a line's part: text is cut after words, a word that is longer than that anywhere. Nothing is left out."""


def chunks_of(completion: Mapping[str, Any], *, report_usage: bool = False) -> Iterator[Body]:
    """The chunks that add up to a completion. Each has its id, time and model, and whatever else stands beside its choices.

    Choices come one after another: the role and what is not text, the reasoning and the text in pieces, each tool call whole, then
    why it ended. `report_usage`: a last chunk has the usage, as for `stream_options.include_usage`.
    """
    frame = {name: value for name, value in completion.items() if name not in {"object", "choices", "usage"}}
    frame["object"] = "chat.completion.chunk"
    for choice in completion["choices"]:
        for delta in _deltas(choice["message"]):
            yield {**frame, "choices": [_choice(choice, delta, None)]}
        last = _choice(choice, {}, choice.get("finish_reason"))
        if choice.get("logprobs") is not None:
            last["logprobs"] = choice["logprobs"]
        yield {**frame, "choices": [last]}
    if report_usage:
        yield {**frame, "choices": [], "usage": completion.get("usage")}


def _choice(choice: Mapping[str, Any], delta: Body, finish_reason: str | None) -> Body:
    return {"index": choice.get("index", 0), "delta": delta, "finish_reason": finish_reason}


def _deltas(message: Mapping[str, Any]) -> Iterator[Body]:
    """What a message adds, bit by bit; members that are null add nothing."""
    whole = {name: value for name, value in message.items() if value is not None}
    texts = {name: whole.pop(name, "") for name in ("reasoning_content", "content")}
    calls = whole.pop("tool_calls", ())
    yield {"role": "assistant", "content": None if calls and not texts["content"] else "", **whole}
    for name, text in texts.items():
        yield from ({name: piece} for piece in PIECE.findall(text))
    for index, call in enumerate(calls):
        yield {"tool_calls": [{"index": index, **call}]}
