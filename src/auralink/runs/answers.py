"""Answers that a person writes into a journal, in the form in which a gateway gives them: a gateway hands on what the journal has."""

from collections.abc import Mapping
from typing import Any, Literal

from mcp_types import CallToolResult
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auralink.llm.providers.completions import choice, completion, message
from auralink.llm.providers.protocol import Usage
from auralink.runs import store
from auralink.runs.errors import bad_override

Answer = dict[str, Any]
EMBEDDINGS = "embeddings"


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Function(_Lenient):
    name: str
    arguments: str


class _Call(_Lenient):
    id: str
    type: Literal["function"] = "function"
    function: _Function


class _Message(_Lenient):
    role: Literal["assistant"] = "assistant"
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(_Lenient):
    index: int = 0
    message: _Message
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None


class _Completion(_Lenient):
    id: str = ""
    model: str = ""
    created: int = 0
    choices: list[_Choice] = Field(min_length=1)
    usage: dict[str, Any] | None = None


class _Embeddings(_Lenient):
    data: list[dict[str, Any]]


def answer_of(kind: str, request: Mapping[str, Any], given: Any, *, at: str) -> Answer:
    """What a gateway would have answered to a call of this kind, for what a person has written; a text is enough for a tool and for a
    model. `at` is where that stands, a JSON pointer.

    Raises:
        BadOverride: there is no such answer to such a call.
    """
    try:
        return _FORMS.get(kind, _plain)(request, given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        inside = "".join(f"/{part}" for part in first["loc"])
        raise bad_override((at, f"this is no answer to a call of kind {kind!r}: {inside or 'it'}: {first['msg']}")) from None
    except TypeError as error:
        raise bad_override((at, f"this is no answer to a call of kind {kind!r}: {error}")) from None


def _of_a_tool(_request: Mapping[str, Any], given: Any) -> Answer:
    if isinstance(given, str):
        return _said(given)
    if "content" not in _plain(_request, given):
        return _said(store.json_of(given))
    CallToolResult.model_validate(given)
    return dict(given)


def _of_a_person(request: Mapping[str, Any], given: Any) -> Answer:
    answer = _plain(request, given)
    return _of_a_tool(request, answer) if "content" in answer else {**_said(store.json_of(answer)), "structuredContent": answer}


def _of_a_run(request: Mapping[str, Any], given: Any) -> Answer:
    return _of_a_tool(request, _plain(request, given))


def _of_a_model(request: Mapping[str, Any], given: Any) -> Answer:
    if request.get("endpoint") == EMBEDDINGS:
        _Embeddings.model_validate(given)
        return dict(given)
    blank = completion(None, str(request.get("model", "")), [], Usage())
    if isinstance(given, str):
        return {**blank, "choices": [choice(0, message(given), "stop")]}
    checked = _Completion.model_validate(given).model_dump(exclude_unset=True)
    return {**blank, **checked, "choices": [_whole(nth, said) for nth, said in enumerate(checked["choices"])]}


def _whole(index: int, said: Answer) -> Answer:
    """A choice with all that clients of the gateway rely on."""
    spoken = {"role": "assistant", "content": None, **said["message"]}
    reason = "tool_calls" if spoken.get("tool_calls") else "stop"
    calls = {"tool_calls": [{"type": "function", **call} for call in spoken["tool_calls"]]} if spoken.get("tool_calls") else {}
    return {"index": index, "logprobs": None, "finish_reason": reason, **said, "message": {**spoken, **calls}}


def _plain(_request: Mapping[str, Any], given: Any) -> Answer:
    if not isinstance(given, dict):
        raise TypeError("it must be an object, for a tool or a model also a text")
    return given


def _said(text: str) -> Answer:
    return {"content": [{"type": "text", "text": text}]}


_FORMS = {"tool": _of_a_tool, "llm": _of_a_model, "approval": _of_a_person, "run": _of_a_run}
