"""The OpenAI format, which most hosts speak: what the client sends and what the host answers go through as they are.

Source: https://platform.openai.com/docs/api-reference/chat. A host checks its own fields; only what it would drop without a word is
refused here (openai_hosts.py).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from auralink.llm.providers.failures import failure, json_of, kind_of, text_of
from auralink.llm.providers.fields import LeftOut, Refused, check_fields
from auralink.llm.providers.openai_hosts import LIMITS, Host, address, host_of
from auralink.llm.providers.protocol import Body, ErrorKind, Failure, HttpRequest, StreamFailed, Target, Usage

DONE = "[DONE]"
_FOREIGN_IN_MESSAGES = frozenset({"extra_content"})
"""What other formats' answers hold beside the OpenAI fields; the hosts would refuse it."""


class OpenAIFormat:
    """Any OpenAI-compatible host."""

    def request(self, body: Mapping[str, Any], target: Target) -> HttpRequest:
        """The client's body with the model, the limit, the usage report and the tool call ids as the host takes them.

        Raises:
            UnsupportedField: the host is known to drop a field without a word.
        """
        host = host_of(target)
        sent = _fitted(body, host, target.provider)
        sent["model"] = target.model
        if sent.get("stream") and host.stream_options:
            sent["stream_options"] = {**(sent.get("stream_options") or {}), "include_usage": True}
        else:
            sent.pop("stream_options", None)
        url = f"{address(target, host)}/chat/completions"
        return HttpRequest(url, _headers(target, stream=bool(sent.get("stream"))), orjson.dumps(sent))

    def response(self, answer: Mapping[str, Any], target: Target) -> tuple[Body, Usage]:
        """The host's own answer, under the target's name.

        Raises:
            ValueError: it has no choices.
        """
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices:
            raise ValueError("the answer has no choices")
        return {**answer, "model": target.model}, read_usage(answer.get("usage"))

    def stream(self, target: Target, *, report_usage: bool) -> "OpenAIStream":
        """A translator that passes chunks on."""
        return OpenAIStream(report_usage=report_usage)

    def embeddings_request(self, body: Mapping[str, Any], target: Target) -> HttpRequest:
        """The client's body with the model as the host calls it."""
        return HttpRequest(
            f"{address(target, host_of(target))}/embeddings", _headers(target), orjson.dumps({**body, "model": target.model})
        )

    def models_request(self, target: Target) -> HttpRequest:
        """`GET /models`."""
        return HttpRequest(f"{address(target, host_of(target))}/models", _headers(target), b"")

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
        """The host's error in one of the many forms in use."""
        error = _error_in(json_of(content))
        message = _message_of(error) or text_of(content, status)
        return failure(_kind(error, status), message, headers)


class OpenAIStream:
    """Passes chunks on unchanged and hides the usage that only the gateway asked for."""

    def __init__(self, *, report_usage: bool) -> None:
        self._report_usage = report_usage
        self._finished = False
        self.usage = Usage(exact=False)

    @property
    def finished(self) -> bool:
        """Whether `[DONE]` has come."""
        return self._finished

    def feed(self, event: str, data: str) -> Iterable[Body]:
        """The chunk in an event, if it is one for the client.

        Raises:
            StreamFailed: the host reports an error, or what it sends is no JSON.
        """
        if data == DONE:
            self._finished = True
            return ()
        chunk = json_of(data.encode())
        if not isinstance(chunk, dict) or event == "error" or chunk.get("error"):
            raise StreamFailed(_failure_in_stream(chunk, data))
        reported = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage")
        if reported:
            self.usage = read_usage(reported)
            if not chunk.get("choices") and not self._report_usage:
                return ()
        return (chunk,)

    def relay(self, event: str, data: str) -> str | None:
        """`feed` for a caller that needs no dict: the event's data for the client, as it came; None if there is none for it.

        Only an event that may hold usage or an error is parsed: inside a JSON string a quotation mark follows a backslash, so that
        a text about usage does not look like a member of that name.
        """
        if data != DONE and event != "error" and '"error"' not in data and ('"usage"' not in data or '"usage":null' in data):
            return data
        return data if self.feed(event, data) else None


