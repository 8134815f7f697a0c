"""Google's Gemini API: requests, answers and errors of `generateContent`.

Source: https://ai.google.dev/api/generate-content and the guides beside it (function calling, structured output, thinking).
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from auralink.llm.errors import UnsupportedField
from auralink.llm.providers.completions import choice, completion, message
from auralink.llm.providers.content import Place
from auralink.llm.providers.failures import failure, json_of, kind_of, text_of
from auralink.llm.providers.fields import HONOURED, OPENAI_HINTS, OPENAI_ONLY, FieldTable, LeftOut, Refused, check_fields
from auralink.llm.providers.google_candidates import FILTERED, CandidateReader, block_reason, explanation, logprobs_of, read_usage
from auralink.llm.providers.google_contents import conversation
from auralink.llm.providers.google_errors import error_in, failure_of
from auralink.llm.providers.google_stream import GoogleStream
from auralink.llm.providers.protocol import Body, Failure, HttpRequest, Target, Usage

FIELDS: FieldTable = {
    **dict.fromkeys(
        (
            "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k",
            "stop", "n", "seed", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "tools", "tool_choice",
            "response_format", "reasoning_effort", "service_tier",
        ),
        HONOURED,
    ),
    **OPENAI_HINTS,
    **OPENAI_ONLY,
    "user": LeftOut("it has no place for it"),
    "safety_identifier": LeftOut("it has no place for it"),
    "logit_bias": Refused("it has no such control", unless=({},)),
    "parallel_tool_calls": Refused("how many tools it calls is its own decision", unless=(True,)),
}  # fmt: skip
CONFIG_NAMES = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "n": "candidateCount",
    "seed": "seed",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
SERVICE_TIERS = {"default": "standard", "flex": "flex", "priority": "priority"}
CHOICE_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
LEVELS = frozenset({"minimal", "low", "medium", "high"})
"""The efforts that Gemini 3 and later have as levels."""
BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""What Google's own OpenAI endpoint makes of an effort for Gemini 2.5, in tokens."""
_GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")


class GoogleFormat:
    """The Gemini API."""

    def request(self, body: Mapping[str, Any], target: Target) -> HttpRequest:
        """The `generateContent` request, or `streamGenerateContent` with server-sent events.

        Raises:
            UnsupportedField: Gemini, or this generation of it, cannot honour a field.
        """
        check_fields(body, _fields_for(body), target.provider)
        system, contents = conversation(body["messages"], target)
        sent: Body = {"contents": contents}
        if system:
            sent["systemInstruction"] = {"parts": system}
        sent |= _tools(body, target) | _tier(body, target)
        if config := _config(body, target):
            sent["generationConfig"] = config
        return HttpRequest(_url(target, stream=bool(body.get("stream"))), _headers(target), orjson.dumps(sent))

    def response(self, answer: Mapping[str, Any], target: Target) -> tuple[Body, Usage]:
        """The chat completion in an answer. One that a filter has ended says why in `refusal`; so does a blocked prompt.

        Raises:
            ValueError: there is no candidate, or the model has failed in the middle of one.
        """
        usage = read_usage(answer.get("usageMetadata"))
        if reason := block_reason(answer):
            choices = [choice(0, message("") | {"content": None, "refusal": reason}, FILTERED)]
        else:
            choices = [_choice(candidate) for candidate in answer.get("candidates") or ()]
        if not choices:
            raise ValueError("the answer has no candidates")
        return completion(answer.get("responseId"), target.model, choices, usage), usage

    def stream(self, target: Target, *, report_usage: bool) -> GoogleStream:
        """A translator of the pieces."""
        return GoogleStream(target, report_usage=report_usage)

    def embeddings_request(self, body: Mapping[str, Any], target: Target) -> HttpRequest:
        """Gemini's embeddings by its own endpoint of the OpenAI kind (https://ai.google.dev/gemini-api/docs/openai)."""
        headers = {"Content-Type": "application/json"}
        if target.key:
            headers["Authorization"] = f"Bearer {target.key.reveal()}"
        return HttpRequest(f"{_versioned(target)}/openai/embeddings", headers, orjson.dumps({**body, "model": target.model}))

    def models_request(self, target: Target) -> HttpRequest:
        """`GET /models` (https://ai.google.dev/api/models)."""
        return HttpRequest(f"{_versioned(target)}/models", _headers(target), b"")

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
        """`{"error": {"code", "message", "status", "details"}}`, alone or in a list."""
        error = error_in(json_of(content))
        return failure_of(error, status, headers) if error else failure(kind_of(status), text_of(content, status), headers)


def _fields_for(body: Mapping[str, Any]) -> FieldTable:
    """Without tools, a wish for one call at a time is no wish."""
    return FIELDS if body.get("tools") else {**FIELDS, "parallel_tool_calls": HONOURED}


