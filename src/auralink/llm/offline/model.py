"""The offline model: a chat completion for a request, the same for the same request."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from auralink.llm.errors import UnsupportedField
from auralink.llm.offline.choosing import Call, Choice, Tool, choose, nearest, tools_of
from auralink.llm.offline.conversation import MODEL, Conversation, read
from auralink.llm.offline.producing import Impossible, Material, produce
from auralink.llm.offline.roles import next_speaker
from auralink.llm.offline.words import TOKENS_A_MESSAGE, cut, tokens
from auralink.llm.offline.writing import FIRST_LINE, SOURCES, told, write
from auralink.llm.providers.completions import choice as choice_of
from auralink.llm.providers.completions import message as message_of
from auralink.llm.providers.completions import tool_call, usage_body
from auralink.llm.providers.fields import HONOURED, OPENAI_HINTS, OPENAI_ONLY, FieldTable, LeftOut, Refused, check_fields
from auralink.llm.providers.protocol import Body, Usage

_NO_CHANCE = LeftOut("its answers do not depend on chance")
_NO_EFFECT = LeftOut("it has no effect on fixed rules")
FIELDS: FieldTable = {
    **dict.fromkeys(
        ("model", "messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "max_tokens", "max_completion_tokens",
         "stop", "n", "stream", "stream_options"),
        HONOURED,
    ),
    **dict.fromkeys(("temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty", "logit_bias"), _NO_CHANCE),
    **dict.fromkeys(("reasoning_effort", "verbosity", "service_tier", "user", "safety_identifier"), _NO_EFFECT),
    **OPENAI_ONLY,
    **OPENAI_HINTS,
    "verbosity": _NO_EFFECT,
    "logprobs": Refused("there are no probabilities", unless=(False,)),
    "top_logprobs": Refused("there are no probabilities", unless=(0,)),
}  # fmt: skip


def complete(body: Mapping[str, Any]) -> Body:
    """The chat completion for a request. It depends on nothing but the request: no clock (`created` is 0), no chance, no memory.

    Raises:
        UnsupportedField: the request asks for what fixed rules cannot do (images, log probabilities, a schema that cannot be met).
    """
    check_fields(body, FIELDS, MODEL)
    conversation = read(body)
    tools = tools_of(body)
    choice = choose(conversation, tools)
    digest = hashlib.sha256(orjson.dumps(dict(body), option=orjson.OPT_SORT_KEYS)).hexdigest()
    calls = _calls(body, conversation, tools, choice)
    content = "" if calls else _content(body, conversation, choice, len(tools))
    message, finish_reason = _limited(body, content, calls, digest)
    count = int(body.get("n") or 1)
    return {
        "id": f"chatcmpl-{digest[:32]}",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [choice_of(index, message, finish_reason) for index in range(count)],
        "usage": usage_body(Usage(prompt=_prompt_tokens(body, conversation), completion=count * _completion_tokens(message))),
    }


def _calls(body: Mapping[str, Any], conversation: Conversation, tools: Sequence[Tool], choice: Choice) -> Sequence[Call]:
    calls = choice.calls
    if not calls and tools and _must_call(body) and not conversation.answers:
        tool = nearest(conversation, tools)
        calls = [Call(tool.name, _produced("tools", tool.parameters or {"type": "object"}, conversation))]
    return calls[:1] if body.get("parallel_tool_calls") is False else calls


def _must_call(body: Mapping[str, Any]) -> bool:
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        allowed = choice.get("allowed_tools") or choice
        return allowed.get("mode") != "auto"
    return choice == "required"


def _content(body: Mapping[str, Any], conversation: Conversation, choice: Choice, offered: int) -> str:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema") or {}
        return orjson.dumps(_produced("response_format", schema, conversation)).decode()
    if wanted.get("type") == "json_object":
        return orjson.dumps(_object(conversation)).decode()
    return next_speaker(conversation) or write(conversation, choice.lacking, offered)


def _produced(field: str, schema: Mapping[str, Any], conversation: Conversation) -> Any:
    try:
        return produce(schema, _material(conversation))
    except Impossible as impossible:
        raise UnsupportedField(field, MODEL, str(impossible)) from impossible


def _object(conversation: Conversation) -> Body:
    """A JSON object of no given shape: the answer and who said what of it."""
    material = _material(conversation)
    sources = [{"source": answer.tool, "text": " ".join(told(answer.text)[:5])} for answer in conversation.answers]
    return {"answer": " ".join(material.best_first[:3]), "sources": sources, "note": FIRST_LINE}


def _material(conversation: Conversation) -> Material:
    said = [*conversation.others, *conversation.answers] or conversation.earlier
    texts = [text for text in (*(answer.text for answer in said[-SOURCES:]), conversation.context) if text]
    speakers = frozenset(str(message["name"]) for message in conversation.messages if message.get("name"))
    return Material(conversation.request, texts or [conversation.request], speakers)


def _limited(body: Mapping[str, Any], content: str, calls: Sequence[Call], digest: str) -> tuple[Body, str]:
    """The message within the limits of the request, and why it ends. A call is made whole or not at all."""
    stops = body.get("stop") or ()
    for stop in (stops,) if isinstance(stops, str) else stops:
        content = content.partition(stop)[0] if stop else content
    made = [
        tool_call(f"call_{hashlib.sha256(f'{digest}{index}'.encode()).hexdigest()[:24]}", call.tool, _dumped(call.arguments))
        for index, call in enumerate(calls)
    ]
    message = message_of(content, calls=made)
    given = [limit for name in ("max_tokens", "max_completion_tokens") if (limit := body.get(name)) is not None]
    if given and _completion_tokens(message) > min(given):
        return message_of("" if calls else cut(content, min(given))), "length"
    return message, "tool_calls" if calls else "stop"


def _dumped(value: object) -> str:
    return orjson.dumps(value).decode()


def _prompt_tokens(body: Mapping[str, Any], conversation: Conversation) -> int:
    """Texts, calls and tool definitions as tokens, and four for each message."""
    said = sum(tokens(text) for text in conversation.texts)
    called = sum(tokens(_dumped(message["tool_calls"])) for message in body["messages"] if message.get("tool_calls"))
    offered = tokens(_dumped(body["tools"])) if body.get("tools") else 0
    return said + called + offered + TOKENS_A_MESSAGE * len(body["messages"])


def _completion_tokens(message: Mapping[str, Any]) -> int:
    return sum(
        (
            tokens(message.get("content") or ""),
            *(tokens(call["function"]["name"] + call["function"]["arguments"]) for call in message.get("tool_calls") or ()),
        )
    )
