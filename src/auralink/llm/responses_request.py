"""`/v1/responses`, the request: the stateless part of OpenAI's Responses API as a chat completions body.

Source: https://platform.openai.com/docs/api-reference/responses/create. Nothing is stored between requests, so what depends on storage is
refused by name, and so are the tools that OpenAI itself would run. Reference: docs/reference/responses.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from auralink.core.errors import InvalidRequest
from auralink.llm.providers.content import Place
from auralink.llm.providers.fields import HONOURED, FieldTable, Refused, check_fields
from auralink.llm.providers.protocol import Body

ENDPOINT = "/v1/responses"
_STATELESS = "nothing is stored between requests"
_NOT_HERE = "it is a service of OpenAI's"
PASSED_ON = (
    "model", "temperature", "top_p", "parallel_tool_calls", "metadata", "user", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "prompt_cache_options", "service_tier",
)  # fmt: skip
"""Fields that chat completions have under the same name. Each provider honours or refuses them itself."""
FIELDS: FieldTable = {
    **dict.fromkeys(
        (*PASSED_ON, "input", "instructions", "tools", "tool_choice", "text", "reasoning", "max_output_tokens", "top_logprobs", "include",
         "stream", "stream_options"),
        HONOURED,
    ),
    **dict.fromkeys(("previous_response_id", "conversation", "prompt", "context_management"), Refused(_STATELESS)),
    "store": Refused(_STATELESS, unless=(False,)),
    "background": Refused(_STATELESS, unless=(False,)),
    "background_options": Refused(_STATELESS),
    "truncation": Refused("a conversation that is too long is refused, not cut", unless=("disabled",)),
    "max_tool_calls": Refused("it limits built-in tools, and there are none"),
    **dict.fromkeys(("moderation", "image", "access_programs"), Refused(_NOT_HERE)),
}  # fmt: skip
"""What of a request is honoured; a field that is not here is refused too."""
_LOGPROBS = "message.output_text.logprobs"


def chat_body(request: Mapping[str, Any]) -> Body:
    """The chat completions body for a request.

    Raises:
        UnsupportedField: naming the field that cannot be honoured, wherever it stands.
        InvalidRequest: there is no input.
    """
    check_fields(request, FIELDS, ENDPOINT)
    body: Body = {name: value for name in PASSED_ON if (value := request.get(name)) is not None}
    body["messages"] = [*_instructions(request), *_messages(request.get("input"))]
    body |= _text(request.get("text") or {}) | _reasoning(request.get("reasoning") or {}) | _logprobs(request)
    if tools := request.get("tools"):
        body["tools"] = [_tool(tool, Place(ENDPOINT, f"tools[{at}]")) for at, tool in enumerate(tools)]
    if (choice := request.get("tool_choice")) is not None:
        body["tool_choice"] = _tool_choice(choice)
    if (limit := request.get("max_output_tokens")) is not None:
        body["max_completion_tokens"] = limit
    if request.get("stream"):
        _check_members(request.get("stream_options") or {}, {"include_obfuscation": (False,)}, Place(ENDPOINT, "stream_options"))
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _instructions(request: Mapping[str, Any]) -> list[Body]:
    instructions = request.get("instructions")
    return [{"role": "system", "content": instructions}] if instructions else []


def _messages(given: object) -> list[Body]:
    """The messages of the input. An assistant's reasoning, text and calls that follow each other are one message."""
    if isinstance(given, str) and given:
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise InvalidRequest("the request has no input; send `input` as text or as a list of items", extra={"param": "input"})
    messages: list[Body] = []
    for at, item in enumerate(given):
        place = Place(ENDPOINT, f"input[{at}]")
        if not isinstance(item, Mapping):
            raise place.refused("an item is an object")
        message = _message(item, place)
        if (
            message["role"] == "assistant"
            and messages
            and messages[-1]["role"] == "assistant"
            and _goes_on(messages[-1], message)
        ):
            messages[-1] = _joined(messages[-1], message)
        else:
            messages.append(message)
    return [_complete(message) for message in messages]


