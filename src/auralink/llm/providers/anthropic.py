"""Anthropic's Messages API: requests, answers and errors.

Source: https://platform.claude.com/docs/en/api/messages, with structured outputs (`output_config.format`), adaptive thinking and
effort. What each generation of Claude takes is in anthropic_models.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from auralink.llm.errors import UnsupportedField
from auralink.llm.providers.anthropic_models import Claude, claude
from auralink.llm.providers.anthropic_schema import closed
from auralink.llm.providers.anthropic_stream import AnthropicStream
from auralink.llm.providers.anthropic_turns import conversation
from auralink.llm.providers.anthropic_words import FINISH_REASONS, extra_of, read_usage
from auralink.llm.providers.completions import choice, completion, message, tool_call
from auralink.llm.providers.content import Place
from auralink.llm.providers.failures import failure, json_of, kind_of, text_of
from auralink.llm.providers.fields import HONOURED, OPENAI_HINTS, OPENAI_ONLY, FieldTable, Refused, check_fields
from auralink.llm.providers.protocol import Body, ErrorKind, Failure, HttpRequest, Target, Usage

VERSION = "2023-06-01"
NO_SUCH_CONTROL = "it has no such control"
FIELDS: FieldTable = {
    **dict.fromkeys(
        (
            "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k",
            "stop", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "thinking", "user",
            "safety_identifier", "service_tier",
        ),
        HONOURED,
    ),
    **OPENAI_HINTS,
    **OPENAI_ONLY,
    "n": Refused("it gives one answer", unless=(1,)),
    "seed": Refused(NO_SUCH_CONTROL),
    "logit_bias": Refused(NO_SUCH_CONTROL, unless=({},)),
    "logprobs": Refused("it does not report them", unless=(False,)),
    "top_logprobs": Refused("it does not report them", unless=(0,)),
    "frequency_penalty": Refused(NO_SUCH_CONTROL, unless=(0,)),
    "presence_penalty": Refused(NO_SUCH_CONTROL, unless=(0,)),
}  # fmt: skip
SERVICE_TIERS = {"auto": "auto", "default": "standard_only"}
EFFORTS = {"minimal": "low"}
"""OpenAI's efforts that have another name; the others are the same."""
ERROR_KINDS: Mapping[str, ErrorKind] = {
    "invalid_request_error": "invalid_request",
    "authentication_error": "unauthorized",
    "billing_error": "unauthorized",
    "permission_error": "unauthorized",
    "not_found_error": "not_found",
    "request_too_large": "context_length",
    "rate_limit_error": "rate_limited",
    "api_error": "server_error",
    "timeout_error": "server_error",
    "overloaded_error": "overloaded",
}


