"""Bodies of the OpenAI kind, written: a chat completion, its chunks and its usage."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from auralink.core.ids import uuid7
from auralink.llm.providers.protocol import Body, Usage


def completion(answer_id: str | None, model: str, choices: Sequence[Body], usage: Usage) -> Body:
    """A chat completion."""
    return {
        "id": _id(answer_id),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": list(choices),
        "usage": usage_body(usage),
    }


def choice(index: int, message: Body, finish_reason: str, logprobs: Body | None = None) -> Body:
    """One choice of a chat completion."""
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}


class ChunkWriter:
    """Writes the chunks of one answer. The id may become known after it is made, but before the first chunk."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._created = int(time.time())
        self._id = ""

    def named(self, answer_id: str | None) -> None:
        """Takes the provider's id for the answer; the first one counts."""
        self._id = self._id or _id(answer_id)

    def delta(self, delta: Body, *, index: int = 0, finish_reason: str | None = None, logprobs: Body | None = None) -> Body:
        """A chunk that adds to one choice."""
        choice: Body = {"index": index, "delta": delta, "finish_reason": finish_reason}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        return self._chunk([choice])

    def usage(self, usage: Usage) -> Body:
        """The last chunk, for a client that has asked for it."""
        return {**self._chunk([]), "usage": usage_body(usage)}

    def _chunk(self, choices: list[Body]) -> Body:
        self.named(None)
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }


def usage_body(usage: Usage) -> Body:
    """The `usage` of a chat completion."""
    prompt_details = {"cached_tokens": usage.cached}
    if usage.cache_written:
        prompt_details["cache_write_tokens"] = usage.cache_written
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def tool_call(call_id: str, name: str, arguments: str, extra: Mapping[str, Any] | None = None) -> Body:
    """A tool call of a message."""
    call: Body = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {**call, "extra_content": dict(extra)} if extra else call


def message(content: str, *, reasoning: str = "", calls: Sequence[Body] = (), extra: Mapping[str, Any] | None = None) -> Body:
    """An assistant's message: `content` is null where only tools are called."""
    body: Body = {"role": "assistant", "content": content if content or not calls else None, "refusal": None}
    if reasoning:
        body["reasoning_content"] = reasoning
    if calls:
        body["tool_calls"] = list(calls)
    if extra:
        body["extra_content"] = dict(extra)
    return body


def _id(answer_id: str | None) -> str:
    return f"chatcmpl-{answer_id or uuid7().hex}"
