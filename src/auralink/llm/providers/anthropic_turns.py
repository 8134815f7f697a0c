"""A conversation of the OpenAI kind as Anthropic's: a system prompt, and turns that alternate.

Source: https://platform.claude.com/docs/en/api/messages.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from auralink.llm.providers.content import Place, arguments_of, data_of, file_of, parts_of, texts_of, url_of
from auralink.llm.providers.protocol import Body, Target
from auralink.llm.providers.tool_ids import ANTHROPIC_IDS

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
THINKING = "thinking_blocks"
"""The member of `extra_content.anthropic` in which a message keeps its thinking."""


def conversation(messages: Sequence[Mapping[str, Any]], target: Target) -> tuple[list[Body], list[Body]]:
    """The blocks of the system prompt, and the turns.

    System and developer messages make up the system prompt in their order. Messages of one role that follow each other become one
    turn; the results of tools are the user's.

    Raises:
        UnsupportedField: something in a message that Anthropic cannot take.
    """
    system: list[Body] = []
    turns: list[Body] = []
    for index, message in enumerate(messages):
        place = Place(target.provider, f"messages[{index}]")
        role = message.get("role")
        if role in {"system", "developer"}:
            system.extend(_text(part) for part in texts_of(message.get("content"), place) if part.get("text"))
            continue
        if role == "user":
            _add(turns, "user", list(_user_blocks(message, place)))
        elif role == "assistant":
            _add(turns, "assistant", list(_assistant_blocks(message, place, target.model)))
        elif role == "tool":
            _add(turns, "user", [_tool_result(message, place)])
        else:
            raise place.below("role").refused(f"it knows no role {role!r}")
    return system, turns


def _add(turns: list[Body], role: str, blocks: list[Body]) -> None:
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"].extend(blocks)
    elif blocks:
        turns.append({"role": role, "content": blocks})


def _user_blocks(message: Mapping[str, Any], place: Place) -> Iterator[Body]:
    for index, part in enumerate(parts_of(message.get("content"))):
        yield _block(part, place.below("content").below(index))


def _block(part: Mapping[str, Any], place: Place) -> Body:
    match part.get("type"):
        case "text":
            return _text(part)
        case "image_url":
            return _cached(part, {"type": "image", "source": _image_source(part, place)})
        case "file":
            return _cached(part, _document(part, place))
        case kind:
            raise place.below("type").refused(f"it takes no content of type {kind!r}")


def _text(part: Mapping[str, Any]) -> Body:
    return _cached(part, {"type": "text", "text": str(part.get("text", ""))})


def _cached(part: Mapping[str, Any], block: Body) -> Body:
    """Keeps a cache breakpoint, which clients of this model may set on a part."""
    return block | {"cache_control": part["cache_control"]} if "cache_control" in part else block


def _image_source(part: Mapping[str, Any], place: Place) -> Body:
    url = url_of(part, place)
    data = data_of(url, place.below("image_url"))
    if data is None:
        return {"type": "url", "url": url}
    if data.media_type not in IMAGE_TYPES:
        raise place.below("image_url").refused(f"it reads no images of type {data.media_type}")
    return {"type": "base64", "media_type": data.media_type, "data": data.base64}


def _document(part: Mapping[str, Any], place: Place) -> Body:
    data, name = file_of(part, place)
    if data.media_type != "application/pdf":
        raise place.below("file").refused(f"it reads PDF files, and none of type {data.media_type}")
    source = {"type": "base64", "media_type": data.media_type, "data": data.base64}
    return {"type": "document", "source": source} | ({"title": name} if name else {})


def _assistant_blocks(message: Mapping[str, Any], place: Place, model: str) -> Iterator[Body]:
    yield from _thinking(message, model)
    for part in texts_of(message.get("content"), place):
        if part.get("text"):
            yield _text(part)
    if message.get("function_call"):
        raise place.below("function_call").refused("it is superseded; send `tool_calls`")
    for index, call in enumerate(message.get("tool_calls") or ()):
        yield _tool_use(call, place.below("tool_calls").below(index))


def _thinking(message: Mapping[str, Any], model: str) -> Sequence[Body]:
    """The thinking that the message was made with. It is bound to its model: another one refuses it, and gets none."""
    extra = message.get("extra_content")
    kept = extra.get("anthropic") if isinstance(extra, Mapping) else None
    if not isinstance(kept, Mapping) or kept.get("model") != model:
        return ()
    blocks: Sequence[Body] = kept.get(THINKING) or ()
    return blocks


def _tool_use(call: Mapping[str, Any], place: Place) -> Body:
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise place.below("type").refused("it knows only tools of type 'function'")
    arguments = arguments_of(function, place)
    return {
        "type": "tool_use",
        "id": ANTHROPIC_IDS.fitted(str(call.get("id", ""))),
        "name": function.get("name"),
        "input": arguments,
    }


def _tool_result(message: Mapping[str, Any], place: Place) -> Body:
    content = message.get("content")
    result: Body = {"type": "tool_result", "tool_use_id": ANTHROPIC_IDS.fitted(str(message.get("tool_call_id", "")))}
    return result | {"content": content if isinstance(content, str) else list(_user_blocks(message, place))}
