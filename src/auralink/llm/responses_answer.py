"""`/v1/responses`, the answer: a chat completion as a Response object.

Source: https://platform.openai.com/docs/api-reference/responses/object. Ids are those of the completion, so that an answer that is given
again (from the journal) is the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from auralink.llm.providers.protocol import Body

INCOMPLETE: Mapping[str | None, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is not whole, by the reason for its end."""
ECHOED = (
    "instructions", "max_output_tokens", "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier",
    "top_logprobs", "user",
)  # fmt: skip


def response_object(request: Mapping[str, Any], completion: Mapping[str, Any], *, completed_at: float | None = None) -> Body:
    """The Response for a request and the chat completion that answers it; of several choices the first."""
    choice = completion["choices"][0]
    reason = INCOMPLETE.get(choice.get("finish_reason"))
    output = Items(completion["id"]).of(choice["message"], choice.get("logprobs"))
    if output and reason:
        output[-1]["status"] = "incomplete"
    return {
        **frame(request, completion),
        "status": "incomplete" if reason else "completed",
        "completed_at": None if reason else completed_at,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output,
        "usage": usage_of(completion.get("usage")),
    }


def frame(request: Mapping[str, Any], completion: Mapping[str, Any]) -> Body:
    """A Response in progress: what is known before anything is said. `completion` may be a chunk."""
    reasoning = request.get("reasoning") or {}
    return {
        "id": response_id(completion["id"]),
        "object": "response",
        "created_at": completion["created"],
        "status": "in_progress",
        "completed_at": None,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": completion["model"],
        "output": [],
        "parallel_tool_calls": _or(request.get("parallel_tool_calls"), True),
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "store": False,
        "temperature": _or(request.get("temperature"), 1.0),
        "text": {"format": {"type": "text"}, **{name: value for name, value in (request.get("text") or {}).items() if value}},
        "tool_choice": _or(request.get("tool_choice"), "auto"),
        "tools": [{"parameters": None, "strict": None, **tool} for tool in request.get("tools") or ()],
        "top_p": _or(request.get("top_p"), 1.0),
        "truncation": "disabled",
        "usage": None,
        **{name: request.get(name) for name in ECHOED},
        "metadata": request.get("metadata") or {},
        **({"service_tier": completion["service_tier"]} if completion.get("service_tier") else {}),
    }


class Items:
    """The items of an answer. Each has an id made of the completion's and its place."""

    def __init__(self, completion_id: str) -> None:
        self._suffix = _suffix(completion_id)

    def of(self, message: Mapping[str, Any], logprobs: Mapping[str, Any] | None = None) -> list[Body]:
        """Reasoning, text and calls of a message, in this order."""
        items: list[Body] = []
        text, refusal = message.get("content") or "", message.get("refusal") or ""
        thought = message.get("reasoning_content") or message.get("reasoning") or ""
        if thought:
            items.append(self.reasoning(len(items), [{"type": "reasoning_text", "text": thought}]))
        if text or refusal:
            parts = [output_text(text, logprobs)] if text else []
            items.append(self.message(len(items), [*parts, *([refused(refusal)] if refusal else [])]))
        for call in message.get("tool_calls") or ():
            items.append(self.function_call(len(items), call))
        put_extra(items, message.get("extra_content"))
        return items

    def reasoning(self, index: int, content: Sequence[Body]) -> Body:
        """What was thought and not said."""
        return {
            "id": f"rs_{self._suffix}_{index}",
            "type": "reasoning",
            "summary": [],
            "status": "completed",
            "content": list(content),
        }

    def message(self, index: int, content: Sequence[Body]) -> Body:
        """A message."""
        return {
            "id": f"msg_{self._suffix}_{index}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": list(content),
        }

    def function_call(self, index: int, call: Mapping[str, Any]) -> Body:
        """A call of a function."""
        function = call.get("function") or {}
        extra = {"extra_content": call["extra_content"]} if call.get("extra_content") else {}
        return {
            "id": f"fc_{self._suffix}_{index}",
            "type": "function_call",
            "status": "completed",
            "call_id": call.get("id"),
            "name": function.get("name"),
            "arguments": function.get("arguments") or "",
            **extra,
        }


def put_extra(items: Sequence[Body], extra: Mapping[str, Any] | None) -> None:
    """Puts what a provider needs back of a message onto its text or first call, else onto its reasoning."""
    said = [item for item in items if item["type"] != "reasoning"] or items
    if said and extra:
        said[0].setdefault("extra_content", extra)


def output_text(text: str, logprobs: Mapping[str, Any] | None = None) -> Body:
    """A part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list((logprobs or {}).get("content") or ())}


def refused(text: str) -> Body:
    """The part of a message that says why there is no other."""
    return {"type": "refusal", "refusal": text}


def response_id(completion_id: str) -> str:
    """The Response's id for a completion's."""
    return f"resp_{_suffix(completion_id)}"


def usage_of(usage: Mapping[str, Any] | None) -> Body | None:
    """The usage in the Response's words; None if it is not known."""
    if not usage:
        return None
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    read, thought = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": read.get("cached_tokens") or 0,
            "cache_write_tokens": read.get("cache_write_tokens") or 0,
        },
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": thought.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens") or prompt + completion,
    }


def _suffix(completion_id: str) -> str:
    return str(completion_id).removeprefix("chatcmpl-")


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