def _versioned(target: Target) -> str:
    base = target.base_url.rstrip("/")
    return base if re.search(r"/v\d\w*$", base) else f"{base}/v1beta"


def _url(target: Target, *, stream: bool) -> str:
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"{_versioned(target)}/models/{quote(target.model.removeprefix('models/'), safe='')}:{method}"


def _headers(target: Target) -> Mapping[str, str]:
    return {"Content-Type": "application/json"} | ({"x-goog-api-key": target.key.reveal()} if target.key else {})


def _config(body: Mapping[str, Any], target: Target) -> Body:
    config: Body = {ours: body[name] for name, ours in CONFIG_NAMES.items() if body.get(name) is not None}
    limits = [limit for name in ("max_tokens", "max_completion_tokens") if (limit := body.get(name)) is not None]
    if limits:
        config["maxOutputTokens"] = min(limits)
    if stop := body.get("stop"):
        config["stopSequences"] = [stop] if isinstance(stop, str) else stop
    return config | _form(body.get("response_format"), target) | _thinking(body.get("reasoning_effort"), target)


def _form(wanted: Mapping[str, Any] | None, target: Target) -> Body:
    match (wanted or {}).get("type", "text"):
        case "text":
            return {}
        case "json_object":
            return {"responseMimeType": "application/json"}
        case "json_schema":
            described = (wanted or {}).get("json_schema") or {}
            return {"responseMimeType": "application/json", "responseJsonSchema": described.get("schema") or {}}
        case kind:
            raise UnsupportedField("response_format", target.provider, f"it knows no form {kind!r}")


def _thinking(effort: str | None, target: Target) -> Body:
    if effort is None:
        return {}
    named = _GENERATION.search(target.model)
    generation = (int(named[1]), int(named[2] or 0)) if named else (0, 0)
    if generation >= (3, 0) and effort in LEVELS:
        return {"thinkingConfig": {"thinkingLevel": effort}}
    if generation == (2, 5) and effort in BUDGETS:
        return {"thinkingConfig": {"thinkingBudget": BUDGETS[effort]}}
    raise UnsupportedField("reasoning_effort", target.provider, f"{target.model} knows no effort {effort!r}")


def _tier(body: Mapping[str, Any], target: Target) -> Body:
    tier = body.get("service_tier")
    if tier in {None, "auto"}:
        return {}
    if tier not in SERVICE_TIERS:
        raise UnsupportedField("service_tier", target.provider, "it knows 'auto', 'default', 'flex' and 'priority'")
    return {"serviceTier": SERVICE_TIERS[tier]}


def _tools(body: Mapping[str, Any], target: Target) -> Body:
    tools = body.get("tools") or []
    if not tools:
        return {}
    declarations = [_declaration(tool, Place(target.provider, f"tools[{index}]")) for index, tool in enumerate(tools)]
    strict = any(tool["function"].get("strict") for tool in tools)
    calling = _calling(body.get("tool_choice") or "auto", Place(target.provider, "tool_choice"), strict=strict)
    return {"tools": [{"functionDeclarations": declarations}], "toolConfig": {"functionCallingConfig": calling}}


def _declaration(tool: Mapping[str, Any], place: Place) -> Body:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, Mapping):
        raise place.below("type").refused("it knows only tools of type 'function'")
    sent: Body = {"name": function.get("name")}
    if description := function.get("description"):
        sent["description"] = description
    if parameters := function.get("parameters"):
        sent["parametersJsonSchema"] = parameters
    return sent


def _calling(choice: object, place: Place, *, strict: bool) -> Body:
    """The mode. Where a tool is strict, Gemini may still answer in words, but a call has to fit its schema (`VALIDATED`)."""
    match choice:
        case "auto" if strict:
            return {"mode": "VALIDATED"}
        case "auto" | "none" | "required":
            return {"mode": CHOICE_MODES[str(choice)]}
        case {"type": "function", "function": {"name": name}}:
            return {"mode": "ANY", "allowedFunctionNames": [name]}
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(allowed)}}:
            names = [tool["function"]["name"] for tool in allowed]
            return {"mode": "ANY" if mode == "required" else "VALIDATED", "allowedFunctionNames": names}
        case _:
            raise place.refused("it knows 'auto', 'none', 'required', one function by name and allowed_tools")


def _choice(candidate: Mapping[str, Any]) -> Body:
    reader = CandidateReader()
    delta = reader.delta(candidate)
    finish_reason = reader.finish_reason(candidate) or "stop"
    calls = [{name: value for name, value in call.items() if name != "index"} for call in delta.get("tool_calls", ())]
    said = message(
        delta.get("content", ""), reasoning=delta.get("reasoning_content", ""), calls=calls, extra=delta.get("extra_content")
    )
    if finish_reason == FILTERED:
        said["refusal"] = explanation(candidate)
    return choice(int(candidate.get("index", 0)), said, finish_reason, logprobs_of(candidate))