class AnthropicFormat:
    """The Messages API."""

    def request(self, body: Mapping[str, Any], target: Target) -> HttpRequest:
        """The Messages request.

        Raises:
            UnsupportedField: Anthropic, or this Claude, cannot honour a field.
        """
        check_fields(body, FIELDS, target.provider)
        model = claude(target.model)
        system, turns = conversation(body["messages"], target)
        sent: Body = {"model": target.model, "max_tokens": _limit(body, model), "messages": turns}
        if system:
            sent["system"] = system
        for members in (_sampling, _tools, _thinking, _output):
            sent |= members(body, model, target)
        sent |= _account(body, target)
        if body.get("stream"):
            sent["stream"] = True
        return HttpRequest(_url(target), _headers(target), orjson.dumps(sent))

    def response(self, answer: Mapping[str, Any], target: Target) -> tuple[Body, Usage]:
        """The chat completion in a Messages answer. A refusal ends with `content_filter` and says why in `refusal`.

        Raises:
            ValueError: it is no message.
        """
        if answer.get("type") != "message" or not isinstance(answer.get("content"), list):
            raise ValueError(f"the answer is of type {answer.get('type')!r} and no message")
        usage = read_usage(answer.get("usage"), Usage(exact="usage" in answer))
        finish_reason = FINISH_REASONS.get(str(answer.get("stop_reason")), "stop")
        said = _message(answer["content"], target.model)
        if finish_reason == "content_filter":
            said["refusal"] = _explanation(answer)
        return completion(answer.get("id"), target.model, [choice(0, said, finish_reason)], usage), usage

    def stream(self, target: Target, *, report_usage: bool) -> AnthropicStream:
        """A translator of `message_start` … `message_stop`."""
        return AnthropicStream(target, report_usage=report_usage)

    def embeddings_request(self, body: Mapping[str, Any], target: Target) -> HttpRequest:
        """Anthropic has no embeddings."""
        raise UnsupportedField("model", target.provider, "it has no embeddings")

    def models_request(self, target: Target) -> HttpRequest:
        """`GET /v1/models` (https://platform.claude.com/docs/en/api/models-list)."""
        return HttpRequest(_url(target).replace("/messages", "/models"), _headers(target), b"")

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
        """`{"type": "error", "error": {"type", "message"}, "request_id"}`."""
        body = json_of(content)
        error = body.get("error") if isinstance(body, Mapping) else None
        if not isinstance(error, Mapping):
            return failure(kind_of(status), text_of(content, status), headers)
        said = str(error.get("message") or error.get("type") or "")
        return failure(error_kind(error, status), said, headers, request_id=body.get("request_id"))


def error_kind(error: Mapping[str, Any], status: int) -> ErrorKind:
    """What an error object says. An account without credit is told by its words only."""
    if "credit balance is too low" in str(error.get("message")):
        return "unauthorized"
    return ERROR_KINDS.get(str(error.get("type")), kind_of(status))


def _url(target: Target) -> str:
    return f"{target.base_url.rstrip('/').removesuffix('/v1')}/v1/messages"


def _headers(target: Target) -> Mapping[str, str]:
    key = {"x-api-key": target.key.reveal()} if target.key else {}
    return {"Content-Type": "application/json", "anthropic-version": VERSION} | key


def _limit(body: Mapping[str, Any], model: Claude) -> int:
    given = [limit for name in ("max_tokens", "max_completion_tokens") if (limit := body.get(name)) is not None]
    return min(given, default=model.limit)