def _goes_on(before: Body, after: Body) -> bool:
    """Whether a part of an answer belongs to the one before it: reasoning and a second text begin an answer of their own."""
    return "reasoning_content" not in after and not ("content" in after and ("content" in before or "tool_calls" in before))


def _joined(before: Body, after: Body) -> Body:
    joined = {**before, **after}
    if "tool_calls" in before and "tool_calls" in after:
        joined["tool_calls"] = [*before["tool_calls"], *after["tool_calls"]]
    return joined


def _complete(message: Body) -> Body:
    return {"content": None, **message} if message["role"] == "assistant" else message


def _message(item: Mapping[str, Any], place: Place) -> Body:
    kind = item.get("type", "message" if "role" in item else None)
    readers: Mapping[object, Callable[[Mapping[str, Any], Place], Body]] = {
        "message": _said,
        "function_call": _called,
        "function_call_output": _returned,
        "reasoning": _thought,
    }
    if kind not in readers:
        raise place.below("type").refused(f"an item of type {kind!r} needs OpenAI's own tools or storage")
    return readers[kind](item, place)


def _said(item: Mapping[str, Any], place: Place) -> Body:
    role, content = item.get("role"), item.get("content")
    if role not in ("user", "assistant", "system", "developer"):
        raise place.below("role").refused(f"there is no role {role!r}")
    message: Body = {"role": role}
    if isinstance(content, str):
        message["content"] = content
    else:
        parts = [_part(part, place.below("content").below(at)) for at, part in enumerate(content or ())]
        message["content"] = _plain(parts) if role != "user" or all(part["type"] == "text" for part in parts) else parts
    return message | _extra(item)


def _called(item: Mapping[str, Any], place: Place) -> Body:
    if item.get("namespace") is not None:
        raise place.below("namespace").refused(_NOT_HERE)
    function = {"name": str(item.get("name", "")), "arguments": str(item.get("arguments") or "{}")}
    return {
        "role": "assistant",
        "tool_calls": [{"id": str(item.get("call_id")), "type": "function", "function": function} | _extra(item)],
    }


def _returned(item: Mapping[str, Any], place: Place) -> Body:
    output = item.get("output")
    if isinstance(output, list):
        output = _plain([_part(part, place.below("output").below(at)) for at, part in enumerate(output)])
    return {"role": "tool", "tool_call_id": str(item.get("call_id")), "content": "" if output is None else output}


def _thought(item: Mapping[str, Any], place: Place) -> Body:
    if item.get("encrypted_content"):
        raise place.below("encrypted_content").refused("only OpenAI's own endpoint can read it")
    texts = [str(part.get("text", "")) for part in item.get("content") or item.get("summary") or ()]
    return {"role": "assistant", "reasoning_content": "\n".join(texts)} | _extra(item)


def _part(part: object, place: Place) -> Body:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind not in _PARTS:
        raise place.refused(f"a part of type {kind!r} cannot stand here")
    return _PARTS[kind](part, place)


def _image(part: Mapping[str, Any], place: Place) -> Body:
    if not isinstance(part.get("image_url"), str):
        raise place.below("file_id" if part.get("file_id") else "image_url").refused("only an image with a URL can be sent")
    detail = part.get("detail")
    return {"type": "image_url", "image_url": {"url": part["image_url"], **({"detail": detail} if detail else {})}}


def _file(part: Mapping[str, Any], place: Place) -> Body:
    for name in ("file_id", "file_url"):
        if part.get(name):
            raise place.below(name).refused("only a file with file_data can be sent")
    return {"type": "file", "file": {name: part[name] for name in ("file_data", "filename") if part.get(name)}}


_PARTS: Mapping[object, Callable[[Mapping[str, Any], Place], Body]] = {
    "input_text": lambda part, _: {"type": "text", "text": str(part.get("text", ""))},
    "output_text": lambda part, _: {"type": "text", "text": str(part.get("text", ""))},
    "refusal": lambda part, _: {"type": "refusal", "refusal": str(part.get("refusal", ""))},
    "input_image": _image,
    "input_file": _file,
    "input_audio": lambda part, _: {"type": "input_audio", "input_audio": part.get("input_audio")},
}


