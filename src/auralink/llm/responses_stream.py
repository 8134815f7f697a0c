"""`/v1/responses`, the stream: chunks of a chat completion as the events of a Response, in OpenAI's order.

Source: https://platform.openai.com/docs/api-reference/responses-streaming. An event's `type` is also its name as a server-sent event;
there is no `[DONE]`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from auralink.core.ids import uuid7
from auralink.llm.providers.protocol import Body
from auralink.llm.responses_answer import INCOMPLETE, Items, frame, output_text, put_extra, refused, usage_of

CODES: Mapping[str, str] = {
    "rate_limited": "rate_limit_exceeded",
    "invalid_request": "invalid_prompt",
    "context_length": "invalid_prompt",
}
"""What OpenAI calls the kinds of a provider's errors; all others are `server_error`."""


@dataclass
class _Open:
    """An item that is being said."""

    kind: str
    index: int
    item_id: str
    part: int = 0
    text: str = ""
    parts: list[Body] = field(default_factory=list)
    call: Body = field(default_factory=dict)
    logprobs: list[Any] = field(default_factory=list)


class ResponseStream:
    """Translates one stream. Chunks go in, events come out; `finish` or `fail` says how it ends."""

    def __init__(self, request: Mapping[str, Any], model: str = "") -> None:
        """`model`: what the Response names if it fails before the first chunk."""
        self._request = request
        self._model = model
        self._sequence = 0
        self._frame: Body = {}
        self._items = Items("")
        self._extra: Body = {}
        self._open: _Open | None = None
        self._output: list[Body] = []
        self._calls: dict[int, Body] = {}
        self._call_places: dict[int, int] = {}
        self._finish_reason: str | None = None
        self._usage: Body | None = None

    def feed(self, chunk: Mapping[str, Any]) -> list[Body]:
        """The events for one chunk; of several choices the first one's."""
        return list(self._feed(chunk))

    def finish(self, *, completed_at: float | None = None) -> list[Body]:
        """The events with which a complete answer ends: `response.completed`, or `response.incomplete` where it was cut off."""
        reason = INCOMPLETE.get(self._finish_reason)
        status = "incomplete" if reason else "completed"
        events = [*self._begin({}), *self._close(status)]
        put_extra(self._output, self._extra)
        response = {
            **self._frame,
            "status": status,
            "completed_at": None if reason else completed_at,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": self._output,
            "usage": self._usage,
        }
        return [*events, self._event(f"response.{status}", response=response)]

    def fail(self, kind: str, message: str) -> list[Body]:
        """The events with which a broken answer ends: `response.failed`, with what was said until then."""
        events = [*self._begin({})]
        error = {"code": CODES.get(kind, "server_error"), "message": message}
        if self._open is not None and self._open.kind != "function_call":
            self._open.parts.append(_part(self._open.kind, self._open.text, self._open.logprobs))
        said = [*self._output, *([self._item(self._open, "incomplete")] if self._open else [])]
        response = {**self._frame, "status": "failed", "error": error, "output": said, "usage": self._usage}
        return [*events, self._event("response.failed", response=response)]

    def _feed(self, chunk: Mapping[str, Any]) -> Iterator[Body]:
        yield from self._begin(chunk)
        if chunk.get("usage"):
            self._usage = usage_of(chunk["usage"])
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                yield from self._delta(choice.get("delta") or {}, choice.get("logprobs") or {})
                self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def _begin(self, chunk: Mapping[str, Any]) -> Iterator[Body]:
        if self._frame:
            return
        start = {"id": uuid7().hex, "created": 0, "model": self._model, **chunk}
        self._frame = frame(self._request, start)
        self._items = Items(start["id"])
        yield self._event("response.created", response=dict(self._frame))
        yield self._event("response.in_progress", response=dict(self._frame))

    def _delta(self, delta: Mapping[str, Any], logprobs: Mapping[str, Any]) -> Iterator[Body]:
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            yield from self._say("reasoning", thought)
        if text := delta.get("content"):
            yield from self._say("output_text", text, logprobs.get("content") or ())
        if refusal := delta.get("refusal"):
            yield from self._say("refusal", refusal)
        for call in delta.get("tool_calls") or ():
            yield from self._call(call)
        self._extra = delta.get("extra_content") or self._extra

    def _say(self, kind: str, text: str, logprobs: Iterable[Any] = ()) -> Iterator[Body]:
        """A piece of reasoning, of a text, or of a refusal; the last two are parts of one message."""
        opened = self._open
        if opened is None or opened.kind != kind:
            if opened is not None and opened.kind == "output_text" and kind == "refusal":
                yield from self._close_part(opened)
                opened.kind, opened.text, opened.part = kind, "", opened.part + 1
                yield from self._add_part(opened)
            else:
                yield from self._close("completed")
                opened = self._opened(kind)
                yield self._event("response.output_item.added", output_index=opened.index, item=self._item(opened, "in_progress"))
                yield from self._add_part(opened)
        assert opened is not None
        opened.text += text
        said = list(logprobs)
        opened.logprobs += said
        more = {"logprobs": said} if kind == "output_text" else {}
        yield self._part_event(f"response.{_event_name(kind)}.delta", opened, delta=text, **more)

    def _call(self, call: Mapping[str, Any]) -> Iterator[Body]:
        """A piece of a call. The call before it is complete as soon as another begins."""
        place, function = call.get("index", 0), call.get("function") or {}
        if place not in self._calls:
            yield from self._close("completed")
            begun = {"id": call.get("id"), "function": {"name": function.get("name"), "arguments": ""}}
            self._open = opened = self._opened("function_call", begun | _extra(call))
            self._calls[place], self._call_places[place] = opened.call, opened.index
            yield self._event("response.output_item.added", output_index=opened.index, item=self._item(opened, "in_progress"))
        known = self._calls[place]
        if not (piece := function.get("arguments") or ""):
            return
        known["function"]["arguments"] += piece
        index = self._call_places[place]
        if index < len(self._output):  # the call had been closed already: the final Response has it whole
            self._output[index]["arguments"] += piece
            return
        item_id = self._item(self._open, "in_progress")["id"] if self._open else ""
        yield self._event("response.function_call_arguments.delta", item_id=item_id, output_index=index, delta=piece)

    def _opened(self, kind: str, call: Body | None = None) -> _Open:
        self._open = _Open(kind, len(self._output), "", call=call or {})
        self._open.item_id = self._item(self._open, "in_progress")["id"]
        return self._open

    def _close(self, status: str) -> Iterator[Body]:
        """The events that end the item that is being said, if there is one."""
        opened = self._open
        if opened is None:
            return
        if opened.kind == "function_call":
            told = opened.call["function"]
            yield self._event(
                "response.function_call_arguments.done",
                item_id=opened.item_id,
                output_index=opened.index,
                name=told["name"],
                arguments=told["arguments"],
            )
        else:
            yield from self._close_part(opened)
        item = self._item(opened, status)
        self._output.append(item)
        self._open = None
        yield self._event("response.output_item.done", output_index=opened.index, item=item)

    def _add_part(self, opened: _Open) -> Iterator[Body]:
        yield self._part_event("response.content_part.added", opened, part=_part(opened.kind, "", ()))

    def _close_part(self, opened: _Open) -> Iterator[Body]:
        part = _part(opened.kind, opened.text, opened.logprobs)
        opened.parts.append(part)
        told = {"refusal": opened.text} if opened.kind == "refusal" else {"text": opened.text}
        more = {"logprobs": opened.logprobs} if opened.kind == "output_text" else {}
        yield self._part_event(f"response.{_event_name(opened.kind)}.done", opened, **told, **more)
        yield self._part_event("response.content_part.done", opened, part=part)

    def _item(self, opened: _Open, status: str) -> Body:
        if opened.kind == "function_call":
            item = self._items.function_call(opened.index, opened.call)
        elif opened.kind == "reasoning":
            item = self._items.reasoning(opened.index, opened.parts)
        else:
            item = self._items.message(opened.index, opened.parts)
        return {**item, "status": status}

    def _part_event(self, kind: str, opened: _Open, **fields: Any) -> Body:
        return self._event(kind, item_id=opened.item_id, output_index=opened.index, content_index=opened.part, **fields)

    def _event(self, kind: str, **fields: Any) -> Body:
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return event


def _part(kind: str, text: str, logprobs: Iterable[Any]) -> Body:
    if kind == "refusal":
        return refused(text)
    return {"type": "reasoning_text", "text": text} if kind == "reasoning" else output_text(text, {"content": logprobs})


def _event_name(kind: str) -> str:
    return "reasoning_text" if kind == "reasoning" else kind


def _extra(call: Mapping[str, Any]) -> Body:
    return {"extra_content": call["extra_content"]} if call.get("extra_content") else {}