def _headers(target: Target, *, stream: bool = False) -> Mapping[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream" if stream else "application/json"}
    return headers | ({"Authorization": f"Bearer {target.key.reveal()}"} if target.key else {})


def read_usage(reported: object) -> Usage:
    """The usage that a host reports. Where the total shows that it counts reasoning beside the completion (xAI), it is added."""
    if not isinstance(reported, Mapping):
        return Usage(exact=False)
    prompt, completion = _count(reported, "prompt_tokens"), _count(reported, "completion_tokens")
    prompt_details = reported.get("prompt_tokens_details")
    reasoning = _count(reported.get("completion_tokens_details"), "reasoning_tokens")
    if reasoning and _count(reported, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    return Usage(
        prompt=prompt,
        completion=completion,
        cached=_count(prompt_details, "cached_tokens") or _count(reported, "prompt_cache_hit_tokens"),
        cache_written=_count(prompt_details, "cache_write_tokens"),
        reasoning=reasoning,
    )


def _count(counts: object, name: str) -> int:
    value = counts.get(name) if isinstance(counts, Mapping) else None
    return value if isinstance(value, int) else 0


def _fitted(body: Mapping[str, Any], host: Host, provider: str) -> dict[str, Any]:
    check_fields({name: value for name, value in body.items() if name in host.fields}, host.fields, provider)
    sent = {host.renamed.get(name, name): value for name, value in body.items() if not _drops(host, name)}
    if host.limit:
        given = [limit for name in LIMITS if (limit := sent.pop(name, None)) is not None]
        if given:
            sent[host.limit] = min(given)
    for name, members in host.added.items():
        sent[name] = {**members, **(sent.get(name) or {})}
    sent["messages"] = [_message(message, host) for message in body["messages"]]
    return sent


def _drops(host: Host, name: str) -> bool:
    """A field that is neutral where another value would be refused is not sent either: the host does not know it."""
    return isinstance(host.fields.get(name), LeftOut | Refused)


def _message(message: Mapping[str, Any], host: Host) -> Mapping[str, Any]:
    changed: dict[str, Any] = {}
    if message.get("role") == "developer" and not host.developer:
        changed["role"] = "system"
    call_id = message.get("tool_call_id")
    if call_id is not None and (fitted := host.tool_ids.fitted(call_id)) != call_id:
        changed["tool_call_id"] = fitted
    if calls := message.get("tool_calls"):
        changed["tool_calls"] = [_tool_call(call, host) for call in calls]
    foreign = _FOREIGN_IN_MESSAGES if host.reasoning else _FOREIGN_IN_MESSAGES | {"reasoning_content"}
    if not changed and foreign.isdisjoint(message):
        return message
    return {name: value for name, value in {**message, **changed}.items() if name not in foreign}


def _tool_call(call: Mapping[str, Any], host: Host) -> Mapping[str, Any]:
    known = {name: value for name, value in call.items() if name not in _FOREIGN_IN_MESSAGES}
    return known | {"id": host.tool_ids.fitted(str(call.get("id", "")))}


def _failure_in_stream(chunk: object, data: str) -> Failure:
    error = _error_in(chunk)
    if not isinstance(chunk, Mapping):
        return failure("server_error", f"an event that is no JSON: {data}", {})
    status = error.get("code")
    return failure(_kind(error, status if isinstance(status, int) else 500), _message_of(error) or data, {})


def _error_in(body: object) -> Mapping[str, Any]:
    """The error object: OpenAI's `{"error": {…}}`, `{"error": "…"}` (Ollama, xAI), the body itself (Mistral), `{"detail": …}`."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, Mapping):
        return {}
    error = body.get("error")
    if isinstance(error, Mapping):
        return error
    return {**body, "message": error} if isinstance(error, str) else body


def _message_of(error: Mapping[str, Any]) -> str:
    message = error.get("message") or error.get("detail") or ""
    said = message if isinstance(message, str) else orjson.dumps(message).decode()
    metadata = error.get("metadata")
    cause = metadata.get("raw") if isinstance(metadata, Mapping) else None
    return f"{said}: {cause}" if isinstance(cause, str) and cause else said


def _kind(error: Mapping[str, Any], status: int) -> ErrorKind:
    names = {str(error.get("code", "")), str(error.get("type", ""))}
    if names & {"insufficient_quota", "invalid_api_key"}:
        return "unauthorized"
    if names & {"context_length_exceeded", "exceed_context_size_error"}:
        return "context_length"
    if names & {"rate_limit_exceeded", "rate_limit_error", "tokens", "requests"} and status in {429, 500}:
        return "rate_limited"
    return kind_of(status)