def _plain(parts: Sequence[Body]) -> str | list[Body]:
    """Text alone as a string, which every provider takes."""
    return "".join(part["text"] for part in parts) if all(part["type"] == "text" for part in parts) else list(parts)


def _extra(item: Mapping[str, Any]) -> Body:
    """What a provider needs back (thought signatures and the like); it came with the item."""
    return {"extra_content": item["extra_content"]} if item.get("extra_content") else {}


def _tool(tool: Mapping[str, Any], place: Place) -> Body:
    if tool.get("type") != "function":
        raise place.below("type").refused(f"{tool.get('type')!r} would be run by OpenAI; send functions")
    known = ("name", "description", "parameters", "strict")
    _check_members({name: value for name, value in tool.items() if name not in (*known, "type")}, _TOOL_DEFAULTS, place)
    return {"type": "function", "function": {name: tool[name] for name in known if tool.get(name) is not None}}


_TOOL_DEFAULTS: Mapping[str, tuple[object, ...]] = {"defer_loading": (False,), "allowed_callers": (["direct"],)}


def _tool_choice(choice: str | Mapping[str, Any]) -> str | Body:
    place = Place(ENDPOINT, "tool_choice")
    if isinstance(choice, str):
        return choice
    if choice.get("type") == "function":
        return _function_named(choice, place)
    if choice.get("type") == "allowed_tools":
        tools = [_function_named(tool, place.below("tools").below(at)) for at, tool in enumerate(choice.get("tools") or ())]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode", "auto"), "tools": tools}}
    raise place.refused(f"{choice.get('type')!r} would be run by OpenAI; send functions")


def _function_named(tool: Mapping[str, Any], place: Place) -> Body:
    if tool.get("type") != "function":
        raise place.below("type").refused(f"{tool.get('type')!r} would be run by OpenAI; send functions")
    return {"type": "function", "function": {"name": tool.get("name")}}


def _text(text: Mapping[str, Any]) -> Body:
    place = Place(ENDPOINT, "text")
    _check_members({name: value for name, value in text.items() if name not in ("format", "verbosity")}, {}, place)
    body: Body = {"verbosity": text["verbosity"]} if text.get("verbosity") else {}
    wanted = text.get("format") or {"type": "text"}
    match wanted.get("type"):
        case "text":
            return body
        case "json_object":
            return body | {"response_format": {"type": "json_object"}}
        case "json_schema":
            schema = {name: value for name, value in wanted.items() if name != "type" and value is not None}
            return body | {"response_format": {"type": "json_schema", "json_schema": schema}}
        case other:
            raise place.below("format").below("type").refused(f"there is no format {other!r}")


def _reasoning(reasoning: Mapping[str, Any]) -> Body:
    others = {name: value for name, value in reasoning.items() if name != "effort"}
    _check_members(others, {"mode": ("standard",), "context": ("auto",)}, Place(ENDPOINT, "reasoning"))
    return {"reasoning_effort": reasoning["effort"]} if reasoning.get("effort") else {}


def _logprobs(request: Mapping[str, Any]) -> Body:
    for at, wanted in enumerate(request.get("include") or ()):
        if wanted != _LOGPROBS:
            raise Place(ENDPOINT, f"include[{at}]").refused(f"{wanted!r} needs OpenAI's own tools or storage")
    count = request.get("top_logprobs")
    if not count and not request.get("include"):
        return {}
    return {"logprobs": True, **({"top_logprobs": count} if count else {})}


def _check_members(members: Mapping[str, Any], unless: Mapping[str, tuple[object, ...]], place: Place) -> None:
    """Refuses members that are set to something else than what happens anyway."""
    for name, value in _set(members):
        if value not in unless.get(name, ()):
            raise place.below(name).refused("no translation is known for it")


def _set(members: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in members.items() if value is not None)
