"""A conversation of the OpenAI kind as Gemini's: a system instruction, and contents of the roles `user` and `model`.

Source: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/thought-signatures.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from auralink.llm.providers.content import Data, Place, arguments_of, data_of, file_of, media_type_of, parts_of, texts_of, url_of
from auralink.llm.providers.protocol import Body, Target
from auralink.llm.providers.tool_ids import unsigned

AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mp3"}
NO_SIGNATURE = "skip_thought_signature_validator"
"""What Google documents for calls that Gemini has not made: of another model's, or of a client that has lost the signature."""
_DEMANDS_SIGNATURES = re.compile(r"gemini-([3-9]|\d\d)")


def conversation(messages: Sequence[Mapping[str, Any]], target: Target) -> tuple[list[Body], list[Body]]:
    """The parts of the system instruction, and the contents.

    System and developer messages make up the instruction in their order. Messages of one role that follow each other become one
    content; the results of tools are the user's.

    Raises:
        UnsupportedField: something in a message that Gemini cannot take.
    """
    return _Conversation(target).read(messages)


class _Conversation:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._system: list[Body] = []
        self._contents: list[Body] = []
        self._called: dict[str, str] = {}
        """The names of the functions by the ids of their calls: Gemini wants the name with the result."""

    def read(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list[Body], list[Body]]:
        for index, message in enumerate(messages):
            self._read(message, Place(self._target.provider, f"messages[{index}]"))
        return self._system, self._contents

    def _read(self, message: Mapping[str, Any], place: Place) -> None:
        match message.get("role"):
            case "system" | "developer":
                self._system.extend(
                    {"text": part["text"]} for part in texts_of(message.get("content"), place) if part.get("text")
                )
            case "user":
                self._add("user", list(_user_parts(message, place)))
            case "assistant":
                self._add("model", self._model_parts(message, place))
            case "tool":
                self._add("user", [self._function_response(message, place)])
            case role:
                raise place.below("role").refused(f"it knows no role {role!r}")

    def _add(self, role: str, parts: list[Body]) -> None:
        if self._contents and self._contents[-1]["role"] == role:
            self._contents[-1]["parts"].extend(parts)
        elif parts:
            self._contents.append({"role": role, "parts": parts})

    def _model_parts(self, message: Mapping[str, Any], place: Place) -> list[Body]:
        if message.get("function_call"):
            raise place.below("function_call").refused("it is superseded; send `tool_calls`")
        parts: list[Body] = [{"text": part["text"]} for part in texts_of(message.get("content"), place) if part.get("text")]
        if signature := signature_in(message):
            parts = parts or [{"text": ""}]
            parts[-1]["thoughtSignature"] = signature
        calls = [
            self._function_call(call, place.below("tool_calls").below(index))
            for index, call in enumerate(message.get("tool_calls") or ())
        ]
        if calls and "thoughtSignature" not in calls[0] and _DEMANDS_SIGNATURES.search(self._target.model):
            calls[0]["thoughtSignature"] = NO_SIGNATURE
        return parts + calls

    def _function_call(self, call: Mapping[str, Any], place: Place) -> Body:
        function = call.get("function")
        if not isinstance(function, Mapping):
            raise place.below("type").refused("it knows only tools of type 'function'")
        call_id, signature = unsigned(str(call.get("id", "")))
        self._called[call_id] = str(function.get("name"))
        sent: Body = {"functionCall": {"id": call_id, "name": function.get("name"), "args": arguments_of(function, place)}}
        signature = signature_in(call) or signature
        return sent | ({"thoughtSignature": signature} if signature else {})

    def _function_response(self, message: Mapping[str, Any], place: Place) -> Body:
        call_id, _ = unsigned(str(message.get("tool_call_id", "")))
        name = self._called.get(call_id) or message.get("name")
        if not name:
            raise place.below("tool_call_id").refused(
                "no earlier message calls a tool with this id, so that its name is not known"
            )
        texts, files = _result_of(message, place)
        response: Body = {"id": call_id, "name": name, "response": {"output": texts}}
        return {"functionResponse": response | ({"parts": files} if files else {})}


def signature_in(holder: Mapping[str, Any]) -> str | None:
    """The thought signature in the `extra_content` of a message or a tool call, where Google's own OpenAI endpoint puts it too."""
    extra = holder.get("extra_content")
    google = extra.get("google") if isinstance(extra, Mapping) else None
    signature = google.get("thought_signature") if isinstance(google, Mapping) else None
    return str(signature) if signature else None


def _result_of(message: Mapping[str, Any], place: Place) -> tuple[str, list[Body]]:
    parts = list(_user_parts(message, place))
    files = [part for part in parts if "text" not in part]
    if any("fileData" in part for part in files):
        raise place.below("content").refused("a tool's result can hold a file only as a data: URL")
    return "".join(part["text"] for part in parts if "text" in part), files


def _user_parts(message: Mapping[str, Any], place: Place) -> Iterator[Body]:
    for index, part in enumerate(parts_of(message.get("content"))):
        yield _part(part, place.below("content").below(index))


def _part(part: Mapping[str, Any], place: Place) -> Body:
    match part.get("type"):
        case "text":
            return {"text": str(part.get("text", ""))}
        case "image_url":
            return _image(part, place)
        case "file":
            return _inline(file_of(part, place)[0])
        case "input_audio":
            return _audio(part, place)
        case kind:
            raise place.below("type").refused(f"it takes no content of type {kind!r}")


def _image(part: Mapping[str, Any], place: Place) -> Body:
    url = url_of(part, place)
    if data := data_of(url, place.below("image_url")):
        return _inline(data)
    media_type = media_type_of(url)
    return {"fileData": {"fileUri": url} | ({"mimeType": media_type} if media_type else {})}


def _audio(part: Mapping[str, Any], place: Place) -> Body:
    audio = part.get("input_audio") or {}
    media_type = AUDIO_TYPES.get(str(audio.get("format")))
    if media_type is None:
        raise place.below("input_audio").below("format").refused("it hears wav and mp3")
    return _inline(Data(media_type, str(audio.get("data", ""))))


def _inline(data: Data) -> Body:
    return {"inlineData": {"mimeType": data.media_type, "data": data.base64}}