def _sampling(body: Mapping[str, Any], model: Claude, target: Target) -> Body:
    """Temperature and its kin. 1 is the default of both APIs and need not be said."""
    sent: Body = {}
    for name in ("temperature", "top_p", "top_k"):
        value = body.get(name)
        if value is None or (value == 1 and name != "top_k"):
            continue
        if not model.samples:
            raise UnsupportedField(name, target.provider, f"{target.model} takes no sampling parameters")
        if name != "top_k" and value > 1:
            raise UnsupportedField(name, target.provider, "it is at most 1 there")
        sent[name] = value
    if "temperature" in sent and "top_p" in sent and not model.samples_by_both:
        raise UnsupportedField("top_p", target.provider, f"{target.model} does not take it together with temperature")
    if stop := body.get("stop"):
        sent["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    return sent


def _tools(body: Mapping[str, Any], model: Claude, target: Target) -> Body:
    if not body.get("tools"):
        return {}
    tools = [_tool(tool, Place(target.provider, f"tools[{index}]")) for index, tool in enumerate(body["tools"])]
    chosen = _tool_choice(body.get("tool_choice"), Place(target.provider, "tool_choice"))
    if chosen.get("type") in {"any", "tool"} and not model.obeys_tool_choice:
        raise UnsupportedField("tool_choice", target.provider, f"{target.model} cannot be made to call a tool")
    if body.get("parallel_tool_calls") is False and chosen.get("type") != "none":
        chosen = {"type": "auto"} | chosen | {"disable_parallel_tool_use": True}
    return {"tools": tools} | ({"tool_choice": chosen} if chosen else {})


def _tool(tool: Mapping[str, Any], place: Place) -> Body:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, Mapping):
        raise place.below("type").refused("it knows only tools of type 'function'")
    sent: Body = {
        "name": function.get("name"),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    if description := function.get("description"):
        sent["description"] = description
    if function.get("strict"):
        sent["strict"] = True
    return sent | ({"cache_control": tool["cache_control"]} if "cache_control" in tool else {})


def _tool_choice(choice: object, place: Place) -> Body:
    match choice:
        case None:
            return {}
        case "auto" | "none":
            return {"type": choice}
        case "required":
            return {"type": "any"}
        case {"type": "function", "function": {"name": name}}:
            return {"type": "tool", "name": name}
        case _:
            raise place.refused("it knows 'auto', 'none', 'required' and one function by name")


def _thinking(body: Mapping[str, Any], model: Claude, target: Target) -> Body:
    """`thinking` as it is given; else what `reasoning_effort` means for it."""
    if given := body.get("thinking"):
        return {"thinking": given}
    effort = body.get("reasoning_effort")
    if effort is None:
        return {}
    if effort != "none":
        return {"thinking": {"type": "adaptive"}} if model.adapts else {}
    least = model.without_thinking
    if least is None:
        raise UnsupportedField("reasoning_effort", target.provider, f"{target.model} always thinks")
    return {"thinking": {"type": least}} if least else {}


def _output(body: Mapping[str, Any], model: Claude, target: Target) -> Body:
    config: Body = {}
    effort = body.get("reasoning_effort")
    if effort not in {None, "none"}:
        if not model.takes_effort:
            raise UnsupportedField("reasoning_effort", target.provider, f"for {target.model}, send `thinking` with a budget")
        config["effort"] = EFFORTS.get(str(effort), effort)
    if form := _form(body.get("response_format"), model, target):
        config["format"] = form
    return {"output_config": config} if config else {}


def _form(wanted: Mapping[str, Any] | None, model: Claude, target: Target) -> Body | None:
    """The form of the answer. A schema's name and `strict` are for OpenAI: here a schema always holds."""
    if wanted is None or wanted.get("type") == "text":
        return None
    if wanted.get("type") != "json_schema":
        raise UnsupportedField("response_format", target.provider, "it knows no JSON mode; send a json_schema")
    if not model.structures:
        raise UnsupportedField("response_format", target.provider, f"{target.model} takes no JSON schema")
    described = wanted.get("json_schema") or {}
    schema = closed(described.get("schema") or {}, Place(target.provider, "response_format.json_schema.schema"))
    if description := described.get("description"):
        schema = {"description": description} | schema
    return {"type": "json_schema", "schema": schema}


def _account(body: Mapping[str, Any], target: Target) -> Body:
    """On whose behalf, and how urgently."""
    sent: Body = {}
    if user := body.get("safety_identifier") or body.get("user"):
        sent["metadata"] = {"user_id": user}
    if tier := body.get("service_tier"):
        if tier not in SERVICE_TIERS:
            raise UnsupportedField("service_tier", target.provider, "it knows 'auto' and 'default'")
        sent["service_tier"] = SERVICE_TIERS[tier]
    return sent


def _message(blocks: Sequence[Mapping[str, Any]], model: str) -> Body:
    texts = [block.get("text", "") for block in blocks if block.get("type") == "text"]
    thoughts = [block for block in blocks if block.get("type") in {"thinking", "redacted_thinking"}]
    calls = [
        tool_call(str(block["id"]), block["name"], orjson.dumps(block.get("input") or {}).decode())
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    reasoning = "".join(block.get("thinking", "") for block in thoughts)
    return message("".join(texts), reasoning=reasoning, calls=calls, extra=extra_of(thoughts, model))


def _explanation(answer: Mapping[str, Any]) -> str:
    details = answer.get("stop_details")
    said = details.get("explanation") or details.get("category") if isinstance(details, Mapping) else None
    return str(said or "the model declined to answer")
