"""What vendors send, in their own words: one scripted answer as JSON or as events, in each of the three wire formats.

Written from the vendors' public documents and not from our translators, which these are there to test.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

Event = tuple[str, str]
"""The name of a server-sent event (empty: it has none) and its data."""
CREATED = 1_790_000_000


@dataclass(frozen=True)
class Call:
    """A tool call that the model makes."""

    name: str
    arguments: dict[str, Any]
    call_id: str = "call_1"
    signature: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a model says, whichever vendor it is at. A text comes in `pieces` when it is streamed."""

    text: str = "Hello."
    calls: Sequence[Call] = ()
    reasoning: str = ""
    finish_reason: str | None = None
    prompt_tokens: int = 7
    completion_tokens: int = 5
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    pieces: int = 2

    @property
    def ended(self) -> str:
        """The finish reason in OpenAI's words."""
        return self.finish_reason or ("tool_calls" if self.calls else "stop")


def pieces(text: str, count: int) -> list[str]:
    """A text cut into at most so many pieces."""
    size = max(1, -(-len(text) // count))
    return [text[start : start + size] for start in range(0, len(text), size)]


class OpenAIWire:
    """`/v1/chat/completions`."""

    @staticmethod
    def body(answer: Answer, model: str) -> dict[str, Any]:
        """The JSON answer."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if answer.calls:
            message["tool_calls"] = [OpenAIWire._call(call) for call in answer.calls]
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.ended}
        return {
            "id": "chatcmpl-1", "object": "chat.completion", "created": CREATED, "model": model, "choices": [choice],
            "usage": OpenAIWire._usage(answer), "system_fingerprint": "fp_1",
        }  # fmt: skip

    @staticmethod
    def events(answer: Answer, model: str, *, include_usage: bool = True) -> Iterator[Event]:
        """Chunks and `[DONE]`. The usage comes only to those who ask for it."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning_content": piece} for piece in pieces(answer.reasoning, answer.pieces)]
        deltas += [{"content": piece} for piece in pieces(answer.text, answer.pieces)]
        for index, call in enumerate(answer.calls):
            begun = OpenAIWire._call(call) | {"index": index}
            arguments = begun["function"].pop("arguments")
            begun["function"]["arguments"] = ""
            deltas.append({"tool_calls": [begun]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces(arguments, answer.pieces)
            ]
        for delta in deltas:
            yield OpenAIWire._chunk(model, [{"index": 0, "delta": delta, "finish_reason": None}], include_usage)
        yield OpenAIWire._chunk(model, [{"index": 0, "delta": {}, "finish_reason": answer.ended}], include_usage)
        if include_usage:
            yield OpenAIWire._chunk(model, [], include_usage, OpenAIWire._usage(answer))
        yield "", "[DONE]"

    @staticmethod
    def error(status: int, message: str) -> dict[str, Any]:
        """The body of an error."""
        code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
        return {"error": {"message": message, "type": "invalid_request_error" if status < 500 else "server_error", "code": code}}

    @staticmethod
    def error_event(message: str) -> Event:
        """An error in the middle of a stream."""
        return "", json.dumps({"error": {"message": message, "type": "server_error", "code": 503}})

    @staticmethod
    def _chunk(model: str, choices: list[Any], include_usage: bool, usage: Any = None) -> Event:
        chunk = {
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": model, "choices": choices,
            "system_fingerprint": "fp_1",
        }  # fmt: skip
        return "", json.dumps(chunk | ({"usage": usage} if include_usage else {}), separators=(",", ":"))

    @staticmethod
    def _call(call: Call) -> dict[str, Any]:
        function = {"name": call.name, "arguments": json.dumps(call.arguments, separators=(",", ":"), ensure_ascii=False)}
        return {"id": call.call_id, "type": "function", "function": function}

    @staticmethod
    def _usage(answer: Answer) -> dict[str, Any]:
        return {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        }


class AnthropicWire:
    """`/v1/messages`."""

    STOP_REASONS: ClassVar = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

    @staticmethod
    def body(answer: Answer, model: str) -> dict[str, Any]:
        """The JSON answer."""
        return AnthropicWire._message(model, AnthropicWire._blocks(answer)) | {
            "stop_reason": AnthropicWire.STOP_REASONS[answer.ended],
            "usage": AnthropicWire._prompt_usage(answer) | AnthropicWire._output_usage(answer),
        }

    @staticmethod
    def events(answer: Answer, model: str, *, include_usage: bool = True) -> Iterator[Event]:
        """`message_start` … `message_stop`, with a `ping`. Usage is always reported."""
        del include_usage
        start = AnthropicWire._message(model, []) | {"usage": AnthropicWire._prompt_usage(answer) | {"output_tokens": 1}}
        yield AnthropicWire._event("message_start", message=start)
        yield AnthropicWire._event("ping")
        for index, block in enumerate(AnthropicWire._blocks(answer)):
            begun, deltas = AnthropicWire._streamed(block, answer.pieces)
            yield AnthropicWire._event("content_block_start", index=index, content_block=begun)
            for delta in deltas:
                yield AnthropicWire._event("content_block_delta", index=index, delta=delta)
            yield AnthropicWire._event("content_block_stop", index=index)
        ended = {"stop_reason": AnthropicWire.STOP_REASONS[answer.ended], "stop_sequence": None}
        yield AnthropicWire._event("message_delta", delta=ended, usage=AnthropicWire._output_usage(answer))
        yield AnthropicWire._event("message_stop")

    @staticmethod
    def error(status: int, message: str) -> dict[str, Any]:
        """The body of an error."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 529: "overloaded_error"}
        kind = kinds.get(status, "invalid_request_error" if status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}

    @staticmethod
    def error_event(message: str) -> Event:
        """An error in the middle of a stream."""
        return AnthropicWire._event("error", error={"type": "overloaded_error", "message": message})

    @staticmethod
    def _event(kind: str, **members: Any) -> Event:
        return kind, json.dumps({"type": kind, **members})

    @staticmethod
    def _message(model: str, content: list[Any]) -> dict[str, Any]:
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": content, "stop_reason": None,
            "stop_sequence": None,
        }  # fmt: skip

    @staticmethod
    def _blocks(answer: Answer) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if answer.reasoning:
            blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": "c2ln"})
        if answer.text:
            blocks.append({"type": "text", "text": answer.text})
        return blocks + [
            {"type": "tool_use", "id": call.call_id, "name": call.name, "input": call.arguments} for call in answer.calls
        ]

    @staticmethod
    def _streamed(block: dict[str, Any], count: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if block["type"] == "text":
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"], count)]
            return {"type": "text", "text": ""}, deltas
        if block["type"] == "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"], count)]
            return {"type": "thinking", "thinking": "", "signature": ""}, [
                *deltas,
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        written = json.dumps(block["input"], separators=(",", ":"), ensure_ascii=False) if block["input"] else ""
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(written, count)]]
        return block | {"input": {}}, deltas

    @staticmethod
    def _prompt_usage(answer: Answer) -> dict[str, Any]:
        return {
            "input_tokens": answer.prompt_tokens - answer.cached_tokens,
            "cache_read_input_tokens": answer.cached_tokens,
            "cache_creation_input_tokens": 0,
        }

    @staticmethod
    def _output_usage(answer: Answer) -> dict[str, Any]:
        details = {"thinking_tokens": answer.reasoning_tokens}
        return {"output_tokens": answer.completion_tokens, "output_tokens_details": details}


class GoogleWire:
    """`generateContent` and `streamGenerateContent?alt=sse`."""

    FINISH_REASONS: ClassVar = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}

    @staticmethod
    def body(answer: Answer, model: str) -> dict[str, Any]:
        """The JSON answer."""
        return GoogleWire._piece(answer, model, GoogleWire._parts(answer, 1), last=True)

    @staticmethod
    def events(answer: Answer, model: str, *, include_usage: bool = True) -> Iterator[Event]:
        """Pieces without a name; the last has the finish reason, and nothing follows it. Usage is always reported."""
        del include_usage
        parts = GoogleWire._parts(answer, answer.pieces) or [{"text": ""}]
        for index, part in enumerate(parts):
            yield "", json.dumps(GoogleWire._piece(answer, model, [part], last=index == len(parts) - 1))

    @staticmethod
    def error(status: int, message: str) -> dict[str, Any]:
        """The body of an error."""
        names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
        return {"error": {"code": status, "message": message, "status": names.get(status, "INTERNAL")}}

    @staticmethod
    def error_event(message: str) -> Event:
        """An error in the middle of a stream."""
        return "", json.dumps(GoogleWire.error(503, message))

    @staticmethod
    def _parts(answer: Answer, count: int) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [{"text": piece, "thought": True} for piece in pieces(answer.reasoning, count)]
        parts += [{"text": piece} for piece in pieces(answer.text, count)]
        for call in answer.calls:
            part: dict[str, Any] = {"functionCall": {"name": call.name, "args": call.arguments, "id": call.call_id}}
            parts.append(part | ({"thoughtSignature": call.signature} if call.signature else {}))
        return parts

    @staticmethod
    def _piece(answer: Answer, model: str, parts: list[Any], *, last: bool) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        usage = {"promptTokenCount": answer.prompt_tokens, "totalTokenCount": answer.prompt_tokens}
        if last:
            candidate["finishReason"] = GoogleWire.FINISH_REASONS[answer.ended]
            usage |= {
                "candidatesTokenCount": answer.completion_tokens - answer.reasoning_tokens,
                "thoughtsTokenCount": answer.reasoning_tokens,
                "cachedContentTokenCount": answer.cached_tokens,
                "totalTokenCount": answer.prompt_tokens + answer.completion_tokens,
            }
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "resp-1"}


Wire = type[OpenAIWire] | type[AnthropicWire] | type[GoogleWire]
WIRES: dict[str, Wire] = {"openai": OpenAIWire, "anthropic": AnthropicWire, "google": GoogleWire}
