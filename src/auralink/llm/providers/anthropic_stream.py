"""Anthropic's event stream as chunks of the OpenAI kind.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import orjson

from auralink.llm.providers.anthropic_words import FINISH_REASONS, extra_of, read_usage
from auralink.llm.providers.completions import ChunkWriter
from auralink.llm.providers.failures import failure, json_of
from auralink.llm.providers.protocol import Body, ErrorKind, StreamFailed, Target, Usage

ERRORS_IN_STREAMS: dict[str, ErrorKind] = {"overloaded_error": "overloaded", "rate_limit_error": "rate_limited"}


class AnthropicStream:
    """One answer as it comes: blocks begin, grow and end; then the reason of the end, the usage, and `message_stop`."""

    def __init__(self, target: Target, *, report_usage: bool) -> None:
        self._model = target.model
        self._report_usage = report_usage
        self._chunks = ChunkWriter(target.model)
        self._finished = False
        self._calls = 0
        self._thoughts: list[Body] = []
        self._argued = False
        self._block: Body = {}
        self._events: dict[str, Callable[[Body], Iterable[Body]]] = {
            "message_start": self._message_start,
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "error": self._error,
        }
        self.usage = Usage(exact=False)

    @property
    def finished(self) -> bool:
        """Whether `message_stop` has come."""
        return self._finished

    def feed(self, event: str, data: str) -> Iterable[Body]:
        """The chunks for one event; events that are not known say nothing, as Anthropic asks of its clients.

        Raises:
            StreamFailed: an `error` event, or one that is no JSON.
        """
        body = json_of(data.encode())
        if not isinstance(body, dict):
            raise StreamFailed(failure("server_error", f"an event that is no JSON: {data}", {}))
        handler = self._events.get(str(body.get("type") or event))
        return handler(body) if handler else ()

    def _message_start(self, event: Body) -> Iterable[Body]:
        message = event.get("message") or {}
        self._chunks.named(message.get("id"))
        self.usage = read_usage(message.get("usage"), self.usage)
        return (self._chunks.delta({"role": "assistant", "content": ""}),)

    def _block_start(self, event: Body) -> Iterable[Body]:
        self._block = dict(event.get("content_block") or {})
        match self._block.get("type"):
            case "tool_use":
                self._calls += 1
                self._argued = False
                return (self._call(id=self._block["id"], type="function", function=self._named_function()),)
            case "text" if self._block.get("text"):
                return (self._chunks.delta({"content": self._block["text"]}),)
            case "thinking" if self._block.get("thinking"):
                return (self._chunks.delta({"reasoning_content": self._block["thinking"]}),)
        return ()

    def _named_function(self) -> Body:
        """The function with the arguments that are there at the start: usually none, they follow in pieces."""
        arguments = orjson.dumps(self._block["input"]).decode() if self._block.get("input") else ""
        self._argued = bool(arguments)
        return {"name": self._block["name"], "arguments": arguments}

    def _block_delta(self, event: Body) -> Iterable[Body]:
        delta = event.get("delta") or {}
        match delta.get("type"):
            case "text_delta":
                return (self._chunks.delta({"content": delta["text"]}),)
            case "input_json_delta" if delta["partial_json"]:
                self._argued = True
                return (self._call(function={"arguments": delta["partial_json"]}),)
            case "thinking_delta":
                self._block["thinking"] = self._block.get("thinking", "") + delta["thinking"]
                return (self._chunks.delta({"reasoning_content": delta["thinking"]}),) if delta["thinking"] else ()
            case "signature_delta":
                self._block["signature"] = self._block.get("signature", "") + delta["signature"]
        return ()

    def _block_stop(self, _: Body) -> Iterable[Body]:
        block, self._block = self._block, {}
        match block.get("type"):
            case "thinking" | "redacted_thinking":
                self._thoughts.append(block)
            case "tool_use" if not self._argued:
                return (self._call(function={"arguments": "{}"}),)
        return ()

    def _message_delta(self, event: Body) -> Iterable[Body]:
        self.usage = replace(read_usage(event.get("usage"), self.usage), exact=True)
        said = event.get("delta") or {}
        reason = said.get("stop_reason")
        if reason is None:
            return ()
        delta: dict[str, Any] = {}
        if extra := extra_of(self._thoughts, self._model):
            delta["extra_content"] = extra
        finish_reason = FINISH_REASONS.get(reason, "stop")
        if finish_reason == "content_filter":
            details = said.get("stop_details") or {}
            delta["refusal"] = details.get("explanation") or details.get("category") or "the model declined to answer"
        return (self._chunks.delta(delta, finish_reason=finish_reason),)

    def _message_stop(self, _: Body) -> Iterable[Body]:
        self._finished = True
        return (self._chunks.usage(self.usage),) if self._report_usage else ()

    def _error(self, event: Body) -> Iterable[Body]:
        error = event.get("error") or {}
        kind = ERRORS_IN_STREAMS.get(str(error.get("type")), "server_error")
        raise StreamFailed(failure(kind, str(error.get("message", "")), {}, request_id=event.get("request_id")))

    def _call(self, **members: Any) -> Body:
        return self._chunks.delta({"tool_calls": [{"index": self._calls - 1, **members}]})
